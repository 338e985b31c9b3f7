//! What routes say of packets from where they lead: source validation, and blackholes with counters of their own.

use forwarder_common::{directory::NextHopEntry, origin::ANYWHERE};

use super::*;
use crate::{
    daemon::{doubt, feeds::Feeds},
    fib::path::{Key, key_of},
};

/// Ports by which sources of an address may come in, of those that carriers are on.
fn origins(engine: &Engine<MemoryDataplane>, of: &str) -> Vec<Ifindex> {
    let Some(group) = group(engine, of) else {
        return Vec::new();
    };
    let origin = engine.view().origins.get(group as usize);
    assert!(origin.has(ANYWHERE), "{of}: {origin:?}");
    let by = |ifindex: &Ifindex| {
        let served = engine.world.links.served(*ifindex).expect("served");
        origin.has(u32::from(served.port))
    };
    CARRIERS
        .map(|(ifindex, ..)| ifindex)
        .into_iter()
        .filter(by)
        .collect()
}

fn feasible(engine: &mut Engine<MemoryDataplane>, these: &[Ifindex]) {
    engine.rib.all_ways = true;
    for ifindex in these {
        let served = engine.world.links.served(*ifindex).expect("served");
        engine.serve(
            *ifindex,
            Some(Served {
                feasible: true,
                outside: false,
                ..served
            }),
        );
    }
    engine.served_changed();
}

fn path(prefix: &str, path_id: u32, by: &str) -> FeedEvent {
    FeedEvent::Route {
        prefix: net(prefix),
        path_id,
        route: with(gateway(by), |_| {}),
    }
}

/// The way to a router behind a carrier leads by another.
fn move_gateway(engine: &mut Engine<MemoryDataplane>, loopback: usize, from: usize, to: usize) {
    let route = |carrier: usize| {
        let (ifindex, gateway, _) = CARRIERS[carrier];
        via(&format!("{}/32", LOOPBACKS[loopback]), ifindex, gateway)
    };
    tell(engine, Event::RouteGone(route(from)));
    announce(engine, route(to));
    settle(engine);
}

#[test]
fn a_source_may_come_by_every_path_of_its_prefix_where_feasible_paths_count() {
    let mut engine = following(&[Source::Bgp, Source::Kernel], world());
    feasible(&mut engine, &[OTHER, THIRD]);
    let prefix = "20.0.0.0/16";
    say(&mut engine, ONE, vec![path(prefix, 1, LOOPBACKS[0])]);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
    say(
        &mut engine,
        ONE,
        vec![path(prefix, 2, LOOPBACKS[1]), path(prefix, 3, LOOPBACKS[2])],
    );
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER, THIRD]);
    say(
        &mut engine,
        ONE,
        vec![FeedEvent::RouteGone {
            prefix: net(prefix),
            path_id: 2,
        }],
    );
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, THIRD]);
    // The gateway of the path that is not used moves: its bit with it.
    move_gateway(&mut engine, 2, 2, 1);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER]);
}

#[test]
fn a_session_that_only_gives_attributes_tells_feasible_paths_too() {
    let mut engine = following(&[Source::Kernel], world());
    feasible(&mut engine, &[OTHER]);
    announce(&mut engine, via("20.0.0.0/16", OUT, "203.0.113.1"));
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
    say(&mut engine, ONE, vec![path("20.0.0.0/16", 1, LOOPBACKS[1])]);
    assert_eq!(macs(&engine, "20.0.0.1"), [1]);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER]);
}

#[test]
fn strict_interfaces_take_the_best_route_and_while_it_fails_its_backup() {
    let mut engine = following(&[Source::Bgp, Source::Kernel], world());
    let prefix = "20.0.0.0/16";
    say(
        &mut engine,
        ONE,
        vec![path(prefix, 1, LOOPBACKS[0]), path(prefix, 2, LOOPBACKS[1])],
    );
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
    let mut down = link(OUT);
    down.carrier = false;
    tell(&mut engine, Event::Link(down));
    assert_eq!(macs(&engine, "20.0.0.1"), [2]);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER]);
    tell(&mut engine, Event::Link(link(OUT)));
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
}

