//! The same frames through a Linux router with forwarder and through one without: everything that comes out is the same.
//!
//! `topology` builds the routers, `generate` makes the frames, `wire` sends and collects, `normalise` has the list of what
//! may differ.

pub mod address;
pub mod controller;
pub mod generate;
pub mod mutate;
pub mod netns;
pub mod normalise;
pub mod pass;
pub mod payload;
pub mod topology;
pub mod wire;

use std::{collections::BTreeMap, fmt::Write, os::fd::OwnedFd};

use anyhow::{Context, Result};
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

    /// Finds the frame that a batch's difference comes from, by sending each again alone; answers a report.
    ///
    /// # Errors
    /// The bench itself fails.
    pub fn blame(
        &mut self,
        controller: &Controller<'_>,
        seed: u64,
        cases: &[Case],
        batch: &Difference,
    ) -> Result<String> {
        let mut report = String::new();
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
    format!(
        "frame {} into {}: {}\n  again: FORWARDER_DIFF_SEED={seed} FORWARDER_DIFF_ONLY={} cargo test -p forwarder-tests --test \
         differential -- --nocapture\n  sent {}",
        case.index,
        PORTS[case.port].name,
        case.story,
        case.index,
        hex(&case.frame)
    )
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

/// Hexadecimal, all of it.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
