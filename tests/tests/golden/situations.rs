//! Records for which something must happen first, and what happens when it is over.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use forwarder::{
    clock::monotonic_ns,
    dataplane::Dataplane,
    filter::{
        compile::{self, Placed, Router},
        install::install,
        rule::{Action, Match, Origin, Rate, Rule, Unit},
    },
    source::event::{Event, Link, NexthopKind, NexthopObject},
};
use forwarder_common::{
    fib::GROUP_INDIRECT,
    interface::{FORWARD4, FORWARD6, GENERIC_MODE, Interface, MACS, RULES4, RULES6},
    nexthop::mac_bits,
    reason::Reason,
};
use forwarder_tests::{
    frame::{udp4, udp6, with},
    routes::{hop, via},
    sandbox::{Spec, mac},
};

use super::house::{Expect, House, OUT4, OUT6, Record, leaves, record};

/// A packet of each family to the ordinary routes, with what should become of both.
fn pair(house: &House, sentence: &str, reason: Option<Reason>) -> Vec<Record> {
    let p = house.ports;
    let macs = house.macs(p.inside);
    let v6 = "2a05::1".parse().expect("address");
    let expect = |prefix, neighbour, length| match reason {
        Some(reason) => Expect::Leaves(reason),
        None => Expect::Forwarded {
            prefix,
            egress: p.out,
            neighbour,
            length,
        },
    };
    vec![
        record(
            &format!("{sentence} (IPv4)"),
            p.inside,
            udp4(macs, [5, 1, 2, 3], 64, 20),
            expect("5.0.0.0/8", OUT4, 62),
        ),
        record(
            &format!("{sentence} (IPv6)"),
            p.inside,
            udp6(macs, v6, 64, 20),
            expect("2a05::/32", OUT6, 82),
        ),
    ]
}

/// Goes through all of them. Answers every failure.
pub fn run(house: &mut House) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    failures.extend(heartbeat(house));
    failures.extend(devices(house)?);
    failures.extend(links(house));
    failures.extend(macs(house));
    failures.extend(super::origin::run(house)?);
    failures.extend(generic(house)?);
    failures.extend(objects(house)?);
    failures.extend(contradictions(house)?);
    failures.extend(full(house)?);
    failures.extend(rules(house)?);
    Ok(failures)
}

/// Law 4: the age of the controller.
fn heartbeat(house: &mut House) -> Vec<String> {
    let second = 1_000_000_000;
    let now = monotonic_ns();
    house.sandbox.stamp(now.saturating_sub(31 * second), 30 * second);
    let mut records = pair(house, "the controller is silent", Some(Reason::ControllerStale));
    let p = house.ports;
    records.push(leaves(
        "delivery does not ask for the age of routes",
        p.inside,
        udp4(house.macs(p.inside), [7, 1, 0, 1], 64, 20),
        Reason::Local,
    ));
    records.push(leaves(
        "filters stay in force without a controller",
        p.edge,
        with(udp4(house.macs(p.edge), [5, 1, 2, 3], 64, 20), 26, &[10, 0, 0, 1]),
        Reason::BogonSource,
    ));
    records.push(leaves(
        "a blackhole of an old truth is the kernel's to decide",
        p.inside,
        udp4(house.macs(p.inside), [7, 3, 0, 1], 64, 20),
        Reason::ControllerStale,
    ));
    let mut failures = house.hold_all(&records);
    house.sandbox.stamp(0, 0);
    failures.extend(house.hold_all(&pair(house, "a maximum age of 0 is none", None)));
    house.sandbox.stamp(monotonic_ns() + 60 * second, 30 * second);
    failures.extend(house.hold_all(&pair(house, "a heartbeat from the future is fresh", None)));
    house.sandbox.stamp(monotonic_ns(), 30 * second);
    failures.extend(house.hold_all(&pair(house, "the controller is back", None)));
    failures
}

