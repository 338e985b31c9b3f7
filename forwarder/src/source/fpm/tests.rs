//! A session by hand: messages as zebra writes them, a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::Session;
use crate::config::FpmConfig;
use crate::netlink::socket::push_attribute;
use crate::source::event::{Hop, NexthopKind};
use crate::source::feed::{FeedCounts, FeedEvent, FeedState, FeedTable, Target};

// include/uapi/linux/rtnetlink.h and nexthop.h
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEXTHOP: u16 = 104;
const DELNEXTHOP: u16 = 105;
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const METRICS: u16 = 8;
const ENCAP_TYPE: u16 = 21;
const NH_ID: u16 = 30;
const UNICAST: u8 = 1;
const BLACKHOLE: u8 = 6;
const UNREACHABLE: u8 = 7;
const PROHIBIT: u8 = 8;
const BGP: u8 = 186;

const LOST: [FeedEvent; 3] = [
    mark(FeedTable::Ipv4),
    mark(FeedTable::Ipv6),
    FeedEvent::State(FeedState::Stale),
];
const BEGUN: [FeedEvent; 3] = [
    FeedEvent::State(FeedState::Syncing),
    mark(FeedTable::Ipv4),
    mark(FeedTable::Ipv6),
];

const ENDED: [FeedEvent; 5] = [
    FeedEvent::Sweep(FeedTable::Ipv4),
    FeedEvent::Sweep(FeedTable::Ipv6),
    FeedEvent::Synchronised(FeedTable::Ipv4),
    FeedEvent::Synchronised(FeedTable::Ipv6),
    FeedEvent::State(FeedState::Live),
];

const DROPPED: [FeedEvent; 5] = [
    mark(FeedTable::Ipv4),
    FeedEvent::Sweep(FeedTable::Ipv4),
    mark(FeedTable::Ipv6),
    FeedEvent::Sweep(FeedTable::Ipv6),
    FeedEvent::State(FeedState::Down),
];

const fn mark(table: FeedTable) -> FeedEvent {
    FeedEvent::Mark {
        table,
        least_preferred: false,
    }
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes
}

fn frame(messages: &[Vec<u8>]) -> Vec<u8> {
    let payload = messages.concat();
    let length = u16::try_from(payload.len() + 4).unwrap().to_be_bytes();
    [&[1, 1, length[0], length[1]], &payload[..]].concat()
}

/// A route message: `10.0.0.0/8`, table main, BGP, metric 20.
struct Route {
    prefix: &'static str,
    table: u8,
    protocol: u8,
    kind: u8,
    source_length: u8,
    tos: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

fn route(prefix: &'static str) -> Route {
    Route {
        prefix,
        table: 254,
        protocol: BGP,
        kind: UNICAST,
        source_length: 0,
        tos: 0,
        attributes: vec![(PRIORITY, 20u32.to_ne_bytes().to_vec())],
    }
}

impl Route {
    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.attributes.push((kind, value.to_vec()));
        self
    }

    fn by(self, object: u32) -> Self {
        self.with(NH_ID, &object.to_ne_bytes())
    }

    fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    fn message(&self, kind: u16) -> Vec<u8> {
        let prefix: ipnet::IpNet = self.prefix.parse().unwrap();
        let (family, destination) = match prefix.addr() {
            std::net::IpAddr::V4(address) => (2, address.octets().to_vec()),
            std::net::IpAddr::V6(address) => (10, address.octets().to_vec()),
        };
        let mut body = vec![
            family,
            prefix.prefix_len(),
            self.source_length,
            self.tos,
            self.table,
            self.protocol,
            0,
            self.kind,
            0,
            0,
            0,
            0,
        ];
        push_attribute(&mut body, DST, &destination);
        for (kind, value) in &self.attributes {
            push_attribute(&mut body, *kind, value);
        }
        message(kind, &body)
    }

    fn said(&self) -> Vec<u8> {
        self.message(NEWROUTE)
    }

    fn gone(&self) -> Vec<u8> {
        self.message(DELROUTE)
    }
}

