//! Which rules are in force, and what is said of those that are not, on tables in memory.

use std::fmt::Write as _;

use super::*;
use crate::{
    config::{self, Source},
    dataplane::{Dataplane, Sizes, memory::MemoryDataplane},
    source::route_tables::RouteTables,
};

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
