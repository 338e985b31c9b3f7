//! Prefixes of accounts that are no route: laid to be counted, and doing what covers them does.

use forwarder_common::nexthop::Group;

use super::*;
use crate::fib::accounts::Accounts;

/// An account inside a route, one inside that, one that is a route, one that nothing but the default route covers, one in a
/// subnet, one in IPv6, and one that nothing covers.
const ACCOUNTS: [(&str, u8); 7] = [
    ("5.1.0.0/16", 1),
    ("5.1.2.0/24", 2),
    ("5.0.0.0/8", 3),
    ("9.9.0.0/16", 4),
    ("198.18.0.0/25", 5),
    ("2a05:0:7::/48", 6),
    ("2a77::/32", 7),
];

fn accounts(of: &[(&str, u8)]) -> Accounts {
    Accounts::new(of.iter().map(|(prefix, account)| (net(prefix), *account)))
}

fn started(dataplane: MemoryDataplane, dump: Dump, of: &[(&str, u8)]) -> Engine<MemoryDataplane> {
    start_with(dataplane, dump, |engine| engine.set_accounts(accounts(of)))
}

fn counting() -> Engine<MemoryDataplane> {
    started(MemoryDataplane::new(Sizes::SMALL), dump(), &ACCOUNTS)
}

/// The account that an address is counted for, as destination and as source.
fn account(engine: &Engine<MemoryDataplane>, to: &str) -> Option<u8> {
    let group = group(engine, to)? as usize;
    let tables = engine.view();
    let destination = tables.groups.get(group).account;
    assert_eq!(
        destination,
        u32::from(tables.origins.get(group).account()),
        "{to}"
    );
    Some(destination as u8)
}

/// Counting prefixes that are laid.
fn laid(engine: &Engine<MemoryDataplane>) -> Vec<String> {
    let all = slots(engine).into_iter();
    let counting = all.filter(|(prefix, _)| engine.fib.is_counting(engine.view(), *prefix));
    counting.map(|(prefix, _)| prefix.to_string()).collect()
}

#[test]
fn a_prefix_of_an_account_does_what_covers_it_does_and_is_counted_apart() {
    let engine = counting();
    assert_eq!(
        laid(&engine),
        [
            "5.1.0.0/16",
            "5.1.2.0/24",
            "9.9.0.0/16",
            "198.18.0.0/25",
            "2a05:0:7::/48"
        ]
    );
    for (to, whose, does) in [
        ("5.2.0.1", 3, Ok(1)),
        ("5.1.0.1", 1, Ok(1)),
        ("5.1.2.1", 2, Ok(1)),
        // A route inside the account.
        ("5.1.2.129", 2, Ok(2)),
        ("9.9.9.9", 4, Ok(1)),
        ("9.8.0.1", 0, Ok(1)),
        ("198.18.0.9", 5, Err(Reason::NeighbourUnresolved)),
        // A neighbour inside the account.
        ("198.18.0.5", 5, Ok(5)),
        ("198.18.0.130", 0, Err(Reason::NeighbourUnresolved)),
        ("2a05:0:7::1", 6, Ok(6)),
        ("2a05:0:8::1", 0, Ok(6)),
        ("6.0.0.1", 0, Ok(1)),
    ] {
        assert_eq!(
            (account(&engine, to), fate(&engine, to)),
            (Some(whose), does),
            "{to}"
        );
    }
    assert_eq!(group(&engine, "2a77::1"), None);
    let slot = |prefix| engine.fib.slot(engine.view(), net(prefix));
    assert_ne!(slot("5.1.0.0/16"), slot("5.0.0.0/8"));
}

#[test]
fn it_follows_what_covers_it() {
    let mut engine = counting();
    // Another route between it and what covered it; that one changes, and goes.
    announce(&mut engine, via("9.0.0.0/12", OUT, "203.0.113.2"));
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(2), Some(4))
    );
    let change = Change::Replace;
    let route = via("9.0.0.0/12", OUT, "203.0.113.1");
    tell(
        &mut engine,
        Event::Route {
            route: route.clone(),
            change,
        },
    );
    assert_eq!(fate(&engine, "9.9.0.1"), Ok(1));
    announce(&mut engine, via("9.8.0.0/15", OUT, "203.0.113.2"));
    assert_eq!(fate(&engine, "9.9.0.1"), Ok(2));
    tell(
        &mut engine,
        Event::RouteGone(via("9.8.0.0/15", OUT, "203.0.113.2")),
    );
    tell(&mut engine, Event::RouteGone(route));
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(1), Some(4))
    );
    tell(
        &mut engine,
        Event::RouteGone(via("0.0.0.0/0", OUT, "203.0.113.1")),
    );
    assert_eq!(group(&engine, "9.9.0.1"), None);
    assert!(!laid(&engine).contains(&"9.9.0.0/16".to_string()));
    announce(&mut engine, via("0.0.0.0/0", OUT, "203.0.113.2"));
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(2), Some(4))
    );
}

