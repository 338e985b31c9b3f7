use super::*;
use crate::source::bgp::testing::{us, usual_open};
use crate::source::bgp::wire;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn take(session: &mut Session, octets: &[u8], now: Instant) -> Vec<Action> {
    let (message, _) = wire::first(octets, LONGEST).unwrap().unwrap();
    session.message(message, now)
}

/// A session in Established, with a hold time of 30 s.
fn established(start: Instant) -> Session {
    let (mut session, _) = Session::new(us(), start);
    take(&mut session, &usual_open(&[]), start);
    let actions = take(&mut session, &KEEPALIVE, start);
    assert!(matches!(actions.as_slice(), [Action::Established(_)]));
    session
}

fn code(action: Option<&Action>) -> (u8, u8) {
    match action {
        Some(Action::Fault(fault)) => (fault.code, fault.subcode),
        other => panic!("{other:?}"),
    }
}

#[test]
fn open_keepalive_established() {
    let start = Instant::now();
    let (mut session, open) = Session::new(us(), start);
    assert_eq!(open, us().open());
    assert_eq!(session.state(), State::OpenSent);
    let actions = take(&mut session, &usual_open(&[]), start);
    assert!(matches!(actions.as_slice(), [Action::Agreed(_), Action::Send(answer)] if *answer == KEEPALIVE));
    assert_eq!(session.state(), State::OpenConfirm);
    let actions = take(&mut session, &KEEPALIVE, start);
    assert!(matches!(actions.as_slice(), [Action::Established(_)]));
    assert_eq!(session.state(), State::Established);
}

#[test]
fn who_says_nothing_is_sent_away() {
    let start = Instant::now();
    let (mut session, _) = Session::new(us(), start);
    assert_eq!(session.next(), Some(start + OPEN_TIME));
    assert_eq!(session.tick(start + OPEN_TIME - at(1)), None);
    assert_eq!(code(session.tick(start + OPEN_TIME).as_ref()), (4, 0));
    // Nor is one that stops after its OPEN.
    let (mut session, _) = Session::new(us(), start);
    take(&mut session, &usual_open(&[]), start);
    let mut now;
    let end = loop {
        now = session.next().unwrap();
        match session.tick(now) {
            Some(Action::Send(_)) => {}
            other => break other,
        }
    };
    assert_eq!((code(end.as_ref()), now), ((4, 0), start + at(30)));
}

#[test]
fn keepalives_go_out_at_a_third_of_the_hold_time() {
    let start = Instant::now();
    let mut session = established(start);
    for beat in 1..=5 {
        let now = start + at(10) * beat;
        assert_eq!(session.next(), Some(now));
        assert_eq!(session.tick(now - at(1)), None);
        assert_eq!(session.tick(now), Some(Action::Send(KEEPALIVE.to_vec())));
        take(&mut session, &KEEPALIVE, now);
    }
}

#[test]
fn silence_ends_a_session_and_any_message_breaks_it() {
    let start = Instant::now();
    for message in [
        KEEPALIVE.to_vec(),
        wire::message(2, &[0; 4]),
        wire::message(5, &[0, 1, 0, 1]),
    ] {
        let mut session = established(start);
        assert!(take(&mut session, &message, start + at(29)).is_empty());
        assert!(matches!(session.tick(start + at(30)), Some(Action::Send(_))));
        assert_eq!(session.tick(start + at(30)), None);
        while let Some(Action::Send(_)) = session.tick(start + at(58)) {}
        assert_eq!(code(session.tick(start + at(59)).as_ref()), (4, 0));
    }
}

#[test]
fn silence_that_we_cause_is_not_held_against_the_other_side() {
    let start = Instant::now();
    let mut session = established(start);
    for second in 0..200 {
        session.heard(start + at(second));
        assert!(!matches!(
            session.tick(start + at(second)),
            Some(Action::Fault(_))
        ));
    }
}

#[test]
fn without_a_hold_time_nothing_is_sent_and_nothing_runs_out() {
    let start = Instant::now();
    let identity = Identity { hold_time: 0, ..us() };
    let (mut session, _) = Session::new(identity, start);
    take(&mut session, &usual_open(&[]), start);
    assert_eq!(
        session.next(),
        Some(start + OPEN_TIME),
        "until it is a session, time counts"
    );
    take(&mut session, &KEEPALIVE, start);
    assert_eq!(session.next(), None);
}

