//! Records of accounts: who is counted for a packet, by where it is from, where it goes to and whether it crossed the edge; and
//! that looking a source up to count it changes no verdict.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use forwarder::{
    clock::monotonic_ns, dataplane::Sizes, fib::accounts::Accounts, link::Served, source::event::Action,
};
use forwarder_common::{
    account::pair,
    counters::Counter,
    interface::{COUNT_PAIRS, COUNT_SOURCES, Interface, OUTSIDE},
    origin::UNCHECKED,
    reason::Reason,
};
use forwarder_tests::{
    frame::{udp4, udp6, with},
    ledger::{Ledger, Name},
    routes::{hop, route},
};
use ipnet::IpNet;

use super::house::{Expect, House, NIC4, NIC6, OUT4, OUT6, Record, record};

/// Accounts by number. A is no route of its own, B is one, and PART is inside it and none.
const A: u32 = 1;
const B: u32 = 2;
const PART: u32 = 3;
const ECMP: u32 = 4;
const OWNED: [(&str, u32); 8] = [
    ("5.1.0.0/16", A),
    ("2a05:0:1::/48", A),
    ("6.1.0.0/16", B),
    ("2a06:1::/32", B),
    ("6.1.128.0/17", PART),
    ("2a06:1:8000::/33", PART),
    ("6.24.0.0/16", ECMP),
    ("2a06:24::/32", ECMP),
];

/// What is expected of a packet.
struct Case {
    sentence: &'static str,
    /// It comes in from outside.
    edge: bool,
    /// Sources and destinations, IPv4 and IPv6.
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    fate: Fate,
}

#[derive(Clone, Copy)]
enum Fate {
    /// It is counted in this cell: crossing, from, to. By these prefixes of destination and source, IPv4 and IPv6.
    Counted(
        [u32; 3],
        (&'static str, &'static str),
        Option<(&'static str, &'static str)>,
    ),
    /// It leaves for this reason, and is nobody's.
    Not(Reason),
}
use Fate::{Counted, Not};

const TO_A: (&str, &str) = ("5.1.2.3", "2a05:0:1::3");
const TO_NOBODY: (&str, &str) = ("5.2.2.3", "2a05:0:2::3");
const TO_OUTSIDE: (&str, &str) = ("5.9.9.1", "2a05:0:9::1");
const FROM_A: (&str, &str) = ("5.1.0.9", "2a05:0:1::9");
const FROM_B: (&str, &str) = ("6.1.0.9", "2a06:1::9");
const FROM_PART: (&str, &str) = ("6.1.200.9", "2a06:1:8000::9");
const FROM_NOBODY: (&str, &str) = ("6.2.0.9", "2a06:2::9");
const FROM_NOWHERE: (&str, &str) = ("8.8.8.8", "2a0f::1");
const IN_A: (&str, &str) = ("5.1.0.0/16", "2a05:0:1::/48");
const IN_B: (&str, &str) = ("6.1.0.0/16", "2a06:1::/32");
const IN_PART: (&str, &str) = ("6.1.128.0/17", "2a06:1:8000::/33");
const IN_NOBODY: (&str, &str) = ("6.2.0.0/16", "2a06:2::/32");
const BY_OUT: (&str, &str) = ("5.0.0.0/8", "2a05::/32");
const BY_NIC: (&str, &str) = ("5.9.9.0/30", "2a05:0:9::/62");

