//! FlowSpec rules of feeds, marked and swept as their routes are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::source::feed::{FeedId, FeedTable, FlowRule};

/// Most rules of one feed: a router carries out hundreds, and a neighbour may announce any number.
pub const MOST_RULES: usize = 10_000;

/// What names a rule: feed, table, NLRI.
type Name = (FeedId, FeedTable, Vec<u8>);

/// Every rule of every feed.
#[derive(Default)]
pub struct Flows {
    rules: BTreeMap<Name, (Arc<FlowRule>, bool)>,
    counts: HashMap<FeedId, usize>,
    /// Goes up with every change.
    version: u64,
}

impl Flows {
    /// Takes a rule; answers whether there was room.
    pub fn announce(&mut self, feed: FeedId, rule: Arc<FlowRule>) -> bool {
        let count = self.counts.entry(feed).or_default();
        let name = (feed, rule.table, rule.nlri.clone());
        let known = self.rules.get(&name);
        if known.is_none() {
            if *count >= MOST_RULES {
                return false;
            }
            *count += 1;
        }
        if known.is_none_or(|(known, _)| *known != rule) {
            self.version += 1;
        }
        self.rules.insert(name, (rule, true));
        true
    }

    /// Takes a rule away.
    pub fn withdraw(&mut self, feed: FeedId, table: FeedTable, nlri: &[u8]) {
        if self.rules.remove(&(feed, table, nlri.to_vec())).is_some() {
            self.version += 1;
            if let Some(count) = self.counts.get_mut(&feed) {
                *count -= 1;
            }
        }
    }

    /// Every rule of the table is stale.
    pub fn mark(&mut self, feed: FeedId, table: FeedTable) {
        for ((whose, of, _), (_, fresh)) in &mut self.rules {
            if (*whose, *of) == (feed, table) {
                *fresh = false;
            }
        }
    }

    /// What is stale is gone.
    pub fn sweep(&mut self, feed: FeedId, table: FeedTable) {
        let before = self.rules.len();
        self.rules
            .retain(|(whose, of, _), (_, fresh)| *fresh || (*whose, *of) != (feed, table));
        let gone = before - self.rules.len();
        if gone > 0 {
            self.version += 1;
            if let Some(count) = self.counts.get_mut(&feed) {
                *count -= gone;
            }
        }
    }

    /// Every rule, and whose it is.
    pub fn iter(&self) -> impl Iterator<Item = (FeedId, &Arc<FlowRule>)> {
        self.rules.iter().map(|((feed, ..), (rule, _))| (*feed, rule))
    }

    /// Rules of a feed's table.
    pub fn count(&self, feed: FeedId, table: FeedTable) -> usize {
        let of = |(whose, of, _): &&Name| (*whose, *of) == (feed, table);
        self.rules.keys().filter(of).count()
    }

    /// A number that is another after every change.
    pub fn version(&self) -> u64 {
        self.version
    }
}
