//! No cache line is written by two CPUs on the way of a packet that is forwarded.
//!
//! Looked at from two sides. What the program has stores to: the verifier takes it with every table read-only, so it writes to
//! counters alone. And which lines of all maps are other than before after packets on one CPU, and on another: the two must have
//! none in common. That the second would find one is seen by doing both on the same CPU.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use forwarder::{
    config::PuntConfig,
    dataplane::{Dataplane, program::load_with_read_only},
    filter::{
        compile::{self, Placed, Router},
        install::install,
        rule::{Action, Match, Origin, Rate, Rule, Unit},
    },
    punt,
    samples::ring::Ring,
};
use forwarder_common::{
    interface::{Interface, RULES4, RULES6},
    maps,
};
use forwarder_tests::{
    cpus,
    memory::{Line, Memory},
};

use super::{
    accounts,
    house::{Expect, House, records},
};

/// Packets of each frame on each CPU.
const TIMES: usize = 3;
/// Written by all CPUs, and by no packet that is forwarded under no rate: stores of rates, from which each CPU takes a quantum at a
/// time (`forwarder_common::limit`), and what is known of sources that packets go up from, which no CPU may know for itself.
const FOR_ALL: [&str; 4] = [
    maps::LIMITERS,
    maps::PUNT_LIMITERS,
    maps::PUNT_BUCKETS,
    maps::PUNT_SEEN,
];
/// What every forwarded packet is counted in.
const ALWAYS: [&str; 5] = [
    maps::PENDING,
    maps::PREFIX_COUNTERS,
    maps::REASON_COUNTERS,
    maps::NEXTHOP_COUNTERS,
    maps::EGRESS_COUNTERS,
];

/// A frame, and where it comes in.
type Frame = (u32, Vec<u8>);

fn forwarded(house: &House) -> Vec<Frame> {
    let all = records(house).into_iter();
    all.filter(|record| matches!(record.expect, Expect::Forwarded { .. }))
        .map(|record| (record.ingress, record.packet))
        .collect()
}

/// The lines that these frames write to on a CPU.
fn on(house: &House, memory: &mut Memory, cpu: usize, frames: &[Frame]) -> Result<BTreeSet<Line>> {
    memory.written();
    cpus::on(cpu, || {
        for _ in 0..TIMES {
            for (ingress, frame) in frames {
                house.sandbox.programs.run(*ingress, frame)?;
            }
        }
        Ok(())
    })?;
    Ok(memory.written())
}

fn names(lines: &BTreeSet<Line>) -> BTreeSet<&'static str> {
    lines.iter().map(|(name, _)| *name).collect()
}

