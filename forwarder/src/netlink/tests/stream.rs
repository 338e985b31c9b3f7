//! Changes as they are announced.

use super::*;
use crate::clock::monotonic_ns;
use crate::netlink::watch::{News, Watcher, poll};
use crate::source::event::{Address, Change, Detail, Event, MacvlanMode, NexthopKind};
use std::os::fd::AsFd;

/// Everything that is announced until nothing has come for a while.
fn read(watcher: &mut Watcher) -> Vec<Event> {
    let mut events = Vec::new();
    while poll([watcher.as_fd()], Some(Duration::from_millis(150))).unwrap() == [true] {
        events.extend(watcher.read().unwrap());
    }
    events
}

/// A watcher with nothing left to read.
fn watch() -> Watcher {
    let mut watcher = Watcher::open().unwrap();
    eventually("quiet", || read(&mut watcher).is_empty());
    watcher
}

/// Changes of a route of this prefix, as (change or gone, hops).
fn changes(events: &[Event], prefix: &str) -> Vec<(Option<Change>, Vec<Hop>)> {
    let prefix = prefix.parse().unwrap();
    let hops = |route: &Route| match &route.action {
        Action::Hops(hops) => hops.clone(),
        other => panic!("{other:?}"),
    };
    events
        .iter()
        .filter_map(|event| match event {
            Event::Route { route, change } if route.prefix == prefix => Some((Some(*change), hops(route))),
            Event::RouteGone(route) if route.prefix == prefix => Some((None, hops(route))),
            _ => None,
        })
        .collect()
}

#[test]
fn ipv4_routes_of_one_prefix_are_replaced_appended_and_prepended() {
    in_namespace(|| {
        let (va, vc) = two_links();
        let mut watcher = watch();
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        ip("route append 203.0.113.0/24 via 198.51.100.2");
        ip("route prepend 203.0.113.0/24 via 198.51.100.3");
        ip("route replace 203.0.113.0/24 via 198.51.100.4");
        ip("route del 203.0.113.0/24");
        let events = read(&mut watcher);
        let expected = [
            (Some(Change::Add), vec![hop(va, "192.0.2.2", 1)]),
            (Some(Change::Append), vec![hop(vc, "198.51.100.2", 1)]),
            (Some(Change::Add), vec![hop(vc, "198.51.100.3", 1)]),
            (Some(Change::Replace), vec![hop(vc, "198.51.100.4", 1)]),
            (None, vec![hop(vc, "198.51.100.4", 1)]),
        ];
        assert_eq!(changes(&events, "203.0.113.0/24"), expected);
        assert!(!events.contains(&Event::Resync));
    });
}

/// The quirks that [`crate::netlink::parse`] relies on: a change tells the whole set, a removal what is removed.
#[test]
fn ipv6_hops_of_one_prefix_are_announced_as_the_whole_set_and_removed_one_by_one() {
    in_namespace(|| {
        let (va, vc) = two_links();
        let mut watcher = watch();
        let prefix = "2001:db8:f::/48";
        ip("-6 route add 2001:db8:f::/48 via 2001:db8:1::2");
        ip("-6 route append 2001:db8:f::/48 via 2001:db8:2::2");
        ip("-6 route del 2001:db8:f::/48 via 2001:db8:1::2");
        ip("-6 route prepend 2001:db8:f::/48 via 2001:db8:1::4");
        let events = read(&mut watcher);
        let (two, four) = (hop(va, "2001:db8:1::2", 1), hop(va, "2001:db8:1::4", 1));
        let other = hop(vc, "2001:db8:2::2", 1);
        let expected = [
            (Some(Change::Add), vec![two]),
            (Some(Change::Replace), vec![other, two]),
            (None, vec![two]),
            (Some(Change::Replace), vec![four, other]),
        ];
        assert_eq!(changes(&events, prefix), expected);
        ip("-6 route append 2001:db8:f::/48 nexthop via 2001:db8:1::5 nexthop via 2001:db8:2::5");
        let events = read(&mut watcher);
        let (change, hops) = &changes(&events, prefix)[0];
        assert_eq!((*change, hops.len()), (Some(Change::Replace), 4));
        ip("-6 route replace 2001:db8:f::/48 nexthop via 2001:db8:1::6 nexthop via 2001:db8:2::6");
        ip("-6 route replace 2001:db8:f::/48 via 2001:db8:1::7");
        ip("-6 route del 2001:db8:f::/48");
        let set = vec![hop(va, "2001:db8:1::6", 1), hop(vc, "2001:db8:2::6", 1)];
        let one = vec![hop(va, "2001:db8:1::7", 1)];
        let events = read(&mut watcher);
        let expected = [
            (Some(Change::Replace), set),
            (Some(Change::Replace), one.clone()),
            (None, one),
        ];
        assert_eq!(changes(&events, prefix), expected);
        assert!(!events.contains(&Event::Resync));
        // One without a gateway cannot join the set; where it stands is unknown.
        ip("-6 route add 2001:db8:f::/48 via 2001:db8:1::7");
        ip("-6 route append 2001:db8:f::/48 dev vc");
        assert!(read(&mut watcher).contains(&Event::Resync));
    });
}

