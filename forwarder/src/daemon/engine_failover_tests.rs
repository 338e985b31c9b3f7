//! A carrier, a gateway or a cover is lost, and every prefix behind it goes another way at once.

use std::collections::BTreeSet;

use forwarder_common::{directory::GroupEntry, nexthop::Group};

use super::*;

#[path = "engine_failover_model_tests.rs"]
mod model;

/// Carriers A, B and C, by link; the last octet of each gateway's MAC.
const A: (Ifindex, &str, u8) = (OUT, "203.0.113.1", 1);
const B: (Ifindex, &str, u8) = (IN, "198.51.100.2", 2);
const C: (Ifindex, &str, u8) = (OTHER, "192.0.2.3", 3);

fn by(prefix: &str, carrier: (Ifindex, &str, u8)) -> Route {
    via(prefix, carrier.0, carrier.1)
}

fn metric(metric: u32, route: Route) -> Route {
    Route { metric, ..route }
}

fn carriers(routes: Vec<Route>) -> Dump {
    Dump {
        links: [IN, OUT, OTHER].map(link).to_vec(),
        neighbours: [A, B, C]
            .map(|(i, gateway, mac)| neighbour(i, gateway, mac))
            .to_vec(),
        routes,
        ..Dump::default()
    }
}

fn started(dataplane: MemoryDataplane, dump: Dump) -> Engine<MemoryDataplane> {
    let mut engine = Engine::new(dataplane).expect("sound tables");
    for (port, ifindex) in [IN, OUT, OTHER].into_iter().enumerate() {
        let served = Served {
            port: port as u16 + 1,
            ..Served::default()
        };
        engine.serve(ifindex, Some(served));
    }
    engine.load(dump);
    engine
}

/// The routes announced one by one: covers that come first are seen by what they cover.
fn with(routes: Vec<Route>) -> Engine<MemoryDataplane> {
    let mut engine = started(MemoryDataplane::new(Sizes::SMALL), carriers(Vec::new()));
    for route in routes {
        announce(&mut engine, route);
    }
    engine
}

fn carrier(engine: &mut Engine<MemoryDataplane>, ifindex: Ifindex, carrier: bool) {
    let changed = Link {
        carrier,
        running: carrier,
        ..link(ifindex)
    };
    tell(engine, Event::Link(changed));
}

fn asked_in_vain(engine: &mut Engine<MemoryDataplane>, (ifindex, gateway, _): (Ifindex, &str, u8)) {
    let failed = Neighbour {
        mac: None,
        failed: true,
        ..neighbour(ifindex, gateway, 0)
    };
    tell(engine, Event::Neighbour(failed));
}

fn flushed(engine: &mut Engine<MemoryDataplane>, (ifindex, gateway, _): (Ifindex, &str, u8)) {
    let address = address(gateway);
    tell(engine, Event::NeighbourGone { ifindex, address });
}

fn back(engine: &mut Engine<MemoryDataplane>, (ifindex, gateway, mac): (Ifindex, &str, u8)) {
    tell(engine, Event::Neighbour(neighbour(ifindex, gateway, mac)));
}

/// Every next hop and group.
fn words(engine: &Engine<MemoryDataplane>) -> (Vec<NextHop>, Vec<Group>) {
    let tables = engine.view();
    let nexthops = (0..tables.sizes.nexthops as usize).map(|id| tables.nexthops.get(id));
    let groups = (0..tables.sizes.groups as usize).map(|group| tables.groups.get(group));
    (nexthops.collect(), groups.collect())
}

fn entry(engine: &Engine<MemoryDataplane>, to: &str) -> GroupEntry {
    let group = group(engine, to).expect("a route");
    engine.view().group_directory.get(group as usize)
}

