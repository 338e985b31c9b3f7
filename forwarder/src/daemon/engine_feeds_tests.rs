//! Feeds beside the kernel, on the in-memory data path: whose route counts, where gateways are, what a mark, a sweep and the
//! gate do.

use super::*;
use crate::source::{
    event::Dump,
    feed::{Attributes, Batch, FeedEvent, FeedRoute, FeedState, FeedTable, Segment, Target},
};

#[path = "engine_answers_tests.rs"]
mod answers;
#[path = "engine_feeds_model_tests.rs"]
mod model;
#[path = "engine_sources_tests.rs"]
mod sources;

const ONE: FeedId = 1;
const TWO: FeedId = 2;
const ZEBRA: FeedId = 3;
const THIRD: Ifindex = 5;

/// Three carriers, each with a link, a gateway and the last octet of its MAC.
const CARRIERS: [(Ifindex, &str, u8); 3] = [
    (OUT, "203.0.113.1", 1),
    (OTHER, "203.0.113.65", 2),
    (THIRD, "203.0.113.129", 3),
];
/// A router behind each of them, which BGP names as next hop.
const LOOPBACKS: [&str; 3] = ["10.255.0.1", "10.255.0.2", "10.255.0.3"];

const KERNEL: u8 = 2;
const BIRD: u8 = 12;

fn world() -> Dump {
    let mut routes: Vec<Route> = CARRIERS
        .iter()
        .map(|(ifindex, gateway, _)| {
            let prefix = format!("{gateway}/26");
            Route {
                prefix: net(&prefix).trunc(),
                protocol: KERNEL,
                ..via(&prefix, *ifindex, "")
            }
        })
        .collect();
    routes.extend(LOOPBACKS.iter().zip(CARRIERS).map(|(loopback, carrier)| {
        let prefix = format!("{loopback}/32");
        via(&prefix, carrier.0, carrier.1)
    }));
    Dump {
        links: [IN, OUT, OTHER, THIRD].map(link).to_vec(),
        neighbours: CARRIERS
            .map(|(ifindex, gateway, mac)| neighbour(ifindex, gateway, mac))
            .to_vec(),
        routes,
        ..Dump::default()
    }
}

fn on(dataplane: MemoryDataplane, sources: &[Source]) -> Engine<MemoryDataplane> {
    let mut engine = Engine::with_sources(dataplane, sources, RouteTables::default()).expect("sound tables");
    for (port, ifindex) in [IN, OUT, OTHER, THIRD].into_iter().enumerate() {
        let served = Served {
            port: port as u16 + 1,
            ..Served::default()
        };
        engine.serve(ifindex, Some(served));
    }
    engine
}

fn register(engine: &mut Engine<MemoryDataplane>) {
    engine.register(ONE, Source::Bgp);
    engine.register(TWO, Source::Bgp);
    engine.register(ZEBRA, Source::Fpm);
}

/// A controller in step with the kernel, its gate open.
fn following(sources: &[Source], dump: Dump) -> Engine<MemoryDataplane> {
    let mut engine = on(MemoryDataplane::new(Sizes::SMALL), sources);
    engine.load(dump);
    register(&mut engine);
    engine
}

fn say(engine: &mut Engine<MemoryDataplane>, feed: FeedId, events: Vec<FeedEvent>) {
    engine.apply_feed(Batch { feed, events });
    settle(engine);
}

fn settle(engine: &mut Engine<MemoryDataplane>) {
    while engine.work(3) {}
}

fn with(target: Target, change: impl FnOnce(&mut Attributes)) -> FeedRoute {
    let mut attributes = Attributes {
        as_path: vec![Segment::Sequence(vec![64500, 64501])],
        local_pref: 100,
        protocol: 186,
        ..Attributes::default()
    };
    change(&mut attributes);
    FeedRoute {
        target,
        attributes: attributes.into(),
    }
}

fn gateway(text: &str) -> Target {
    Target::Gateway(Gateway {
        address: address(text),
        link_local: None,
        interface: None,
    })
}

fn route_of(prefix: &str, route: FeedRoute) -> FeedEvent {
    FeedEvent::Route {
        prefix: net(prefix),
        path_id: 0,
        route,
    }
}

/// A BGP route by a gateway.
fn bgp(prefix: &str, by: &str) -> FeedEvent {
    route_of(prefix, with(gateway(by), |_| {}))
}

fn gone(prefix: &str) -> FeedEvent {
    FeedEvent::RouteGone {
        prefix: net(prefix),
        path_id: 0,
    }
}

fn mark(table: FeedTable) -> FeedEvent {
    FeedEvent::Mark {
        table,
        least_preferred: false,
    }
}

/// The macs of all next hops of an address.
fn macs(engine: &Engine<MemoryDataplane>, to: &str) -> Vec<u8> {
    let mut macs: Vec<u8> = hops(engine, to)
        .iter()
        .map(|hop| hop.destination_mac()[5])
        .collect();
    macs.sort_unstable();
    macs
}

