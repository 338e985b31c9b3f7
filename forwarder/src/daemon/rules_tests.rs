//! Which rules are in force, and what is said of those that are not, on tables in memory.

use std::fmt::Write as _;

use super::*;
use crate::{
    config::{self, Source},
    dataplane::{Dataplane, Sizes, memory::MemoryDataplane},
    source::{
        feed::{Attributes, Batch, FeedEvent, FeedTable, FlowRule},
        route_tables::RouteTables,
    },
};

const QUIET: FeedId = 16;
const LOUD: FeedId = 17;

fn engine() -> Engine<MemoryDataplane> {
    let dataplane = MemoryDataplane::new(Sizes::SMALL);
    Engine::with_sources(dataplane, &[Source::Kernel], RouteTables::default()).expect("sound tables")
}

fn config(sections: &str) -> Config {
    config::parse("f.toml", &format!("[[interface]]\nname = \"eth0\"\n{sections}")).expect("sound")
}

/// A rule that drops what is sent to all of these.
fn dropping(name: &str, to: impl Iterator<Item = String>) -> String {
    let to: Vec<String> = to.map(|prefix| format!("\"{prefix}\"")).collect();
    let mut text = String::new();
    write!(
        text,
        "[[filter.rule]]\nname = \"{name}\"\nmatch = {{ dst = [{}] }}\naction = \"drop\"\n",
        to.join(", ")
    )
    .expect("memory");
    text
}

const NOBODY: Neighbours<'static> = Neighbours {
    name: &|_| None,
    awaited: false,
};

/// Name, state and why of each rule.
fn rows(rules: &mut Rules, engine: &Engine<MemoryDataplane>) -> Vec<(String, String, Option<String>)> {
    let rows = rules.rows(engine.dataplane.tables(), 0, 1.0);
    rows.into_iter()
        .map(|row| (row.name, row.state, row.why))
        .collect()
}

#[test]
fn rules_that_do_not_fit_are_listed_with_why_beside_those_of_before_that_go_on() {
    let engine = engine();
    let one = |name: &str, to: &str| dropping(name, [to.to_string()].into_iter());
    let before = config(&(one("stays", "192.0.2.1") + &one("goes", "192.0.2.2")));
    let mut rules = Rules::adopt(engine.dataplane.tables());
    rules.turn(&engine, &before, &NOBODY).expect("they fit");

    // The controller after it: one rule of before, and one that needs more blocks than there are.
    let many = dropping(
        "many",
        (0..4_000).map(|at| format!("{}.{}.{}.1", 20 + at / 200, at % 200, at % 256)),
    );
    let after = config(&(one("stays", "192.0.2.1") + &many));
    let mut rules = Rules::adopt(engine.dataplane.tables());
    let error = rules.turn(&engine, &after, &NOBODY).unwrap_err();
    assert_eq!(error, CompileError::Blocks);
    let [stays, many, goes] = &rows(&mut rules, &engine)[..] else {
        panic!("{:?}", rows(&mut rules, &engine))
    };
    assert_eq!(*stays, ("stays".into(), "active".into(), None));
    assert_eq!((many.0.as_str(), many.1.as_str()), ("many", "not-applied"));
    let why = many.2.as_deref().unwrap_or_default();
    assert!(
        why.starts_with("the set before it stays: the IPv4 prefixes of the rules need more than"),
        "{why}"
    );
    assert_eq!(
        *goes,
        (
            "found at the start".into(),
            "active".into(),
            Some("until the rules fit".into())
        )
    );
}

/// A rule that drops what is sent to an address, from these ranges of source ports where there are any (RFC 8955 4.2.2).
fn flow(to: [u8; 4], ports: &[(u16, u16)], go_on: bool) -> FeedEvent {
    let mut nlri = vec![1, 32];
    nlri.extend(to);
    if let Some(last) = ports.len().checked_sub(1) {
        nlri.push(6);
        for (at, (from, to)) in ports.iter().enumerate() {
            nlri.push(0x13);
            nlri.extend(from.to_be_bytes());
            nlri.push(if at == last { 0xd5 } else { 0x55 });
            nlri.extend(to.to_be_bytes());
        }
    }
    let bits = u8::from(go_on);
    let attributes = Attributes {
        extended: vec![[0x80, 6, 0, 0, 0, 0, 0, 0], [0x80, 7, 0, 0, 0, 0, 0, bits]],
        ..Attributes::default()
    };
    FeedEvent::Flow(
        FlowRule {
            table: FeedTable::FlowSpec4,
            nlri,
            attributes: attributes.into(),
        }
        .into(),
    )
}