#[test]
fn a_lost_carrier_moves_ten_thousand_prefixes_with_a_handful_of_stores() {
    let mut routes = vec![by("0.0.0.0/0", B)];
    let prefix = |number: u32| format!("20.{}.{}.0/24", number >> 8, number & 255);
    for number in 0..10_000 {
        let way = by(&prefix(number), A);
        match number % 3 {
            0 => routes.push(way),
            1 => routes.extend([metric(100, way), metric(200, by(&prefix(number), C))]),
            // Nested in one that goes the same way.
            _ => routes.extend([way, by(&format!("20.{}.{}.64/26", number >> 8, number & 255), A)]),
        }
    }
    let sizes = Sizes {
        slots: 16384,
        blocks4: 4096,
        ..Sizes::SMALL
    };
    let mut engine = started(MemoryDataplane::new(sizes), carriers(routes));
    let fates = |engine: &Engine<MemoryDataplane>| -> BTreeSet<_> {
        let to = |number: u32| format!("20.{}.{}.77", number >> 8, number & 255);
        (0..10_000)
            .map(|number| (number % 3, fate(engine, &to(number))))
            .collect()
    };
    let all = |ways: [u8; 3]| BTreeSet::from([(0, Ok(ways[0])), (1, Ok(ways[1])), (2, Ok(ways[2]))]);
    assert_eq!(fates(&engine), all([1, 1, 1]));
    let before = (leaves(&engine), words(&engine));
    carrier(&mut engine, OUT, false);
    assert_eq!(fates(&engine), all([2, 3, 2]));
    assert_eq!(leaves(&engine), before.0, "a prefix was touched");
    let (nexthops, groups) = words(&engine);
    let changed = |old: &[Group]| old.iter().zip(&groups).filter(|(old, new)| old != new).count();
    assert_eq!(
        changed(&before.1.1),
        2,
        "one group by the default route, one by the second"
    );
    let changed = |old: &[NextHop]| old.iter().zip(&nexthops).filter(|(old, new)| old != new).count();
    assert_eq!(changed(&before.1.0), 1, "one gateway");
    assert_eq!(fate(&engine, "9.9.9.9"), Ok(2));
    carrier(&mut engine, OUT, true);
    assert_eq!(fates(&engine), all([1, 1, 1]));
    assert!((leaves(&engine), words(&engine)) == before);
}

#[test]
fn a_gateway_that_does_not_answer_is_replaced_and_one_nobody_asked_is_the_kernels() {
    let mut engine = with(vec![by("0.0.0.0/0", B), by("20.0.0.0/8", A)]);
    asked_in_vain(&mut engine, A);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    // Managed, the kernel asks again: INCOMPLETE is not better.
    let asking = Neighbour {
        mac: None,
        ..neighbour(A.0, A.1, 0)
    };
    tell(&mut engine, Event::Neighbour(asking));
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    announce(&mut engine, by("21.0.0.0/8", A));
    assert_eq!(fate(&engine, "21.1.1.1"), Ok(2));
    back(&mut engine, A);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
    flushed(&mut engine, A);
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::NextHopUnresolved));
    asked_in_vain(&mut engine, B);
    asked_in_vain(&mut engine, A);
    assert_eq!(
        fate(&engine, "20.1.1.1"),
        Err(Reason::NextHopUnresolved),
        "nowhere to go"
    );
}

#[test]
fn a_group_stays_on_its_backup_until_its_own_gateway_is_found_again() {
    let mut engine = with(vec![by("0.0.0.0/0", B), by("20.0.0.0/8", A)]);
    // With the carrier the kernel drops the neighbours of the link.
    flushed(&mut engine, A);
    carrier(&mut engine, OUT, false);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    carrier(&mut engine, OUT, true);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    back(&mut engine, A);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
}

