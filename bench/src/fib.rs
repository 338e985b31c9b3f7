//! `fib`: the lookup alone, the same full table in every candidate. `counters`: our lookup, with ways to count what it
//! answers.

use anyhow::{Context, Result, bail, ensure};
use forwarder::dataplane::Tables;
use forwarder_bench_ebpf::abi::{NOTHING, TRACE_LEN, kernel_answer};
use xtask::bench::Options;

use crate::frame;
use crate::object::{Object, Room};
use crate::report::{self, Timing};
use crate::router::Router;
use crate::run::{self, WARM_UP};
use crate::table::{Family, Table, bits};
use crate::trace::{self, Pattern, Trace};
use crate::walk;

/// What is compared.
pub struct Contest {
    name: &'static str,
    title: &'static str,
    /// The arms, the harness alone first, forwarder last: name in the object without the family's digit, and as a candidate.
    arms: &'static [(&'static str, &'static str)],
    room: Room,
}

/// `fib`.
pub const LOOKUP: Contest = Contest {
    name: "fib",
    title: "Lookup alone: nanoseconds a destination",
    arms: &[
        ("fib_empty", "empty"),
        ("fib_trie", "lpm_trie"),
        ("fib_kernel", "bpf_fib_lookup"),
        ("fib_ours", "forwarder"),
    ],
    room: Room::Tries,
};

/// `counters`.
pub const COUNTERS: Contest = Contest {
    name: "counters",
    title: "Lookup, and a counter for what it answers: nanoseconds a destination",
    arms: &[
        ("fib_empty", "empty"),
        ("fib_ours", "no counter"),
        ("count_percpu", "per-CPU array"),
        ("count_shuffled", "slots shuffled"),
        ("count_address", "slots by address"),
        ("count_deferred", "forwarder"),
    ],
    room: Room::Counters,
};

/// Runs the bench and prints what it found.
///
/// # Errors
/// A candidate answers wrongly, or something is missing.
pub fn bench(contest: &Contest, options: &Options) -> Result<()> {
    let tables = Table::both(&options.tables)?;
    let router = Router::start(&tables)?;
    let ours = router.tables()?;
    let mut object = Object::load(&router.pins, &tables, contest.room)?;
    for table in &tables {
        for (arm, _) in contest.arms {
            object.load_program(&program(arm, table.family))?;
        }
        if let Room::Tries = contest.room {
            object.fill_trie(table)?;
        }
    }
    let cpu = run::pin(options.cpu)?;
    let mut rows = Vec::new();
    trace::each(contest.name, options, &tables, |table, pattern, trace| {
        object.lay(table.family, trace);
        let arena = Arena {
            contest,
            table,
            trace,
            router: &router,
            ours: &ours,
            object: &object,
        };
        for (arm, candidate) in contest.arms {
            arena
                .verify(arm)
                .with_context(|| format!("{candidate}, {} {}", table.family, pattern.name()))?;
        }
        rows.extend(arena.time(options.rounds, pattern)?);
        Ok(())
    })?;
    report::show(
        options,
        contest.title,
        &report::method(options, &tables, cpu),
        &rows,
    )
}

fn program(arm: &str, family: Family) -> String {
    format!("{arm}{}", family.number())
}

/// A trace laid out, and everything it takes to run and judge the arms on it.
struct Arena<'a> {
    contest: &'a Contest,
    table: &'a Table,
    trace: &'a Trace,
    router: &'a Router,
    ours: &'a Tables,
    object: &'a Object,
}

impl Arena<'_> {
    /// Runs an arm over the whole trace and compares every answer with the model's.
    fn verify(&self, arm: &str) -> Result<()> {
        self.object.forget();
        self.object.rewind();
        let before = self.object.counted(arm)?;
        self.run(arm, TRACE_LEN)?;
        if let (Some(before), Some(after)) = (before, self.object.counted(arm)?) {
            let counted = after - before;
            ensure!(
                counted == TRACE_LEN as u64,
                "{counted} packets were counted of {TRACE_LEN}"
            );
        }
        for (at, (destination, expected)) in self
            .trace
            .destinations
            .iter()
            .zip(&self.trace.expected)
            .enumerate()
        {
            let answer = self.object.answer(at);
            if let Err(why) = self.judge(arm, *destination, *expected, answer) {
                let prefix = self.table.prefixes[*expected as usize];
                bail!(
                    "wrong answer for {}, whose longest prefix is {}/{}: {why}",
                    self.table.family.address(*destination),
                    self.table.family.address(prefix.network),
                    prefix.length
                );
            }
        }
        Ok(())
    }

    fn judge(&self, arm: &str, destination: u128, expected: u32, answer: u64) -> Result<()> {
        let prefix = self.table.prefixes[expected as usize];
        let way = self.router.way(self.table.family, &prefix);
        match arm {
            "fib_empty" => {
                // Proves that every arm gets the destinations that the trace holds.
                let octets = destination.to_be_bytes();
                let words = u128::from_le_bytes(octets);
                let folded = match self.table.family {
                    Family::V4 => words as u64 & 0xffff_ffff,
                    Family::V6 => (words as u64 ^ (words >> 64) as u64) >> 1,
                };
                ensure!(answer == folded, "the harness read {answer:#x}");
            }
            _ if answer == NOTHING => bail!("no route"),
            "fib_trie" => ensure!(answer == u64::from(expected), "position {answer} of the table"),
            "fib_kernel" => {
                let wanted = kernel_answer(way.ifindex, way.destination);
                ensure!(
                    answer == wanted,
                    "egress and neighbour {answer:#x} and not {wanted:#x}"
                );
            }
            _ => {
                let (group, slot) = ((answer >> 32) as u32, answer as u32);
                walk::counts_for(self.ours, self.table.family, &prefix, slot)?;
                walk::leads(self.ours, group, &way)?;
            }
        }
        Ok(())
    }

    /// Lets every arm run over the trace in each round, beginning with another one each time.
    fn time(&self, rounds: u32, pattern: Pattern) -> Result<Vec<Timing>> {
        let arms = self.contest.arms;
        let mut costs = vec![Vec::new(); arms.len()];
        for round in 0..rounds as usize {
            for turn in 0..arms.len() {
                let at = (round + turn) % arms.len();
                let (arm, _) = arms[at];
                self.object.rewind();
                self.run(arm, WARM_UP)?;
                costs[at].push(self.run(arm, TRACE_LEN)?);
            }
        }
        let names: Vec<&'static str> = arms.iter().map(|(_, candidate)| *candidate).collect();
        Ok(report::timings(
            self.contest.name,
            self.table.family,
            pattern,
            &names,
            &costs,
        ))
    }

    /// Nanoseconds a run.
    fn run(&self, arm: &str, runs: usize) -> Result<f64> {
        let program = self.object.program(&program(arm, self.table.family))?;
        let frame = frame::incoming(self.table.family, bits([198, 51, 100, 1].into()));
        let (ns, verdict) = run::timed(program, self.router.ingress, &frame, runs)?;
        // XDP_PASS says that the harness worked.
        ensure!(verdict == 2, "{arm} ended with verdict {verdict}");
        Ok(ns)
    }
}
