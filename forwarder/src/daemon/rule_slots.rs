//! Where rules are counted: a slot for each, by what it says, so that one that comes back counts on, also after a restart.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher,
};

use foldhash::fast::FixedState;
use forwarder_common::{
    counters::Counter,
    rules::{RuleEntry, SLOTS},
};
use tracing::warn;

use crate::{
    dataplane::Tables,
    filter::{
        install::slots_in_force,
        order::Applied,
        rule::{Origin, Rule},
    },
};

/// What a slot has counted on all CPUs: matched, and dropped of it.
pub fn counts(tables: &Tables, slot: u32) -> (Counter, Counter) {
    (0..tables.sizes.cpus as usize)
        .map(|cpu| tables.rule_states.get(cpu * SLOTS + slot as usize))
        .fold(
            Default::default(),
            |(matched, dropped): (Counter, Counter), state| {
                (matched.plus(state.matched), dropped.plus(state.dropped))
            },
        )
}

/// Slots by what their rules say.
#[derive(Clone, Default)]
pub struct Slots {
    by_digest: HashMap<[u64; 2], u32>,
    /// The same, the other way round.
    by_slot: HashMap<u32, [u64; 2]>,
    /// In the set in force and in the one being made.
    used: HashSet<u32>,
    making: HashSet<u32>,
    /// Entries to write before the set is in force.
    new: Vec<(u32, RuleEntry)>,
    next: u32,
}

impl Slots {
    /// Those that an earlier controller gave out.
    pub fn adopt(tables: &Tables) -> Slots {
        let entries = (0..SLOTS as u32).map(|slot| (tables.rule_directory.get(slot as usize).digest, slot));
        let by_digest: HashMap<[u64; 2], u32> = entries.filter(|(digest, _)| *digest != [0; 2]).collect();
        Slots {
            by_slot: by_digest.iter().map(|(digest, slot)| (*slot, *digest)).collect(),
            by_digest,
            used: slots_in_force(tables),
            ..Slots::default()
        }
    }

    /// A set is being made.
    pub fn begin(&mut self) {
        self.making.clear();
        self.new.clear();
    }

    /// Those in force that count for rules of neighbours.
    pub fn announced(&self) -> impl Iterator<Item = (&[u64; 2], u32)> {
        let each = self.by_digest.iter().map(|(digest, slot)| (digest, *slot));
        each.filter(|(digest, slot)| is_announced(digest) && self.used.contains(slot))
    }

    /// Those in force, ascending, and whether each counts for a rule of a neighbour.
    pub fn all_in_force(&self) -> Vec<(u32, bool)> {
        let mut all: Vec<(u32, bool)> = self
            .used
            .iter()
            .map(|slot| (*slot, self.by_slot.get(slot).is_some_and(is_announced)))
            .collect();
        all.sort_unstable();
        all
    }

    /// Whether one of those is not among these rules.
    pub fn misses(&self, flows: &[Vec<Applied>; 2]) -> bool {
        let wanted: HashSet<[u64; 2]> = flows.iter().flatten().map(|flow| digest(&flow.rule)).collect();
        self.announced().any(|(digest, _)| !wanted.contains(digest))
    }

    /// Whether the set in force counts in a slot.
    pub fn in_force(&self, slot: u32) -> bool {
        self.used.contains(&slot)
    }

    /// The slot of a rule that has one.
    pub fn known(&self, rule: &Rule) -> Option<u32> {
        self.by_digest.get(&digest(rule)).copied()
    }

    /// The slot of a rule of the set that is being made.
    pub fn of(&mut self, tables: &Tables, rule: &Rule) -> u32 {
        let digest = digest(rule);
        let slot = match self.by_digest.get(&digest) {
            Some(slot) => *slot,
            None => self.claim(tables, digest),
        };
        self.making.insert(slot);
        slot
    }

    /// The slot that has been out of use for longest, as slots go round. There are twice as many as two sets have rules.
    fn claim(&mut self, tables: &Tables, digest: [u64; 2]) -> u32 {
        for _ in 0..SLOTS {
            let slot = self.next;
            self.next = (slot + 1) % SLOTS as u32;
            if self.used.contains(&slot) || self.making.contains(&slot) {
                continue;
            }
            if let Some(before) = self.by_slot.insert(slot, digest) {
                self.by_digest.remove(&before);
            }
            self.by_digest.insert(digest, slot);
            let (matched, dropped) = counts(tables, slot);
            let entry = RuleEntry {
                digest,
                matched,
                dropped,
            };
            self.new.push((slot, entry));
            return slot;
        }
        warn!("every rule slot is in use: please report");
        0
    }

    /// Writes what is new; the slots of the set before are free from the next one on.
    pub fn write(&mut self, tables: &Tables) {
        for (slot, entry) in self.new.drain(..) {
            tables.rule_directory.set(slot as usize, &entry);
        }
        self.used = std::mem::take(&mut self.making);
    }
}

/// Set in the second word of a digest: there is a rule.
const TAKEN: u64 = 1;
/// A neighbour's.
const ANNOUNCED: u64 = 2;

/// What a rule is, whichever neighbour asks for it and wherever it stands.
fn digest(rule: &Rule) -> [u64; 2] {
    let what = (&rule.name, &rule.when, &rule.action, rule.proceed, rule.mark);
    let hash = |seed: u64| FixedState::with_seed(seed).hash_one(what);
    let whose = match rule.origin {
        Origin::Config(_) => TAKEN,
        Origin::FlowSpec(_) => TAKEN | ANNOUNCED,
    };
    [hash(1), hash(2) & !(TAKEN | ANNOUNCED) | whose]
}

fn is_announced(digest: &[u64; 2]) -> bool {
    digest[1] & ANNOUNCED != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{filter::rule::Action, stats::rules::tests::rule};

    #[test]
    fn a_digest_tells_whose_a_rule_is_and_not_where_it_stands() {
        let of = |name: &str, origin| {
            digest(&Rule {
                origin,
                ..rule(name, Action::Drop, false)
            })
        };
        let own = of("ntp", Origin::Config(1));
        assert!(own != [0; 2] && !is_announced(&own));
        assert_eq!(own, of("ntp", Origin::Config(7)));
        assert_ne!(own, of("dns", Origin::Config(1)));
        let announced = of("ntp", Origin::FlowSpec(3));
        assert!(is_announced(&announced));
        assert_eq!(announced, of("ntp", Origin::FlowSpec(4)));
        assert_ne!(announced, own);
    }
}