#[test]
fn the_backup_is_what_covers_the_prefix_at_that_moment() {
    let mut engine = with(vec![
        by("0.0.0.0/0", C),
        by("20.0.0.0/8", B),
        by("20.1.0.0/16", A),
    ]);
    let to = "20.1.1.1";
    carrier(&mut engine, OUT, false);
    assert_eq!(fate(&engine, to), Ok(2));
    let cover = by("20.0.0.0/8", B);
    tell(&mut engine, Event::RouteGone(cover.clone()));
    assert_eq!(
        fate(&engine, to),
        Ok(3),
        "the default route, once the cover is gone"
    );
    tell(&mut engine, Event::RouteGone(by("0.0.0.0/0", C)));
    assert_eq!(fate(&engine, to), Err(Reason::NextHopDown));
    announce(&mut engine, cover);
    assert_eq!(fate(&engine, to), Ok(2));
    let replace = |route| Event::Route {
        route,
        change: Change::Replace,
    };
    tell(&mut engine, replace(by("20.0.0.0/8", C)));
    assert_eq!(fate(&engine, to), Ok(3));
    // Without the prefix its packets would end in the blackhole: that is no backup, and nothing behind it is.
    announce(&mut engine, by("0.0.0.0/0", B));
    tell(&mut engine, replace(route("20.0.0.0/8", Action::Blackhole)));
    assert_eq!(fate(&engine, to), Err(Reason::NextHopDown));
    tell(&mut engine, replace(by("20.0.0.0/8", B)));
    assert_eq!(fate(&engine, to), Ok(2));
    // The cover fails in its turn.
    asked_in_vain(&mut engine, B);
    assert_eq!(fate(&engine, to), Err(Reason::NextHopDown));
    tell(&mut engine, replace(by("0.0.0.0/0", C)));
    assert_eq!(fate(&engine, to), Ok(3));
}

#[test]
fn a_default_route_that_comes_last_is_a_backup_too() {
    let mut engine = with(vec![by("20.1.0.0/16", A)]);
    announce(&mut engine, by("0.0.0.0/0", B));
    carrier(&mut engine, OUT, false);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
}

#[test]
fn a_cover_that_goes_the_same_way_is_no_backup_but_its_own_is() {
    let mut engine = with(vec![
        by("20.0.0.0/8", B),
        by("20.1.0.0/16", A),
        by("20.1.2.0/24", A),
    ]);
    carrier(&mut engine, OUT, false);
    assert_eq!(
        (fate(&engine, "20.1.1.1"), fate(&engine, "20.1.2.1")),
        (Ok(2), Ok(2))
    );
}

#[test]
fn a_default_route_by_the_same_gateway_is_no_backup_but_the_one_behind_it_is() {
    let mut engine = with(vec![
        metric(100, by("0.0.0.0/0", A)),
        metric(200, by("0.0.0.0/0", C)),
        by("20.0.0.0/8", A),
        by("2a05::/32", (OUT, "2001:db8::1", 6)),
    ]);
    let shown = |engine: &Engine<MemoryDataplane>| {
        let id = entry(engine, "20.1.1.1").backup[0];
        engine.view().nexthops.get(id as usize).destination_mac()[5]
    };
    assert_eq!(shown(&engine), 3);
    carrier(&mut engine, OUT, false);
    assert_eq!((fate(&engine, "20.1.1.1"), shown(&engine)), (Ok(3), 3));
    assert_eq!(
        fate(&engine, "2a05::1"),
        Err(Reason::NextHopDown),
        "no IPv4 way for IPv6"
    );
}

#[test]
fn the_next_route_of_the_prefix_comes_before_what_covers_it() {
    let mut engine = with(vec![
        by("0.0.0.0/0", B),
        metric(100, by("20.0.0.0/8", A)),
        metric(200, by("20.0.0.0/8", C)),
        metric(100, by("21.0.0.0/8", A)),
        metric(200, route("21.0.0.0/8", Action::Blackhole)),
    ]);
    let gateways = engine.gateways().expect("after a load");
    assert!(
        gateways.contains(&(C.0, address(C.1))),
        "resolved before it is needed"
    );
    carrier(&mut engine, OUT, false);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
    assert_eq!(
        fate(&engine, "21.1.1.1"),
        Err(Reason::NextHopDown),
        "behind it is a blackhole"
    );
    carrier(&mut engine, OTHER, false);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    tell(&mut engine, Event::RouteGone(metric(200, by("20.0.0.0/8", C))));
    carrier(&mut engine, OTHER, true);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    carrier(&mut engine, OUT, true);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
}

