//! The controller's logic on the in-memory data path.

use std::sync::atomic::Ordering;

use forwarder_common::{
    fib::{BLOCK_LEN, GROUP_INDIRECT, ROOT4_LEN, ROOT6_LEN},
    nexthop::{NextHop, SEVERAL_BUFFERS},
    reason::Reason,
};

use super::*;
use crate::{
    dataplane::{Sizes, memory::MemoryDataplane},
    link::Frame,
    source::event::{Change, Dump, Hop, Neighbour, NexthopKind, NexthopObject, Route},
};

#[path = "engine_accounts_tests.rs"]
mod accounts;
#[path = "engine_dump_tests.rs"]
mod dumps;
#[path = "engine_failover_tests.rs"]
mod failover;
#[path = "engine_feeds_tests.rs"]
mod feeds;
#[path = "engine_tables_tests.rs"]
mod tables;

const IN: Ifindex = 2;
const OUT: Ifindex = 3;
const OTHER: Ifindex = 4;

fn link(ifindex: Ifindex) -> Link {
    Link {
        ifindex,
        name: format!("if{ifindex}"),
        mac: [2, 0, 0, 0, 0, ifindex as u8],
        ethernet: true,
        admin_up: true,
        carrier: true,
        running: true,
        mtu: 1500,
        mtu6: 1500,
        kind: "veth".into(),
        ..Link::default()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn neighbour(ifindex: Ifindex, text: &str, last: u8) -> Neighbour {
    Neighbour {
        ifindex,
        address: address(text),
        mac: Some([2, 0xbb, 0, 0, 0, last]),
        failed: false,
        stale: false,
        managed: false,
    }
}

fn hop(ifindex: Ifindex, gateway: &str) -> Hop {
    Hop {
        ifindex,
        gateway: (!gateway.is_empty()).then(|| address(gateway)),
        weight: 1,
        dead: false,
        unsupported: false,
    }
}

fn route(prefix: &str, action: Action) -> Route {
    Route {
        prefix: net(prefix),
        table: 254,
        metric: 0,
        protocol: 12,
        tos: 0,
        mtu: None,
        action,
    }
}

fn via(prefix: &str, ifindex: Ifindex, gateway: &str) -> Route {
    route(prefix, Action::Hops(vec![hop(ifindex, gateway)]))
}

/// Three links, two gateways, a connected subnet, a few routes and a next-hop object with many.
fn dump() -> Dump {
    let mut routes = vec![
        via("0.0.0.0/0", OUT, "203.0.113.1"),
        via("5.0.0.0/8", OUT, "203.0.113.1"),
        via("5.1.2.128/25", OUT, "203.0.113.2"),
        via("2a05::/32", OUT, "2001:db8::1"),
        via("198.18.0.0/24", OUT, ""),
        route(
            "6.0.0.0/8",
            Action::Hops(vec![hop(OUT, "203.0.113.1"), hop(OUT, "203.0.113.2")]),
        ),
    ];
    routes.extend((0..500u32).map(|number| {
        let prefix = format!("7.{}.{}.0/24", number >> 8, number & 255);
        route(&prefix, Action::Nexthop(1))
    }));
    Dump {
        links: [IN, OUT, OTHER].map(link).to_vec(),
        addresses: Vec::new(),
        neighbours: vec![
            neighbour(OUT, "203.0.113.1", 1),
            neighbour(OUT, "203.0.113.2", 2),
            neighbour(OUT, "2001:db8::1", 6),
            neighbour(OUT, "198.18.0.5", 5),
        ],
        nexthops: vec![NexthopObject {
            id: 1,
            kind: NexthopKind::Hop(hop(OUT, "203.0.113.1")),
        }],
        routes,
    }
}

fn start(dataplane: MemoryDataplane, dump: Dump) -> Engine<MemoryDataplane> {
    start_with(dataplane, dump, |_| {})
}

/// The same, with something set before the first interface is served.
fn start_with(
    dataplane: MemoryDataplane,
    dump: Dump,
    set: impl FnOnce(&mut Engine<MemoryDataplane>),
) -> Engine<MemoryDataplane> {
    let mut engine = Engine::new(dataplane).expect("sound tables");
    set(&mut engine);
    for (port, ifindex) in [IN, OUT].into_iter().enumerate() {
        let served = Served {
            port: port as u16 + 1,
            ..Served::default()
        };
        engine.serve(ifindex, Some(served));
    }
    engine.load(dump);
    engine
}

fn fresh() -> Engine<MemoryDataplane> {
    start(MemoryDataplane::new(Sizes::SMALL), dump())
}

fn tell(engine: &mut Engine<MemoryDataplane>, event: Event) -> Vec<Demand> {
    let mut demands = Vec::new();
    engine.apply(event, &mut demands);
    demands
}

fn announce(engine: &mut Engine<MemoryDataplane>, route: Route) {
    let change = Change::Add;
    tell(engine, Event::Route { route, change });
}

/// The group an address leads to.
fn group(engine: &Engine<MemoryDataplane>, to: &str) -> Option<u32> {
    let tables = engine.view();
    let leaf = tables.lookup(address(to)).expect("a walk that ends");
    match leaf.group() {
        _ if leaf.is_none() => None,
        GROUP_INDIRECT => Some(tables.slot_group(leaf.slot()).load(Ordering::Acquire)),
        group => Some(group),
    }
}

/// The next hops of an address.
fn hops(engine: &Engine<MemoryDataplane>, to: &str) -> Vec<NextHop> {
    let tables = engine.view();
    let Some(group) = group(engine, to) else {
        return Vec::new();
    };
    let mut ids = tables.groups.get(group as usize).buckets.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids.iter().map(|id| tables.nexthops.get(*id as usize)).collect()
}

/// What becomes of a packet: the reason, or the last octet of the MAC it is sent to.
fn fate(engine: &Engine<MemoryDataplane>, to: &str) -> Result<u8, Reason> {
    let all = hops(engine, to);
    let Some(first) = all.first() else {
        return Err(Reason::NoRoute);
    };
    match Reason::from_index(first.state()).expect("a reason") {
        Reason::Forwarded => Ok(first.destination_mac()[5]),
        reason => Err(reason),
    }
}

/// A digest of every word that a leaf can stand in.
fn leaves(engine: &Engine<MemoryDataplane>) -> u64 {
    let tables = engine.view();
    let sizes = tables.sizes;
    let regions = [
        (&tables.fib4_root, ROOT4_LEN),
        (&tables.fib6_root, ROOT6_LEN),
        (&tables.fib4_pool, sizes.blocks4 as usize * BLOCK_LEN),
        (&tables.fib6_pool, sizes.blocks6 as usize * BLOCK_LEN),
        (&tables.slot_group, sizes.slots as usize),
    ];
    let mut digest = 0u64;
    for (region, words) in regions {
        for index in 0..words {
            let word = u64::from(region.u32(index * 4).load(Ordering::Relaxed));
            digest = (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    digest
}

fn slots(engine: &Engine<MemoryDataplane>) -> Vec<(IpNet, u32)> {
    let mut all = Vec::new();
    engine
        .fib
        .each(engine.view(), |prefix, slot, _| all.push((prefix, slot)));
    all.sort_unstable();
    all
}

#[test]
fn a_resolved_neighbour_of_a_connected_subnet_is_a_host_route() {
    let mut engine = fresh();
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
    assert_eq!(fate(&engine, "198.18.0.6"), Err(Reason::NeighbourUnresolved));
    tell(&mut engine, Event::Neighbour(neighbour(OUT, "198.18.0.6", 6)));
    assert_eq!(fate(&engine, "198.18.0.6"), Ok(6));
    // A machine is swapped: one word changes.
    let before = leaves(&engine);
    tell(&mut engine, Event::Neighbour(neighbour(OUT, "198.18.0.6", 60)));
    assert_eq!(fate(&engine, "198.18.0.6"), Ok(60));
    assert_eq!(leaves(&engine), before);
    // It fails, then its entry goes.
    let failed = Neighbour {
        mac: None,
        ..neighbour(OUT, "198.18.0.6", 0)
    };
    tell(&mut engine, Event::Neighbour(failed));
    assert_eq!(fate(&engine, "198.18.0.6"), Err(Reason::NeighbourUnresolved));
    assert_eq!(engine.fib.slot(engine.view(), net("198.18.0.6/32")), None);
    let gone = Event::NeighbourGone {
        ifindex: OUT,
        address: address("198.18.0.5"),
    };
    tell(&mut engine, gone);
    assert_eq!(fate(&engine, "198.18.0.5"), Err(Reason::NeighbourUnresolved));
}

#[test]
fn a_neighbour_elsewhere_is_no_host_of_the_subnet() {
    let mut engine = fresh();
    tell(&mut engine, Event::Neighbour(neighbour(IN, "198.18.0.7", 7)));
    assert_eq!(fate(&engine, "198.18.0.7"), Err(Reason::NeighbourUnresolved));
    // A gateway is reached by the route that covers it, not by its entry.
    assert_eq!(engine.fib.slot(engine.view(), net("203.0.113.1/32")), None);
    assert_eq!(fate(&engine, "203.0.113.1"), Ok(1));
}

#[test]
fn host_routes_come_and_go_with_the_connected_route() {
    let mut engine = fresh();
    let connected = via("198.18.0.0/24", OUT, "");
    tell(&mut engine, Event::RouteGone(connected.clone()));
    assert_eq!(engine.fib.slot(engine.view(), net("198.18.0.5/32")), None);
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(1), "by the default route");
    announce(&mut engine, connected);
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
}

#[test]
fn a_more_specific_route_keeps_neighbours_out() {
    let mut engine = fresh();
    let inner = via("198.18.0.0/28", OUT, "203.0.113.2");
    announce(&mut engine, inner.clone());
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(2));
    assert_eq!(engine.fib.slot(engine.view(), net("198.18.0.5/32")), None);
    tell(&mut engine, Event::RouteGone(inner));
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
    // A route for the very host, and one for the router itself.
    announce(&mut engine, via("198.18.0.5/32", OUT, "203.0.113.2"));
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(2));
    let own = Route {
        table: 255,
        ..route("198.18.0.5/32", Action::Local)
    };
    announce(&mut engine, own.clone());
    assert_eq!(fate(&engine, "198.18.0.5"), Err(Reason::Local));
    tell(&mut engine, Event::RouteGone(own));
    tell(
        &mut engine,
        Event::RouteGone(via("198.18.0.5/32", OUT, "203.0.113.2")),
    );
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
}

#[test]
fn an_interface_that_is_no_longer_served_hands_its_packets_to_the_kernel() {
    let mut engine = fresh();
    let served = engine.world.links.served(OUT);
    engine.serve(OUT, None);
    engine.served_changed();
    for to in ["5.1.1.1", "6.1.1.1", "7.0.0.1", "2a05::1", "198.18.0.5"] {
        assert_eq!(fate(&engine, to), Err(Reason::EgressWithoutXdp), "{to}");
    }
    assert_eq!(engine.fib.slot(engine.view(), net("198.18.0.5/32")), None);
    engine.serve(OUT, served);
    engine.served_changed();
    assert_eq!(fate(&engine, "5.1.1.1"), Ok(1));
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
    assert_eq!(hops(&engine, "6.1.1.1").len(), 2);
}

#[test]
fn an_interface_whose_driver_takes_no_frames_hands_them_to_the_kernel_until_it_does() {
    let mut engine = fresh();
    let served = engine.world.links.served(OUT).expect("served");
    let with = |frame: Frame| Some(Served { frame, ..served });
    let closed = Frame {
        closed: true,
        ..served.frame
    };
    engine.serve(OUT, with(closed));
    engine.served_changed();
    for to in ["5.1.1.1", "6.1.1.1", "7.0.0.1", "2a05::1", "198.18.0.5"] {
        assert_eq!(fate(&engine, to), Err(Reason::EgressWithoutXdp), "{to}");
    }
    let several = Frame {
        several: true,
        ..served.frame
    };
    for (frame, takes) in [(several, true), (served.frame, false)] {
        engine.serve(OUT, with(frame));
        engine.served_changed();
        assert_eq!(fate(&engine, "5.1.1.1"), Ok(1));
        assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
        let group = group(&engine, "5.1.1.1").expect("a group");
        let id = engine.view().groups.get(group as usize).buckets[0];
        let flags = engine.view().nexthops.get(id as usize).flags;
        assert_eq!(flags & SEVERAL_BUFFERS != 0, takes);
    }
}

#[test]
fn a_next_hop_object_moves_its_prefixes_without_touching_one() {
    let mut engine = fresh();
    let before = (leaves(&engine), slots(&engine));
    let object = |gateway| {
        Event::Nexthop(NexthopObject {
            id: 1,
            kind: NexthopKind::Hop(hop(OUT, gateway)),
        })
    };
    tell(&mut engine, object("203.0.113.2"));
    for number in [0, 255, 499] {
        let to = format!("7.{}.{}.9", number >> 8, number & 255);
        assert_eq!(fate(&engine, &to), Ok(2));
    }
    tell(&mut engine, Event::NexthopGone(1));
    assert_eq!(fate(&engine, "7.0.0.9"), Err(Reason::UnsupportedRoute));
    tell(&mut engine, object("203.0.113.1"));
    assert_eq!(fate(&engine, "7.1.243.9"), Ok(1));
    assert_eq!((leaves(&engine), slots(&engine)), before);
}

#[test]
fn a_link_that_goes_down_takes_its_next_hops_down_and_no_leaf_is_written() {
    let mut engine = fresh();
    let before = leaves(&engine);
    for down in [
        Link {
            carrier: false,
            ..link(OUT)
        },
        Link {
            admin_up: false,
            ..link(OUT)
        },
    ] {
        tell(&mut engine, Event::Link(down));
        for to in ["5.1.1.1", "6.1.1.1", "7.0.0.1", "2a05::1", "198.18.0.5"] {
            assert_eq!(fate(&engine, to), Err(Reason::NextHopDown), "{to}");
        }
        tell(&mut engine, Event::Link(link(OUT)));
        assert_eq!(fate(&engine, "5.1.1.1"), Ok(1));
    }
    assert_eq!(leaves(&engine), before);
    assert_eq!(hops(&engine, "6.1.1.1").len(), 2);
    // A new name or MAC is for whoever attaches programs.
    let renamed = Link {
        name: "wan0".into(),
        ..link(OUT)
    };
    assert_eq!(tell(&mut engine, Event::Link(renamed)), [Demand::Interface(OUT)]);
}

#[test]
fn members_that_cannot_be_used_leave_their_group_and_come_back() {
    let mut engine = fresh();
    let lost = neighbour(OUT, "203.0.113.2", 2);
    let gone = Event::NeighbourGone {
        ifindex: OUT,
        address: lost.address,
    };
    tell(&mut engine, gone);
    assert_eq!(hops(&engine, "6.1.1.1").len(), 1);
    assert_eq!(fate(&engine, "6.1.1.1"), Ok(1));
    tell(&mut engine, Event::Neighbour(lost));
    assert_eq!(hops(&engine, "6.1.1.1").len(), 2);
    // The kernel marks a hop dead.
    let mut dead = hop(OUT, "203.0.113.1");
    dead.dead = true;
    let changed = route("6.0.0.0/8", Action::Hops(vec![dead, hop(OUT, "203.0.113.2")]));
    tell(
        &mut engine,
        Event::Route {
            route: changed,
            change: Change::Replace,
        },
    );
    assert_eq!(fate(&engine, "6.1.1.1"), Ok(2));
    assert_eq!(hops(&engine, "6.1.1.1").len(), 1);
}

#[test]
fn table_local_comes_before_main_and_a_low_metric_before_a_high_one() {
    let mut engine = fresh();
    let worse = Route {
        metric: 200,
        ..via("9.0.0.0/8", OUT, "203.0.113.1")
    };
    let better = Route {
        metric: 100,
        ..via("9.0.0.0/8", OUT, "203.0.113.2")
    };
    announce(&mut engine, worse.clone());
    assert_eq!(fate(&engine, "9.1.1.1"), Ok(1));
    announce(&mut engine, better.clone());
    assert_eq!(fate(&engine, "9.1.1.1"), Ok(2));
    let local = Route {
        table: 255,
        ..route("9.0.0.0/8", Action::Local)
    };
    announce(&mut engine, local.clone());
    assert_eq!(fate(&engine, "9.1.1.1"), Err(Reason::Local));
    tell(&mut engine, Event::RouteGone(local));
    assert_eq!(fate(&engine, "9.1.1.1"), Ok(2));
    tell(&mut engine, Event::RouteGone(better));
    assert_eq!(fate(&engine, "9.1.1.1"), Ok(1));
    tell(&mut engine, Event::RouteGone(worse));
    assert_eq!(engine.fib.slot(engine.view(), net("9.0.0.0/8")), None);
    assert_eq!(fate(&engine, "9.1.1.1"), Ok(1), "by the default route");
}

#[test]
fn gateways_are_told_once_after_each_change() {
    let mut engine = fresh();
    let all = engine.gateways().expect("after a load");
    let expected = ["2001:db8::1", "203.0.113.1", "203.0.113.2"];
    let found: Vec<String> = all.iter().map(|(_, address)| address.to_string()).collect();
    assert!(
        expected
            .iter()
            .all(|address| found.contains(&address.to_string())),
        "{found:?}"
    );
    assert!(
        !found.contains(&"198.18.0.5".to_string()),
        "a host is not a gateway"
    );
    assert_eq!(engine.gateways(), None);
    announce(&mut engine, via("9.9.0.0/16", OUT, "203.0.113.99"));
    let all = engine.gateways().expect("after a route");
    assert!(
        all.contains(&(OUT, address("203.0.113.99"))),
        "an unresolved gateway is one to resolve"
    );
}