/// The words of every group.
fn group_words(engine: &Engine<MemoryDataplane>) -> Vec<forwarder_common::nexthop::Group> {
    let tables = engine.view();
    (0..tables.sizes.groups as usize)
        .map(|group| tables.groups.get(group))
        .collect()
}

const BOTH: [Source; 3] = [Source::Bgp, Source::Fpm, Source::Kernel];

#[test]
fn the_first_source_that_has_the_prefix_wins_and_the_next_takes_over() {
    for (sources, order) in [
        ([Source::Kernel, Source::Bgp, Source::Fpm], [1, 2, 3]),
        ([Source::Bgp, Source::Fpm, Source::Kernel], [2, 3, 1]),
        ([Source::Fpm, Source::Kernel, Source::Bgp], [3, 1, 2]),
    ] {
        let mut engine = following(&sources, world());
        let kernel = via("20.0.0.0/8", OUT, "203.0.113.1");
        announce(&mut engine, kernel.clone());
        say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
        let third = hop(THIRD, "203.0.113.129");
        let by_zebra = route_of("20.0.0.0/8", with(Target::Hops(vec![third]), |_| {}));
        say(&mut engine, ZEBRA, vec![by_zebra]);
        for mac in order {
            assert_eq!(fate(&engine, "20.1.1.1"), Ok(mac), "{sources:?}");
            match mac {
                1 => drop(tell(&mut engine, Event::RouteGone(kernel.clone()))),
                2 => say(&mut engine, ONE, vec![gone("20.0.0.0/8")]),
                _ => say(&mut engine, ZEBRA, vec![gone("20.0.0.0/8")]),
            }
        }
        assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::NoRoute));
        assert!(engine.rib.feeds.is_empty() && engine.world.gateways.is_empty());
    }
}

#[test]
fn connected_and_local_routes_are_the_kernels_whatever_the_order() {
    let mut engine = following(&[Source::Bgp, Source::Kernel], world());
    let own = Route {
        table: crate::source::route_tables::TABLE_LOCAL,
        action: Action::Local,
        ..route("198.51.100.1/32", Action::Local)
    };
    announce(&mut engine, own);
    say(
        &mut engine,
        ONE,
        vec![
            bgp("203.0.113.0/26", LOOPBACKS[1]),
            bgp("198.51.100.1/32", LOOPBACKS[1]),
            bgp("203.0.113.32/27", LOOPBACKS[1]),
        ],
    );
    assert_eq!(fate(&engine, "203.0.113.9"), Err(Reason::NeighbourUnresolved));
    assert_eq!(fate(&engine, "203.0.113.1"), Ok(1), "a neighbour");
    assert_eq!(fate(&engine, "198.51.100.1"), Err(Reason::Local));
    // A longer prefix of a feed is another matter: its hosts are not the subnet's.
    tell(&mut engine, Event::Neighbour(neighbour(OUT, "203.0.113.40", 7)));
    assert_eq!(fate(&engine, "203.0.113.40"), Ok(2));
    say(&mut engine, ONE, vec![gone("203.0.113.32/27")]);
    assert_eq!(fate(&engine, "203.0.113.40"), Ok(7));
}

#[test]
fn a_source_that_is_not_named_only_tells_attributes() {
    let mut engine = following(&[Source::Kernel], world());
    say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::NoRoute));
    assert_eq!(engine.rib.feeds.routes(net("20.0.0.0/8")).count(), 1);
    announce(&mut engine, via("20.0.0.0/8", OUT, "203.0.113.1"));
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
}

#[test]
fn the_directory_says_which_as_a_prefix_is_of_also_where_only_that_changes() {
    let ases = |engine: &Engine<MemoryDataplane>, prefix: &str| {
        let tables = engine.view();
        let slot = engine.fib.slot(tables, net(prefix)).expect("laid");
        let entry = tables.slot_directory.get(slot as usize);
        (entry.origin_as, tables.neighbour_as(entry.neighbour))
    };
    let path = |path: &[u32]| {
        let path = path.to_vec();
        with(gateway(LOOPBACKS[1]), |attributes| {
            attributes.as_path = vec![Segment::Sequence(path)]
        })
    };
    // A feed that only tells attributes, of a route that is the kernel's; and of a feed's own.
    for sources in [&[Source::Kernel][..], &[Source::Bgp, Source::Kernel]] {
        let mut engine = following(sources, world());
        announce(&mut engine, via("20.0.0.0/8", OUT, "203.0.113.1"));
        assert_eq!(ases(&engine, "20.0.0.0/8"), (0, 0));
        let routes = [[64500, 64501], [64500, 64502], [64503, 64502]];
        for route in routes {
            say(&mut engine, ONE, vec![route_of("20.0.0.0/8", path(&route))]);
            assert_eq!(ases(&engine, "20.0.0.0/8"), (route[1], route[0]), "{sources:?}");
        }
        say(&mut engine, ONE, vec![gone("20.0.0.0/8")]);
        assert_eq!(ases(&engine, "20.0.0.0/8"), (0, 0), "{sources:?}");
    }
}

