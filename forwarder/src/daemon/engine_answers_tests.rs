//! What a feed that asks hears of its routes.

use std::sync::Arc;

use super::*;
use crate::source::answers::{Answers, Fate, ROOM};

fn asking(engine: &mut Engine<MemoryDataplane>) -> Arc<Answers> {
    let answers = Arc::new(Answers::new().expect("descriptors"));
    answers.begin();
    engine.answer_to(ZEBRA, Arc::clone(&answers));
    answers
}

fn heard(answers: &Answers) -> Vec<(String, Fate)> {
    let mut all = Vec::new();
    answers.take(usize::MAX, |answer| {
        assert_eq!(answer.protocol, 186);
        all.push((answer.prefix.to_string(), answer.fate));
    });
    all
}

fn zebra(prefix: &str) -> FeedEvent {
    let third = hop(THIRD, "203.0.113.129");
    route_of(prefix, with(Target::Hops(vec![third]), |_| {}))
}

/// This one, and nothing else.
#[track_caller]
fn is_told(answers: &Answers, prefix: &str, fate: Fate) {
    assert_eq!(heard(answers), [(prefix.to_string(), fate)]);
}

#[test]
fn every_announcement_is_answered_and_so_is_whatever_becomes_of_it_later() {
    let mut engine = following(&BOTH, world());
    let answers = asking(&mut engine);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Laid);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Laid);
    say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
    is_told(&answers, "20.0.0.0/8", Fate::Refused);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Refused);
    say(&mut engine, ONE, vec![gone("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Laid);
    let unable = Hop {
        unsupported: true,
        ..hop(THIRD, "203.0.113.129")
    };
    let route = route_of("2a05::/32", with(Target::Hops(vec![unable]), |_| {}));
    say(&mut engine, ZEBRA, vec![route]);
    is_told(&answers, "2a05::/32", Fate::Trapped);
    say(&mut engine, ZEBRA, vec![gone("20.0.0.0/8")]);
    say(&mut engine, ONE, vec![bgp("21.0.0.0/8", LOOPBACKS[1])]);
    assert_eq!(heard(&answers), [], "no route of zebra's");
}

#[test]
fn a_route_without_room_is_refused_once_and_laid_when_there_is_some() {
    let sizes = Sizes {
        slots: 160,
        ..Sizes::SMALL
    };
    let mut engine = on(MemoryDataplane::new(sizes), &BOTH);
    engine.load(world());
    register(&mut engine);
    let answers = asking(&mut engine);
    let prefixes: Vec<String> = (0..40).map(|number| format!("20.{number}.0.0/16")).collect();
    let all = prefixes.iter().map(|prefix| zebra(prefix)).collect();
    say(&mut engine, ZEBRA, all);
    let told = heard(&answers);
    assert_eq!(told.len(), 40, "{told:?}");
    let refused: Vec<&String> = told
        .iter()
        .filter(|(_, fate)| *fate == Fate::Refused)
        .map(|(prefix, _)| prefix)
        .collect();
    assert!((1..40).contains(&refused.len()), "{told:?}");
    for _ in 0..5 {
        engine.maintain();
    }
    assert_eq!(heard(&answers), [], "it is refused as before");
    say(&mut engine, ZEBRA, vec![gone(&prefixes[0])]);
    for _ in 0..5 {
        engine.maintain();
    }
    let told = heard(&answers);
    assert_eq!((told.len(), told[0].1), (1, Fate::Laid), "{told:?}");
    assert!(refused.contains(&&told[0].0), "{told:?}");
}

#[test]
fn a_route_that_was_not_even_kept_is_refused() {
    let mut engine = following(&BOTH, world());
    let answers = asking(&mut engine);
    let path = |path_id| FeedEvent::Route {
        prefix: net("20.0.0.0/8"),
        path_id,
        route: with(gateway(LOOPBACKS[0]), |_| {}),
    };
    say(&mut engine, ONE, (0..100).map(path).collect());
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Refused);
}

#[test]
fn what_the_gate_of_a_start_holds_is_answered_when_it_opens() {
    let mut before = following(&BOTH, world());
    say(&mut before, ZEBRA, vec![zebra("20.0.0.0/8")]);
    let mut engine = on(before.dataplane, &BOTH);
    register(&mut engine);
    engine.load(world());
    let answers = asking(&mut engine);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8"), zebra("21.0.0.0/8")]);
    // BGP may yet speak for the first.
    is_told(&answers, "21.0.0.0/8", Fate::Laid);
    engine.open_gate();
    settle(&mut engine);
    is_told(&answers, "20.0.0.0/8", Fate::Laid);
}

#[test]
fn a_stale_route_is_not_answered_until_it_is_said_again() {
    let mut engine = following(&BOTH, world());
    let answers = asking(&mut engine);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    heard(&answers);
    say(&mut engine, ZEBRA, vec![mark(FeedTable::Ipv4)]);
    say(&mut engine, ONE, vec![bgp("20.0.0.0/8", LOOPBACKS[1])]);
    assert_eq!(heard(&answers), []);
    say(&mut engine, ZEBRA, vec![zebra("20.0.0.0/8")]);
    is_told(&answers, "20.0.0.0/8", Fate::Refused);
}

#[test]
fn a_daemon_that_does_not_read_for_a_while_hears_of_every_route_in_the_end() {
    let mut engine = following(&BOTH, world());
    let answers = asking(&mut engine);
    let two = || [zebra("20.0.0.0/8"), zebra("2a05::/32")];
    let many = (0..ROOM / 2).flat_map(|_| two()).collect();
    say(&mut engine, ZEBRA, many);
    say(&mut engine, ZEBRA, vec![zebra("21.0.0.0/8")]);
    assert_eq!(answers.counts()[1], 1);
    engine.maintain();
    let told = heard(&answers);
    assert_eq!(told.len(), ROOM);
    assert!(told.iter().all(|(prefix, _)| prefix != "21.0.0.0/8"));
    engine.maintain();
    let mut told = heard(&answers);
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let all = ["20.0.0.0/8", "21.0.0.0/8", "2a05::/32"];
    assert_eq!(told, all.map(|prefix| (prefix.to_string(), Fate::Laid)));
    engine.maintain();
    assert_eq!(heard(&answers), []);
    // Of a session that is over nothing is owed.
    say(&mut engine, ZEBRA, (0..=ROOM / 2).flat_map(|_| two()).collect());
    answers.end();
    answers.begin();
    engine.maintain();
    assert_eq!(heard(&answers), []);
}
