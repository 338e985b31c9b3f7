//! FlowSpec rules of feeds, marked and swept as their routes are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::feeds::octets;
use crate::source::feed::{FeedId, FeedTable, FlowRule};

/// Most rules of one feed: a router carries out hundreds, and a neighbour may announce any number.
pub const MOST_RULES: usize = 10_000;

/// Most octets that the rules of one feed may take, attributes included: the largest announcement ten thousand times would be
/// forty megabytes, and what routers announce a tenth of that.
pub const MOST_OCTETS: usize = if cfg!(test) { 8 << 20 } else { 64 << 20 };

/// What names a rule: feed, table, NLRI.
type Name = (FeedId, FeedTable, Vec<u8>);

/// Every rule of every feed.
#[derive(Default)]
pub struct Flows {
    rules: BTreeMap<Name, (Arc<FlowRule>, bool)>,
    /// Of each feed, how many there are and what they take.
    counts: HashMap<FeedId, (usize, usize)>,
    /// Goes up with every change.
    version: u64,
}

impl Flows {
    /// Takes a rule; answers whether there was room.
    pub fn announce(&mut self, feed: FeedId, rule: Arc<FlowRule>) -> bool {
        let name = (feed, rule.table, rule.nlri.clone());
        if let Some((known, fresh)) = self.rules.get_mut(&name)
            && *known == rule
        {
            *fresh = true;
            return true;
        }
        // What it replaces does not hold any more, also where there is no room for this one.
        self.withdraw(feed, rule.table, &rule.nlri);
        let (count, octets) = self.counts.entry(feed).or_default();
        let takes = takes(&rule);
        if *count >= MOST_RULES || *octets + takes > MOST_OCTETS {
            return false;
        }
        *count += 1;
        *octets += takes;
        self.version += 1;
        self.rules.insert(name, (rule, true));
        true
    }

    /// Takes a rule away.
    pub fn withdraw(&mut self, feed: FeedId, table: FeedTable, nlri: &[u8]) {
        if let Some((rule, _)) = self.rules.remove(&(feed, table, nlri.to_vec())) {
            self.version += 1;
            self.gone(feed, 1, takes(&rule));
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
        let (mut gone, mut octets) = (0, 0);
        self.rules.retain(|(whose, of, _), (rule, fresh)| {
            let stays = *fresh || (*whose, *of) != (feed, table);
            if !stays {
                gone += 1;
                octets += takes(rule);
            }
            stays
        });
        if gone > 0 {
            self.version += 1;
            self.gone(feed, gone, octets);
        }
    }

    fn gone(&mut self, feed: FeedId, rules: usize, takes: usize) {
        if let Some((count, octets)) = self.counts.get_mut(&feed) {
            *count -= rules;
            *octets -= takes;
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

/// What a rule takes, octets, with its name beside it.
fn takes(rule: &FlowRule) -> usize {
    size_of::<FlowRule>() + 2 * rule.nlri.len() + octets(&rule.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::feed::Attributes;

    fn rule(number: u8, communities: usize) -> Arc<FlowRule> {
        let attributes = Attributes {
            communities: vec![7; communities],
            ..Attributes::default()
        };
        Arc::new(FlowRule {
            table: FeedTable::FlowSpec4,
            nlri: vec![1, 32, 192, 0, 2, number],
            attributes: attributes.into(),
        })
    }

    #[test]
    fn rules_take_no_more_memory_than_their_feed_may() {
        let mut flows = Flows::default();
        // 200 kB each, of 8 MiB.
        let taken: Vec<bool> = (0..50)
            .map(|number| flows.announce(1, rule(number, 50_000)))
            .collect();
        let fit = taken.iter().filter(|taken| **taken).count();
        assert_eq!(fit, 41);
        assert!(flows.announce(2, rule(0, 50_000)), "another feed has its own");
        // One that is replaced by what does not fit is gone: its feed has taken it back.
        assert!(!flows.announce(1, rule(3, 400_000)));
        assert_eq!(flows.count(1, FeedTable::FlowSpec4), fit - 1);
        assert!(flows.announce(1, rule(3, 50_000)), "it left its room");
        flows.mark(1, FeedTable::FlowSpec4);
        flows.sweep(1, FeedTable::FlowSpec4);
        assert_eq!(flows.counts[&1], (0, 0));
    }
}