fn say(engine: &mut Engine<MemoryDataplane>, feed: FeedId, events: Vec<FeedEvent>) {
    engine.register(feed, Source::Bgp);
    engine.apply_feed(Batch { feed, events });
}

const ANYBODY: Neighbours<'static> = Neighbours {
    name: &|feed| Some(if feed == QUIET { "quiet" } else { "loud" }.into()),
    awaited: false,
};

fn trusting() -> Config {
    config("[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\nflowspec-validation = false\n")
}

/// How many rules of each session are in force, and how many are not.
fn counts(rules: &mut Rules, engine: &Engine<MemoryDataplane>) -> [[usize; 2]; 2] {
    let rows = rules.rows(engine.dataplane.tables(), 0, 1.0);
    ["quiet", "loud"].map(|session| {
        [true, false].map(|active| {
            let of = |row: &&RuleRow| row.session.as_deref() == Some(session) && row.is_active() == active;
            rows.iter().filter(of).count()
        })
    })
}

#[test]
fn a_neighbour_that_floods_leaves_out_its_own_rules_and_status_says_how_many() {
    let (mut engine, config) = (engine(), trusting());
    let mut rules = Rules::adopt(engine.dataplane.tables());
    // Those of the quiet one are asked last.
    say(
        &mut engine,
        QUIET,
        (0..9).map(|n| flow([198, 51, 100, n], &[], false)).collect(),
    );
    rules.turn(&engine, &config, &ANYBODY).expect("they fit");
    assert_eq!(counts(&mut rules, &engine), [[9, 0], [0, 0]]);
    assert_eq!(rules.problems().count(), 0);

    let flood = |n: u16| flow([192, 0, (n >> 8) as u8, n as u8], &[], false);
    say(&mut engine, LOUD, (0..3_000).map(flood).collect());
    rules.turn(&engine, &config, &ANYBODY).expect("they fit");
    assert_eq!(counts(&mut rules, &engine), [[9, 0], [1_015, 1_985]]);
    let problems: Vec<String> = rules.problems().collect();
    assert_eq!(
        problems,
        [
            "FlowSpec: of 3000 rules of loud 1985 are not applied, for want of room: `forwarder filter show` says which and why"
        ]
    );
}

#[test]
fn a_neighbour_whose_rules_take_all_the_classes_leaves_out_its_own() {
    let (mut engine, config) = (engine(), trusting());
    let mut rules = Rules::adopt(engine.dataplane.tables());
    // All asked last.
    let quiet = |n: u16| flow([198, 51, 100, n as u8], &[(n, n)], false);
    say(&mut engine, QUIET, (0..200).map(quiet).collect());
    // Ranges that begin and end anywhere: nearly each end is where another set of rules holds.
    let mixed = |n: u32| ((n.wrapping_mul(0x9e37_79b9) ^ n >> 3).wrapping_mul(0x85eb_ca6b) >> 17) as u16;
    let loud = |rule: u16| {
        let range = |n: u16| {
            let number = u32::from(rule) * 600 + u32::from(n);
            let first = n * 100 + mixed(number) % 50;
            (first, first + 1 + mixed(number + 77_777) % 45)
        };
        let ranges: Vec<(u16, u16)> = (0..600).map(range).collect();
        flow([192, 0, 2, rule as u8], &ranges, false)
    };
    say(&mut engine, LOUD, (0..30).map(loud).collect());
    rules.turn(&engine, &config, &ANYBODY).expect("some of them fit");
    let [quiet, [fit, unfit]] = counts(&mut rules, &engine);
    assert_eq!((quiet, fit + unfit), ([200, 0], 30));
    // Their share is at least half of the classes, of which each takes a fourteenth at most.
    assert!(fit >= 7 && unfit > 0, "{fit} of the loud one's are in force");
    let rows = rows(&mut rules, &engine);
    let why = rows.iter().filter_map(|(_, _, why)| why.as_deref());
    assert!(why.clone().count() == unfit && why.clone().all(|why| why.contains("16384 classes")));
}

#[test]
fn turns_to_let_the_next_be_asked_are_shared_too() {
    let (mut engine, config) = (engine(), trusting());
    let mut rules = Rules::adopt(engine.dataplane.tables());
    say(
        &mut engine,
        QUIET,
        (0..3).map(|n| flow([198, 51, 100, n], &[], true)).collect(),
    );
    say(
        &mut engine,
        LOUD,
        (0..50).map(|n| flow([192, 0, 2, n], &[], true)).collect(),
    );
    rules.turn(&engine, &config, &ANYBODY).expect("they fit");
    assert_eq!(counts(&mut rules, &engine), [[3, 0], [29, 21]]);
}
