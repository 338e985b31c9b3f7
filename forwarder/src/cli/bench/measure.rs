//! Rounds, in each of which every course has its turn, and the harness alone beside it.

use anyhow::{Context, Result};
use forwarder_common::reason::Reason;

use super::course::{Course, HOT};
use crate::{
    clock, cpus,
    dataplane::bencher::{Bencher, Called, Laid},
    source::event::Ifindex,
};

/// Packets of a turn: so many that the first, for which the caches hold what the last course used, make no difference.
const RUNS: u32 = 1 << 18;
/// Rounds there are in any case.
const ROUNDS: usize = 5;
/// Of a thousand packets, those of which one may wonder why they were not forwarded.
const WORTH_A_NOTE: f64 = 1.0;

/// What a packet costs.
#[derive(Clone, Debug)]
pub struct Cost {
    /// IPv6.
    pub six: bool,
    /// All over the table, and not [`HOT`] of it again and again.
    pub cold: bool,
    /// Nanoseconds: 5th percentile, median, 95th.
    pub ns: [f64; 3],
}

/// What was measured.
pub struct Measured {
    /// What packets cost.
    pub costs: Vec<Cost>,
    /// How often.
    pub rounds: usize,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// A course as it was laid, and what its turns took.
struct Lane<'a> {
    course: &'a Course,
    cold: bool,
    laid: Laid,
    come: u64,
    ns: Vec<f64>,
}

/// Ties this thread to a CPU, the one it is on or the one named, and behind whatever forwards there; answers its number.
///
/// # Errors
/// There is no such CPU, or it is not ours to use.
pub fn pin(cpu: Option<usize>) -> Result<usize> {
    let cpu = cpu.or_else(cpus::here).context("cannot tell which CPU this is")?;
    cpus::tie(&[cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
    // SAFETY: three numbers. Refused, it would measure as well; ksoftirqd would have half the CPU instead of nine tenths.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    Ok(cpu)
}

/// The CPU, its make, and the kernel.
pub fn machine(cpu: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("of unknown make", |(_, name)| name.trim());
    let release = read("/proc/sys/kernel/osrelease");
    format!("CPU {cpu}: {model}; Linux {}", release.trim())
}

/// Measures for so many seconds.
///
/// # Errors
/// The kernel's refusal, or a signal.
pub fn rounds(bencher: &mut Bencher, courses: &[Course], ifindex: Ifindex, seconds: u64) -> Result<Measured> {
    let mut lanes = lay(bencher, courses);
    let exits = bencher.exits();
    let begun = (clock::monotonic_ns(), clock::thread_ns(), waited());
    let mut rounds = 0;
    while rounds < ROUNDS || clock::monotonic_ns() - begun.0 < seconds * 1_000_000_000 {
        for lane in &mut lanes {
            let ns = turn(bencher, lane, ifindex)?;
            lane.ns.push(ns);
        }
        rounds += 1;
    }
    let (had, waited) = (clock::thread_ns() - begun.1, waited().saturating_sub(begun.2));
    let others = waited as f64 / (had + waited).max(1) as f64;
    let mut notes = unforwarded(&exits, &bencher.exits());
    if others > 0.1 {
        notes.push(format!(
            "others had this CPU for {:.0} % of the time: figures are worse than those of a CPU that only forwards",
            others * 100.0
        ));
    }
    let costs = lanes.into_iter().map(|mut lane| Cost {
        six: lane.course.six,
        cold: lane.cold,
        ns: percentiles(&mut lane.ns),
    });
    Ok(Measured {
        costs: costs.collect(),
        rounds,
        notes,
    })
}

/// Nanoseconds that this thread was ready to run and others ran: the second figure of its schedstat (Documentation/scheduler/sched-stats.rst).
/// 0 where the kernel does not count them.
fn waited() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let second = text.split_whitespace().nth(1);
    second.and_then(|figure| figure.parse().ok()).unwrap_or(0)
}

/// Lays every course whole, and its first packets behind it.
fn lay<'a>(bencher: &Bencher, courses: &'a [Course]) -> Vec<Lane<'a>> {
    let mut place = 0;
    let mut lanes = Vec::new();
    for course in courses {
        for cold in [false, true] {
            let packets = if cold { course.packets.len() } else { HOT };
            for (at, packet) in course.packets[..packets].iter().enumerate() {
                bencher.lay(place + at, *packet);
            }
            let laid = Laid {
                six: course.six,
                first: place,
                packets,
            };
            lanes.push(Lane {
                course,
                cold,
                laid,
                come: 0,
                ns: Vec::new(),
            });
            place += packets;
        }
    }
    lanes
}

/// Nanoseconds a packet, the harness's taken off.
fn turn(bencher: &mut Bencher, lane: &mut Lane<'_>, ifindex: Ifindex) -> Result<f64> {
    // The harness goes another stretch of the course, or it would bring the packets into the caches.
    let other = lane.come + lane.laid.packets as u64 / 2;
    let mut ns = [0.0; 2];
    for (ns, (called, come)) in ns
        .iter_mut()
        .zip([(Called::Idle, other), (Called::Forwarder, lane.come)])
    {
        let frame = &lane.course.frame;
        *ns = bencher.run(called, lane.laid, come, ifindex, frame, RUNS)?;
    }
    lane.come += u64::from(RUNS);
    Ok((ns[1] - ns[0]).max(0.1))
}

/// What became of packets that were forwarded once and were not later.
fn unforwarded(before: &[u64; Reason::SLOTS], after: &[u64; Reason::SLOTS]) -> Vec<String> {
    let moved = |reason: Reason| after[reason.index()] - before[reason.index()];
    let all: u64 = Reason::ALL.iter().map(|reason| moved(*reason)).sum();
    let thousandths = |count: u64| count as f64 * 1000.0 / all.max(1) as f64;
    let others = Reason::ALL.iter().filter(|reason| **reason != Reason::Forwarded);
    others
        .filter(|reason| thousandths(moved(**reason)) >= WORTH_A_NOTE)
        .map(|reason| {
            format!(
                "{:.1} % of the packets were not forwarded but left as \"{}\": the table, a next hop or a rate changed meanwhile",
                thousandths(moved(*reason)) / 10.0,
                reason.name()
            )
        })
        .collect()
}

/// 5th percentile, median, 95th.
fn percentiles(ns: &mut [f64]) -> [f64; 3] {
    ns.sort_unstable_by(f64::total_cmp);
    let last = ns.len().saturating_sub(1);
    [0.05, 0.5, 0.95].map(|part| {
        ns.get((last as f64 * part).round() as usize)
            .copied()
            .unwrap_or(0.0)
    })
}

/// The name of destinations.
pub const fn destinations(cold: bool) -> &'static str {
    if cold { "cold" } else { "hot" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_the_rounds_is_beyond_each_end() {
        let mut ns: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(percentiles(&mut ns), [5.0, 50.0, 95.0]);
        assert_eq!(percentiles(&mut [3.0]), [3.0; 3]);
        assert_eq!(percentiles(&mut []), [0.0; 3]);
    }

    #[test]
    fn packets_that_are_not_forwarded_are_told() {
        let mut after = [0; Reason::SLOTS];
        after[Reason::Forwarded.index()] = 100_000;
        after[Reason::TtlExpired.index()] = 50;
        assert!(unforwarded(&[0; Reason::SLOTS], &after).is_empty());
        after[Reason::NeighbourUnresolved.index()] = 25_000;
        let told = unforwarded(&[0; Reason::SLOTS], &after);
        assert!(told.len() == 1 && told[0].starts_with("20.0 %"), "{told:?}");
    }
}