#[test]
fn where_the_kernel_is_not_named_its_other_routes_are_its_to_carry_out() {
    let mut engine = following(&[Source::Bgp], world());
    announce(&mut engine, via("20.1.0.0/16", OUT, "203.0.113.1"));
    say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
    assert_eq!(fate(&engine, "20.9.9.9"), Ok(2));
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::UnsupportedRoute));
    say(&mut engine, ONE, vec![bgp("20.1.0.0/16", LOOPBACKS[2])]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
}

#[test]
fn within_bgp_the_decision_process_chooses_and_paths_of_one_session_are_told_apart() {
    let mut engine = following(&BOTH, world());
    let path = |path_id, by, pref| FeedEvent::Route {
        prefix: net("20.0.0.0/8"),
        path_id,
        route: with(gateway(by), |a| a.local_pref = pref),
    };
    say(
        &mut engine,
        ONE,
        vec![path(1, LOOPBACKS[0], 100), path(2, LOOPBACKS[1], 200)],
    );
    say(&mut engine, TWO, vec![path(1, LOOPBACKS[2], 150)]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    let withdrawn = FeedEvent::RouteGone {
        prefix: net("20.0.0.0/8"),
        path_id: 2,
    };
    say(&mut engine, ONE, vec![withdrawn.clone(), withdrawn]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
    say(&mut engine, ONE, vec![path(1, LOOPBACKS[0], 300)]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
}

#[test]
fn a_next_best_route_by_the_same_next_hop_is_no_backup_and_the_next_that_differs_is() {
    let path = |path_id, by, pref| FeedEvent::Route {
        prefix: net("20.0.0.0/8"),
        path_id,
        route: with(gateway(by), |a| a.local_pref = pref),
    };
    let silent = Neighbour {
        mac: None,
        failed: true,
        ..neighbour(OUT, "203.0.113.1", 1)
    };
    let beside = "10.255.0.9";
    // The best by a feed, and by the kernel.
    for sources in [
        [Source::Bgp, Source::Kernel, Source::Fpm],
        [Source::Kernel, Source::Bgp, Source::Fpm],
    ] {
        let mut engine = following(&sources, world());
        announce(&mut engine, via(&format!("{beside}/32"), OUT, "203.0.113.1"));
        announce(&mut engine, via("20.0.0.0/8", OUT, "203.0.113.1"));
        let paths = [
            path(1, LOOPBACKS[0], 300),
            path(2, beside, 200),
            path(3, LOOPBACKS[2], 100),
        ];
        say(&mut engine, ONE, paths.to_vec());
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(1), "{sources:?}");
        tell(&mut engine, Event::Neighbour(silent));
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(3), "{sources:?}");
        tell(&mut engine, Event::Neighbour(neighbour(OUT, "203.0.113.1", 1)));
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(1), "{sources:?}");
        // Without it the others are left, and what covers the prefix is the backup.
        announce(&mut engine, via("0.0.0.0/0", OTHER, "203.0.113.65"));
        let withdrawn = FeedEvent::RouteGone {
            prefix: net("20.0.0.0/8"),
            path_id: 3,
        };
        say(&mut engine, ONE, vec![withdrawn]);
        tell(&mut engine, Event::Neighbour(silent));
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(2), "{sources:?}");
    }
}

#[test]
fn a_gateway_that_does_not_resolve_leaves_the_prefix_to_the_next_route_then_to_the_kernel() {
    let mut engine = following(&BOTH, world());
    say(
        &mut engine,
        ONE,
        vec![route_of(
            "20.0.0.0/8",
            with(gateway("10.254.0.1"), |a| a.local_pref = 900),
        )],
    );
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::GatewayUnresolved));
    say(&mut engine, TWO, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    // The default route resolves, as in BIRD.
    announce(&mut engine, via("0.0.0.0/0", THIRD, "203.0.113.129"));
    settle(&mut engine);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
    tell(
        &mut engine,
        Event::RouteGone(via("0.0.0.0/0", THIRD, "203.0.113.129")),
    );
    settle(&mut engine);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    say(&mut engine, TWO, vec![gone("20.0.0.0/8")]);
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::GatewayUnresolved));
}

