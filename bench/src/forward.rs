//! `forward`: the whole program, from frame to verdict. A harness makes the frame what it was when it came in and calls
//! the candidate; what is called for us is the very program that is pinned, filters and counters on. Beside it the same
//! program without counters, and itself with one packet in a thousand sampled: what counting and sampling cost.

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramFd, ProgramInfo, Xdp};
use forwarder::dataplane::{
    Sizes, Tables,
    program::{self, Opened, Purpose, XDP},
};
use forwarder::samples::ring::Ring;
use forwarder_bench_ebpf::abi::{EMPTY, FRAME, TRACE_LEN};
use forwarder_common::counters::Counter;
use forwarder_common::reason::Reason;
use forwarder_common::sample::HEADER;
use xtask::bench::Options;

use crate::frame;
use crate::object::{Object, Room};
use crate::report::{self, Timing};
use crate::router::Router;
use crate::run::{self, WARM_UP};
use crate::table::{Family, Table, bits};
use crate::trace::{self, Pattern, Trace};

/// `XDP_REDIRECT`.
pub const REDIRECT: u32 = 4;

/// One packet in so many is sampled: what `[samples]` does where nobody says.
const RATE: u32 = 1_000;

/// Destinations from the start of each trace whose frames are compared octet by octet: one system call each.
const SAMPLE: usize = 1 << 17;

/// What the harness calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// Nothing: the harness alone.
    Empty,
    /// The minimal forwarder on the kernel's FIB.
    Kernel,
    /// The shipped program as it would be if it counted nothing.
    Uncounted,
    /// The shipped program.
    Forwarder,
    /// The same while it samples one packet in [`RATE`].
    Sampled,
}

impl Candidate {
    const ALL: [Candidate; 5] = [
        Candidate::Empty,
        Candidate::Kernel,
        Candidate::Uncounted,
        Candidate::Sampled,
        // Last: the others are compared with it.
        Candidate::Forwarder,
    ];

    const fn name(self) -> &'static str {
        match self {
            Candidate::Empty => "empty",
            Candidate::Kernel => "bpf_fib_lookup",
            Candidate::Uncounted => "uncounted",
            Candidate::Forwarder => "forwarder",
            Candidate::Sampled => "sampled",
        }
    }

    /// What it returns for every packet of a trace.
    const fn verdict(self) -> u32 {
        match self {
            Candidate::Empty => EMPTY,
            Candidate::Kernel | Candidate::Uncounted | Candidate::Forwarder | Candidate::Sampled => REDIRECT,
        }
    }
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A candidate answers wrongly, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    let tables = Table::both(&options.tables)?;
    let router = Router::start(&tables)?;
    let ours = router.pins.open(true)?;
    let mut ring = Ring::open(&router.pins)?;
    let shipped = ProgramInfo::from_pin(router.pins.programs().join(XDP))
        .and_then(|info| info.fd())
        .context("cannot open forwarder's pinned program")?;
    let mut silent = program::open(&router.pins, Sizes::of(&router.pins.meta()?), Purpose::Uncounted)?;
    let uncounted = uncounted(&mut silent)?;
    let mut object = Object::load(&router.pins, &tables, Room::None)?;
    for name in [
        "forward_harness4",
        "forward_harness6",
        "forward_empty",
        "forward_kernel",
    ] {
        object.load_program(name)?;
    }
    let cpu = run::pin(options.cpu)?;
    let mut rows = Vec::new();
    trace::each("forward", options, &tables, |table, pattern, trace| {
        object.lay(table.family, trace);
        let mut arena = Arena {
            table,
            trace,
            router: &router,
            shipped: &shipped,
            uncounted: &uncounted,
            tables: &ours,
            ring: &mut ring,
            object: &mut object,
            runs: 0,
        };
        let before = Counted::read(&router, &ours);
        for candidate in Candidate::ALL {
            arena
                .verify(candidate)
                .with_context(|| format!("{}, {} {}", candidate.name(), table.family, pattern.name()))?;
        }
        rows.extend(arena.time(options.rounds, pattern)?);
        let runs = arena.runs;
        let lost: u64 = (0..ours.sizes.ports).map(|port| ours.samples(port).lost).sum();
        ensure!(lost == 0, "{lost} samples found no room, and cost less for it");
        Counted::read(&router, &ours).moved_by(&before, runs)?;
        Ok(())
    })?;
    let title = "The whole program: nanoseconds a packet of 64 octets";
    report::show(options, title, &report::method(options, &tables, cpu), &rows)
}

fn uncounted(opened: &mut Opened) -> Result<ProgramFd> {
    let program: &mut Xdp = opened
        .ebpf
        .program_mut(XDP)
        .context("forwarder's object has no forwarder")?
        .try_into()?;
    program::load(XDP, || program.load())?;
    Ok(program.fd()?.try_clone()?)
}

/// A trace laid out, and everything it takes to run and judge the candidates on it.
struct Arena<'a> {
    table: &'a Table,
    trace: &'a Trace,
    router: &'a Router,
    shipped: &'a ProgramFd,
    uncounted: &'a ProgramFd,
    /// Those of the shipped program, to be written.
    tables: &'a Tables,
    ring: &'a mut Ring,
    object: &'a mut Object,
    /// How often the shipped program ran.
    runs: u64,
}

