//! Records of source validation: one packet to a route that is always there, from sources of every kind, on an interface that
//! checks loosely, strictly and by feasible paths.

use anyhow::Result;
use forwarder::{
    clock::monotonic_ns,
    fib::path::{Key, key_of},
    link::Served,
    source::event::{Action, Event, NexthopKind, NexthopObject, Route},
};
use forwarder_common::{
    interface::{CHECK_SOURCES, Interface},
    origin::ANYWHERE,
    reason::Reason,
};
use forwarder_tests::{
    frame::{udp4, udp6, with},
    routes::{hop, route, via},
};
use ipnet::IpNet;

use super::house::{Expect, House, OUT4, OUT6, Record, record};

/// What becomes of packets from there: checked loosely, strictly, by feasible paths. `None`: they are forwarded.
type Fate = [Option<Reason>; 3];

const FINE: Fate = [None; 3];
const ELSEWHERE: Fate = [None, Some(Reason::SourceInterface), Some(Reason::SourceInterface)];
const FEASIBLE: Fate = [None, Some(Reason::SourceInterface), None];

const fn all(reason: Reason) -> Fate {
    [Some(reason); 3]
}

/// Sources, and what becomes of packets from there to the interface "in0".
const SOURCES: &[(&str, &str, &str, Fate)] = &[
    ("a route by the interface", "6.1.0.1", "2a06:1::1", FINE),
    ("a route by another", "6.3.0.1", "2a06:3::1", ELSEWHERE),
    ("the third of three routes", "6.20.0.1", "2a06:20::1", FEASIBLE),
    ("one of two equal next hops", "6.21.0.1", "2a06:21::1", FINE),
    (
        "an interface that nobody serves",
        "6.6.0.1",
        "2a06:6::1",
        ELSEWHERE,
    ),
    ("a group of objects", "6.23.0.1", "2a06:23::1", FINE),
    ("a subnet of the interface", "6.22.0.9", "2a06:22::9", FINE),
    ("a subnet elsewhere", "198.18.0.9", "2a00:18::9", ELSEWHERE),
    ("a neighbour elsewhere", "198.18.0.5", "2a00:18::5", ELSEWHERE),
    ("this router", "7.1.0.1", "2a07:1::1", all(Reason::SourceNoRoute)),
    (
        "a broadcast or anycast address",
        "7.2.0.1",
        "2a07:2::1",
        all(Reason::SourceNoRoute),
    ),
    (
        "a blackhole",
        "7.3.0.1",
        "2a07:3::1",
        all(Reason::BlackholeSource),
    ),
    (
        "an unreachable route",
        "7.4.0.1",
        "2a07:4::1",
        all(Reason::SourceNoRoute),
    ),
    (
        "a prohibit route",
        "7.5.0.1",
        "2a07:5::1",
        all(Reason::SourceNoRoute),
    ),
    (
        "a route that only the kernel understands",
        "7.6.0.1",
        "2a07:6::1",
        all(Reason::SourceUndecided),
    ),
    (
        "a tunnel over another interface",
        "7.7.0.1",
        "2a07:7::1",
        ELSEWHERE,
    ),
    (
        "a gateway that nothing leads to",
        "7.9.0.1",
        "2a07:9::1",
        all(Reason::SourceUndecided),
    ),
    ("no route", "8.8.8.8", "2a0f::1", all(Reason::SourceNoRoute)),
];

/// A packet of each family from these sources.
fn pair(house: &House, sentence: &str, v4: &str, v6: &str, fate: Option<Reason>) -> Result<[Record; 2]> {
    let p = house.ports;
    let macs = house.macs(p.inside);
    let expect = |prefix, neighbour, length| match fate {
        Some(reason) => Expect::Leaves(reason),
        None => Expect::Forwarded {
            prefix,
            egress: p.out,
            neighbour,
            length,
        },
    };
    let v4: std::net::Ipv4Addr = v4.parse()?;
    let v6: std::net::Ipv6Addr = v6.parse()?;
    let frames = (
        with(udp4(macs, [5, 1, 2, 3], 64, 20), 26, &v4.octets()),
        with(udp6(macs, "2a05::1".parse()?, 64, 20), 22, &v6.octets()),
    );
    Ok([
        record(
            &format!("{sentence} (IPv4)"),
            p.inside,
            frames.0,
            expect("5.0.0.0/8", OUT4, 62),
        ),
        record(
            &format!("{sentence} (IPv6)"),
            p.inside,
            frames.1,
            expect("2a05::/32", OUT6, 82),
        ),
    ])
}

fn routes(house: &House) -> Result<Vec<Route>> {
    let p = house.ports;
    let mut routes = vec![
        via("6.22.0.0/24", p.inside, "")?,
        via("2a06:22::/64", p.inside, "")?,
        route("6.23.0.0/16", Action::Nexthop(4800))?,
        route("2a06:23::/32", Action::Nexthop(4810))?,
        route(
            "6.21.0.0/16",
            Action::Hops(vec![hop(p.out, OUT4)?, hop(p.inside, "203.0.113.2")?]),
        )?,
        route(
            "2a06:21::/32",
            Action::Hops(vec![hop(p.out, OUT6)?, hop(p.inside, "2a00:9::2")?]),
        )?,
    ];
    for (metric, ifindex, v4, v6) in [
        (1, p.out, OUT4, OUT6),
        (5, p.redirects, "203.0.113.3", "2a00:9::3"),
        (9, p.inside, "203.0.113.2", "2a00:9::2"),
    ] {
        routes.push(Route {
            metric,
            ..via("6.20.0.0/16", ifindex, v4)?
        });
        routes.push(Route {
            metric,
            ..via("2a06:20::/32", ifindex, v6)?
        });
    }
    Ok(routes)
}