fn devices(house: &mut House) -> Result<Vec<String>> {
    let out = house.ports.out;
    house.sandbox.engine.dataplane.set_device(out, false)?;
    let records = pair(house, "the redirect map lacks the egress", Some(Reason::NoDevice));
    let mut failures = house.hold_all(&records);
    house.sandbox.engine.dataplane.set_device(out, true)?;
    failures.extend(house.hold_all(&pair(house, "it has it again", None)));
    Ok(failures)
}

/// One store takes every prefix of a link away and one brings it back.
fn links(house: &mut House) -> Vec<String> {
    let spec = Spec {
        name: "out0",
        ..Spec::default()
    };
    let link = spec.link(house.ports.out);
    let mut failures = Vec::new();
    let tell = |house: &mut House, link: Link| {
        house.sandbox.engine.apply(Event::Link(link), &mut Vec::new());
    };
    for (sentence, change) in [
        (
            "no carrier",
            Link {
                carrier: false,
                ..link.clone()
            },
        ),
        (
            "administratively down",
            Link {
                admin_up: false,
                ..link.clone()
            },
        ),
    ] {
        tell(house, change);
        failures.extend(house.hold_all(&pair(house, sentence, Some(Reason::NextHopDown))));
        tell(house, link.clone());
        failures.extend(house.hold_all(&pair(house, "the link is back", None)));
    }
    tell(
        house,
        Link {
            mtu: 47,
            mtu6: 67,
            ..link.clone()
        },
    );
    failures.extend(house.hold_all(&pair(house, "the MTU shrinks", Some(Reason::TooBig))));
    tell(
        house,
        Link {
            mtu: 68,
            mtu6: 68,
            ..link.clone()
        },
    );
    failures.extend(house.hold_all(&pair(house, "the MTU fits exactly", None)));
    tell(house, link);
    failures
}

/// An interface may answer to more than one MAC.
fn macs(house: &mut House) -> Vec<String> {
    let inside = house.ports.inside;
    let interfaces = &house.sandbox.engine.view().interfaces;
    let old = interfaces.get(inside as usize);
    let mut failures = Vec::new();
    let virtual_mac = [0, 0, 0x5e, 0, 1, 10];
    for at in 0..MACS {
        let mut new = old;
        new.macs[at] = mac_bits(virtual_mac);
        house.sandbox.engine.view().interfaces.set(inside as usize, &new);
        let mut records = pair(house, &format!("to a virtual MAC in place {at}"), None);
        for record in &mut records {
            record.packet[..6].copy_from_slice(&virtual_mac);
        }
        failures.extend(house.hold_all(&records));
    }
    house.sandbox.engine.view().interfaces.set(inside as usize, &old);
    failures
}

/// Generic ingress may send to generic and to native egress.
fn generic(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let tables = house.sandbox.engine.view();
    let old = tables.interfaces.get(p.off as usize);
    tables.interfaces.set(
        p.off as usize,
        &Interface {
            flags: FORWARD4 | FORWARD6 | GENERIC_MODE,
            ..old
        },
    );
    let macs = (mac(p.off), [2, 0, 0, 0, 0, 9]);
    let records = [
        record(
            "generic to generic",
            p.off,
            udp4(macs, [6, 3, 0, 1], 64, 20),
            Expect::Forwarded {
                prefix: "6.3.0.0/16",
                egress: p.generic,
                neighbour: "203.0.113.4",
                length: 62,
            },
        ),
        record(
            "generic to generic, IPv6",
            p.off,
            udp6(macs, "2a06:3::1".parse()?, 64, 20),
            Expect::Forwarded {
                prefix: "2a06:3::/32",
                egress: p.generic,
                neighbour: "2a00:9::4",
                length: 82,
            },
        ),
        record(
            "generic to native",
            p.off,
            udp4(macs, [5, 3, 0, 1], 64, 20),
            Expect::Forwarded {
                prefix: "5.0.0.0/8",
                egress: p.out,
                neighbour: OUT4,
                length: 62,
            },
        ),
    ];
    let failures = house.hold_all(&records);
    house.sandbox.engine.view().interfaces.set(p.off as usize, &old);
    Ok(failures)
}