#[test]
fn a_route_of_its_own_takes_its_place_and_leaves_it() {
    let mut engine = counting();
    let slot = engine.fib.slot(engine.view(), net("9.9.0.0/16"));
    // The same way as what covers it: the group does not change.
    let own = via("9.9.0.0/16", OUT, "203.0.113.1");
    announce(&mut engine, own.clone());
    assert!(!laid(&engine).contains(&"9.9.0.0/16".to_string()));
    assert_eq!(engine.fib.slot(engine.view(), net("9.9.0.0/16")), slot);
    let change = Change::Replace;
    let route = via("9.9.0.0/16", OUT, "203.0.113.2");
    tell(
        &mut engine,
        Event::Route {
            route: route.clone(),
            change,
        },
    );
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(2), Some(4))
    );
    // What covers it is no longer its business.
    tell(
        &mut engine,
        Event::RouteGone(via("0.0.0.0/0", OUT, "203.0.113.1")),
    );
    assert_eq!(fate(&engine, "9.9.0.1"), Ok(2));
    announce(&mut engine, via("0.0.0.0/0", OUT, "203.0.113.1"));
    tell(&mut engine, Event::RouteGone(route));
    assert!(laid(&engine).contains(&"9.9.0.0/16".to_string()));
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(1), Some(4))
    );
    assert_eq!(engine.fib.slot(engine.view(), net("9.9.0.0/16")), slot);
}

#[test]
fn a_backup_takes_over_for_it_as_for_what_covers_it() {
    let mut engine = counting();
    let second = Route {
        metric: 9,
        ..via("5.0.0.0/8", OUT, "203.0.113.2")
    };
    announce(&mut engine, second);
    assert_eq!(
        (fate(&engine, "5.2.0.1"), fate(&engine, "5.1.0.1")),
        (Ok(1), Ok(1))
    );
    let mut gone = neighbour(OUT, "203.0.113.1", 1);
    (gone.mac, gone.failed) = (None, true);
    tell(&mut engine, Event::Neighbour(gone));
    assert_eq!(
        (fate(&engine, "5.2.0.1"), fate(&engine, "5.1.0.1")),
        (Ok(2), Ok(2))
    );
    assert_eq!(account(&engine, "5.1.0.1"), Some(1));
}

#[test]
fn what_a_blackhole_around_it_throws_away_is_the_blackholes() {
    let mut engine = counting();
    announce(&mut engine, route("9.8.0.0/15", Action::Blackhole));
    assert_eq!(fate(&engine, "9.9.0.1"), Err(Reason::Blackhole));
    let bucket = |to: &str| {
        let group = group(&engine, to).expect("a group") as usize;
        let Group { buckets, .. } = engine.view().groups.get(group);
        buckets[0]
    };
    assert_eq!(bucket("9.9.0.1"), bucket("9.8.0.1"));
    assert_eq!(account(&engine, "9.9.0.1"), Some(4));
    assert_eq!(account(&engine, "9.8.0.1"), Some(0));
}

#[test]
fn a_dump_leaves_it_and_the_next_controller_finds_it() {
    let mut engine = counting();
    let before = (leaves(&engine), slots(&engine), laid(&engine));
    engine.load(dump());
    assert_eq!((leaves(&engine), slots(&engine), laid(&engine)), before);
    let engine = started(engine.dataplane, dump(), &ACCOUNTS);
    assert_eq!((leaves(&engine), slots(&engine), laid(&engine)), before);
    // Without its account, the prefix goes; a route that was its account's is nobody's.
    let engine = started(engine.dataplane, dump(), &[("5.1.0.0/16", 1)]);
    assert_eq!(laid(&engine), ["5.1.0.0/16"]);
    assert_eq!(account(&engine, "5.2.0.1"), Some(0));
    assert_eq!(account(&engine, "5.1.2.129"), Some(1));
    assert_eq!(
        (fate(&engine, "9.9.0.1"), account(&engine, "9.9.0.1")),
        (Ok(1), Some(0))
    );
    // Another account takes it over.
    let engine = started(engine.dataplane, dump(), &[("5.1.0.0/16", 9)]);
    assert_eq!(account(&engine, "5.1.0.1"), Some(9));
}

#[test]
fn a_first_dump_does_not_lead_it_astray_while_it_is_read() {
    let mut later = dump();
    later.routes.push(via("9.0.0.0/12", OUT, "203.0.113.2"));
    let engine = started(MemoryDataplane::new(Sizes::SMALL), later.clone(), &ACCOUNTS);
    assert_eq!(fate(&engine, "9.9.0.1"), Ok(2));
    let mut engine = Engine::new(engine.dataplane).expect("sound tables");
    engine.set_accounts(accounts(&ACCOUNTS));
    for ifindex in [IN, OUT] {
        let served = Served {
            port: ifindex as u16,
            ..Served::default()
        };
        engine.serve(ifindex, Some(served));
    }
    let mut load = engine.begin_load();
    let routes = std::mem::take(&mut later.routes);
    crate::source::event::DumpSink::surroundings(&mut load, later);
    // The default route is told, and another address, so that it is laid; not yet what really covers the account.
    for route in routes.iter().take(2) {
        crate::source::event::DumpSink::route(&mut load, route.clone());
    }
    drop(load);
    assert_eq!(fate(&engine, "9.9.0.1"), Ok(2));
}