const CASES: &[Case] = &[
    Case {
        sentence: "from an account to the outside",
        edge: false,
        from: FROM_A,
        to: TO_OUTSIDE,
        fate: Counted([1, A, 0], BY_NIC, Some(IN_A)),
    },
    Case {
        sentence: "from outside to an account",
        edge: true,
        from: FROM_NOWHERE,
        to: TO_A,
        fate: Counted([1, 0, A], IN_A, None),
    },
    Case {
        sentence: "from outside, naming a source of an account: it is not from there",
        edge: true,
        from: FROM_B,
        to: TO_A,
        fate: Counted([1, 0, A], IN_A, Some(IN_B)),
    },
    Case {
        sentence: "from outside to the outside",
        edge: true,
        from: FROM_NOWHERE,
        to: TO_OUTSIDE,
        fate: Counted([1, 0, 0], BY_NIC, None),
    },
    Case {
        sentence: "from an account to itself",
        edge: false,
        from: FROM_A,
        to: TO_A,
        fate: Counted([0, A, A], IN_A, Some(IN_A)),
    },
    Case {
        sentence: "from an account to another",
        edge: false,
        from: FROM_B,
        to: TO_A,
        fate: Counted([0, B, A], IN_A, Some(IN_B)),
    },
    Case {
        sentence: "from a part of an account that is no route to another",
        edge: false,
        from: FROM_PART,
        to: TO_A,
        fate: Counted([0, PART, A], IN_A, Some(IN_PART)),
    },
    Case {
        sentence: "from an account to one that is nobody's",
        edge: false,
        from: FROM_B,
        to: TO_NOBODY,
        fate: Counted([0, B, 0], BY_OUT, Some(IN_B)),
    },
    Case {
        sentence: "from nobody's to an account",
        edge: false,
        from: FROM_NOBODY,
        to: TO_A,
        fate: Counted([0, 0, A], IN_A, Some(IN_NOBODY)),
    },
    Case {
        sentence: "from nobody's to nobody's",
        edge: false,
        from: FROM_NOBODY,
        to: TO_NOBODY,
        fate: Counted([0, 0, 0], BY_OUT, Some(IN_NOBODY)),
    },
    Case {
        sentence: "a source that no route leads to, which is only looked up to be counted",
        edge: false,
        from: FROM_NOWHERE,
        to: TO_A,
        fate: Counted([0, 0, A], IN_A, None),
    },
    Case {
        sentence: "a source in a blackhole, likewise",
        edge: false,
        from: ("7.3.0.1", "2a07:3::1"),
        to: TO_A,
        fate: Counted([0, 0, A], IN_A, Some(("7.3.0.0/16", "2a07:3::/32"))),
    },
    Case {
        sentence: "a source whose route only the kernel understands, likewise",
        edge: false,
        from: ("7.6.0.1", "2a07:6::1"),
        to: TO_A,
        fate: Counted([0, 0, A], IN_A, Some(("7.6.0.0/16", "2a07:6::/32"))),
    },
    Case {
        sentence: "from an account into a blackhole",
        edge: false,
        from: FROM_A,
        to: ("7.3.0.1", "2a07:3::1"),
        fate: Not(Reason::Blackhole),
    },
    Case {
        sentence: "from an account to this router",
        edge: false,
        from: FROM_A,
        to: ("7.1.0.1", "2a07:1::1"),
        fate: Not(Reason::Local),
    },
    Case {
        sentence: "from an account to where there is no route",
        edge: false,
        from: FROM_A,
        to: FROM_NOWHERE,
        fate: Not(Reason::NoRoute),
    },
    Case {
        sentence: "a bogon source from outside to an account",
        edge: true,
        from: ("10.1.1.1", "fd00::1"),
        to: TO_A,
        fate: Not(Reason::BogonSource),
    },
];

/// The house with accounts: "edge0" and "nic0" are at the edge, the rest is inside.
pub fn owned_house(sources: bool) -> Result<House> {
    let mut house = House::of(Sizes {
        slots: 512,
        sources,
        ..Sizes::SMALL
    })?;
    let p = house.ports;
    let engine = &mut house.sandbox.engine;
    let owned = OWNED
        .iter()
        .map(|(prefix, account)| Ok((prefix.parse()?, *account as u8)));
    engine.set_accounts(Accounts::new(owned.collect::<Result<Vec<_>>>()?));
    let port = engine.view().interfaces.get(p.nic as usize).port as u16;
    let served = Served {
        port,
        outside: true,
        ..Served::default()
    };
    engine.serve(p.nic, Some(served));
    engine.served_changed();
    let mut laid: Vec<IpNet> = Vec::new();
    engine.fib.each(engine.view(), |prefix, _, _| laid.push(prefix));
    for prefix in laid {
        engine.sync(prefix);
    }
    for (ifindex, flags) in [
        (p.inside, COUNT_PAIRS | COUNT_SOURCES),
        (
            p.edge,
            COUNT_PAIRS | OUTSIDE | if sources { COUNT_SOURCES } else { 0 },
        ),
    ] {
        let old = engine.view().interfaces.get(ifindex as usize);
        let new = Interface {
            flags: old.flags | flags,
            origin: UNCHECKED,
            ..old
        };
        engine.view().interfaces.set(ifindex as usize, &new);
    }
    Ok(house)
}

/// Every record of a packet that is forwarded.
pub fn forwarded(house: &House) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for case in CASES.iter().filter(|case| matches!(case.fate, Counted(..))) {
        all.extend(records(house, case)?);
    }
    Ok(all)
}

/// A packet of each family.
fn records(house: &House, case: &Case) -> Result<[Record; 2]> {
    let ingress = if case.edge {
        house.ports.edge
    } else {
        house.ports.inside
    };
    let macs = house.macs(ingress);
    let source4: Ipv4Addr = case.from.0.parse()?;
    let source6: Ipv6Addr = case.from.1.parse()?;
    let to4: Ipv4Addr = case.to.0.parse()?;
    let frames = (
        with(udp4(macs, to4.octets(), 64, 20), 26, &source4.octets()),
        with(udp6(macs, case.to.1.parse()?, 64, 20), 22, &source6.octets()),
    );
    let outside = case.to == TO_OUTSIDE;
    let expect = |v6: bool| match case.fate {
        Not(reason) => Expect::Leaves(reason),
        Counted(_, prefix, _) => Expect::Forwarded {
            prefix: if v6 { prefix.1 } else { prefix.0 },
            egress: if outside { house.ports.nic } else { house.ports.out },
            neighbour: match (outside, v6) {
                (true, false) => NIC4,
                (true, true) => NIC6,
                (false, false) => OUT4,
                (false, true) => OUT6,
            },
            length: if v6 { 82 } else { 62 },
        },
    };
    let sentence = |family| format!("{} ({family})", case.sentence);
    Ok([
        record(&sentence("IPv4"), ingress, frames.0, expect(false)),
        record(&sentence("IPv6"), ingress, frames.1, expect(true)),
    ])
}

