//! How many routes a session may bring. What is counted is what is there, not what was said: a route that replaces itself
//! counts once. A route is remembered as 32 bits of a seeded hash: 12 MB for a full table. Some hundred and fifty pairs of its million
//! routes share one, and each such pair counts as one: a limit that is passed is noticed that much later.
//!
//! What was refused is remembered too, as far as [`REMEMBERED`], so that it is known when nothing is missing any more, and
//! when it is worth asking for it again.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use foldhash::quality::RandomState;

/// Refused routes that are remembered; of those beyond only their number is.
const REMEMBERED: usize = 65_536;

/// Takes a hash for what it is.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, value: u32) {
        // The set looks at the low bits and at the top seven.
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The routes of one table of a session.
pub struct Limit {
    most: usize,
    there: HashSet<u32, BuildHasherDefault<Spread>>,
    seed: RandomState,
    refused: HashSet<u32, BuildHasherDefault<Spread>>,
    /// Those that found no room there.
    beyond: u64,
}

impl Limit {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Limit {
        Limit {
            most,
            there: HashSet::default(),
            seed: RandomState::default(),
            refused: HashSet::default(),
            beyond: 0,
        }
    }

    /// Whether there is room for this route, which is there from now on.
    pub fn admit(&mut self, route: impl Hash) -> bool {
        let hash = self.hash(route);
        if self.there.len() < self.most {
            self.there.insert(hash);
            self.refused.remove(&hash);
            return true;
        }
        let known = self.there.contains(&hash);
        if !known && self.refused.len() < REMEMBERED {
            self.refused.insert(hash);
        } else if !known && !self.refused.contains(&hash) {
            self.beyond += 1;
        }
        known
    }

    /// It is gone.
    pub fn gone(&mut self, route: impl Hash) {
        let hash = self.hash(route);
        if !self.there.remove(&hash) {
            self.refused.remove(&hash);
        }
    }

    fn hash(&self, route: impl Hash) -> u32 {
        (self.seed.hash_one(route) >> 32) as u32
    }

    /// Everything is going to be said again.
    pub fn clear(&mut self) {
        self.there.clear();
        self.ask_again();
    }

    /// What was refused is going to be said again.
    pub fn ask_again(&mut self) {
        self.refused.clear();
        self.beyond = 0;
    }

    /// Whether routes were refused and there is room now: for all of them, or for a sixteenth of what may be there, since
    /// asking costs the other side its whole table.
    #[must_use]
    pub fn has_room_again(&self) -> bool {
        let room = self.most.saturating_sub(self.there.len()) as u64;
        let refused = self.refused();
        refused > 0 && room >= refused.min((self.most as u64 / 16).max(1))
    }

    /// How many are there.
    #[must_use]
    pub fn count(&self) -> usize {
        self.there.len()
    }

    /// How many may be there.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// How many are missing because they were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.len() as u64 + self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_comes_again_counts_once_and_one_that_went_makes_room() {
        let mut limit = Limit::new(2);
        assert!(limit.admit(1) && limit.admit(1) && limit.admit(2));
        assert_eq!(limit.count(), 2);
        assert!(!limit.admit(3) && !limit.admit(3) && !limit.admit(4));
        assert_eq!(limit.refused(), 2, "each counts once");
        assert!(!limit.has_room_again());
        assert!(limit.admit(2), "what is there may change");
        limit.gone(1);
        assert!(limit.has_room_again());
        assert!(limit.admit(3));
        assert_eq!(limit.refused(), 1);
        limit.gone(4);
        assert_eq!(limit.refused(), 0, "what was refused went, too");
        limit.gone(99);
        assert_eq!(limit.count(), 2);
        limit.clear();
        assert_eq!((limit.count(), limit.refused()), (0, 0));
    }

    #[test]
    fn what_was_refused_is_asked_for_when_a_part_of_it_has_room() {
        let mut limit = Limit::new(160);
        (0..1_000).for_each(|route| {
            limit.admit(route);
        });
        assert_eq!((limit.count(), limit.refused()), (160, 840));
        (0..9).for_each(|route| limit.gone(route));
        assert!(!limit.has_room_again());
        limit.gone(9);
        assert!(limit.has_room_again());
        limit.ask_again();
        assert_eq!((limit.count(), limit.refused()), (150, 0));
        assert!(!limit.has_room_again(), "asked once, it waits for the answer");
    }

    #[test]
    fn refused_routes_without_end_take_no_memory_without_end() {
        let mut limit = Limit::new(1);
        (0..REMEMBERED as u64 + 100).for_each(|route| {
            limit.admit(route);
        });
        assert_eq!(limit.refused.len(), REMEMBERED);
        // Every other run two of them share a hash; ten pairs of them never do.
        let all = REMEMBERED as u64 + 99;
        assert!((all - 10..=all).contains(&limit.refused()), "{}", limit.refused());
    }
}