fn nexthop(id: u32, ifindex: u32) -> Vec<u8> {
    let mut body = vec![2, 0, 11, 0, 0, 0, 0, 0];
    push_attribute(&mut body, 1, &id.to_ne_bytes());
    push_attribute(&mut body, 6, &[192, 0, 2, u8::try_from(ifindex).unwrap()]);
    push_attribute(&mut body, 5, &ifindex.to_ne_bytes());
    message(NEWNEXTHOP, &body)
}

fn nexthop_gone(id: u32) -> Vec<u8> {
    let mut body = vec![0; 8];
    push_attribute(&mut body, 1, &id.to_ne_bytes());
    message(DELNEXTHOP, &body)
}

fn hop(ifindex: u32) -> NexthopKind {
    NexthopKind::Hop(Hop {
        ifindex,
        gateway: Some(std::net::IpAddr::from([
            192,
            0,
            2,
            u8::try_from(ifindex).unwrap(),
        ])),
        weight: 1,
        dead: false,
        unsupported: false,
    })
}

struct World {
    session: Session,
    counts: Arc<FeedCounts>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self::with(FpmConfig::default())
    }

    fn with(config: FpmConfig) -> Self {
        let counts = Arc::new(FeedCounts::default());
        Self {
            session: Session::new(config, Arc::clone(&counts)),
            counts,
            now: Instant::now(),
        }
    }

    /// Connected and in step.
    fn live() -> Self {
        let mut world = Self::new();
        assert_eq!(world.connect(), BEGUN);
        // Of an object that nobody knows.
        assert_eq!(world.say(&[nexthop_gone(9_999)]), []);
        assert_eq!(world.pass(5), ENDED);
        world
    }

    fn connect(&mut self) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.session.connected(self.now, &mut events);
        events
    }

    fn say(&mut self, messages: &[Vec<u8>]) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        let result = self.session.received(&frame(messages), self.now, &mut events);
        result.unwrap();
        events
    }

    fn lose(&mut self) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        self.session.lost(self.now, &mut events);
        events
    }

    /// Seconds pass, with a look whenever one is due.
    fn pass(&mut self, seconds: u64) -> Vec<FeedEvent> {
        let (mut events, end) = (Vec::new(), self.now + Duration::from_secs(seconds));
        loop {
            self.session.tick(self.now, &mut events).unwrap();
            match self.session.due() {
                Some(due) if due <= end => self.now = due.max(self.now),
                _ => break,
            }
            if self.now >= end {
                self.session.tick(self.now, &mut events).unwrap();
                break;
            }
        }
        self.now = end;
        events
    }
}

/// Prefix and target of the only event, a route.
fn target(events: &[FeedEvent]) -> (String, Target) {
    match events {
        [FeedEvent::Route { prefix, route, .. }] => (prefix.to_string(), route.target.clone()),
        _ => panic!("{events:?}"),
    }
}

fn gone(prefix: &str) -> FeedEvent {
    FeedEvent::RouteGone {
        prefix: prefix.parse().unwrap(),
        path_id: 0,
    }
}

fn is_left_to_the_kernel(events: &[FeedEvent]) -> bool {
    matches!(target(events).1, Target::Hops(hops) if hops.len() == 1 && hops[0].unsupported)
}

#[test]
fn a_session_marks_replays_sweeps_and_is_live() {
    let mut world = World::new();
    assert_eq!(world.connect(), BEGUN);
    assert_eq!(
        world.say(&[nexthop(22, 2)]),
        [FeedEvent::Nexthop { id: 1, kind: hop(2) }]
    );
    let events = world.say(&[route("192.0.2.0/24").by(22).said()]);
    assert_eq!(target(&events), ("192.0.2.0/24".into(), Target::Nexthop(1)));
    let FeedEvent::Route { route, .. } = &events[0] else {
        panic!()
    };
    assert_eq!((route.attributes.metric, route.attributes.protocol), (20, BGP));
    assert_eq!(world.pass(4), []);
    assert_eq!(world.pass(1), ENDED);
    assert_eq!(world.session.state(), FeedState::Live);
}