#[test]
fn what_covers_a_gateway_decides_its_way_and_a_change_is_a_few_stores_however_many_prefixes() {
    let mut engine = following(&BOTH, world());
    let prefixes: Vec<FeedEvent> = (0..1000)
        .map(|n| bgp(&format!("20.{}.{}.0/24", n >> 8, n & 255), LOOPBACKS[0]))
        .collect();
    say(&mut engine, ONE, prefixes);
    assert_eq!(fate(&engine, "20.2.1.1"), Ok(1));
    let (own, groups_before) = (group(&engine, "20.2.1.1"), group_words(&engine));
    let changed = |engine: &Engine<MemoryDataplane>| {
        let now = group_words(engine);
        now.iter()
            .zip(&groups_before)
            .filter(|(now, then)| now != then)
            .count()
    };
    let moved = |action| Route {
        action,
        ..route("10.255.0.1/32", Action::Local)
    };
    let replace = |engine: &mut Engine<MemoryDataplane>, action| {
        let (route, change) = (moved(action), Change::Replace);
        tell(engine, Event::Route { route, change });
        settle(engine);
    };
    replace(&mut engine, Action::Hops(vec![hop(OTHER, "203.0.113.65")]));
    assert_eq!(
        (fate(&engine, "20.2.1.1"), group(&engine, "20.2.1.1")),
        (Ok(2), own)
    );
    assert!(changed(&engine) <= 2, "the thousand's group and the loopback's");
    let both = Action::Hops(vec![hop(OTHER, "203.0.113.65"), hop(THIRD, "203.0.113.129")]);
    replace(&mut engine, both.clone());
    assert_eq!(
        (macs(&engine, "20.2.1.1"), group(&engine, "20.2.1.1")),
        (vec![2, 3], own)
    );
    // Behind a shorter prefix, then behind a longer one again.
    announce(&mut engine, via("10.255.0.0/16", THIRD, "203.0.113.129"));
    tell(&mut engine, Event::RouteGone(moved(both)));
    settle(&mut engine);
    assert_eq!(
        (fate(&engine, "20.2.1.1"), group(&engine, "20.2.1.1")),
        (Ok(3), own)
    );
    announce(&mut engine, via("10.255.0.1/32", OUT, "203.0.113.1"));
    settle(&mut engine);
    assert_eq!(
        (fate(&engine, "20.2.1.1"), group(&engine, "20.2.1.1")),
        (Ok(1), own)
    );
}

#[test]
fn a_kernels_object_that_a_gateway_hangs_on_is_followed() {
    let mut dump = world();
    dump.nexthops.push(NexthopObject {
        id: 7,
        kind: NexthopKind::Hop(hop(OUT, "203.0.113.1")),
    });
    dump.routes.push(route("10.1.0.0/16", Action::Nexthop(7)));
    let mut engine = following(&BOTH, dump);
    say(&mut engine, ONE, vec![bgp("20.0.0.0/8", "10.1.2.3")]);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
    tell(
        &mut engine,
        Event::Nexthop(NexthopObject {
            id: 7,
            kind: NexthopKind::Hop(hop(OTHER, "203.0.113.65")),
        }),
    );
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
}

#[test]
fn recursive_routes_resolve_no_gateway_and_the_kernels_refusals_are_taken_over() {
    let mut dump = world();
    let of = |protocol, route| Route { protocol, ..route };
    dump.routes.extend([
        // FRR's BGP, an OSPF route, and two that BIRD wrote: its BGP route to the gateway's own net, and an interior one.
        of(186, via("10.1.0.0/16", OUT, "203.0.113.1")),
        of(188, via("10.2.0.0/16", OUT, "203.0.113.1")),
        of(BIRD, via("10.3.0.0/16", OUT, "203.0.113.1")),
        of(BIRD, via("10.4.0.0/16", OUT, "203.0.113.1")),
        of(4, via("0.0.0.0/0", OUT, "203.0.113.1")),
        route("192.0.2.66/32", Action::Blackhole),
        route("192.0.2.67/32", Action::Unreachable),
        Route {
            table: crate::source::route_tables::TABLE_LOCAL,
            ..route("192.0.2.68/32", Action::Local)
        },
    ]);
    let mut engine = following(&BOTH, dump);
    say(
        &mut engine,
        ONE,
        vec![
            bgp("10.3.0.0/16", "10.3.0.1"),
            bgp("10.4.0.0/16", "203.0.113.1"),
            bgp("21.0.0.0/8", "10.1.0.1"),
            bgp("22.0.0.0/8", "10.2.0.1"),
            bgp("23.0.0.0/8", "10.3.0.9"),
            bgp("24.0.0.0/8", "10.4.0.9"),
            bgp("25.0.0.0/8", "192.0.2.66"),
            bgp("26.0.0.0/8", "192.0.2.67"),
            bgp("27.0.0.0/8", "192.0.2.68"),
        ],
    );
    let unresolved = Err(Reason::GatewayUnresolved);
    assert_eq!(fate(&engine, "21.0.0.1"), unresolved, "RTPROT_BGP");
    assert_eq!(fate(&engine, "22.0.0.1"), Ok(1), "OSPF");
    assert_eq!(fate(&engine, "23.0.0.1"), unresolved, "through itself");
    assert_eq!(
        fate(&engine, "24.0.0.1"),
        Ok(1),
        "announced too, but not by a gateway inside"
    );
    assert_eq!(fate(&engine, "25.0.0.1"), Err(Reason::Blackhole));
    assert_eq!(fate(&engine, "26.0.0.1"), unresolved);
    assert_eq!(fate(&engine, "27.0.0.1"), unresolved, "an address of our own");
    // The loop is gone when the feed no longer announces it.
    say(&mut engine, ONE, vec![gone("10.3.0.0/16")]);
    assert_eq!(fate(&engine, "23.0.0.1"), Ok(1));
}