fn tell(house: &mut House, event: Event) {
    house.sandbox.engine.apply(event, &mut Vec::new());
}

/// Goes through all of them. Answers every failure.
pub fn run(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let port = house.sandbox.engine.view().interfaces.get(p.inside as usize).port;
    house.sandbox.engine.rib.all_ways = true;
    for (id, out, inside) in [(4800, OUT4, "203.0.113.2"), (4810, OUT6, "2a00:9::2")] {
        let hops = [(id + 1, hop(p.out, out)?), (id + 2, hop(p.inside, inside)?)];
        let kinds = hops.map(|(id, hop)| (id, NexthopKind::Hop(hop)));
        let group = (id, NexthopKind::Group(vec![(id + 1, 1), (id + 2, 1)]));
        for (id, kind) in kinds.into_iter().chain([group]) {
            tell(house, Event::Nexthop(NexthopObject { id, kind }));
        }
    }
    for route in routes(house)? {
        house.sandbox.announce(route);
    }
    let mut failures = Vec::new();
    let modes = [
        ("loose", ANYWHERE, false),
        ("strict", port, false),
        ("feasible", port, true),
    ];
    for (index, (mode, origin, feasible)) in modes.into_iter().enumerate() {
        check(house, Some(origin), feasible);
        for (source, v4, v6, fate) in SOURCES {
            let sentence = format!("{mode}, from {source}");
            let records = pair(house, &sentence, v4, v6, fate[index])?;
            failures.extend(house.hold_all(&records));
        }
    }
    // Strictly again, without feasible paths: what they allowed is gone.
    check(house, Some(port), false);
    let records = pair(
        house,
        "strict again",
        "6.20.0.1",
        "2a06:20::1",
        Some(Reason::SourceInterface),
    )?;
    failures.extend(house.hold_all(&records));
    failures.extend(silence(house)?);
    failures.extend(default_routes(house)?);
    failures.extend(victims(house)?);
    check(house, None, false);
    let records = pair(house, "unchecked", "8.8.8.8", "2a0f::1", None)?;
    failures.extend(house.hold_all(&records));
    Ok(failures)
}

/// How the interface checks.
fn check(house: &mut House, origin: Option<u32>, feasible: bool) {
    let ifindex = house.ports.inside;
    let engine = &mut house.sandbox.engine;
    let old = engine.view().interfaces.get(ifindex as usize);
    let served = Served {
        port: old.port as u16,
        feasible,
        ..Served::default()
    };
    engine.serve(ifindex, Some(served));
    engine.served_changed();
    let flags = if origin.is_some() {
        old.flags | CHECK_SOURCES
    } else {
        old.flags & !CHECK_SOURCES
    };
    let new = Interface {
        flags,
        origin: origin.unwrap_or(ANYWHERE),
        ..old
    };
    engine.view().interfaces.set(ifindex as usize, &new);
}

/// Routes of a controller that is silent speak against nobody.
fn silence(house: &mut House) -> Result<Vec<String>> {
    let second = 1_000_000_000;
    house
        .sandbox
        .stamp(monotonic_ns().saturating_sub(31 * second), 30 * second);
    let mut failures = Vec::new();
    for (source, v4, v6) in [
        ("no route", "8.8.8.8", "2a0f::1"),
        ("a blackhole", "7.3.0.1", "2a07:3::1"),
    ] {
        let sentence = format!("the controller is silent, from {source}");
        let records = pair(house, &sentence, v4, v6, Some(Reason::ControllerStale))?;
        failures.extend(house.hold_all(&records));
    }
    house.sandbox.stamp(monotonic_ns(), 30 * second);
    Ok(failures)
}

/// A default route is a route, as it is for `rp_filter`.
fn default_routes(house: &mut House) -> Result<Vec<String>> {
    let p = house.ports;
    let defaults = [via("0.0.0.0/0", p.out, OUT4)?, via("::/0", p.out, OUT6)?];
    for route in &defaults {
        house.sandbox.announce(route.clone());
    }
    let mut failures = Vec::new();
    for (mode, origin, fate) in [
        ("loose", ANYWHERE, None),
        ("strict", 1, Some(Reason::SourceInterface)),
    ] {
        check(house, Some(origin), false);
        let sentence = format!("{mode}, with a default route");
        let records = pair(house, &sentence, "8.8.8.8", "2a0f::1", fate)?;
        failures.extend(house.hold_all(&records));
    }
    for route in defaults {
        tell(house, Event::RouteGone(route));
    }
    Ok(failures)
}

/// Each blackhole has counted its own packets, by destination and by source.
fn victims(house: &mut House) -> Result<Vec<String>> {
    let tables = house.sandbox.engine.view();
    let mut failures = Vec::new();
    for prefix in ["7.3.0.0/16", "2a07:3::/32"] {
        let key = Key::Victim(prefix.parse::<IpNet>()?);
        let mut ids = 1..tables.sizes.nexthops;
        let id = ids.find(|id| key_of(&tables.nexthop_directory.get(*id as usize)) == Some(key));
        let packets = id.map(|id| tables.nexthop_counter(id).packets);
        // One for each mode at least, and those to it.
        if packets.is_none_or(|packets| packets < 4) {
            failures.push(format!("{prefix} counted {packets:?}"));
        }
    }
    Ok(failures)
}