#[test]
fn an_update_is_one_event_and_never_a_moment_without_a_route() {
    let mut world = World::live();
    let (old, new) = (route("192.0.2.0/24").by(1), route("192.0.2.0/24").by(2));
    world.say(&[old.said()]);
    assert_eq!(
        target(&world.say(&[old.gone(), new.said()])),
        ("192.0.2.0/24".into(), Target::Nexthop(2))
    );
    assert_eq!(world.say(&[old.gone()]), [gone("192.0.2.0/24")]);
    assert_eq!(world.say(&[old.gone()]), [], "a withdrawal of what is not there");
    let other = route("198.51.100.0/24").by(2);
    world.say(&[new.said()]);
    let events = world.say(&[new.gone(), other.said()]);
    assert_eq!(
        events[0],
        gone("192.0.2.0/24"),
        "of another prefix it stands alone"
    );
}

#[test]
fn a_million_withdrawals_of_unknown_routes_say_nothing() {
    let mut world = World::live();
    let withdrawal = frame(&[route("192.0.2.0/24").gone(), route("2001:db8::/48").gone()]);
    let mut events = Vec::new();
    for _ in 0..500_000 {
        world
            .session
            .received(&withdrawal, world.now, &mut events)
            .unwrap();
    }
    assert_eq!(events, []);
    assert_eq!(world.counts.updates.load(Relaxed), 1_000_000);
}

#[test]
fn routes_and_groups_may_come_before_what_they_name() {
    let mut world = World::live();
    let (_, Target::Nexthop(id)) = target(&world.say(&[route("192.0.2.0/24").by(22).said()])) else {
        panic!()
    };
    assert_eq!(
        world.say(&[nexthop(22, 3)]),
        [FeedEvent::Nexthop { id, kind: hop(3) }]
    );
}

#[test]
fn what_drops_packets_drops_them_in_its_own_way() {
    let mut world = World::live();
    for (kind, wanted) in [
        (BLACKHOLE, Target::Blackhole),
        (UNREACHABLE, Target::Unreachable),
        (PROHIBIT, Target::Prohibit),
    ] {
        let events = world.say(&[route("2001:db8:bad::/48").kind(kind).said()]);
        assert_eq!(target(&events).1, wanted);
    }
}

#[test]
fn a_route_without_objects_has_its_hops() {
    let mut world = World::live();
    let plain = route("192.0.2.0/24")
        .with(GATEWAY, &[10, 0, 0, 1])
        .with(OIF, &7u32.to_ne_bytes());
    let (_, Target::Hops(hops)) = target(&world.say(&[plain.said()])) else {
        panic!()
    };
    assert_eq!(hops.len(), 1);
    assert_eq!((hops[0].ifindex, hops[0].unsupported), (7, false));
}

#[test]
fn what_only_the_kernel_can_do_is_a_route_that_is_left_to_it() {
    let mut world = World::live();
    let hops = |route: Route| route.with(GATEWAY, &[10, 0, 0, 1]).with(OIF, &7u32.to_ne_bytes());
    let mut tos = hops(route("192.0.2.0/24"));
    tos.tos = 8;
    let mut mtu = Vec::new();
    push_attribute(&mut mtu, 2, &1400u32.to_ne_bytes());
    for unable in [
        hops(route("192.0.2.0/24")).with(ENCAP_TYPE, &[1, 0]),
        hops(route("192.0.2.0/24")).with(METRICS, &mtu),
        tos,
        route("192.0.2.0/24").by(0),
        route("192.0.2.0/24"),
        route("192.0.2.0/24").kind(2),
    ] {
        assert!(is_left_to_the_kernel(&world.say(&[unable.said()])));
    }
}