#[test]
fn link_local_next_hops_are_on_their_interface_and_serve_where_the_global_one_is_connected() {
    let mut dump = world();
    dump.routes.push(Route {
        protocol: KERNEL,
        ..via("2001:db8:1::/64", OUT, "")
    });
    dump.neighbours.push(neighbour(OUT, "fe80::1", 4));
    dump.neighbours.push(neighbour(OTHER, "fe80::1", 5));
    let mut engine = following(&BOTH, dump);
    let by = |address: &str, link_local: Option<&str>, interface| {
        Target::Gateway(Gateway {
            address: address.parse().expect("an address"),
            link_local: link_local.map(|text| text.parse().expect("an address")),
            interface,
        })
    };
    let plain = |prefix, target| route_of(prefix, with(target, |_| {}));
    say(
        &mut engine,
        ONE,
        vec![
            plain("2a01::/32", by("fe80::1", None, Some(OTHER))),
            plain("2a02::/32", by("fe80::1", None, None)),
            plain("2a03::/32", by("2001:db8:1::9", Some("fe80::1"), None)),
            // IPv4 by an IPv6 next hop (RFC 8950).
            plain("20.0.0.0/8", by("fe80::1", None, Some(OTHER))),
            plain("2a04::/32", by("fe80::1", None, Some(77))),
        ],
    );
    assert_eq!(fate(&engine, "2a01::1"), Ok(5));
    assert_eq!(fate(&engine, "2a02::1"), Err(Reason::GatewayUnresolved));
    assert_eq!(fate(&engine, "2a03::1"), Ok(4));
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(5));
    assert_eq!(fate(&engine, "2a04::1"), Err(Reason::GatewayUnresolved));
    tell(&mut engine, Event::LinkGone(OTHER));
    settle(&mut engine);
    assert_eq!(fate(&engine, "2a01::1"), Err(Reason::GatewayUnresolved));
}

#[test]
fn groups_of_a_feed_may_come_after_their_routes_and_a_change_touches_their_words_alone() {
    let mut engine = following(&BOTH, world());
    let prefix = |n: u32| format!("20.{}.{}.0/24", n >> 8, n & 255);
    let routes = (0..500).map(|n| route_of(&prefix(n), with(Target::Nexthop(70), |_| {})));
    say(&mut engine, ZEBRA, routes.collect());
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::GatewayUnresolved));
    let object = |id, kind| FeedEvent::Nexthop { id, kind };
    let single = |(ifindex, gateway, _): (Ifindex, &str, u8)| NexthopKind::Hop(hop(ifindex, gateway));
    say(
        &mut engine,
        ZEBRA,
        vec![object(70, NexthopKind::Group(vec![(1, 1), (2, 1)]))],
    );
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::GatewayUnresolved));
    let (leaves_before, before) = (leaves(&engine), group_words(&engine));
    say(&mut engine, ZEBRA, vec![object(1, single(CARRIERS[0]))]);
    assert_eq!(macs(&engine, "20.1.1.1"), [1]);
    say(&mut engine, ZEBRA, vec![object(2, single(CARRIERS[1]))]);
    assert_eq!(macs(&engine, "20.1.1.1"), [1, 2]);
    say(&mut engine, ZEBRA, vec![object(2, single(CARRIERS[2]))]);
    assert_eq!(macs(&engine, "20.1.1.1"), [1, 3]);
    let now = group_words(&engine);
    let stores = now.iter().zip(&before).filter(|(now, then)| now != then).count();
    assert_eq!(
        (stores, leaves(&engine)),
        (1, leaves_before),
        "one group, no leaf"
    );
    // A group of groups is flat; one that contains itself ends.
    say(
        &mut engine,
        ZEBRA,
        vec![
            object(71, NexthopKind::Group(vec![(70, 1), (71, 1)])),
            route_of("21.0.0.0/8", with(Target::Nexthop(71), |_| {})),
        ],
    );
    assert_eq!(macs(&engine, "21.0.0.1"), [1, 3]);
    say(&mut engine, ZEBRA, vec![FeedEvent::NexthopGone(2)]);
    assert_eq!(macs(&engine, "20.1.1.1"), [1]);
    // The same numbers of another feed are others.
    say(
        &mut engine,
        TWO,
        vec![FeedEvent::NexthopGone(1), object(70, NexthopKind::Blackhole)],
    );
    assert_eq!(macs(&engine, "20.1.1.1"), [1]);
    say(&mut engine, ZEBRA, vec![FeedEvent::NexthopGone(1)]);
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::GatewayUnresolved));
}