impl Arena<'_> {
    /// Sends frames to the first destinations of the trace one by one; compares verdict and octets with what a router
    /// must make of them.
    fn verify(&mut self, candidate: Candidate) -> Result<()> {
        self.choose(candidate)?;
        let family = self.table.family;
        for (destination, expected) in self
            .trace
            .destinations
            .iter()
            .zip(&self.trace.expected)
            .take(SAMPLE)
        {
            let prefix = self.table.prefixes[*expected as usize];
            let way = self.router.way(family, &prefix);
            let wanted = match candidate {
                Candidate::Empty => frame::incoming(family, *destination),
                Candidate::Kernel | Candidate::Uncounted | Candidate::Forwarder | Candidate::Sampled => {
                    frame::outgoing(family, *destination, &way)
                }
            };
            // What the harness does not restore must not matter to it: the frame it starts from is another packet's.
            let (verdict, frame) = run::once(self.harness()?, self.router.ingress, &any(self.table.family))?;
            let place = || {
                let destination = family.address(*destination);
                let network = family.address(prefix.network);
                format!(
                    "{destination}, whose longest prefix is {network}/{}",
                    prefix.length
                )
            };
            ensure!(
                verdict == candidate.verdict(),
                "wrong verdict for {}: {verdict} and not {}",
                place(),
                candidate.verdict()
            );
            ensure!(
                frame == wanted,
                "wrong frame for {}:\n{}\nand not\n{}",
                place(),
                hex(&frame),
                hex(&wanted)
            );
        }
        self.count(candidate, SAMPLE);
        Ok(())
    }

    /// Lets every candidate run over the trace in each round, beginning with another one each time.
    fn time(&mut self, rounds: u32, pattern: Pattern) -> Result<Vec<Timing>> {
        let mut costs = [const { Vec::new() }; Candidate::ALL.len()];
        for round in 0..rounds as usize {
            for turn in 0..Candidate::ALL.len() {
                let at = (round + turn) % Candidate::ALL.len();
                let candidate = Candidate::ALL[at];
                self.choose(candidate)?;
                self.run(candidate, WARM_UP)?;
                let ns = self.run(candidate, TRACE_LEN)?;
                costs[at].push(ns);
            }
        }
        let names = Candidate::ALL.map(Candidate::name);
        Ok(report::timings(
            "forward",
            self.table.family,
            pattern,
            &names,
            &costs,
        ))
    }

    /// Nanoseconds a run of the candidate that was chosen.
    fn run(&mut self, candidate: Candidate, runs: usize) -> Result<f64> {
        let (ns, verdict) = run::timed(
            self.harness()?,
            self.router.ingress,
            &any(self.table.family),
            runs,
        )?;
        ensure!(
            verdict == candidate.verdict(),
            "{} ended with verdict {verdict} and not {}",
            candidate.name(),
            candidate.verdict()
        );
        self.count(candidate, runs);
        Ok(ns)
    }

    fn count(&mut self, candidate: Candidate, runs: usize) {
        if matches!(candidate, Candidate::Forwarder | Candidate::Sampled) {
            self.runs += runs as u64;
        }
    }

    /// Makes a candidate the one that is called, and begins the trace anew.
    fn choose(&mut self, candidate: Candidate) -> Result<()> {
        let program: ProgramFd = match candidate {
            Candidate::Empty => self.object.program("forward_empty")?.fd()?.try_clone()?,
            Candidate::Kernel => self.object.program("forward_kernel")?.fd()?.try_clone()?,
            Candidate::Uncounted => self.uncounted.try_clone()?,
            Candidate::Forwarder | Candidate::Sampled => self.shipped.try_clone()?,
        };
        // The router's controller takes none, so that this is the one reader. A run leaves less than the ring has room for.
        while self.ring.take().is_some() {}
        let rate = if candidate == Candidate::Sampled { RATE } else { 0 };
        self.tables.set_samples(rate, HEADER as u32);
        self.object.set_candidate(&program)?;
        self.object.rewind();
        Ok(())
    }

    fn harness(&self) -> Result<&Xdp> {
        self.object.program(match self.table.family {
            Family::V4 => "forward_harness4",
            Family::V6 => "forward_harness6",
        })
    }
}

/// A frame of this family to a destination that no table holds.
pub fn any(family: Family) -> [u8; FRAME] {
    let nowhere = match family {
        Family::V4 => bits([198, 51, 100, 1].into()),
        Family::V6 => bits([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
    };
    frame::incoming(family, nowhere)
}

/// Packets forwarded, by each of the four counters that count them.
pub struct Counted([(&'static str, u64); 4]);

impl Counted {
    /// Reads them.
    pub fn read(router: &Router, ours: &Tables) -> Counted {
        let packets = |counter: Counter| counter.packets;
        let port = ours.interfaces.get(router.ingress as usize).port;
        let slots = (0..ours.sizes.slots).map(|slot| packets(ours.slot_counter(slot)));
        let nexthops = (0..ours.sizes.nexthops).map(|id| packets(ours.nexthop_counter(id)));
        let ports = (0..ours.sizes.ports).map(|port| packets(ours.egress(port).forwarded));
        Counted([
            ("ingress", ours.reasons(port)[Reason::Forwarded.index()].packets),
            ("prefix", slots.sum()),
            ("next-hop", nexthops.sum()),
            ("egress", ports.sum()),
        ])
    }

    /// Checks that each moved by exactly so many packets.
    ///
    /// # Errors
    /// One did not.
    pub fn moved_by(&self, before: &Counted, runs: u64) -> Result<()> {
        for ((name, after), (_, before)) in self.0.iter().zip(&before.0) {
            let moved = after - before;
            ensure!(
                moved == runs,
                "forwarder ran {runs} times and its {name} counters moved by {moved}"
            );
        }
        Ok(())
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