#[test]
fn a_prefix_with_a_route_for_some_sources_stays_with_the_kernel() {
    let mut world = World::live();
    let mut some = route("2001:db8:7::/48").by(1);
    some.source_length = 56;
    let all = route("2001:db8:7::/48").by(2);
    assert!(is_left_to_the_kernel(&world.say(&[some.said()])));
    assert!(is_left_to_the_kernel(&world.say(&[all.said()])));
    assert_eq!(world.say(&[some.gone()]), []);
    assert!(is_left_to_the_kernel(&world.say(&[all.said()])));
    world.lose();
    world.connect();
    assert_eq!(target(&world.say(&[all.said()])).1, Target::Nexthop(1));
}

#[test]
fn other_tables_and_what_the_kernel_says_itself_are_left_out_and_counted() {
    let mut world = World::live();
    let mut vrf = route("192.0.2.0/24").by(1);
    vrf.table = 100;
    let mut connected = route("192.0.2.0/24").by(1);
    connected.protocol = 2;
    let mpls = message(NEWROUTE, &[28, 20, 0, 0, 254, BGP, 0, 1, 0, 0, 0, 0]);
    let neighbour = message(28, &[0; 12]);
    for (number, left_out) in [vrf.said(), vrf.gone(), connected.said(), mpls, neighbour]
        .iter()
        .enumerate()
    {
        assert_eq!(world.say(std::slice::from_ref(left_out)), []);
        assert_eq!(world.counts.left_out.load(Relaxed), number as u64 + 1);
    }
    world.say(&[route("192.0.2.0/24").by(1).said()]);
    assert_eq!(
        world.say(&[connected.said()]),
        [gone("192.0.2.0/24")],
        "zebra prefers the connected one now, and so the kernel's word counts"
    );
    assert_eq!(world.counts.errors.load(Relaxed), 0);
}