#[test]
fn what_is_announced_again_after_a_mark_stays_and_a_sweep_takes_the_rest() {
    let mut engine = following(&BOTH, world());
    let all = || (0..100).map(|n| bgp(&format!("20.0.{n}.0/24"), LOOPBACKS[0]));
    say(&mut engine, ONE, all().collect());
    say(&mut engine, TWO, vec![bgp("20.0.7.0/24", LOOPBACKS[1])]);
    say(
        &mut engine,
        ONE,
        vec![bgp("2a05::/32", "2001:db8::1"), mark(FeedTable::Ipv4)],
    );
    assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv4), (100, 100));
    assert_eq!(fate(&engine, "20.0.9.1"), Ok(1), "stale is not gone");
    say(
        &mut engine,
        ONE,
        all()
            .filter(|e| *e != bgp("20.0.7.0/24", LOOPBACKS[0]))
            .skip(50)
            .collect(),
    );
    assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv4), (100, 51));
    // The sweep is work for later, and what is announced meanwhile is fresh.
    engine.apply_feed(Batch {
        feed: ONE,
        events: vec![FeedEvent::Sweep(FeedTable::Ipv4)],
    });
    assert!(engine.is_busy(ONE) && !engine.is_busy(TWO));
    say(&mut engine, ONE, vec![bgp("20.0.0.0/24", LOOPBACKS[2])]);
    assert!(!engine.is_busy(ONE));
    assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv4), (50, 0));
    assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv6), (1, 0));
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(3));
    assert_eq!(fate(&engine, "20.0.1.1"), Err(Reason::NoRoute));
    assert_eq!(fate(&engine, "20.0.7.1"), Ok(2), "another feed's");
    assert_eq!(fate(&engine, "20.0.99.1"), Ok(1));
}

#[test]
fn a_thousand_marks_make_nothing_fresh_again() {
    let mut engine = following(&BOTH, world());
    say(&mut engine, ONE, vec![bgp("20.0.0.0/24", LOOPBACKS[0])]);
    for round in 0..1000 {
        say(&mut engine, ONE, vec![mark(FeedTable::Ipv4)]);
        assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv4), (1, 1), "{round}");
        assert_eq!(
            engine.rib.feeds.stale(ONE, FeedTable::Ipv4, false).len(),
            1,
            "{round}"
        );
    }
    // A sweep that is not done yet, and the next session at once.
    engine.apply_feed(Batch {
        feed: ONE,
        events: vec![
            FeedEvent::Sweep(FeedTable::Ipv4),
            mark(FeedTable::Ipv4),
            bgp("20.0.1.0/24", LOOPBACKS[0]),
        ],
    });
    assert_eq!(fate(&engine, "20.0.0.1"), Err(Reason::NoRoute));
    assert_eq!(fate(&engine, "20.0.1.1"), Ok(1));
}

#[test]
fn what_is_stale_for_long_is_used_only_where_there_is_nothing_else() {
    let mut engine = following(&BOTH, world());
    let strong = |prefix: &str| route_of(prefix, with(gateway(LOOPBACKS[0]), |a| a.local_pref = 900));
    let not_for_long = with(gateway(LOOPBACKS[0]), |a| a.communities = vec![0xffff_0007]);
    say(
        &mut engine,
        ONE,
        vec![
            strong("20.0.0.0/24"),
            strong("20.0.1.0/24"),
            route_of("20.0.2.0/24", not_for_long),
        ],
    );
    say(&mut engine, TWO, vec![bgp("20.0.0.0/24", LOOPBACKS[1])]);
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(1));
    say(&mut engine, ONE, vec![mark(FeedTable::Ipv4)]);
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(1), "stale for a moment only");
    let for_long = FeedEvent::Mark {
        table: FeedTable::Ipv4,
        least_preferred: true,
    };
    say(&mut engine, ONE, vec![for_long]);
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(2));
    assert_eq!(fate(&engine, "20.0.1.1"), Ok(1), "nobody else has it");
    assert_eq!(fate(&engine, "20.0.2.1"), Err(Reason::NoRoute), "NO_LLGR");
    say(&mut engine, ONE, vec![strong("20.0.0.0/24")]);
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(1), "announced again");
    // The neighbour itself says that it is stale for long.
    let says = with(gateway(LOOPBACKS[0]), |a| {
        (a.local_pref, a.communities) = (900, vec![0xffff_0006]);
    });
    say(&mut engine, ONE, vec![route_of("20.0.0.0/24", says)]);
    assert_eq!(fate(&engine, "20.0.0.1"), Ok(2));
}

