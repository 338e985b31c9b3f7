use std::time::Duration;

use super::*;
use crate::source::bgp::restart::QUIET_TIME;
use crate::source::bgp::session::OPEN_TIME;
use crate::source::bgp::testing::{
    LIMITS, capability, hex, plain, restart_capability, update, us, usual_open,
};
use crate::source::bgp::wire::KEEPALIVE;
use crate::source::feed::FeedTable;

struct Play {
    neighbour: Neighbour,
    now: Instant,
    counts: Arc<FeedCounts>,
}

impl Play {
    fn new() -> Play {
        Play::with(LIMITS)
    }

    fn with(limits: Limits) -> Play {
        let counts = Arc::new(FeedCounts::default());
        Play {
            neighbour: Neighbour::new("test".into(), us(), limits, Arc::clone(&counts)),
            now: Instant::now(),
            counts,
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.neighbour.tick(false, self.now);
    }

    fn connect(&mut self, id: ConnectionId) {
        self.neighbour.connected(id, None, self.now);
    }

    fn say(&mut self, id: ConnectionId, octets: &[u8]) {
        let used = self.neighbour.received(id, octets, self.now);
        assert!(
            used == octets.len() || !self.has(id),
            "{used} of {}",
            octets.len()
        );
    }

    fn has(&self, id: ConnectionId) -> bool {
        self.neighbour
            .position(|connection| connection.id == id)
            .is_some()
    }

    /// A session on this connection.
    fn establish(&mut self, id: ConnectionId, more: &[Vec<u8>]) {
        self.connect(id);
        self.say(id, &usual_open(more));
        self.say(id, &KEEPALIVE);
        let up = self.counts.sessions.load(Relaxed);
        assert!(up > 0 && self.has(id));
    }

    /// Routes 1.0.0.0/8 to `count`.0.0.0/8.
    fn announce(&mut self, id: ConnectionId, count: u8) {
        let nlri: Vec<u8> = (1..=count).flat_map(|octet| [8, octet]).collect();
        self.say(id, &wire::message(2, &update(&[], &plain(), &nlri)));
    }

    fn end_of_rib(&mut self, id: ConnectionId) {
        self.say(id, &wire::message(2, &[0; 4]));
        self.say(
            id,
            &wire::message(2, &update(&[], &[hex("80 0f 03 0002 01")], &[])),
        );
    }

    /// Code and subcode of the last NOTIFICATION to this connection, and whether it was closed.
    fn end(&mut self, id: ConnectionId) -> (Option<(u8, u8)>, bool) {
        let outputs = self.neighbour.outputs();
        let notification = outputs.iter().rev().find_map(|output| match output {
            Output::Send(to, message) if *to == id && message[18] == 3 => Some((message[19], message[20])),
            _ => None,
        });
        (notification, outputs.contains(&Output::Close(id)))
    }

    fn states(&mut self) -> Vec<FeedState> {
        let events = self.neighbour.events();
        let states = events.iter().filter_map(|event| match event {
            FeedEvent::State(state) => Some(*state),
            _ => None,
        });
        states.collect()
    }

    fn errors(&self) -> u64 {
        self.counts.errors.load(Relaxed)
    }
}

fn marks(events: &[FeedEvent]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, FeedEvent::Mark { .. }))
        .count()
}

fn sweeps(events: &[FeedEvent]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, FeedEvent::Sweep(_)))
        .count()
}

#[test]
fn a_feed_goes_from_connecting_to_live_and_down() {
    let mut play = Play::new();
    play.establish(1, &[restart_capability(0, false, true)]);
    play.announce(1, 3);
    assert_eq!(play.states(), [FeedState::Connecting, FeedState::Syncing]);
    play.end_of_rib(1);
    assert_eq!(play.states(), [FeedState::Live]);
    play.neighbour.lost(1, "closed by the other side", play.now);
    assert_eq!(play.states(), [FeedState::Down]);
    assert_eq!(
        play.counts.last_error().unwrap(),
        "the connection is lost (closed by the other side)"
    );
    assert_eq!(play.counts.updates.load(Relaxed), 3);
}

/// RFC 4724 2: with no routes at all there is still an end to them, and a daemon that has restarted waits for it.
#[test]
fn a_session_is_told_that_we_have_nothing_to_tell() {
    let mut play = Play::new();
    play.establish(1, &[capability(1, &[0, 2, 0, 133])]);
    let sent: Vec<Vec<u8>> = play
        .neighbour
        .outputs()
        .into_iter()
        .filter_map(|output| match output {
            Output::Send(1, message) if message[18] == 2 => Some(message[19..].to_vec()),
            _ => None,
        })
        .collect();
    let ends = ["00000000", "00000006 800f03 000201", "00000006 800f03 000285"];
    assert_eq!(sent, ends.map(hex));
}

