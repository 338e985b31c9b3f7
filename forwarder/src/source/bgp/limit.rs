//! How many routes a session may bring. What is counted is what is there, not what was said: a route that replaces itself
//! counts once. A route is remembered as 64 bits of a seeded hash: 20 MB for a full table, and two that share one, one in
//! ten million tables, make the count too low by one.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use foldhash::quality::RandomState;

/// Takes a hash for its own hash.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The routes of one table of a session.
pub struct Limit {
    most: usize,
    there: HashSet<u64, BuildHasherDefault<Same>>,
    seed: RandomState,
    refused: u64,
}

impl Limit {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Limit {
        Limit {
            most,
            there: HashSet::default(),
            seed: RandomState::default(),
            refused: 0,
        }
    }

    /// Whether there is room for this route, which is there from now on.
    pub fn admit(&mut self, route: impl Hash) -> bool {
        let hash = self.seed.hash_one(route);
        if self.there.len() < self.most {
            self.there.insert(hash);
            return true;
        }
        let known = self.there.contains(&hash);
        self.refused += u64::from(!known);
        known
    }

    /// It is gone.
    pub fn gone(&mut self, route: impl Hash) {
        self.there.remove(&self.seed.hash_one(route));
    }

    /// Everything is going to be said again.
    pub fn clear(&mut self) {
        self.there.clear();
        self.refused = 0;
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

    /// How many were refused since the table was said from the beginning.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
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
        assert!(!limit.admit(3) && !limit.admit(3));
        assert_eq!(limit.refused(), 2);
        assert!(limit.admit(2), "what is there may change");
        limit.gone(1);
        assert!(limit.admit(3));
        limit.gone(99);
        assert_eq!(limit.count(), 2);
        limit.clear();
        assert_eq!((limit.count(), limit.refused()), (0, 0));
    }
}