#[test]
fn the_kernels_own_ways_and_connected_subnets_have_no_backup() {
    let mut engine = with(vec![
        by("0.0.0.0/0", B),
        by("20.0.0.0/8", A),
        via("198.18.0.0/24", OUT, ""),
    ]);
    carrier(&mut engine, OUT, false);
    assert_eq!(fate(&engine, "198.18.0.9"), Err(Reason::NeighbourUnresolved));
    carrier(&mut engine, OUT, true);
    engine.serve(OUT, None);
    engine.served_changed();
    assert_eq!(fate(&engine, "20.1.1.1"), Err(Reason::EgressWithoutXdp));
    // The interface is gone altogether; its routes follow with the next dump.
    tell(&mut engine, Event::LinkGone(OUT));
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
}

#[test]
fn hops_that_the_kernel_marks_on_a_link_without_carrier_move_no_prefix() {
    let routes = vec![by("0.0.0.0/0", B), by("20.0.0.0/8", A), by("20.1.0.0/16", A)];
    let mut engine = with(routes.clone());
    let before = (leaves(&engine), slots(&engine));
    carrier(&mut engine, OUT, false);
    let mut dump = carriers(routes);
    dump.links[1].carrier = false;
    for route in &mut dump.routes {
        if let Action::Hops(hops) = &mut route.action {
            hops[0].dead = hops[0].ifindex == OUT;
        }
    }
    engine.load(dump);
    assert_eq!((leaves(&engine), slots(&engine)), before);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
    carrier(&mut engine, OUT, true);
    assert_eq!((leaves(&engine), slots(&engine)), before);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
}

#[test]
fn a_lost_member_of_three_moves_its_own_flows_and_leaves_the_weights() {
    let members = [(A, 1), (B, 2), (C, 4)].map(|((ifindex, gateway, _), weight)| Hop {
        weight,
        ..hop(ifindex, gateway)
    });
    let mut engine = with(vec![route("20.0.0.0/8", Action::Hops(members.to_vec()))]);
    let buckets = |engine: &Engine<MemoryDataplane>| -> Vec<u8> {
        let tables = engine.view();
        let group = tables
            .groups
            .get(group(engine, "20.1.1.1").expect("a route") as usize);
        let mac = |id: &u16| tables.nexthops.get(*id as usize).destination_mac()[5];
        group.buckets.iter().map(mac).collect()
    };
    let count = |buckets: &[u8], mac: u8| buckets.iter().filter(|bucket| **bucket == mac).count();
    let before = buckets(&engine);
    assert_eq!([1, 2, 3].map(|mac| count(&before, mac)), [18, 35, 71]);
    carrier(&mut engine, B.0, false);
    let without = buckets(&engine);
    for (old, new) in before.iter().zip(&without) {
        assert!(
            *old == 2 || old == new,
            "a flow of a member that stayed was moved"
        );
    }
    assert_eq!([1, 2, 3].map(|mac| count(&without, mac)), [25, 0, 99]);
    carrier(&mut engine, B.0, true);
    let after = buckets(&engine);
    assert_eq!([1, 2, 3].map(|mac| count(&after, mac)), [18, 35, 71]);
    for (old, new) in without.iter().zip(&after) {
        assert!(
            *new == 2 || old == new,
            "a flow was moved that its return did not need"
        );
    }
}

