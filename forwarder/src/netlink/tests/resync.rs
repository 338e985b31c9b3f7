//! Routes that vanish in silence are found by the dump that a resync asks for.

use std::collections::HashSet;

use super::*;
use crate::netlink::dump::{Family, dump_routes, settle};
use crate::netlink::watch::Watcher;
use crate::source::event::Event;
use crate::source::kernel::{KernelSource, SPACING};
use crate::source::route_tables::RouteTables;

/// Batches until a resync is asked for, then the dump; and what was announced before.
fn resynced(source: &mut KernelSource) -> (Dump, Vec<Event>) {
    let mut before = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(Instant::now() < deadline, "no resync; seen: {before:?}");
        let batch = source.next(Duration::from_millis(500));
        assert!(!batch.ended);
        let resync = batch.events.contains(&Event::Resync);
        before.extend(batch.events);
        if resync {
            return (source.dump().unwrap(), before);
        }
    }
}

/// A source that has dumped and to which nothing more happens.
fn settled() -> KernelSource {
    let mut source = KernelSource::open(RouteTables::default()).unwrap();
    source.dump().unwrap();
    eventually("quiet", || {
        let batch = source.next(Duration::from_millis(400));
        if batch.events.contains(&Event::Resync) {
            source.dump().unwrap();
        }
        batch.events.is_empty()
    });
    source
}

fn announced_gone(events: &[Event], prefix: &str) -> bool {
    let prefix = prefix.parse().unwrap();
    events
        .iter()
        .any(|event| matches!(event, Event::RouteGone(route) if route.prefix == prefix))
}

#[test]
fn a_link_that_goes_down() {
    in_namespace(|| {
        two_links();
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        let mut source = settled();
        assert_eq!(routes(&source.dump().unwrap(), "203.0.113.0/24").len(), 1);
        ip("link set va down");
        let (dump, before) = resynced(&mut source);
        assert!(routes(&dump, "203.0.113.0/24").is_empty());
        // The reason for all this. Should a kernel announce it some day, the policy may go.
        assert!(!announced_gone(&before, "203.0.113.0/24"));
    });
}

#[test]
fn a_carrier_that_is_lost_marks_the_hop_of_a_route_that_stays() {
    in_namespace(|| {
        two_links();
        ip("route add 203.0.113.0/24 nexthop via 192.0.2.2 nexthop via 198.51.100.2");
        let mut source = settled();
        let dead = |dump: &Dump| match action(dump, "203.0.113.0/24") {
            Action::Hops(hops) => hops.iter().map(|hop| hop.dead).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(dead(&source.dump().unwrap()), [false, false]);
        for (command, expected) in [
            ("link set vd down", [false, true]),
            ("link set vd up", [false, false]),
        ] {
            ip(command);
            // More than one may be needed: up, carrier and routing follow one another.
            eventually(command, || dead(&resynced(&mut source).0) == expected);
        }
    });
}

#[test]
fn a_nexthop_object_that_is_deleted_takes_its_routes() {
    in_namespace(|| {
        two_links();
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip_batch(&many_routes(1000, "nhid 1"));
        let mut source = settled();
        assert_eq!(routes(&source.dump().unwrap(), "10.3.231.0/24").len(), 1);
        let deletion = thread::spawn(|| ip("nexthop del id 1"));
        let (dump, before) = resynced(&mut source);
        deletion.join().unwrap();
        assert!(before.contains(&Event::NexthopGone(1)));
        assert!(!before.iter().any(|event| matches!(event, Event::RouteGone(_))));
        let left = dump
            .routes
            .iter()
            .filter(|route| route.action == Action::Nexthop(1))
            .count();
        assert_eq!(left, 0);
    });
}

/// Without [`settle`] a dump at this moment still has thousands of them.
#[test]
fn what_the_kernel_announces_before_it_does_it_is_done_after_settling() {
    in_namespace(|| {
        two_links();
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip_batch(&many_routes(20_000, "nhid 1"));
        let mut watcher = Watcher::open().unwrap();
        let deletion = thread::spawn(|| ip("nexthop del id 1"));
        while !watcher.read().unwrap().contains(&Event::NexthopGone(1)) {}
        settle().unwrap();
        let mut left = 0;
        dump_routes(Family::V4, 254, &mut |route| {
            left += usize::from(route.action == Action::Nexthop(1))
        })
        .unwrap();
        deletion.join().unwrap();
        assert_eq!(left, 0);
    });
}

#[test]
fn an_address_that_is_removed() {
    in_namespace(|| {
        two_links();
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        ip("route add 203.0.114.0/24 via 198.51.100.2 src 192.0.2.1");
        let mut source = settled();
        ip("addr del 192.0.2.1/24 dev va");
        let (dump, _) = resynced(&mut source);
        assert!(routes(&dump, "203.0.114.0/24").is_empty());
    });
}

#[test]
fn a_storm_that_overruns_a_small_buffer_ends_in_a_true_dump() {
    in_namespace(|| {
        two_links();
        let watcher = Watcher::with_receive_buffer(4096).unwrap();
        let mut source = KernelSource::with_watcher(watcher, RouteTables::default()).unwrap();
        source.dump().unwrap();
        let storm = thread::spawn(|| ip_batch(&many_routes(5000, "via 192.0.2.2")));
        let (mut known, mut resyncs, started) = (HashSet::new(), 0, Instant::now());
        let ours = |route: &Route| route.protocol == 3;
        while known.len() < 5000 {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{} routes, {resyncs} resyncs",
                known.len()
            );
            for event in source.next(Duration::from_millis(100)).events {
                match event {
                    Event::Route { route, .. } => drop(known.insert(route.prefix)),
                    Event::Resync => {
                        resyncs += 1;
                        let dump = source.dump().unwrap();
                        known = dump
                            .routes
                            .iter()
                            .filter(|route| ours(route))
                            .map(|route| route.prefix)
                            .collect();
                    }
                    _ => {}
                }
            }
        }
        storm.join().unwrap();
        let most = started.elapsed().as_millis() / SPACING.as_millis() + 1;
        assert!(resyncs <= most, "{resyncs} resyncs where {most} are allowed");
    });
}