#[test]
fn links_addresses_neighbours_nexthops_and_sysctls() {
    in_namespace(|| {
        let (va, _) = two_links();
        let mut watcher = watch();
        let mut seen = |command: &str| {
            ip(command);
            read(&mut watcher)
        };
        let expected = Address {
            ifindex: va,
            address: "192.0.2.9/24".parse().unwrap(),
        };
        assert!(seen("addr add 192.0.2.9/24 dev va").contains(&Event::Address(expected)));
        assert!(seen("addr del 192.0.2.9/24 dev va").contains(&Event::AddressGone(expected)));
        let events = seen("neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev va nud stale");
        let [Event::Neighbour(neighbour)] = events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((neighbour.mac, neighbour.stale), (Some([2, 0, 0, 0, 0, 7]), true));
        let gone = Event::NeighbourGone {
            ifindex: va,
            address: address("192.0.2.7"),
        };
        assert_eq!(seen("neigh del 192.0.2.7 dev va").last(), Some(&gone));
        for (command, gateway) in [("add", "192.0.2.2"), ("replace", "192.0.2.3")] {
            let events = seen(&format!("nexthop {command} id 1 via {gateway} dev va"));
            let [Event::Nexthop(object)] = &events[..] else {
                panic!("{events:?}")
            };
            assert_eq!(object.kind, NexthopKind::Hop(hop(va, gateway, 1)));
        }
        assert_eq!(seen("nexthop del id 1"), [Event::NexthopGone(1)]);
        let events = seen("link set va mtu 1400");
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Link(link) if link.mtu == 1400)),
            "{events:?}"
        );
        let events = seen("link del vc");
        assert_eq!(
            events
                .iter()
                .filter(|event| matches!(event, Event::LinkGone(_)))
                .count(),
            2
        );
        run(
            "sysctl",
            "-qw net.ipv4.conf.va.forwarding=1 net.ipv6.conf.va.forwarding=1",
        );
        let events = read(&mut watcher);
        assert_eq!(
            events
                .iter()
                .filter(|event| **event == Event::SysctlChanged)
                .count(),
            2,
            "{events:?}"
        );
    });
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    in_namespace(|| {
        two_links();
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("link set vb master br0");
        let mut watcher = watch();
        ip("link set vb nomaster");
        let events = read(&mut watcher);
        assert!(
            !events.iter().any(|event| matches!(event, Event::LinkGone(_))),
            "{events:?}"
        );
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Link(l) if l.name == "vb" && l.master.is_none()))
        );
    });
}

/// As with a VLAN's maps: what a link says of itself changed, and nothing else.
#[test]
fn another_mode_of_a_macvlan_is_announced() {
    in_namespace(|| {
        two_links();
        ip("link add link va name vrrp0 type macvlan mode bridge");
        ip("link set vrrp0 addrgenmode none up");
        let mut watcher = watch();
        ip("link set vrrp0 type macvlan mode private");
        let events = read(&mut watcher);
        assert!(
            events.iter().any(
                |event| matches!(event, Event::Link(l) if l.detail == Detail::Macvlan(MacvlanMode::Private))
            ),
            "{events:?}"
        );
    });
}

#[test]
fn an_overrun_is_a_resync_and_the_watcher_goes_on() {
    in_namespace(|| {
        let (va, _) = two_links();
        let mut watcher = Watcher::with_receive_buffer(4096).unwrap();
        for last in 2..60 {
            ip(&format!("route add 203.0.{last}.0/24 via 192.0.2.2"));
        }
        let events = read(&mut watcher);
        assert!(events.contains(&Event::Resync), "{} events", events.len());
        assert!(watcher.overruns() >= 1);
        assert_eq!(watcher.malformed(), 0);
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        let added = (Some(Change::Add), vec![hop(va, "192.0.2.2", 1)]);
        assert_eq!(changes(&read(&mut watcher), "203.0.113.0/24"), [added]);
    });
}

#[test]
fn the_thread_ends_with_its_receiver_and_with_its_handle() {
    in_namespace(|| {
        two_links();
        let (sender, receiver) = mpsc::channel();
        let watching = watch().spawn(sender).unwrap();
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        assert!(
            !receiver
                .recv_timeout(Duration::from_secs(5))
                .unwrap()
                .events
                .is_empty()
        );
        drop(receiver);
        assert!(watching.is_alive());
        ip("route del 203.0.113.0/24 via 192.0.2.2");
        eventually("ended", || !watching.is_alive());
        let (sender, receiver) = mpsc::channel::<News>();
        drop(watch().spawn(sender).unwrap());
        assert!(matches!(
            receiver.recv_timeout(Duration::from_secs(5)),
            Err(mpsc::RecvTimeoutError::Disconnected)
        ));
    });
}

#[test]
fn the_thread_says_until_when_what_was_announced_is_in_what_it_sent() {
    in_namespace(|| {
        two_links();
        let (sender, receiver) = mpsc::channel();
        let watching = watch().spawn(sender).unwrap();
        for number in 0..100 {
            ip(&format!("route add 203.0.{number}.0/24 via 192.0.2.2"));
            // However soon after it that is asked.
            while watching.all_sent().is_none() {}
            let news: Vec<News> = receiver.try_iter().collect();
            let now = monotonic_ns();
            let mut until = news.iter().filter_map(|news| news.until);
            assert!(until.all(|until| until < now), "what is to come is not known");
            let batches: Vec<Vec<Event>> = news.into_iter().map(|news| news.events).collect();
            let prefix = format!("203.0.{number}.0/24");
            assert_eq!(changes(&batches.concat(), &prefix).len(), 1, "{prefix}");
        }
    });
}