#[test]
fn the_next_controller_keeps_groups_and_backups_in_use_or_not() {
    let routes = vec![
        by("0.0.0.0/0", C),
        by("20.0.0.0/8", B),
        by("20.1.0.0/16", A),
        metric(100, by("21.0.0.0/8", A)),
        metric(200, by("21.0.0.0/8", C)),
    ];
    for down in [false, true] {
        let mut engine = with(routes.clone());
        let mut dump = carriers(routes.clone());
        if down {
            carrier(&mut engine, OUT, false);
            dump.links[1].carrier = false;
        }
        let state = |engine: &Engine<MemoryDataplane>| {
            let ways =
                ["20.1.1.1", "21.1.1.1"].map(|to| (group(engine, to), fate(engine, to), entry(engine, to)));
            (leaves(engine), words(engine), ways)
        };
        let before = state(&engine);
        assert_eq!(before.2[0].2.on_backup, u8::from(down));
        assert_eq!((before.2[0].2.anchor[0], before.2[0].2.anchor_length), (20, 8));
        assert_ne!(before.2[0].2.backup[0], 0);
        let mut engine = started(engine.dataplane, dump);
        assert!(state(&engine) == before);
        // It knows the anchor: the cover's way counts as before.
        carrier(&mut engine, OUT, false);
        assert_eq!(
            (fate(&engine, "20.1.1.1"), fate(&engine, "21.1.1.1")),
            (Ok(2), Ok(3))
        );
        carrier(&mut engine, IN, false);
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
    }
}

#[test]
fn a_controller_that_comes_when_the_way_is_gone_does_not_leave_the_backup() {
    let routes = vec![by("0.0.0.0/0", B), by("20.0.0.0/8", A)];
    let mut engine = with(routes.clone());
    asked_in_vain(&mut engine, A);
    let mut dump = carriers(routes);
    // The kernel is asking again when the dump is read.
    dump.neighbours.remove(0);
    let engine = started(engine.dataplane, dump);
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(2));
}

#[test]
fn a_restart_does_not_leave_a_backup_that_lies_behind_another_lost_way() {
    let by_default = vec![by("0.0.0.0/0", C), by("20.0.0.0/8", B), by("20.1.0.0/16", A)];
    let by_second = vec![
        metric(100, by("20.0.0.0/8", B)),
        metric(200, by("20.0.0.0/8", C)),
        by("20.1.0.0/16", A),
    ];
    for routes in [by_default, by_second] {
        let mut engine = with(routes.clone());
        asked_in_vain(&mut engine, A);
        flushed(&mut engine, B);
        flushed(&mut engine, A);
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
        let mut dump = carriers(routes);
        dump.neighbours.retain(|neighbour| neighbour.ifindex == C.0);
        let engine = started(engine.dataplane, dump);
        assert_eq!(fate(&engine, "20.1.1.1"), Ok(3));
    }
}

#[test]
fn anchors_are_few_and_the_default_route_stands_in_for_the_rest() {
    let mut routes = vec![by("0.0.0.0/0", C)];
    for number in 0..400u32 {
        let (high, low) = (20 + (number >> 8), number & 255);
        routes.push(by(&format!("{high}.{low}.0.0/16"), B));
        routes.push(by(&format!("{high}.{low}.1.0/24"), A));
    }
    let mut engine = with(routes);
    let (groups, _) = engine.adjacencies.used();
    assert!(groups <= 256 + 5, "{groups} groups");
    carrier(&mut engine, OUT, false);
    let fates: Vec<_> = (0..400u32)
        .map(|number| fate(&engine, &format!("{}.{}.1.1", 20 + (number >> 8), number & 255)))
        .collect();
    assert!(fates.iter().all(|fate| matches!(fate, Ok(2 | 3))));
    assert!(fates.iter().filter(|fate| **fate == Ok(2)).count() >= 255);
}

#[test]
fn where_groups_run_out_a_prefix_does_without_a_backup_rather_than_without_a_way() {
    let sizes = Sizes {
        groups: 5,
        ..Sizes::SMALL
    };
    let routes = vec![by("0.0.0.0/0", C), by("20.0.0.0/8", B), by("20.1.0.0/16", A)];
    let mut engine = started(MemoryDataplane::new(sizes), carriers(routes));
    assert_eq!(fate(&engine, "20.1.1.1"), Ok(1));
    announce(&mut engine, by("21.1.0.0/16", A));
    assert!(matches!(fate(&engine, "21.1.1.1"), Ok(1) | Err(Reason::FibFull)));
    assert_eq!(fate(&engine, "20.2.1.1"), Ok(2));
}