#[test]
fn a_connection_that_says_nothing_is_closed_and_leaves_nothing() {
    let mut play = Play::new();
    play.connect(1);
    play.wait(OPEN_TIME.as_secs());
    assert_eq!(play.end(1), (Some((4, 0)), true));
    assert_eq!(play.states(), [FeedState::Connecting, FeedState::Down]);
    assert_eq!(play.neighbour.next(), None);
}

#[test]
fn octets_that_are_no_bgp_are_answered_and_counted() {
    let mut play = Play::new();
    play.connect(1);
    play.say(1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((play.end(1), play.errors()), ((Some((1, 1)), true), 1));
    assert_eq!(
        play.counts.last_error().unwrap(),
        "a message does not begin with the marker; sent: message header error, connection not synchronized"
    );
}

#[test]
fn a_wrong_as_is_told_so() {
    let mut play = Play::new();
    play.connect(1);
    let open = usual_open(&[capability(65, &64_501_u32.to_be_bytes())]);
    play.say(1, &open);
    assert_eq!(play.end(1), (Some((2, 2)), true));
}

#[test]
fn messages_arrive_in_any_pieces() {
    let mut play = Play::new();
    play.connect(1);
    let mut stream = usual_open(&[]);
    stream.extend(KEEPALIVE);
    stream.extend(wire::message(2, &update(&[], &plain(), &[8, 10])));
    let mut buffer: Vec<u8> = Vec::new();
    for octet in stream {
        buffer.push(octet);
        let used = play.neighbour.received(1, &buffer, play.now);
        buffer.drain(..used);
    }
    assert!(buffer.is_empty());
    assert!(
        play.neighbour
            .events()
            .iter()
            .any(|event| matches!(event, FeedEvent::Route { .. }))
    );
}

#[test]
fn a_batch_that_is_full_waits_to_be_taken() {
    let mut play = Play::new();
    play.establish(1, &[]);
    let nlri: Vec<u8> = (0..=255).flat_map(|octet| [16, 10, octet]).collect();
    let one = wire::message(2, &update(&[], &plain(), &nlri));
    let stream = one.repeat(40);
    play.neighbour.events();
    let mut used = 0;
    let mut batches = 0;
    while used < stream.len() {
        let more = play.neighbour.received(1, &stream[used..], play.now);
        assert!(more > 0);
        used += more;
        let events = play.neighbour.events();
        assert!(events.len() < BATCH + 256, "{}", events.len());
        batches += 1;
    }
    assert_eq!(batches, 3);
}

#[test]
fn while_the_rib_is_slow_keepalives_go_out_and_silence_does_not_count() {
    let mut play = Play::new();
    play.establish(1, &[]);
    play.neighbour.outputs();
    for _ in 0..100 {
        play.now += Duration::from_secs(5);
        play.neighbour.tick(true, play.now);
    }
    let sent = play.neighbour.outputs();
    assert!(
        sent.iter()
            .all(|output| *output == Output::Send(1, KEEPALIVE.to_vec())),
        "{sent:?}"
    );
    assert!(sent.len() >= 49, "{}", sent.len());
    play.wait(29);
    assert!(play.has(1));
    play.wait(2);
    assert_eq!(play.end(1), (Some((4, 0)), true));
}

#[test]
fn a_killed_daemon_keeps_its_routes_for_its_restart_time() {
    let mut play = Play::new();
    let restart = restart_capability(120, false, true);
    play.establish(1, std::slice::from_ref(&restart));
    play.announce(1, 3);
    play.end_of_rib(1);
    play.neighbour.events();
    play.neighbour.lost(1, "reset", play.now);
    let events = play.neighbour.events();
    assert_eq!((marks(&events), sweeps(&events)), (2, 0));
    assert_eq!(events.last(), Some(&FeedEvent::State(FeedState::Stale)));
    // It comes back; while it does, its feed is stale and not merely connecting.
    play.wait(60);
    play.connect(2);
    assert_eq!(play.states(), []);
    play.say(2, &usual_open(&[restart]));
    play.say(2, &KEEPALIVE);
    play.announce(2, 2);
    play.end_of_rib(2);
    let events = play.neighbour.events();
    assert_eq!((marks(&events), sweeps(&events)), (0, 2));
    assert_eq!(events.last(), Some(&FeedEvent::State(FeedState::Live)));
    // And if it does not.
    play.neighbour.lost(2, "reset", play.now);
    play.neighbour.events();
    play.wait(119);
    assert_eq!(play.neighbour.events(), []);
    play.wait(1);
    let events = play.neighbour.events();
    assert_eq!(
        (sweeps(&events), events.last()),
        (2, Some(&FeedEvent::State(FeedState::Down)))
    );
}

#[test]
fn a_notification_ends_it_for_good_unless_both_know_better() {
    for (notification, message, kept) in [
        (false, wire::message(3, &[6, 2]), false),
        (true, wire::message(3, &[6, 4]), true),
        (true, wire::message(3, &[6, 9, 6, 2]), false),
        (false, wire::message(3, &[6, 9, 6, 2]), false),
    ] {
        let mut play = Play::new();
        play.establish(1, &[restart_capability(120, notification, true)]);
        play.neighbour.events();
        play.say(1, &message);
        let events = play.neighbour.events();
        assert_eq!(
            (marks(&events), sweeps(&events) == 0),
            (2, kept),
            "{message:02x?}"
        );
        assert!(play.end(1).1);
    }
}

#[test]
fn our_own_notification_keeps_the_routes_only_with_the_n_bit() {
    for notification in [false, true] {
        let mut play = Play::new();
        play.establish(1, &[restart_capability(120, notification, true)]);
        play.neighbour.events();
        play.say(1, &wire::message(2, &[0, 9, 0, 0]));
        assert_eq!(play.end(1), (Some((3, 1)), true));
        assert_eq!(sweeps(&play.neighbour.events()) == 0, notification);
    }
}

#[test]
fn a_second_connection_of_a_neighbour_without_restart_is_refused() {
    let mut play = Play::new();
    play.establish(1, &[]);
    play.announce(1, 2);
    play.connect(2);
    assert!(play.has(1) && play.has(2));
    play.neighbour.events();
    play.say(2, &usual_open(&[]));
    assert_eq!(play.end(2), (Some((6, 7)), true));
    assert!(play.has(1) && !play.has(2));
    assert_eq!((play.neighbour.events(), play.errors()), (vec![], 1));
}

#[test]
fn a_second_connection_of_a_restarting_neighbour_takes_its_place_silently() {
    let mut play = Play::new();
    let restart = restart_capability(120, false, true);
    play.establish(1, std::slice::from_ref(&restart));
    play.end_of_rib(1);
    play.neighbour.events();
    play.connect(2);
    assert_eq!(play.neighbour.events(), [], "connecting alone ends nothing");
    play.say(2, &usual_open(&[restart]));
    assert_eq!(play.end(1), (None, true));
    let events = play.neighbour.events();
    assert_eq!((marks(&events), sweeps(&events)), (2, 0));
    play.say(2, &KEEPALIVE);
    play.end_of_rib(2);
    assert_eq!(play.states(), [FeedState::Syncing, FeedState::Live]);
}

#[test]
fn of_two_that_are_no_session_the_newer_stays() {
    let mut play = Play::new();
    play.connect(1);
    play.connect(2);
    play.say(2, &usual_open(&[]));
    assert_eq!(play.end(1), (Some((6, 7)), true));
    play.say(2, &KEEPALIVE);
    assert_eq!(play.counts.sessions.load(Relaxed), 1);
    // However many there are, no more than two are kept.
    let mut play = Play::new();
    for id in 0..10 {
        play.connect(id);
    }
    assert_eq!(
        (play.neighbour.half_open(), play.has(8), play.has(9)),
        (2, true, true)
    );
}

#[test]
fn a_neighbour_without_restart_is_live_when_it_has_been_quiet() {
    let mut play = Play::new();
    play.establish(1, &[]);
    play.announce(1, 2);
    play.states();
    play.wait(QUIET_TIME.as_secs());
    assert_eq!(play.states(), [FeedState::Live]);
}

#[test]
fn a_refresh_asks_for_each_table_and_its_marks_are_mark_and_sweep() {
    let mut play = Play::new();
    assert!(!play.neighbour.refresh());
    play.establish(1, &[restart_capability(0, false, false)]);
    play.announce(1, 3);
    play.end_of_rib(1);
    play.neighbour.outputs();
    play.neighbour.events();
    assert!(play.neighbour.refresh());
    let requests = [[0, 1, 0, 1], [0, 2, 0, 1]].map(|body| Output::Send(1, wire::message(5, &body)));
    assert_eq!(play.neighbour.outputs(), requests);
    play.say(1, &wire::message(5, &[0, 1, 1, 1]));
    play.announce(1, 2);
    play.say(1, &wire::message(5, &[0, 1, 2, 1]));
    let events = play.neighbour.events();
    assert_eq!((marks(&events), sweeps(&events), events.len()), (1, 1, 4));
    assert_eq!(play.neighbour.view().tables[0].routes, 2);
}

#[test]
fn a_limit_that_ends_the_session_keeps_nothing() {
    let mut play = Play::with(Limits {
        most: [2; 4],
        disconnect: true,
    });
    play.establish(1, &[restart_capability(120, true, true)]);
    play.announce(1, 5);
    assert_eq!(play.end(1), (Some((6, 1)), true));
    assert!(sweeps(&play.neighbour.events()) >= 2);
    assert_eq!(play.counts.over_limit.load(Relaxed), 3);
}

#[test]
fn a_limit_that_refuses_is_seen_in_the_view() {
    let mut play = Play::with(Limits {
        most: [2; 4],
        disconnect: false,
    });
    play.establish(1, &[]);
    play.announce(1, 5);
    let view = play.neighbour.view();
    assert_eq!((view.peer_as, view.hold_time), (Some(64_500), Some(30)));
    let table = &view.tables[0];
    assert_eq!(
        (table.table, table.routes, table.limit, table.refused),
        (FeedTable::Ipv4, 2, 2, 3)
    );
    assert_eq!(play.counts.last_error().unwrap(), "more than 2 routes in IPv4");
}

#[test]
fn when_we_stop_every_connection_hears_it_and_the_rib_nothing() {
    let mut play = Play::new();
    play.establish(1, &[]);
    play.neighbour.events();
    play.neighbour.stop();
    assert_eq!(play.end(1), (Some((6, 2)), true));
    assert_eq!(play.neighbour.events(), []);
}

#[test]
fn what_was_refused_is_asked_for_when_there_is_room_and_no_more_than_once_a_minute() {
    let mut play = Play::with(Limits {
        most: [2; 4],
        disconnect: false,
    });
    play.establish(1, &[restart_capability(0, false, false)]);
    play.announce(1, 4);
    play.end_of_rib(1);
    play.wait(0);
    let missing = |play: &Play| play.counts.refused.load(Relaxed);
    assert_eq!((missing(&play), play.counts.over_limit.load(Relaxed)), (2, 2));
    let gone = |octet| wire::message(2, &update(&[8, octet], &[], &[]));
    play.say(1, &gone(1));
    play.neighbour.outputs();
    // There is room, and the session is young.
    play.wait(1);
    let asked = |play: &mut Play| {
        let request = Output::Send(1, wire::message(5, &[0, 1, 0, 1]));
        play.neighbour.outputs().contains(&request)
    };
    assert!(!asked(&mut play));
    play.say(1, &KEEPALIVE);
    play.wait(29);
    play.say(1, &KEEPALIVE);
    play.wait(29);
    play.say(1, &KEEPALIVE);
    assert!(!asked(&mut play) && missing(&play) == 2);
    assert_eq!(play.neighbour.next(), Some(play.now + Duration::from_secs(1)));
    play.wait(1);
    assert!(asked(&mut play));
    assert_eq!(missing(&play), 0);
    // It says all of it again: one that was there, one that finds room, and one too many.
    let nlri = [8, 2, 8, 3, 8, 4];
    play.say(1, &wire::message(2, &update(&[], &plain(), &nlri)));
    play.wait(0);
    assert_eq!(missing(&play), 1);
    play.say(1, &gone(2));
    play.wait(1);
    assert!(!asked(&mut play), "it was asked a second ago");
    // Gone by itself, it is not missing.
    play.say(1, &gone(4));
    play.wait(0);
    assert_eq!(missing(&play), 0);
}

#[test]
fn the_session_is_shown_and_how_the_last_one_ended() {
    let mut play = Play::new();
    assert_eq!(play.counts.session().peer_as, Some(64_500));
    play.establish(1, &[restart_capability(120, true, true)]);
    play.announce(1, 3);
    play.wait(0);
    let session = play.counts.session();
    assert_eq!(session.router_id, Some("10.0.0.1".parse().unwrap()));
    assert_eq!((session.hold_time, session.restart_time), (Some(30), Some(120)));
    assert_eq!(
        session.capabilities,
        [
            "four-octet-as",
            "route-refresh",
            "graceful-restart",
            "graceful-notification"
        ]
    );
    assert_eq!((session.tables.len(), session.tables[0].routes), (2, 3));
    assert_eq!(session.notification, None);
    play.say(1, &wire::message(3, &[6, 4]));
    play.wait(0);
    let session = play.counts.session();
    assert_eq!((session.router_id, session.tables.len()), (None, 0));
    assert_eq!(
        session.notification.unwrap(),
        "received: cease, administrative reset"
    );
    play.connect(2);
    play.say(2, &[0; 19]);
    play.wait(0);
    assert_eq!(
        play.counts.session().notification.unwrap(),
        "sent: message header error, connection not synchronized"
    );
}

#[path = "bad_input_tests.rs"]
mod bad_input;