#[test]
fn a_zebra_that_comes_again_gives_its_old_numbers_new_meanings_and_stale_routes_keep_theirs() {
    let mut world = World::live();
    world.say(&[
        nexthop(22, 2),
        route("192.0.2.0/24").by(22).said(),
        route("198.51.100.0/24").by(22).said(),
    ]);
    assert_eq!(world.lose(), LOST);
    world.now += Duration::from_secs(3);
    assert_eq!(world.connect(), BEGUN);
    let events = world.say(&[nexthop(22, 3), route("192.0.2.0/24").by(22).said()]);
    let [FeedEvent::Nexthop { id, kind }, FeedEvent::Route { route, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_ne!(*id, 1, "the stale route uses number 1");
    assert_eq!((kind, &route.target), (&hop(3), &Target::Nexthop(*id)));
    let ended = world.pass(5);
    assert_eq!(
        ended,
        [&ENDED[..2], &[FeedEvent::NexthopGone(1)], &ENDED[2..]].concat(),
        "the sweep takes the last user of number 1"
    );
    assert_eq!((world.session.routes(), world.session.objects()), (1, 1));
}

#[test]
fn routes_of_a_lost_session_stay_for_the_restart_time() {
    let mut world = World::live();
    world.say(&[nexthop(1, 1), route("192.0.2.0/24").by(1).said()]);
    assert_eq!(world.lose(), LOST);
    assert_eq!(world.pass(119), []);
    let events = world.pass(1);
    assert_eq!(events[..4], DROPPED[..4]);
    assert!(events.contains(&FeedEvent::NexthopGone(1)));
    assert_eq!(events.last(), Some(&DROPPED[4]));
    assert_eq!((world.session.routes(), world.session.objects()), (0, 0));
}

#[test]
fn who_says_nothing_has_not_told_an_empty_table() {
    let mut world = World::live();
    world.say(&[route("192.0.2.0/24").by(1).said()]);
    world.lose();
    world.pass(3);
    world.connect();
    assert_eq!(world.pass(100), []);
    assert_eq!(
        (world.session.state(), world.session.routes()),
        (FeedState::Syncing, 1)
    );
    // Its first word is where its table begins.
    world.say(&[route("192.0.3.0/24").by(1).said()]);
    assert_eq!(world.pass(4), []);
    let events = world.pass(1);
    assert!(events.contains(&FeedEvent::Sweep(FeedTable::Ipv4)), "{events:?}");
    assert_eq!(
        (world.session.state(), world.session.routes()),
        (FeedState::Live, 1)
    );
}

#[test]
fn sessions_that_never_get_in_step_do_not_keep_stale_routes_for_ever() {
    let mut world = World::live();
    world.say(&[route("192.0.2.0/24").by(1).said()]);
    world.lose();
    let (lost, mut swept) = (world.now, None);
    for _ in 0..200 {
        world.connect();
        let mut events = world.pass(3);
        events.extend(world.lose());
        events.extend(world.pass(3));
        if events.iter().any(|event| matches!(event, FeedEvent::Sweep(_))) {
            swept = Some(world.now - lost);
            break;
        }
    }
    let swept = swept.expect("never swept");
    assert!(swept <= Duration::from_secs(120 + 300 + 6), "{swept:?}");
}

#[test]
fn a_replay_with_a_pause_is_waited_for_and_the_noise_of_the_internet_is_not() {
    let mut world = World::with(FpmConfig::default());
    world.connect();
    let said = route("192.0.2.0/24").by(1);
    let burst = vec![said.said(); 500];
    for _ in 0..10 {
        world.say(&burst);
        assert_eq!(world.pass(4), []);
    }
    let mut seconds = 0;
    while world.session.state() == FeedState::Syncing {
        world.say(&vec![said.said(); 50]);
        world.pass(1);
        seconds += 1;
        assert!(seconds < 10, "fifty updates a second are no replay");
    }
}

#[test]
fn a_replay_that_does_not_end_is_ended() {
    let mut world = World::new();
    world.connect();
    let burst = vec![route("192.0.2.0/24").by(1).said(); 500];
    let mut ended = Vec::new();
    for _ in 0..300 {
        world.say(&burst);
        ended.extend(world.pass(1));
    }
    assert_eq!(ended, ENDED);
}

#[test]
fn objects_are_taken_back_by_word_and_by_silence() {
    let mut world = World::live();
    let said = route("192.0.2.0/24").by(1);
    world.say(&[nexthop(1, 1), nexthop(2, 2), said.said()]);
    assert_eq!(world.say(&[nexthop_gone(2)]), [FeedEvent::NexthopGone(2)]);
    world.say(&[said.gone()]);
    assert_eq!(world.pass(3_600), [], "zebra may still use it again");
    assert_eq!(world.pass(180), [FeedEvent::NexthopGone(1)]);
}

#[test]
fn a_table_that_does_not_fit_is_not_used_at_all() {
    let mut world = World::with(FpmConfig {
        max_routes: 2,
        ..FpmConfig::default()
    });
    world.connect();
    world.say(&[
        route("192.0.2.0/24").by(1).said(),
        route("198.51.100.0/24").by(1).said(),
    ]);
    let events = world.say(&[
        route("203.0.113.0/24").by(1).said(),
        route("10.0.0.0/8").by(1).said(),
    ]);
    assert_eq!(events[1..5], DROPPED[..4]);
    assert_eq!(
        world.say(&[route("192.0.2.0/24").by(1).said()]),
        [],
        "nor anything that comes after it"
    );
    assert_eq!(
        (world.session.routes(), world.counts.over_limit.load(Relaxed)),
        (0, 1)
    );
    assert!(world.counts.last_error().unwrap().contains("max-routes = 2"));
    world.lose();
    world.connect();
    assert_eq!(world.say(&[route("192.0.2.0/24").by(1).said()]).len(), 1);
}

#[test]
fn a_frame_that_stays_open_is_a_fault_and_so_are_lengths_that_lie() {
    let mut world = World::live();
    world.say(&[route("192.0.2.0/24").by(1).said()]);
    let mut events = Vec::new();
    for octet in [1, 1, 255, 255].into_iter().chain([0; 25]) {
        world.session.received(&[octet], world.now, &mut events).unwrap();
        world.now += Duration::from_secs(1);
        world.session.tick(world.now, &mut events).unwrap();
    }
    world.now += Duration::from_secs(1);
    let fault = world.session.tick(world.now, &mut events).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "a frame was not whole 30 seconds after it began"
    );
    world.lose();
    assert_eq!(world.session.routes(), 1, "what was valid stays");

    for lie in [
        frame(&[vec![15, 0, 0, 0]]),
        frame(&[vec![255, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
        frame(&[message(NEWROUTE, &[2, 24, 0, 0, 254])]),
        frame(&[message(NEWROUTE, &[2, 33, 0, 0, 254, BGP, 0, 1, 0, 0, 0, 0])]),
        frame(&[message(
            NEWROUTE,
            &[2, 24, 0, 0, 254, BGP, 0, 1, 0, 0, 0, 0, 3, 0, 1, 0],
        )]),
        frame(&[message(NEWNEXTHOP, &[0; 8])]),
        vec![9, 1, 0, 8],
    ] {
        world.connect();
        let good = frame(&[route("198.51.100.0/24").by(1).said()]);
        let (mut events, both) = (Vec::new(), [good, lie].concat());
        let fault = world.session.received(&both, world.now, &mut events).unwrap_err();
        assert!(!fault.bytes.is_empty() && fault.bytes.len() <= 32, "{fault}");
        assert_eq!(target(&events).0, "198.51.100.0/24", "what came before it counts");
        world.lose();
        assert_eq!(world.session.routes(), 2);
    }
}

/// Frames of every kind, as a stream.
fn recorded() -> Vec<u8> {
    let mut group = vec![0, 0, 11, 0, 0, 0, 0, 0];
    push_attribute(&mut group, 1, &9u32.to_ne_bytes());
    push_attribute(&mut group, 2, &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    [
        frame(&[nexthop(1, 1)]),
        frame(&[nexthop(2, 2), message(NEWNEXTHOP, &group)]),
        frame(&[route("192.0.2.0/24").by(1).said()]),
        frame(&[
            route("192.0.2.0/24").by(1).gone(),
            route("192.0.2.0/24").by(9).said(),
        ]),
        frame(&[route("2001:db8::/32").kind(BLACKHOLE).said()]),
        frame(&[route("2001:db8::/32").gone(), nexthop_gone(9)]),
    ]
    .concat()
}

proptest! {
    /// Whatever comes, there is an answer or a fault, what is kept stays within bounds, and the next session works.
    #[test]
    fn a_stream_may_be_changed_in_any_way(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..12),
        cuts in proptest::collection::vec(1..80_usize, 1..20),
        seconds in proptest::collection::vec(0..200_u64, 1..20),
    ) {
        let mut stream = recorded().repeat(3);
        for (position, value) in changes {
            let position = position % stream.len();
            stream[position] = value;
        }
        let (mut world, mut events) = (World::new(), Vec::new());
        world.connect();
        let (mut rest, mut round) = (&stream[..], 0);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts[round % cuts.len()].min(rest.len()));
            rest = after;
            world.now += Duration::from_secs(seconds[round % seconds.len()]);
            round += 1;
            let heard = world.session.received(piece, world.now, &mut events);
            if heard.and_then(|()| world.session.tick(world.now, &mut events)).is_err() {
                world.session.lost(world.now, &mut events);
                world.session.connected(world.now, &mut events);
            }
        }
        prop_assert!(world.session.routes() <= 18 && world.session.objects() <= 18);
        world.session.lost(world.now, &mut events);
        world.session.connected(world.now, &mut events);
        events.clear();
        world.session.received(&recorded(), world.now, &mut events).unwrap();
        prop_assert!(events.len() >= 6);
        world.now += Duration::from_secs(10);
        world.session.tick(world.now, &mut events).unwrap();
        prop_assert_eq!(world.session.routes(), 1);
        prop_assert_eq!(world.session.state(), FeedState::Live);
    }

    #[test]
    fn any_octets_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut world = World::new();
        world.connect();
        let _ = world.session.received(&bytes, world.now, &mut Vec::new());
        let _ = world.session.received(&[&[1, 1, 1, 144], &bytes[..]].concat(), world.now, &mut Vec::new());
    }
}