/// Holds frames that are all forwarded: the maps that were written are these, and none of their lines by both CPUs.
fn hold(house: &House, what: &str, frames: &[Frame], more: &[&'static str]) -> Result<()> {
    let [first, second] = cpus::two()?;
    let mut memory = Memory::open(&house.sandbox.pins)?;
    let mut ring = Ring::open(&house.sandbox.pins)?;
    let one = on(house, &mut memory, first, frames)?;
    let other = on(house, &mut memory, second, frames)?;
    while ring.take().is_some() {}
    let both: Vec<_> = one.intersection(&other).collect();
    ensure!(
        both.is_empty(),
        "{what}: written by CPUs {first} and {second}: {both:?}"
    );
    let wanted: BTreeSet<&str> = ALWAYS.iter().chain(more).copied().collect();
    for lines in [&one, &other] {
        ensure!(names(lines) == wanted, "{what}: written to {:?}", names(lines));
    }
    println!(
        "{what}: {} lines by CPU {first}, {} by CPU {second}",
        one.len(),
        other.len()
    );
    let again = on(house, &mut memory, second, frames)?;
    ensure!(
        again.intersection(&other).count() >= ALWAYS.len(),
        "{what}: what one CPU writes twice is not seen"
    );
    Ok(())
}

fn rule(when: Match, action: Action) -> Rule {
    Rule {
        name: "a rule".into(),
        origin: Origin::Config(1),
        when,
        action,
        proceed: false,
        mark: None,
    }
}

/// Puts a rule in force on the interfaces that packets come in on.
fn obey(house: &House, rule: &Rule) -> Result<()> {
    let engine = &house.sandbox.engine;
    let placed = [Placed { rule, slot: 5 }];
    let router = Router {
        port: &|_| None,
        cpus: engine.view().sizes.cpus,
    };
    let (v4, v6) = (compile::ipv4(&placed, router)?, compile::ipv6(&placed, router)?);
    engine.dataplane.wait_grace();
    install(engine.view(), &v4, &v6);
    for ifindex in [house.ports.inside, house.ports.edge] {
        let old = engine.view().interfaces.get(ifindex as usize);
        let new = Interface {
            flags: old.flags | RULES4 | RULES6,
            ..old
        };
        engine.view().interfaces.set(ifindex as usize, &new);
    }
    Ok(())
}

#[test]
fn the_program_has_no_store_to_any_table() -> Result<()> {
    let house = House::new()?;
    let (pins, sizes) = (&house.sandbox.pins, house.sandbox.engine.view().sizes);
    load_with_read_only(pins, sizes, maps::SHARED_TABLES)?;
    for counters in ALWAYS {
        let refused = load_with_read_only(pins, sizes, &[counters]);
        ensure!(
            refused.is_err_and(|why| format!("{why:#}").contains("write into map forbidden")),
            "the verifier lets a program write to {counters} that is read-only"
        );
    }
    Ok(())
}

#[test]
fn no_line_is_written_by_two_cpus_on_the_way_of_a_packet() -> Result<()> {
    let house = House::new()?;
    hold(&house, "plain", &forwarded(&house), &[])?;

    let house = accounts::owned_house(true)?;
    let frames: Vec<Frame> = accounts::forwarded(&house)?
        .into_iter()
        .map(|record| (record.ingress, record.packet))
        .collect();
    let counted = [maps::PAIRS, maps::SOURCE_COUNTERS];
    hold(&house, "accounts, counters by source", &frames, &counted)?;
    house.sandbox.engine.view().set_samples(1, 128);
    let sampled = [counted.as_slice(), &[maps::SAMPLE_COUNTERS]].concat();
    // The ring buffer itself is one for all CPUs; in force is one packet in a thousand or so, and how far that is stands in PENDING.
    hold(&house, "each sampled", &frames, &sampled)?;
    obey(&house, &rule(Match::default(), Action::Accept))?;
    let asked = [sampled.as_slice(), &[maps::ASKED, maps::RULE_STATES]].concat();
    hold(&house, "rules", &frames, &asked)
}

#[test]
fn lines_that_all_cpus_write_are_those_of_rates_and_of_who_goes_up() -> Result<()> {
    let house = House::new()?;
    let tables = house.sandbox.engine.view();
    punt::install(tables, &PuntConfig::default(), false);
    let rate = Rate {
        unit: Unit::Packets,
        per_second: 1_000,
        burst: 1_000,
    };
    obey(&house, &rule(Match::default(), Action::Limit(rate)))?;
    let mut frames: Vec<Frame> = records(&house)
        .into_iter()
        .map(|record| (record.ingress, record.packet))
        .collect();
    let inside = house.ports.inside;
    frames.extend(
        super::punt::frames(&house)
            .into_iter()
            .map(|frame| (inside, frame)),
    );
    let [first, second] = cpus::two()?;
    let mut memory = Memory::open(&house.sandbox.pins)?;
    let one = on(&house, &mut memory, first, &frames)?;
    let other = on(&house, &mut memory, second, &frames)?;
    let both: BTreeSet<Line> = one.intersection(&other).copied().collect();
    let shared = names(&both);
    ensure!(
        shared.iter().all(|name| FOR_ALL.contains(name)),
        "written by CPUs {first} and {second}: {both:?}"
    );
    println!("written by both: {shared:?}");
    Ok(())
}
