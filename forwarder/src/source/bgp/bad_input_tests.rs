//! What a peer may send that it should not: each is counted, said once in the log with the peer and the octets, and costs no
//! route that was valid.

use super::*;
use crate::source::bgp::testing::{attribute, open};
use crate::source::logged;

impl Play {
    /// One whose log lines are told from those of other tests.
    fn named(name: &str) -> Play {
        logged::keep();
        let mut play = Play::new();
        play.neighbour = Neighbour::new(name.into(), us(), LIMITS, Arc::clone(&play.counts));
        play
    }

    /// Routes that are known: announced, and neither withdrawn nor swept.
    fn known(&mut self, known: &mut Vec<ipnet::IpNet>) {
        let mut stale = false;
        for event in self.neighbour.events() {
            match event {
                FeedEvent::Route { prefix, .. } => known.push(prefix),
                FeedEvent::RouteGone { prefix, .. } => known.retain(|other| *other != prefix),
                FeedEvent::Mark { table, .. } => stale |= table == FeedTable::Ipv4,
                FeedEvent::Sweep(FeedTable::Ipv4) if stale => known.clear(),
                _ => {}
            }
        }
    }
}

/// A header with this length and type, and octets behind it.
fn message_of(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(length.to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// What is said in a session, the NOTIFICATION it ends with where it does, and words of the log line.
type Bad = (Vec<u8>, Option<(u8, u8)>, &'static str);

fn in_a_session() -> Vec<Bad> {
    let cut = |octets: usize| {
        let whole = update(&[], &plain(), &[8, 77]);
        wire::message(2, &whole[..whole.len() - octets])
    };
    let attributes = |more: Vec<u8>| {
        let list = [plain(), vec![more]].concat();
        wire::message(2, &update(&[], &list, &[8, 77]))
    };
    vec![
        // Truncated: the message is whole, what is in it is not.
        (cut(1), Some((3, 10)), "a prefix that is cut off (octets 0000"),
        (
            cut(5),
            Some((3, 1)),
            "an UPDATE whose lengths do not add up (octets 0000",
        ),
        // Oversized, and of no size that can be.
        (
            message_of(4_097, 2, &[]),
            Some((1, 2)),
            "a Update of 4097 octets: 23 to 4096 are possible (octets ffff",
        ),
        (
            message_of(0xffff, 2, &[]),
            Some((1, 2)),
            "a Update of 65535 octets: 23 to 4096 are possible (octets ffff",
        ),
        (
            message_of(18, 4, &[]),
            Some((1, 2)),
            "a Keepalive of 18 octets: 19 to 19 are possible (octets ffff",
        ),
        (
            message_of(0, 2, &[]),
            Some((1, 2)),
            "a Update of 0 octets: 23 to 4096 are possible (octets ffff",
        ),
        // Lengths that lie.
        (
            wire::message(2, &[0xff, 0xff, 0, 0]),
            Some((3, 1)),
            "lengths do not add up (octets ffff0000;",
        ),
        (
            wire::message(2, &[0, 0, 0xff, 0xff]),
            Some((3, 1)),
            "lengths do not add up (octets 0000ffff;",
        ),
        (
            attributes(vec![0xc0, 8, 200, 1]),
            None,
            "an attribute runs past the end of the list: its routes count as withdrawn (octets 0000",
        ),
        (
            wire::message(2, &update(&[], &plain(), &[33, 1, 2, 3, 4, 5])),
            Some((3, 10)),
            "a prefix of 33 bits (octets 0000",
        ),
        // What nobody knows.
        (
            attributes(vec![0x40, 99, 1, 0]),
            Some((3, 2)),
            "the well-known attribute 99 is not known (octets 0000",
        ),
        (
            message_of(19, 9, &[]),
            Some((1, 3)),
            "message type 9 is not known (octets ffff",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            Some((1, 1)),
            "(octets 474554202f",
        ),
        // A rule as GoBGP 3.10 writes it with ADD-PATH.
        (
            wire::message(
                2,
                &update(
                    &[],
                    &[
                        plain()[0].clone(),
                        plain()[1].clone(),
                        hex("90 0e 0015 0001 85 00 00 0f 010000000018cb0071038106098102"),
                    ],
                    &[],
                ),
            ),
            None,
            "a malformed FlowSpec rule, components out of order (octets 0000",
        ),
        // An OPEN where none can be.
        (
            usual_open(&[]),
            Some((5, 3)),
            "a Open message in Established (octets 04fbf4",
        ),
    ]
}

#[test]
fn in_a_session_it_is_counted_and_logged_and_valid_routes_stay() {
    for (number, (octets, end, words)) in in_a_session().into_iter().enumerate() {
        let name = format!("bad-session-{number:02}");
        let mut play = Play::named(&name);
        // Both keep routes through a NOTIFICATION (RFC 8538).
        let more = [
            restart_capability(120, true, true),
            capability(1, &[0, 1, 0, 133]),
        ];
        play.establish(1, &more);
        play.announce(1, 20);
        let mut known = Vec::new();
        play.known(&mut known);
        assert_eq!((known.len(), play.errors()), (20, 0));
        play.neighbour.outputs();
        play.neighbour.received(1, &octets, play.now);
        assert_eq!(play.errors(), 1, "{words}");
        assert_eq!(play.end(1), (end, end.is_some()), "{words}");
        let lines = logged::lines(&[&format!("peer={name}"), words]);
        assert_eq!(lines.len(), 1, "{words}: {:?}", logged::lines(&[&name]));
        play.known(&mut known);
        assert_eq!(known.len(), 20, "{words}");
        // Those that come after it, too, where the session goes on.
        if end.is_none() {
            play.say(1, &wire::message(2, &update(&[], &plain(), &[8, 99])));
            play.known(&mut known);
            assert_eq!(known.len(), 21, "{words}");
        }
    }
}

#[test]
fn a_message_that_never_gets_whole_ends_with_the_hold_time_and_valid_routes_stay() {
    let mut play = Play::named("bad-half");
    play.establish(1, &[restart_capability(120, true, true)]);
    play.announce(1, 20);
    let mut known = Vec::new();
    let half = message_of(4_000, 2, &[0; 100]);
    assert_eq!(play.neighbour.received(1, &half, play.now), 0);
    play.wait(30);
    assert_eq!((play.end(1), play.errors()), ((Some((4, 0)), true), 1));
    play.known(&mut known);
    assert_eq!(known.len(), 20);
    let lines = logged::lines(&["peer=bad-half", "nothing came within the hold time (no octets;"]);
    assert_eq!(lines.len(), 1);
}

#[test]
fn before_a_session_it_is_counted_and_logged() {
    let bad_as = usual_open(&[capability(65, &64_501_u32.to_be_bytes())]);
    let version = {
        let mut body = open(&[]);
        body[0] = 3;
        wire::message(1, &body)
    };
    let lying = {
        let mut body = open(&[]);
        body[9] = 200;
        wire::message(1, &body)
    };
    for (number, (octets, code, words)) in [
        (
            bad_as,
            (2, 2),
            "its AS is 64501, and 64500 is expected (octets 04fbf4",
        ),
        (version, (2, 1), "BGP version 3 (octets 03fbf4"),
        (
            lying,
            (2, 0),
            "optional parameters whose lengths do not add up (octets 04fbf4",
        ),
        (
            KEEPALIVE.to_vec(),
            (5, 1),
            "a Keepalive message in OpenSent (no octets;",
        ),
        (
            message_of(4_097, 1, &[]),
            (1, 2),
            "a Open of 4097 octets: 29 to 4096 are possible (octets ffff",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("bad-open-{number}");
        let mut play = Play::named(&name);
        play.connect(1);
        play.neighbour.received(1, &octets, play.now);
        assert_eq!((play.end(1), play.errors()), ((Some(code), true), 1), "{words}");
        let lines = logged::lines(&[&format!("peer={name}"), words]);
        assert_eq!(lines.len(), 1, "{words}: {:?}", logged::lines(&[&name]));
    }
}

#[test]
fn what_is_only_unknown_is_no_error() {
    let mut play = Play::named("unknown");
    let unknown = [
        capability(73, b"host"),
        capability(200, &[]),
        capability(1, &[0x40, 4, 0, 71]),
    ];
    play.establish(1, &unknown);
    // Optional, transitive or not.
    let list = [
        plain(),
        vec![attribute(0xc0, 99, &[1, 2]), attribute(0x80, 98, &[])],
    ]
    .concat();
    play.say(1, &wire::message(2, &update(&[], &list, &[8, 77])));
    let mut known = Vec::new();
    play.known(&mut known);
    assert_eq!((known.len(), play.errors()), (1, 0));
}

#[test]
fn who_stays_silent_before_and_after_its_open_is_counted_and_logged() {
    for (name, open, words) in [
        ("silent", vec![], "no OPEN came (no octets;"),
        (
            "silent-then",
            usual_open(&[]),
            "no KEEPALIVE came after the OPEN (no octets;",
        ),
    ] {
        let mut play = Play::named(name);
        play.connect(1);
        play.neighbour.received(1, &open, play.now);
        play.wait(OPEN_TIME.as_secs());
        assert_eq!((play.end(1), play.errors()), ((Some((4, 0)), true), 1));
        let lines = logged::lines(&[&format!("peer={name}"), words]);
        assert_eq!(lines.len(), 1, "{:?}", logged::lines(&[name]));
    }
}

#[test]
fn a_second_session_of_a_peer_is_counted_and_logged_and_the_first_goes_on() {
    let mut play = Play::named("second");
    play.establish(1, &[]);
    play.announce(1, 20);
    let mut known = Vec::new();
    play.connect(2);
    play.say(2, &usual_open(&[]));
    assert_eq!((play.end(2), play.errors()), ((Some((6, 7)), true), 1));
    let lines = logged::lines(&[
        "peer=second",
        "there is a session with this neighbour already (octets 04fbf4",
    ]);
    assert_eq!(lines.len(), 1, "{:?}", logged::lines(&["second"]));
    play.say(1, &wire::message(2, &update(&[], &plain(), &[8, 99])));
    play.known(&mut known);
    assert_eq!(known.len(), 21);
}

#[test]
fn a_capability_that_cannot_be_read_is_counted_and_logged_and_the_session_comes_up() {
    let mut play = Play::named("capability");
    play.establish(1, &[capability(69, &[0, 1, 1])]);
    assert_eq!(play.errors(), 1);
    let lines = logged::lines(&[
        "peer=capability",
        "the capability 69 cannot be read (octets 04fbf4",
    ]);
    assert_eq!(lines.len(), 1, "{:?}", logged::lines(&["capability"]));
}