#[test]
fn a_prefix_takes_so_many_paths_and_a_feed_nobody_knows_says_nothing() {
    let mut engine = following(&BOTH, world());
    let path = |path_id| FeedEvent::Route {
        prefix: net("20.0.0.0/8"),
        path_id,
        route: with(gateway(LOOPBACKS[0]), |_| {}),
    };
    say(&mut engine, ONE, (0..100).map(path).collect());
    let most = crate::rib::feeds::MOST_PATHS;
    assert_eq!(engine.rib.feeds.count(ONE, FeedTable::Ipv4), (most, 0));
    let refused = |engine: &Engine<_>| {
        let feed = engine.feed(ONE).expect("registered");
        feed.refused.get(&FeedTable::Ipv4).copied()
    };
    assert_eq!(refused(&engine), Some(100 - most as u64));
    // It is going to say everything again.
    let mark = FeedEvent::Mark {
        table: FeedTable::Ipv4,
        least_preferred: false,
    };
    say(&mut engine, ONE, vec![mark]);
    assert_eq!(refused(&engine), None);
    say(&mut engine, 99, vec![path(1)]);
    assert!(engine.feed(99).is_none());
}

#[test]
fn a_kernel_that_is_dumped_again_leaves_the_feeds_routes_and_finds_their_gateways_anew() {
    let mut engine = following(&BOTH, world());
    announce(&mut engine, via("30.0.0.0/8", OUT, "203.0.113.1"));
    announce(&mut engine, via("20.1.0.0/16", OUT, "203.0.113.1"));
    say(
        &mut engine,
        ONE,
        vec![bgp("20.0.0.0/8", LOOPBACKS[1]), bgp("30.0.0.0/8", LOOPBACKS[1])],
    );
    let mut later = world();
    later.routes.retain(|route| route.prefix != net("10.255.0.2/32"));
    later.routes.push(via("10.255.0.2/32", THIRD, "203.0.113.129"));
    engine.load(later);
    settle(&mut engine);
    assert_eq!(fate(&engine, "20.9.9.9"), Ok(3));
    assert_eq!(
        fate(&engine, "20.1.1.1"),
        Ok(3),
        "the kernel's went without a word"
    );
    assert_eq!(fate(&engine, "30.1.1.1"), Ok(3));
}

#[test]
fn the_state_of_a_session_and_its_end_of_rib_are_known() {
    let mut engine = following(&BOTH, world());
    engine.clock = 1000;
    say(
        &mut engine,
        ONE,
        vec![
            FeedEvent::State(FeedState::Syncing),
            bgp("20.0.0.0/8", LOOPBACKS[0]),
            FeedEvent::Synchronised(FeedTable::Ipv4),
            FeedEvent::State(FeedState::Live),
        ],
    );
    let known = engine.feed(ONE).expect("registered").clone();
    assert_eq!(
        (known.state, known.updates, known.last_change),
        (FeedState::Live, 1, 1000)
    );
    assert!(known.synchronised.contains(&FeedTable::Ipv4));
    say(&mut engine, ONE, vec![FeedEvent::State(FeedState::Stale)]);
    assert!(engine.feed(ONE).is_some_and(|feed| feed.synchronised.len() == 1));
    say(&mut engine, ONE, vec![FeedEvent::State(FeedState::Connecting)]);
    assert!(engine.feed(ONE).is_some_and(|feed| feed.synchronised.is_empty()));
}

mod gate {
    //! What a restarted controller does before its feeds have said everything.

    use super::*;
    use crate::daemon::gate::Awaited;

    /// A controller that has heard the kernel, and no feed yet.
    fn restarted(dataplane: MemoryDataplane, sources: &[Source], dump: Dump) -> Engine<MemoryDataplane> {
        let mut engine = on(dataplane, sources);
        register(&mut engine);
        engine.load(dump);
        settle(&mut engine);
        engine
    }

    fn ended(engine: &mut Engine<MemoryDataplane>, feed: FeedId) {
        let events = [FeedTable::Ipv4, FeedTable::Ipv6].map(FeedEvent::Synchronised);
        say(engine, feed, events.to_vec());
    }

    fn before() -> MemoryDataplane {
        let mut engine = following(&BOTH, world());
        announce(&mut engine, via("20.1.0.0/16", OUT, "203.0.113.1"));
        let events = [
            bgp("20.0.0.0/8", LOOPBACKS[1]),
            bgp("20.1.0.0/16", LOOPBACKS[1]),
            bgp("21.0.0.0/8", LOOPBACKS[1]),
        ];
        say(&mut engine, ONE, events.to_vec());
        engine.dataplane
    }

