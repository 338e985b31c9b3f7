//! The same frames through a Linux router with forwarder and through one without: everything that comes out is the same.
//!
//! `topology` builds the routers, `generate` makes the frames, `wire` sends and collects, `normalise` has the list of what
//! may differ, `known` what forwarder does otherwise on purpose, `shrink` makes a frame small that shows a difference.

pub mod address;
pub mod controller;
pub mod generate;
pub mod known;
pub mod mutate;
pub mod netns;
pub mod normalise;
pub mod pass;
pub mod payload;
pub mod shrink;
pub mod topology;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    os::fd::OwnedFd,
};

use anyhow::{Context, Result, ensure};
use forwarder::cpus;

use self::{
    controller::{Controller, Counters, moved},
    generate::Case,
    netns::Namespace,
    normalise::Normaliser,
    topology::PORTS,
    wire::{Emitted, ROUTERS, Wire},
};
use crate::{random::Random, sandbox::index_of};

/// Frames sent before the routers are waited for. A veth holds 256.
pub const BATCH: usize = 64;

/// Frames sent to make a failing one smaller, at most.
const TRIES: usize = 1000;

/// Whether a thing happens that does in so many cases out of a hundred.
pub const fn chance(r: &mut Random, percent: usize) -> bool {
    r.below(100) < percent
}

/// Random octets.
pub fn octets(r: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| r.bits() as u8).collect()
}

/// The routers' namespaces. The second is where forwarder will run.
pub struct Routers {
    /// Without.
    pub plain: Namespace,
    /// With.
    pub fast: Namespace,
    wire: Namespace,
    /// What makes the routers' ports take frames of XDP: forwarder must find it when it starts, or it leaves all to the
    /// kernel until it asks the drivers again.
    _passes: Vec<OwnedFd>,
}

impl Routers {
    /// Builds both, with these sysctls and lines for `ip` on top.
    ///
    /// # Errors
    /// Not root, or the kernel's refusal.
    pub fn build(sysctls: &str, lines: &str) -> Result<Routers> {
        let wire = Namespace::new()?;
        wire.sysctls("ipv6/conf/all/disable_ipv6=1\nipv6/conf/default/disable_ipv6=1")?;
        let plain = topology::router(&wire, "p-")?;
        let fast = topology::router(&wire, "f-")?;
        for router in [&plain, &fast] {
            router.sysctls(sysctls)?;
            router.ip(lines)?;
        }
        let mut passes = Vec::new();
        for port in PORTS {
            for prefix in ["p-", "f-"] {
                let name = format!("{prefix}{}", port.name);
                let pass = wire.run(|| pass::attach(index_of(&name)?));
                passes.push(pass.with_context(|| name.clone())?);
                // Attaching has switched it on; NAPI stays.
                wire.ethtool(&name, "gro off")?;
            }
        }
        Ok(Routers {
            plain,
            fast,
            wire,
            _passes: passes,
        })
    }

    /// Connects to their cables and pins this thread to the CPU it is on.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn connect(&self) -> Result<Bench> {
        let wire = Wire::open(&self.wire)?;
        let here = cpus::here().context("cannot tell which CPU this is")?;
        cpus::tie(&[here])?;
        let mut bench = Bench {
            wire,
            normalisers: Default::default(),
        };
        // The first exchange has the announcements of interfaces that came up.
        bench.wire.settle()?;
        Ok(bench)
    }
}

