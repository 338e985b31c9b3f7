//! The policy, with time as an input; with a real kernel: `netlink/tests`.

use super::*;
use crate::source::event::{Address, NexthopKind, NexthopObject};

fn link(ifindex: Ifindex, up: bool) -> Event {
    Event::Link(Link {
        ifindex,
        admin_up: up,
        carrier: up,
        running: up,
        ..Link::default()
    })
}

fn address() -> Address {
    Address {
        ifindex: 1,
        address: "192.0.2.1/24".parse().unwrap(),
    }
}

/// Whether a policy that knows link 1 as up asks for a resync after `event`.
fn asks(event: Event) -> bool {
    let mut policy = Policy::default();
    let now = Instant::now();
    policy.pass(&mut vec![link(1, true)], now);
    let events = policy.pass(&mut vec![event], now);
    assert!(events.iter().filter(|event| **event == Event::Resync).count() <= 1);
    events.last() == Some(&Event::Resync)
}

#[test]
fn what_removes_routes_silently_asks_for_a_resync() {
    assert!(asks(link(1, false)));
    assert!(asks(Event::LinkGone(1)));
    assert!(asks(Event::AddressGone(address())));
    assert!(asks(Event::NexthopGone(7)));
    assert!(asks(Event::Resync));
    let no_carrier = Link {
        ifindex: 1,
        admin_up: true,
        running: true,
        ..Link::default()
    };
    assert!(asks(Event::Link(no_carrier)));
}

#[test]
fn what_is_announced_does_not() {
    assert!(!asks(link(1, true))); // as it was
    assert!(!asks(link(2, true))); // a new one
    assert!(!asks(Event::Address(address())));
    assert!(!asks(Event::Nexthop(NexthopObject {
        id: 1,
        kind: NexthopKind::Blackhole
    })));
    assert!(!asks(Event::SysctlChanged));
}

#[test]
fn a_storm_becomes_one_resync_now_and_one_later() {
    let mut policy = Policy::default();
    let start = Instant::now();
    let storm = || {
        vec![
            Event::Resync,
            Event::NexthopGone(1),
            Event::SysctlChanged,
            Event::Resync,
            Event::SysctlChanged,
        ]
    };
    let first = policy.pass(&mut storm(), start);
    assert_eq!(
        first,
        [Event::NexthopGone(1), Event::SysctlChanged, Event::Resync]
    );
    let at = start + Duration::from_millis(1);
    assert!(!policy.pass(&mut storm(), at).contains(&Event::Resync));
    assert_eq!(policy.due(), Some(start + SPACING));
    assert_eq!(policy.pass(&mut Vec::new(), start + SPACING), [Event::Resync]);
    assert_eq!(policy.due(), None);
}

#[test]
fn a_dump_satisfies_what_was_asked_and_a_long_one_defers_the_next() {
    let mut policy = Policy::default();
    let start = Instant::now();
    let long = Duration::from_secs(2);
    policy.pass(&mut vec![Event::Resync], start);
    policy.pass(&mut vec![Event::Resync], start);
    policy.dumped(
        &[Link {
            ifindex: 1,
            ..Link::default()
        }],
        start,
        start + long,
    );
    assert_eq!(policy.due(), None);
    assert!(policy.pass(&mut Vec::new(), start + 10 * long).is_empty());
    // Link 1 was dumped as down, its coming up is a change.
    assert_eq!(
        policy.pass(&mut vec![link(1, true)], start + long),
        [link(1, true)]
    );
    assert_eq!(policy.due(), Some(start + 2 * long));
}

#[test]
fn an_event_that_may_be_older_than_the_dump_counts_as_a_change() {
    let mut policy = Policy::default();
    let now = Instant::now();
    policy.observe(&[link(1, true), link(2, true)]);
    let down = Link {
        ifindex: 1,
        ..Link::default()
    };
    let up = Link {
        ifindex: 2,
        admin_up: true,
        carrier: true,
        running: true,
        ..Link::default()
    };
    policy.dumped(&[down, up], now, now);
    assert!(policy.pass(&mut vec![link(2, true)], now + SPACING).len() == 1);
    assert!(
        policy
            .pass(&mut vec![link(1, false)], now + SPACING)
            .contains(&Event::Resync)
    );
}

#[test]
fn a_failed_dump_is_asked_for_again() {
    let mut policy = Policy::default();
    let now = Instant::now();
    policy.dump_failed(now, now);
    assert!(policy.pass(&mut Vec::new(), now).is_empty());
    assert_eq!(policy.pass(&mut Vec::new(), now + SPACING), [Event::Resync]);
}