    #[test]
    fn what_was_laid_stays_until_every_source_has_ended_its_first_synchronisation() {
        let mut dump = world();
        dump.routes.push(via("20.1.0.0/16", OUT, "203.0.113.1"));
        dump.routes.push(via("22.0.0.0/8", THIRD, "203.0.113.129"));
        let mut engine = restarted(before(), &BOTH, dump);
        assert!(engine.is_gated());
        assert_eq!(engine.awaited(), [ONE, TWO, ZEBRA].map(Awaited::Feed));
        assert_eq!(fate(&engine, "20.9.9.9"), Ok(2));
        assert_eq!(
            fate(&engine, "20.1.1.1"),
            Ok(2),
            "the kernel comes behind feeds still awaited"
        );
        assert_eq!(fate(&engine, "22.1.1.1"), Ok(3), "what is new is laid");
        say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[2])]);
        assert_eq!(fate(&engine, "20.9.9.9"), Ok(3), "the first source speaks");
        for feed in [ONE, TWO] {
            ended(&mut engine, feed);
            assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
            assert_eq!(fate(&engine, "21.1.1.1"), Ok(2));
        }
        ended(&mut engine, ZEBRA);
        assert!(!engine.is_gated());
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(1), "mended");
        assert_eq!(fate(&engine, "21.1.1.1"), Err(Reason::NoRoute), "taken away");
        assert_eq!(fate(&engine, "20.9.9.9"), Ok(3));
    }

    #[test]
    fn a_withdrawal_is_a_word_and_a_dump_is_none() {
        let mut dump = world();
        dump.routes.push(via("20.1.0.0/16", OUT, "203.0.113.1"));
        let mut engine = restarted(before(), &BOTH, dump);
        // A dump without it, and its withdrawal by who comes last, say nothing of a prefix that others are awaited for.
        tell(
            &mut engine,
            Event::RouteGone(via("20.1.0.0/16", OUT, "203.0.113.1")),
        );
        engine.load(world());
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
        say(&mut engine, ONE, vec![gone("20.1.0.0/16"), gone("21.0.0.0/8")]);
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(2), "by 20.0.0.0/8, which stays");
        assert_eq!(engine.fib.slot(engine.view(), net("20.1.0.0/16")), None);
        assert_eq!(fate(&engine, "21.1.1.1"), Err(Reason::NoRoute));
    }

    #[test]
    fn when_its_time_is_up_the_gate_opens_with_what_is_known() {
        let mut engine = restarted(before(), &BOTH, world());
        assert_eq!(fate(&engine, "21.1.1.1"), Ok(2));
        engine.open_gate();
        settle(&mut engine);
        assert_eq!(fate(&engine, "21.1.1.1"), Err(Reason::NoRoute));
        assert_eq!(engine.fib.len(), (9, 0), "subnets, loopbacks and hosts");
    }

    #[test]
    fn with_the_kernel_alone_and_for_feeds_that_only_tell_attributes_there_is_no_gate() {
        for sources in [&[Source::Kernel][..], &[]] {
            let engine = restarted(before(), sources, world());
            assert!(!engine.is_gated());
            assert_eq!(engine.fib.slot(engine.view(), net("21.0.0.0/8")), None);
        }
    }

    #[test]
    fn a_restart_that_hears_the_same_writes_no_leaf() {
        let dataplane = before();
        let engine = Engine::with_sources(dataplane, &BOTH, RouteTables::default()).expect("sound tables");
        let leaves_before = leaves(&engine);
        let mut dump = world();
        dump.routes.push(via("20.1.0.0/16", OUT, "203.0.113.1"));
        let mut engine = restarted(engine.dataplane, &BOTH, dump);
        let events = [
            bgp("20.0.0.0/8", LOOPBACKS[1]),
            bgp("20.1.0.0/16", LOOPBACKS[1]),
            bgp("21.0.0.0/8", LOOPBACKS[1]),
        ];
        say(&mut engine, ONE, events.to_vec());
        for feed in [ONE, TWO, ZEBRA] {
            ended(&mut engine, feed);
        }
        assert!(!engine.is_gated());
        assert_eq!(leaves(&engine), leaves_before);
    }

    #[test]
    fn a_prefix_that_is_only_counted_waits_for_what_covers_it() {
        for sources in [&BOTH[..], &[Source::Kernel, Source::Bgp]] {
            let accounts = || crate::fib::accounts::Accounts::new([(net("20.2.0.0/16"), 1)]);
            let mut dump = world();
            dump.routes.push(via("0.0.0.0/0", OUT, "203.0.113.1"));
            let mut engine = on(MemoryDataplane::new(Sizes::SMALL), sources);
            engine.set_accounts(accounts());
            engine.load(dump.clone());
            register(&mut engine);
            assert_eq!(fate(&engine, "20.2.1.1"), Ok(1));
            say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
            assert_eq!(fate(&engine, "20.2.1.1"), Ok(2));
            let mut engine = on(engine.dataplane, sources);
            engine.set_accounts(accounts());
            register(&mut engine);
            engine.load(dump);
            settle(&mut engine);
            assert_eq!(
                fate(&engine, "20.2.1.1"),
                Ok(2),
                "the default route is not what covered it"
            );
            say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[2])]);
            assert_eq!(fate(&engine, "20.2.1.1"), Ok(3));
            say(&mut engine, ONE, vec![gone("20.0.0.0/8")]);
            assert_eq!(
                fate(&engine, "20.2.1.1"),
                Ok(1),
                "whoever's word the default route waits for"
            );
            for feed in [ONE, TWO, ZEBRA] {
                ended(&mut engine, feed);
            }
            assert_eq!(fate(&engine, "20.2.1.1"), Ok(1));
            assert!(engine.fib.is_counting(engine.view(), net("20.2.0.0/16")));
        }
    }
}