/// What a packet that was held has counted by account and source is what the case says.
fn check(house: &House, case: &Case, v6: bool, octets: usize, sources: bool) -> Result<()> {
    let once = Counter {
        packets: 1,
        bytes: octets as u64,
    };
    let mut expected = Vec::new();
    if let Counted([crossing, from, to], _, source) = case.fate {
        expected.push((Name::Pair(pair(crossing, from, to)), once));
        if let Some(prefix) = source.filter(|_| sources) {
            let prefix: IpNet = if v6 { prefix.1 } else { prefix.0 }.parse()?;
            let engine = &house.sandbox.engine;
            let slot = engine
                .fib
                .slot(engine.view(), prefix)
                .context("the source is not laid")?;
            expected.push((Name::Source(slot), once));
        }
    }
    ensure!(
        house.whose == expected,
        "counted {:?}, not {expected:?}",
        house.whose
    );
    Ok(())
}

#[test]
fn every_packet_is_counted_for_whom_it_is_from_and_for_whom_it_is_for() -> Result<()> {
    for sources in [false, true] {
        let mut house = owned_house(sources)?;
        let mut failures = Vec::new();
        for case in CASES {
            for (record, v6) in records(&house, case)?.iter().zip([false, true]) {
                let held = house
                    .hold(record)
                    .and_then(|()| check(&house, case, v6, record.packet.len(), sources));
                if let Err(why) = held {
                    failures.push(format!("{}, by source {sources}: {why:#}", record.sentence));
                }
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        let totals = Ledger::read(house.sandbox.engine.view()).totals();
        ensure!(totals.pairs == totals.forwarded, "{totals:?}");
    }
    Ok(())
}

#[test]
fn a_source_that_is_only_counted_is_judged_by_nobody() -> Result<()> {
    let mut house = owned_house(true)?;
    // A silent controller's routes: the packet goes up for its destination's sake, not its source's.
    let second = 1_000_000_000;
    house
        .sandbox
        .stamp(monotonic_ns().saturating_sub(31 * second), 30 * second);
    let silent = Case {
        sentence: "the controller is silent",
        edge: false,
        from: FROM_NOWHERE,
        to: ("7.1.0.1", "2a07:1::1"),
        fate: Not(Reason::Local),
    };
    for record in records(&house, &silent)? {
        house.hold(&record).context(record.sentence.clone())?;
    }
    Ok(())
}

#[test]
fn a_group_of_several_next_hops_has_one_account() -> Result<()> {
    let mut house = owned_house(true)?;
    let p = house.ports;
    house.sandbox.neighbour(p.out, "203.0.113.21");
    house.sandbox.neighbour(p.out, "2a00:9::21");
    for (prefix, first, second) in [
        ("6.24.0.0/16", OUT4, "203.0.113.21"),
        ("2a06:24::/32", OUT6, "2a00:9::21"),
    ] {
        let hops = vec![hop(p.out, first)?, hop(p.out, second)?];
        house.sandbox.announce(route(prefix, Action::Hops(hops))?);
    }
    let before = Ledger::read(house.sandbox.engine.view());
    let mut used = std::collections::BTreeSet::new();
    let macs = house.macs(p.inside);
    let mut sent = Counter::default();
    for host in 0..64u8 {
        let v4 = with(udp4(macs, [6, 24, 1, host], 64, 20), 26, &[5, 1, 0, host]);
        let to = Ipv6Addr::new(0x2a06, 0x24, 0, 0, 0, 0, 0, host.into());
        let from: Ipv6Addr = "2a05:0:1::9".parse()?;
        let v6 = with(udp6(macs, to, 64, 20), 22, &from.octets());
        for packet in [v4, v6] {
            let (action, out) = house.sandbox.programs.run(p.inside, &packet)?;
            ensure!(action == 4, "verdict {action}");
            used.insert((packet[12], out[5]));
            sent = sent.plus(Counter {
                packets: 1,
                bytes: packet.len() as u64,
            });
        }
    }
    ensure!(used.len() == 4, "next hops used: {used:?}");
    let moved = Ledger::read(house.sandbox.engine.view()).since(&before);
    let pairs: Vec<_> = moved
        .iter()
        .filter(|(name, _)| matches!(name, Name::Pair(_)))
        .collect();
    ensure!(
        pairs == [&(Name::Pair(pair(0, A, ECMP)), sent)],
        "{pairs:?}, not {sent:?}"
    );
    Ok(())
}