/// A next-hop object changes under its routes.
fn objects(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let packets = |house: &House| {
        let macs = house.macs(p.inside);
        let v6 = "2a07:8::1".parse().expect("address");
        [udp4(macs, [7, 8, 0, 1], 64, 20), udp6(macs, v6, 64, 20)]
    };
    let mut failures = Vec::new();
    let tell = |house: &mut House, kind| {
        let object = NexthopObject { id: 4711, kind };
        house
            .sandbox
            .engine
            .apply(Event::Nexthop(object), &mut Vec::new());
    };
    tell(house, NexthopKind::Hop(hop(p.out, OUT6)?));
    let [v4, v6] = packets(house);
    let expect = |prefix, length| Expect::Forwarded {
        prefix,
        egress: p.out,
        neighbour: OUT6,
        length,
    };
    failures.extend(house.hold_all(&[
        record(
            "an object with an IPv6 gateway",
            p.inside,
            v4,
            expect("7.8.0.0/16", 62),
        ),
        record(
            "an object with an IPv6 gateway, IPv6",
            p.inside,
            v6,
            expect("2a07:8::/32", 82),
        ),
    ]));
    for (sentence, kind, reason) in [
        ("a blackhole object", NexthopKind::Blackhole, Reason::Blackhole),
        (
            "an object of another kind",
            NexthopKind::Unsupported,
            Reason::UnsupportedRoute,
        ),
        (
            "an empty group",
            NexthopKind::Group(Vec::new()),
            Reason::UnsupportedRoute,
        ),
    ] {
        tell(house, kind);
        let [v4, v6] = packets(house);
        failures.extend(house.hold_all(&[
            leaves(sentence, p.inside, v4, reason),
            leaves(sentence, p.inside, v6, reason),
        ]));
    }
    Ok(failures)
}

/// Tables that contradict themselves: the packet goes to the kernel, whole.
fn contradictions(house: &mut House) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    let tables = house.sandbox.engine.view();
    let leaf = tables.lookup("5.1.2.3".parse()?).context("a leaf")?;
    ensure!(leaf.group() != GROUP_INDIRECT, "a direct leaf");
    let group = leaf.group() as usize;
    let old = tables.groups.get(group);
    let mut broken = old;
    broken.buckets[0] = tables.sizes.nexthops as u16;
    tables.groups.set(group, &broken);
    let records = &pair(
        house,
        "a group names a next hop beyond the table",
        Some(Reason::Internal),
    )[..1];
    failures.extend(house.hold_all(records));
    house.sandbox.engine.view().groups.set(group, &old);

    let tables = house.sandbox.engine.view();
    let word = tables.fib4_root.u32((5 << 16 | 1 << 8 | 2) * 4);
    let beyond = forwarder_common::fib::Leaf::child(tables.sizes.blocks4);
    let old = word.swap(beyond.0, Ordering::AcqRel);
    let records = &pair(house, "a leaf leads beyond the pool", Some(Reason::Internal))[..1];
    failures.extend(house.hold_all(records));
    let word = house
        .sandbox
        .engine
        .view()
        .fib4_root
        .u32((5 << 16 | 1 << 8 | 2) * 4);
    word.store(old, Ordering::Release);

    let slot = house
        .sandbox
        .engine
        .fib
        .slot(house.sandbox.engine.view(), "198.18.0.5/32".parse()?)
        .context("a slot")?;
    let host = || udp4(house.macs(house.ports.inside), [198, 18, 0, 5], 64, 20);
    let packet = host();
    let word = house.sandbox.engine.view().slot_group(slot);
    let old = word.swap(house.sandbox.engine.view().sizes.groups, Ordering::AcqRel);
    let inside = house.ports.inside;
    failures.extend(house.hold_all(&[leaves(
        "a slot names a group beyond the table",
        inside,
        packet,
        Reason::Internal,
    )]));
    house
        .sandbox
        .engine
        .view()
        .slot_group(slot)
        .store(old, Ordering::Release);
    failures.extend(house.hold_all(&pair(house, "sound tables again", None)));
    Ok(failures)
}