/// What came out, with its sign: more often out of the fast router (+) or the plain one (-).
pub type Difference = BTreeMap<(&'static str, Vec<u8>), i64>;

/// Both routers' cables in hand.
pub struct Bench {
    /// The cables.
    pub wire: Wire,
    /// What may differ, by router.
    pub normalisers: [Normaliser; 2],
}

impl Bench {
    /// Sends frames through both routers; answers in what they differed.
    ///
    /// # Errors
    /// The bench itself fails.
    pub fn compare(&mut self, cases: &[Case]) -> Result<Difference> {
        let frames: Vec<(usize, &[u8])> = cases.iter().map(|case| (case.port, &case.frame[..])).collect();
        let emitted = self.wire.exchange(&frames)?;
        Ok(self.difference(emitted))
    }

    /// A frame and what each router makes of it, as it is on the wire.
    ///
    /// # Errors
    /// The bench itself fails.
    pub fn show(&mut self, seed: u64, case: &Case) -> Result<String> {
        let mut lines = vec![describe(seed, case)];
        let emitted = self.wire.exchange(&[(case.port, &case.frame)])?;
        for (router, emitted) in ROUTERS.iter().zip(emitted) {
            for (port, frame) in emitted {
                lines.push(format!(
                    "  from {router} by {}: {}",
                    PORTS[port].name,
                    hex(&frame)
                ));
            }
        }
        Ok(lines.join("\n"))
    }

    /// In what two outputs differ.
    pub fn difference(&mut self, emitted: [Vec<Emitted>; 2]) -> Difference {
        let mut difference = Difference::new();
        for ((normaliser, emitted), sign) in self.normalisers.iter_mut().zip(emitted).zip([-1, 1]) {
            for (port, frame) in emitted {
                if let Some(normal) = normaliser.normal(port, frame) {
                    *difference.entry(normal).or_default() += sign;
                }
            }
        }
        difference.retain(|_, count| *count != 0);
        difference
    }

    /// Finds the frames that a batch's difference comes from, by sending each again alone, and makes the first of them as
    /// small as it goes, of those that are `wanted`; answers a report.
    ///
    /// # Errors
    /// The bench itself fails.
    pub fn blame(
        &mut self,
        controller: &Controller<'_>,
        seed: u64,
        cases: &[Case],
        batch: &Difference,
        wanted: impl Fn(&Case) -> bool,
    ) -> Result<String> {
        let mut report = String::new();
        let mut shrunk = false;
        for case in cases {
            let difference = self.compare(std::slice::from_ref(case))?;
            if difference.is_empty() {
                continue;
            }
            let idle = self.moved(controller, None)?;
            let mut moved = self.moved(controller, Some(case))?;
            moved.retain(|name, by| idle.get(name) != Some(by));
            writeln!(report, "{}\n{}", describe(seed, case), picture(&difference))?;
            writeln!(report, "  counters, {} when idle: {moved:?}", idle.len())?;
            if !shrunk {
                shrunk = true;
                writeln!(report, "{}", self.shrink(seed, case, &difference, &wanted)?)?;
            }
        }
        if report.is_empty() {
            let cases: Vec<u64> = cases.iter().map(|case| case.index).collect();
            writeln!(
                report,
                "seed {seed}, frames {:?}..={:?}: a difference that no frame makes alone\n{}",
                cases.first(),
                cases.last(),
                picture(batch)
            )?;
        }
        Ok(report)
    }

    /// The smallest frame that makes the routers differ at the same ports as this one does.
    fn shrink(
        &mut self,
        seed: u64,
        case: &Case,
        difference: &Difference,
        wanted: impl Fn(&Case) -> bool,
    ) -> Result<String> {
        let signature = signature(difference);
        let arp = case.frame[12..14] == [8, 6];
        let sound = if case.given {
            case.clone()
        } else {
            generate::sound(seed, case.index)
        };
        let smaller = |frame: &[u8]| Case {
            frame: frame.to_vec(),
            source: case.source.and_then(|_| generate::source(frame)),
            ..case.clone()
        };
        let shrunk = shrink::shrink(&case.frame, &sound.frame, TRIES, |frame| -> Result<bool> {
            let smaller = smaller(frame);
            // From another ARP packet the kernels would learn what the next frames would show.
            if arp && frame[12..] != case.frame[12..] || !wanted(&smaller) {
                return Ok(false);
            }
            Ok(self::signature(&self.compare(&[smaller])?) == signature)
        })?;
        let difference = self.compare(&[smaller(&shrunk.frame)])?;
        let name = PORTS[case.port].name;
        Ok(format!(
            "  smallest of {} tried, {} octets of {}\n  again: {}\n{}",
            shrunk.tries,
            shrunk.frame.len(),
            case.frame.len(),
            again(&format!("FORWARDER_DIFF_FRAME={name}:{}", hex(&shrunk.frame))),
            picture(&difference)
        ))
    }

    /// What the markers move, and a frame with them.
    fn moved(&mut self, controller: &Controller<'_>, case: Option<&Case>) -> Result<Counters> {
        let before = controller.counters()?;
        if let Some(case) = case {
            self.wire.send(1, case.port, &case.frame)?;
        }
        self.wire.settle()?;
        Ok(moved(&before, &controller.counters()?))
    }
}

fn describe(seed: u64, case: &Case) -> String {
    let name = PORTS[case.port].name;
    let (sent, index) = (hex(&case.frame), case.index);
    let variables = if case.given {
        format!("FORWARDER_DIFF_FRAME={name}:{sent}")
    } else {
        format!("FORWARDER_DIFF_SEED={seed} FORWARDER_DIFF_ONLY={index}")
    };
    format!(
        "frame {index} into {name}: {}\n  again: {}\n  sent {sent}",
        case.story,
        again(&variables)
    )
}

/// The command line that sends a frame again, in the test that this is.
fn again(variables: &str) -> String {
    // The harness names its threads by their tests, where it makes threads.
    let thread = std::thread::current();
    let test = match thread.name() {
        Some(name) if name != "main" => format!("{name} --exact "),
        _ => String::new(),
    };
    format!("{variables} cargo test -p forwarder-tests --test differential -- {test}--nocapture")
}

/// The difference, a line for each frame.
pub fn picture(difference: &Difference) -> String {
    let mut lines = Vec::new();
    for ((port, frame), count) in difference {
        let router = ROUTERS[usize::from(*count > 0)];
        lines.push(format!(
            "  {:>2} more from {router} by {port}: {}",
            count.abs(),
            hex(frame)
        ));
    }
    lines.join("\n")
}

/// Which ports the routers differ at, and which of the two has more there.
fn signature(difference: &Difference) -> BTreeSet<(&'static str, bool)> {
    let differs = |((port, _), count): (&(&'static str, _), &i64)| (*port, *count > 0);
    difference.iter().map(differs).collect()
}

/// The octets that hexadecimal digits stand for.
///
/// # Errors
/// They are no such digits, or an odd number of them.
pub fn unhex(digits: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let digits = digits.context("hexadecimal digits are expected")?;
    ensure!(digits.len() % 2 == 0, "an odd number of hexadecimal digits");
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Hexadecimal, all of it.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
