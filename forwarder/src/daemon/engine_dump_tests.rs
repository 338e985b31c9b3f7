//! What a whole dump does: it withdraws what went in silence, and it is all that the next controller needs. And what does
//! not fit.

use forwarder_common::counters::Counter;

use super::*;
use crate::source::event::DumpSink;

#[test]
fn a_dump_withdraws_what_went_without_a_word() {
    let mut engine = fresh();
    let slots_before = slots(&engine);
    let mut later = dump();
    later
        .routes
        .retain(|route| route.prefix != net("5.1.2.128/25") && route.prefix != net("2a05::/32"));
    later
        .neighbours
        .retain(|neighbour| neighbour.address != address("198.18.0.5"));
    later.routes.push(via("8.0.0.0/8", OUT, "203.0.113.2"));
    engine.load(later);
    assert_eq!(fate(&engine, "5.1.2.129"), Ok(1));
    assert_eq!(fate(&engine, "2a05::1"), Err(Reason::NoRoute));
    assert_eq!(fate(&engine, "198.18.0.5"), Err(Reason::NeighbourUnresolved));
    assert_eq!(fate(&engine, "8.1.1.1"), Ok(2));
    let kept: Vec<_> = slots_before
        .iter()
        .filter(|(prefix, _)| engine.fib.slot(engine.view(), *prefix).is_some())
        .copied()
        .collect();
    assert_eq!(kept.len() + 3, slots_before.len());
    assert!(
        kept.iter()
            .all(|(prefix, slot)| engine.fib.slot(engine.view(), *prefix) == Some(*slot))
    );
    engine.load(dump());
    assert_eq!(fate(&engine, "5.1.2.129"), Ok(2));
    assert_eq!(fate(&engine, "8.1.1.1"), Ok(1), "by the default route");
    engine.load(Dump {
        links: dump().links,
        ..Dump::default()
    });
    assert!(engine.fib.is_empty());
    assert_eq!(fate(&engine, "5.1.2.129"), Err(Reason::NoRoute));
}

#[test]
fn the_next_controller_changes_nothing_when_nothing_changed() {
    let engine = fresh();
    let before = (leaves(&engine), slots(&engine));
    let slot = engine.fib.slot(engine.view(), net("5.0.0.0/8")).expect("laid");
    let counted = Counter {
        packets: 7,
        bytes: 700,
    };
    engine.view().prefix_counters.set(slot as usize, &counted);
    let words = |engine: &Engine<MemoryDataplane>| {
        let tables = engine.view();
        let nexthops = (0..tables.sizes.nexthops as usize).map(|id| tables.nexthops.get(id));
        let groups = (0..tables.sizes.groups as usize).map(|group| tables.groups.get(group));
        (nexthops.collect::<Vec<_>>(), groups.collect::<Vec<_>>())
    };
    let adjacencies = words(&engine);
    let engine = start(engine.dataplane, dump());
    assert_eq!((leaves(&engine), slots(&engine)), before);
    assert!(words(&engine) == adjacencies, "a next hop or group was written");
    assert_eq!(engine.view().slot_counter(slot), counted);
    assert_eq!(
        engine.view().slot_directory.get(slot as usize).baseline,
        Counter::default()
    );
}

#[test]
fn between_two_controllers_packets_keep_their_way() {
    let engine = fresh();
    // Taken over and served, but nothing is known yet of routes, links and neighbours.
    let mut engine = Engine::new(engine.dataplane).expect("sound tables");
    for to in ["5.1.1.1", "6.1.1.1", "7.0.0.1", "2a05::1"] {
        assert!(fate(&engine, to).is_ok(), "{to}");
    }
    assert_eq!(fate(&engine, "198.18.0.5"), Ok(5));
    // Groups that no route claims are given back in the end.
    let used = engine.adjacencies.used();
    engine.load(Dump::default());
    assert!(engine.adjacencies.used() < used);
    assert!(engine.fib.is_empty());
}

#[test]
fn the_next_controller_mends_only_what_differs() {
    let engine = fresh();
    let before = slots(&engine);
    let mut later = dump();
    later.routes.retain(|route| route.prefix != net("5.1.2.128/25"));
    later.routes.push(via("5.1.3.0/24", OUT, "203.0.113.2"));
    later.nexthops[0].kind = NexthopKind::Hop(hop(OUT, "203.0.113.2"));
    let engine = start(engine.dataplane, later);
    assert_eq!(fate(&engine, "5.1.2.129"), Ok(1));
    assert_eq!(fate(&engine, "5.1.3.1"), Ok(2));
    assert_eq!(fate(&engine, "7.0.0.1"), Ok(2));
    assert_eq!(fate(&engine, "5.2.0.1"), Ok(1));
    for (prefix, slot) in before {
        let now = engine.fib.slot(engine.view(), prefix);
        assert!(
            now == Some(slot) || prefix == net("5.1.2.128/25"),
            "{prefix}: {slot}, {now:?}"
        );
    }
}

