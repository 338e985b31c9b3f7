//! A dry run: whatever is decided, the packet passes as it came, and is counted as what would have become of it.

use anyhow::{Context, Result, ensure};
use forwarder::{
    config::PuntConfig,
    filter::{
        compile::{self, Placed, Router},
        install::install,
        rule::{Action, Match, Origin, Rule},
    },
};
use forwarder_common::{
    counters::Counter,
    interface::{Interface, RULES4},
    punt::Class,
    reason::{Policy, Reason},
};
use forwarder_tests::{
    frame::udp4,
    ledger::{Ledger, Name},
};

use super::{
    house::{Expect, House, Record, leaves},
    punt,
};

/// Goes through all records once more with nothing done, and then with all done again. Answers every failure.
pub fn run(house: &mut House, records: &[Record]) -> Result<Vec<String>> {
    // However long it takes: the heartbeat of this house was stamped once, and half a minute may be over.
    house.sandbox.stamp(0, 0);
    house.sandbox.engine.view().set_dry_run(true);
    let mut failures = hold_all(house, records);
    failures.extend(limits(house)?);
    failures.extend(rules(house)?);
    house.sandbox.engine.view().set_dry_run(false);
    failures.extend(house.hold_all(records));
    Ok(failures)
}

fn hold_all(house: &mut House, records: &[Record]) -> Vec<String> {
    let mut failures = Vec::new();
    for record in records {
        if let Err(why) = hold(house, record) {
            failures.push(format!("dry run: {}: {why:#}", record.sentence));
        }
    }
    failures
}

/// Holds a record against both programs in a dry run.
fn hold(house: &mut House, record: &Record) -> Result<()> {
    let decided = match &record.expect {
        Expect::Leaves(reason) => *reason,
        Expect::Forwarded { .. } => Reason::Forwarded,
    };
    let left = match decided.policy() {
        Policy::Pass => decided,
        Policy::Forward | Policy::Drop => Reason::DryRun,
    };
    let packet = &record.packet;
    let before = Ledger::read(house.sandbox.engine.view());
    let traced = house.tracer.run(record.ingress, packet)?;
    ensure!(
        Ledger::read(house.sandbox.engine.view()) == before,
        "a trace left a mark"
    );
    let (action, out) = house.sandbox.programs.run(record.ingress, packet)?;
    let tables = house.sandbox.engine.view();
    let moved = Ledger::read(tables).since(&before);
    ensure!(action == 2, "verdict {action}");
    ensure!(out == *packet, "touched: {out:02x?}\n     was {packet:02x?}");
    ensure!(
        (traced.action, &traced.packet) == (action, &out),
        "the trace has verdict {} {:02x?}",
        traced.action,
        traced.packet
    );
    let noted = [traced.trace.reason, traced.trace.decided];
    ensure!(noted == [left as u32, decided as u32], "the trace says {noted:?}");
    house.reached.insert(left);
    let once = Counter {
        packets: 1,
        bytes: packet.len() as u64,
    };
    let port = tables.interfaces.get(record.ingress as usize).port;
    let mut expected = vec![(Name::Reason(port, left.index()), once)];
    if left == Reason::DryRun {
        expected.push((Name::Presumed(port, decided.index()), once));
    }
    ensure!(moved == expected, "counted {moved:?}, not {expected:?}");
    Ok(())
}

/// What is too much goes up as well, and no class claims to have dropped it.
fn limits(house: &mut House) -> Result<Vec<String>> {
    let one_a_second = PuntConfig {
        rates: [(1, 1); Class::ALL.len()],
        ..PuntConfig::default()
    };
    let tables = house.sandbox.engine.view();
    let dropped = |house: &House| -> u64 {
        let tables = house.sandbox.engine.view();
        let states = (0..tables.sizes.cpus as usize).map(|cpu| tables.punt_states.get(cpu));
        let classes = states.flat_map(|state| state.classes);
        classes.map(|class| class.dropped + class.over_share).sum()
    };
    forwarder::punt::install(tables, &one_a_second, false);
    let before = dropped(house);
    let inside = house.ports.inside;
    let mut failures = Vec::new();
    for (class, packet) in Class::ALL.iter().zip(punt::frames(house)) {
        // The first of these takes what is left of the rate, if anything is.
        for _ in 0..2 {
            house.sandbox.programs.run(inside, &packet)?;
            house.tracer.run(inside, &packet)?;
        }
        let sentence = format!("{}: too much", class.name());
        failures.extend(hold_all(
            house,
            &[leaves(&sentence, inside, packet, class.limited())],
        ));
    }
    if dropped(house) != before {
        failures.push("dry run: a class says that it dropped something".into());
    }
    let off = PuntConfig {
        enabled: false,
        ..PuntConfig::default()
    };
    forwarder::punt::install(house.sandbox.engine.view(), &off, false);
    Ok(failures)
}

/// A rule that drops is met and drops nothing; one that marks writes nothing.
fn rules(house: &mut House) -> Result<Vec<String>> {
    const DROPS: u32 = 7;
    let inside = house.ports.inside;
    let rule = |last: u8, action, mark| -> Result<Rule> {
        Ok(Rule {
            name: last.to_string(),
            origin: Origin::Config(u32::from(last) as usize),
            when: Match {
                destination: Some(vec![format!("5.1.2.{last}/32").parse()?]),
                ..Match::default()
            },
            action,
            proceed: false,
            mark,
        })
    };
    let rules = [rule(4, Action::Drop, None)?, rule(6, Action::Accept, Some(46))?];
    let placed: Vec<Placed<'_>> = (DROPS..)
        .zip(&rules)
        .map(|(slot, rule)| Placed { rule, slot })
        .collect();
    let router = Router {
        port: &|_| None,
        cpus: 1,
    };
    let (v4, v6) = (compile::ipv4(&placed, router)?, compile::ipv6(&placed, router)?);
    let tables = house.sandbox.engine.view();
    install(tables, &v4, &v6);
    let before = tables.interfaces.get(inside as usize);
    let flags = before.flags | RULES4;
    tables
        .interfaces
        .set(inside as usize, &Interface { flags, ..before });
    let counted = |house: &House| -> Result<[u64; 2]> {
        let tables = house.sandbox.engine.view();
        let slots = tables.rule_states.len() as u32 / tables.sizes.cpus;
        let states = (0..tables.sizes.cpus).map(|cpu| tables.rule_states.get((cpu * slots + DROPS) as usize));
        states
            .map(|state| [state.matched.packets, state.dropped.packets])
            .reduce(|a, b| [a[0] + b[0], a[1] + b[1]])
            .context("no CPU")
    };
    let then = counted(house)?;
    let macs = house.macs(inside);
    let to = |last, ttl| udp4(macs, [5, 1, 2, last], ttl, 20);
    let records = [
        leaves("a rule would drop", inside, to(4, 64), Reason::Rule),
        leaves(
            "a rule would mark what passes",
            inside,
            to(6, 1),
            Reason::TtlExpired,
        ),
    ];
    let mut failures = hold_all(house, &records);
    let now = counted(house)?;
    if [now[0] - then[0], now[1] - then[1]] != [1, 0] {
        failures.push(format!("dry run: the rule counted {then:?}, then {now:?}"));
    }
    house
        .sandbox
        .engine
        .view()
        .interfaces
        .set(inside as usize, &before);
    Ok(failures)
}