#[test]
fn messages_out_of_turn_name_the_state() {
    let start = Instant::now();
    for message in [
        KEEPALIVE.to_vec(),
        wire::message(2, &[0; 4]),
        wire::message(5, &[0, 1, 0, 1]),
    ] {
        let (mut session, _) = Session::new(us(), start);
        assert_eq!(code(take(&mut session, &message, start).first()), (5, 1));
    }
    for message in [usual_open(&[]), wire::message(2, &[0; 4])] {
        let (mut session, _) = Session::new(us(), start);
        take(&mut session, &usual_open(&[]), start);
        assert_eq!(code(take(&mut session, &message, start).first()), (5, 2));
    }
    let mut session = established(start);
    assert_eq!(code(take(&mut session, &usual_open(&[]), start).first()), (5, 3));
}

#[test]
fn a_notification_ends_it_in_every_state() {
    let start = Instant::now();
    let notification = wire::message(3, &[6, 2]);
    let (mut session, _) = Session::new(us(), start);
    assert!(matches!(
        take(&mut session, &notification, start).as_slice(),
        [Action::Notified(_)]
    ));
    let mut session = established(start);
    let actions = take(&mut session, &notification, start);
    let [Action::Notified(notice)] = actions.as_slice() else {
        panic!()
    };
    assert_eq!(notice.text, "cease, administrative shutdown");
}

#[test]
fn the_marks_of_a_refresh_are_told_and_requests_are_not_answered() {
    let start = Instant::now();
    let mut session = established(start);
    let mut refresh = |body: &[u8]| take(&mut session, &wire::message(5, body), start);
    assert_eq!(refresh(&[0, 1, 1, 1]), [Action::RefreshBegins(FeedTable::Ipv4)]);
    assert_eq!(
        refresh(&[0, 2, 2, 133]),
        [Action::RefreshEnds(FeedTable::FlowSpec6)]
    );
    assert_eq!(refresh(&[0, 1, 0, 1]), []);
    assert_eq!(refresh(&[0, 9, 1, 9]), []);
    assert_eq!(
        refresh(&[0, 1, 77, 1]),
        [],
        "a subtype that is not known is ignored (RFC 7313 5)"
    );
    // A request with filters of RFC 5291, which we have no routes for.
    assert_eq!(refresh(&[0, 1, 0, 1, 1, 64, 0, 0]), []);
    let fault = refresh(&[0, 1, 1, 1, 0]);
    assert_eq!(code(fault.first()), (7, 1));
    assert_eq!(code(refresh(&[0, 1]).first()), (7, 1));
}

/// RFC 9687.
#[test]
fn who_takes_nothing_of_what_is_sent_is_given_up_however_much_it_says() {
    let start = Instant::now();
    let mut session = established(start);
    // The first that was left lying counts, not the last.
    session.sending(true, false, start + at(10));
    let mut end = None;
    for second in 11..1_000 {
        let now = start + at(second);
        session.sending(true, false, now);
        take(&mut session, &KEEPALIVE, now);
        if let Some(Action::Fault(fault)) = session.tick(now) {
            end = Some((second, fault.code, fault.subcode));
            break;
        }
    }
    assert_eq!(end, Some((490, 8, 0)));
}

#[test]
fn who_takes_a_little_now_and_then_is_not_given_up() {
    let start = Instant::now();
    let mut session = established(start);
    for second in 0..2_000 {
        let now = start + at(second);
        session.sending(true, second % 400 == 0, now);
        take(&mut session, &KEEPALIVE, now);
        assert!(!matches!(session.tick(now), Some(Action::Fault(_))), "{second}");
    }
    session.sending(false, true, start + at(2_000));
    assert_eq!(session.unsent, None);
    // Without a hold time nobody counts.
    let (mut session, _) = Session::new(Identity { hold_time: 0, ..us() }, start);
    take(&mut session, &usual_open(&[]), start);
    take(&mut session, &KEEPALIVE, start);
    session.sending(true, false, start);
    assert_eq!(session.next(), None);
}