#[test]
fn a_full_group_table_sends_to_the_kernel_and_never_to_another_paths_next_hop() {
    let sizes = Sizes {
        groups: 8,
        ..Sizes::SMALL
    };
    let mut engine = start(
        MemoryDataplane::new(sizes),
        Dump {
            links: dump().links,
            ..Dump::default()
        },
    );
    let gateway = |number: u32| format!("203.0.113.{number}");
    let prefix = |number: u32| format!("20.{number}.0.0/16");
    for number in 1..=20 {
        tell(
            &mut engine,
            Event::Neighbour(neighbour(OUT, &gateway(number), number as u8)),
        );
        announce(&mut engine, via(&prefix(number), OUT, &gateway(number)));
    }
    let fates = |engine: &Engine<MemoryDataplane>| -> Vec<_> {
        (1..=20u32)
            .map(|number| (number, fate(engine, &format!("20.{number}.0.1"))))
            .collect()
    };
    let (placed, refused): (Vec<_>, Vec<_>) = fates(&engine).into_iter().partition(|(_, fate)| fate.is_ok());
    assert!(
        placed.iter().all(|(number, fate)| *fate == Ok(*number as u8)),
        "{placed:?}"
    );
    assert!(
        refused.iter().all(|(_, fate)| *fate == Err(Reason::FibFull)),
        "{refused:?}"
    );
    assert_eq!((placed.len(), refused.len()), (6, 14));
    assert_eq!(engine.activity.paths_refused, 14);
    // Room that comes back is used.
    for (number, _) in &placed {
        tell(
            &mut engine,
            Event::RouteGone(via(&prefix(*number), OUT, &gateway(*number))),
        );
    }
    for _ in 0..4 {
        engine.maintain();
    }
    let now = fates(&engine);
    let forwarded = now
        .iter()
        .filter(|(number, fate)| *fate == Ok(*number as u8))
        .count();
    assert_eq!(forwarded, 6, "{now:?}");
}

#[test]
fn slots_that_come_back_are_used_by_what_was_refused() {
    let sizes = Sizes {
        slots: crate::fib::slots::RESERVED + 3,
        ..Sizes::SMALL
    };
    let mut engine = start(
        MemoryDataplane::new(sizes),
        Dump {
            links: dump().links,
            neighbours: dump().neighbours,
            ..Dump::default()
        },
    );
    for number in 1..=5 {
        announce(
            &mut engine,
            via(&format!("20.{number}.0.0/16"), OUT, "203.0.113.1"),
        );
    }
    assert_eq!(engine.fib.refused(), (2, 0));
    assert_eq!(fate(&engine, "20.5.0.1"), Err(Reason::FibFull));
    assert_eq!(fate(&engine, "20.3.0.1"), Ok(1));
    tell(
        &mut engine,
        Event::RouteGone(via("20.1.0.0/16", OUT, "203.0.113.1")),
    );
    tell(
        &mut engine,
        Event::RouteGone(via("20.5.0.0/16", OUT, "203.0.113.1")),
    );
    for _ in 0..4 {
        engine.maintain();
    }
    assert_eq!(engine.fib.refused(), (0, 0));
    assert_eq!(fate(&engine, "20.4.0.1"), Ok(1));
    assert_eq!(fate(&engine, "20.5.0.1"), Err(Reason::NoRoute));
}

/// Gives the surroundings and these routes, and is cut short.
fn cut_short(engine: &mut Engine<MemoryDataplane>, routes: &[Route]) {
    let mut load = engine.begin_load();
    load.surroundings(Dump {
        routes: Vec::new(),
        ..dump()
    });
    for route in routes {
        load.route(route.clone());
    }
}

#[test]
fn a_first_dump_is_laid_as_it_comes_and_mended_when_it_was_cut_short() {
    let mut engine = Engine::new(MemoryDataplane::new(Sizes::SMALL)).expect("empty tables");
    engine.serve(
        OUT,
        Some(Served {
            port: 1,
            ..Served::default()
        }),
    );
    // As the kernel tells them: by address, the longest first.
    let told = [
        via("5.0.0.0/16", OUT, "203.0.113.2"),
        via("5.0.0.0/8", OUT, "203.0.113.1"),
        via("6.0.0.0/8", OUT, "203.0.113.1"),
        via("9.0.0.0/8", OUT, "203.0.113.1"),
    ];
    cut_short(&mut engine, &told);
    assert_eq!(fate(&engine, "5.0.0.1"), Ok(2));
    assert_eq!(fate(&engine, "5.1.0.1"), Ok(1));
    assert_eq!(fate(&engine, "6.0.0.1"), Ok(1));
    assert_eq!(
        fate(&engine, "9.0.0.1"),
        Err(Reason::NoRoute),
        "another of its address may come"
    );
    let slot = |prefix| engine.fib.slot(engine.view(), net(prefix));
    assert!(slot("5.0.0.0/8") < slot("5.0.0.0/16"), "what covers comes first");

    engine.load(dump());
    assert_eq!(
        fate(&engine, "5.0.0.1"),
        Ok(1),
        "5.0.0.0/16 was in the first only"
    );
    let prefixes =
        |engine| -> BTreeSet<IpNet> { slots(engine).into_iter().map(|(prefix, _)| prefix).collect() };
    assert_eq!(prefixes(&engine), prefixes(&fresh()));
}

#[test]
fn a_later_dump_that_is_cut_short_changes_nothing() {
    let mut engine = fresh();
    let before = (leaves(&engine), slots(&engine));
    cut_short(&mut engine, &[via("5.0.0.0/16", OUT, "203.0.113.2")]);
    assert_eq!((leaves(&engine), slots(&engine)), before);
    let (v4, v6) = engine.rib.kernel.len();
    assert_eq!(v4 + v6, dump().routes.len());
}