#[test]
fn every_prefix_of_an_as_may_come_in_where_one_of_them_is_announced() {
    let mut engine = following(&[Source::Bgp, Source::Kernel], world());
    feasible(&mut engine, &[OTHER]);
    let of = |prefix: &str, by: &str, origin: u32| {
        let from =
            |attributes: &mut Attributes| attributes.as_path = vec![Segment::Sequence(vec![64501, origin])];
        route_of(prefix, with(gateway(by), from))
    };
    let announced = vec![
        of("20.0.0.0/16", LOOPBACKS[0], 65001),
        of("20.1.0.0/16", LOOPBACKS[0], 65002),
    ];
    say(&mut engine, ONE, announced);
    say(&mut engine, ONE, vec![of("20.2.0.0/16", LOOPBACKS[1], 65001)]);
    assert_eq!(origins(&engine, "20.2.0.1"), [OTHER]);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER], "the same AS");
    assert_eq!(origins(&engine, "20.1.0.1"), [OUT], "another");
    // The route that showed it moves to where nobody asks for feasible paths, and back, and goes.
    move_gateway(&mut engine, 1, 1, 2);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
    move_gateway(&mut engine, 1, 2, 1);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT, OTHER]);
    say(&mut engine, ONE, vec![gone("20.2.0.0/16")]);
    assert_eq!(origins(&engine, "20.0.0.1"), [OUT]);
}

fn victims(engine: &Engine<MemoryDataplane>) -> Vec<(u32, IpNet)> {
    let tables = engine.view();
    let victim = |id: u32| {
        let entry: NextHopEntry = tables.nexthop_directory.get(id as usize);
        match key_of(&entry) {
            Some(Key::Victim(prefix)) => Some((id, prefix)),
            _ => None,
        }
    };
    (1..tables.sizes.nexthops).filter_map(victim).collect()
}

#[test]
fn every_blackhole_has_a_next_hop_of_its_own_as_long_as_gateways_have_room() {
    let mut engine = following(&[Source::Bgp, Source::Kernel], world());
    announce(&mut engine, route("20.0.0.1/32", Action::Blackhole));
    say(
        &mut engine,
        ONE,
        vec![route_of("2a00:1::1/128", with(Target::Blackhole, |_| {}))],
    );
    let found = victims(&engine);
    let mut prefixes: Vec<IpNet> = found.iter().map(|(_, prefix)| *prefix).collect();
    prefixes.sort_unstable();
    assert_eq!(prefixes, [net("20.0.0.1/32"), net("2a00:1::1/128")]);
    assert_eq!(fate(&engine, "20.0.0.1"), Err(Reason::Blackhole));
    assert_eq!(fate(&engine, "2a00:1::1"), Err(Reason::Blackhole));

    // Many: the later ones share one, and every one is a blackhole.
    let sizes = engine.view().sizes;
    let more: Vec<String> = (0..sizes.nexthops)
        .map(|n| format!("30.0.{}.{}/32", n / 256, n % 256))
        .collect();
    for prefix in &more {
        announce(&mut engine, route(prefix, Action::Blackhole));
    }
    let held = victims(&engine).len();
    assert!(
        held > 2 && held <= sizes.nexthops as usize / 2,
        "{held} of {}",
        sizes.nexthops
    );
    for prefix in &more {
        assert_eq!(
            fate(&engine, prefix.trim_end_matches("/32")),
            Err(Reason::Blackhole)
        );
    }
    for prefix in &more {
        tell(&mut engine, Event::RouteGone(route(prefix, Action::Blackhole)));
    }
    engine.maintain();
    assert_eq!(victims(&engine).len(), 2);

    // The next controller finds each where it counts.
    let mut next = on(engine.dataplane, &[Source::Kernel]);
    let mut dump = world();
    dump.routes.push(route("20.0.0.1/32", Action::Blackhole));
    next.load(dump);
    let kept = victims(&next);
    assert!(
        kept.iter().all(|victim| found.contains(victim)),
        "{kept:?}, before {found:?}"
    );
    assert_eq!(fate(&next, "20.0.0.1"), Err(Reason::Blackhole));
}

#[test]
fn routes_that_may_not_be_whole_speak_against_nobody() {
    let feeds = Feeds::recording(None);
    let engine = following(&[Source::Kernel], world());
    assert_eq!(doubt::of(&engine, &feeds, true), None);
    assert!(doubt::of(&engine, &feeds, false).is_some());
    let mut engine = on(MemoryDataplane::new(Sizes::SMALL), &[Source::Bgp, Source::Kernel]);
    engine.register(ONE, Source::Bgp);
    engine.load(world());
    let why = doubt::of(&engine, &feeds, true).expect("the session has told nothing");
    assert!(why.contains("have not told theirs"), "{why}");
    for table in [FeedTable::Ipv4, FeedTable::Ipv6] {
        say(&mut engine, ONE, vec![FeedEvent::Synchronised(table)]);
    }
    assert_eq!(doubt::of(&engine, &feeds, true), None);
}