/// The last: slots run out.
fn full(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let slots = house.sandbox.engine.view().sizes.slots;
    for number in 0..slots {
        let [_, _, high, low] = number.to_be_bytes();
        house
            .sandbox
            .announce(via(&format!("11.{high}.{low}.0/24"), p.out, OUT4)?);
        house
            .sandbox
            .announce(via(&format!("2a11:0:{number:x}::/48"), p.out, OUT6)?);
    }
    let refused = house.sandbox.engine.fib.refused();
    ensure!(refused.0 > 0 && refused.1 > 0, "refused {refused:?}");
    let [_, _, high, low] = (slots - 1).to_be_bytes();
    let macs = house.macs(p.inside);
    let v6 = format!("2a11:0:{:x}::1", slots - 1).parse()?;
    let mut records = vec![
        leaves(
            "a prefix that found no slot",
            p.inside,
            udp4(macs, [11, high, low, 9], 64, 20),
            Reason::FibFull,
        ),
        leaves(
            "an IPv6 prefix that found no slot",
            p.inside,
            udp6(macs, v6, 64, 20),
            Reason::FibFull,
        ),
    ];
    records.extend(pair(house, "what was there stays", None));
    Ok(house.hold_all(&records))
}

/// Filter rules: what they drop leaves with the reason of whoever asked for it, and the rest is forwarded.
fn rules(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let to = |prefix: &str, origin: Origin, action: Action| -> Result<Rule> {
        Ok(Rule {
            name: prefix.into(),
            origin,
            when: Match {
                destination: Some(vec![prefix.parse()?]),
                ..Match::default()
            },
            action,
            proceed: false,
            mark: None,
        })
    };
    // A frame in a minute: at an octet a second that is what it takes.
    let rate = Rate {
        unit: Unit::Bytes,
        per_second: 1,
        burst: 1,
    };
    let rules = [
        to("5.1.2.4/32", Origin::Config(1), Action::Drop)?,
        to("2a05::4/128", Origin::FlowSpec(1), Action::Drop)?,
        to("5.1.2.5/32", Origin::Config(2), Action::Limit(rate))?,
    ];
    let placed: Vec<Placed<'_>> = (0..)
        .zip(&rules)
        .map(|(slot, rule)| Placed { rule, slot })
        .collect();
    let router = Router {
        port: &|_| None,
        cpus: 1,
    };
    let (v4, v6) = (compile::ipv4(&placed, router)?, compile::ipv6(&placed, router)?);
    install(house.sandbox.engine.view(), &v4, &v6);
    let interfaces = &house.sandbox.engine.view().interfaces;
    let before = interfaces.get(p.inside as usize);
    let flags = before.flags | RULES4 | RULES6;
    interfaces.set(p.inside as usize, &Interface { flags, ..before });
    let macs = house.macs(p.inside);
    let udp = |last: u8| udp4(macs, [5, 1, 2, last], 64, 20);
    // The next one is too much, unless the machine stalls for a minute.
    let limited = leaves(
        "more than the rate is dropped",
        p.inside,
        udp(5),
        Reason::RateLimited,
    );
    for _ in 0..2 {
        house.sandbox.programs.run(p.inside, &udp(5))?;
        house.tracer.run(p.inside, &udp(5))?;
    }
    let mut records = pair(house, "what no rule concerns is forwarded", None);
    records.extend([
        leaves(
            "a rule of the configuration drops",
            p.inside,
            udp(4),
            Reason::Rule,
        ),
        leaves(
            "a rule of a FlowSpec neighbour drops",
            p.inside,
            udp6(macs, "2a05::4".parse()?, 64, 20),
            Reason::FlowSpec,
        ),
        limited,
    ]);
    let failures = house.hold_all(&records);
    house
        .sandbox
        .engine
        .view()
        .interfaces
        .set(p.inside as usize, &before);
    Ok(failures)
}
