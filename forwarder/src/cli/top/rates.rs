//! Rates: two readings of what only ever grows, and the time between them.

use std::{collections::HashMap, hash::Hash};

/// Rows, and when they were read: seconds of a clock that does not jump.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// When.
    pub at: f64,
    /// What.
    pub rows: Vec<T>,
}

/// A listing beside the one before it.
pub struct Pair<'a, T, K> {
    seconds: f64,
    before: HashMap<K, &'a T>,
    any: bool,
}

impl<'a, T, K: Eq + Hash> Pair<'a, T, K> {
    /// Of these two, whose rows are told apart by a key. Without an earlier one no rate is known.
    pub fn new(
        before: Option<&'a Listing<T>>,
        now: &'a Listing<T>,
        key: impl Fn(&'a T) -> K,
    ) -> Pair<'a, T, K> {
        let rows = before.map_or(&[][..], |listing| &listing.rows);
        Pair {
            seconds: before.map_or(0.0, |before| now.at - before.at),
            before: rows.iter().map(|row| (key(row), row)).collect(),
            any: before.is_some(),
        }
    }

    /// What a figure of a row grew by each second. Unknown of a row that was not there before, and of a figure that went down: its
    /// counters were made anew in between.
    pub fn rate(&self, key: &K, now: &T, field: impl Fn(&T) -> u64) -> Option<f64> {
        let before = self.before.get(key)?;
        each_second(field(before), field(now), self.seconds)
    }

    /// The same for rows that are listed from their first packet on: before it they had counted nothing.
    pub fn rate_from_nothing(&self, key: &K, now: &T, field: impl Fn(&T) -> u64) -> Option<f64> {
        match self.before.get(key) {
            Some(before) => each_second(field(before), field(now), self.seconds),
            None if self.any => each_second(0, field(now), self.seconds),
            None => None,
        }
    }
}

/// What was counted in so many seconds, each second.
pub fn each_second(before: u64, now: u64, seconds: f64) -> Option<f64> {
    let more = now.checked_sub(before)?;
    (seconds > 0.0).then(|| more as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(at: f64, rows: &[(&'static str, u64)]) -> Listing<(&'static str, u64)> {
        Listing {
            at,
            rows: rows.to_vec(),
        }
    }

    #[test]
    fn a_rate_is_what_came_in_over_the_time_that_was_measured() {
        let (before, now) = (listing(10.0, &[("a", 100)]), listing(14.0, &[("a", 500)]));
        let pair = Pair::new(Some(&before), &now, |row| row.0);
        assert_eq!(pair.rate(&"a", &now.rows[0], |row| row.1), Some(100.0));
    }

    #[test]
    fn what_is_new_or_made_anew_or_read_once_has_no_rate() {
        let (before, now) = (
            listing(10.0, &[("reset", 100)]),
            listing(11.0, &[("reset", 5), ("new", 5)]),
        );
        let pair = Pair::new(Some(&before), &now, |row| row.0);
        assert_eq!(pair.rate(&"reset", &now.rows[0], |row| row.1), None);
        assert_eq!(pair.rate_from_nothing(&"reset", &now.rows[0], |row| row.1), None);
        assert_eq!(pair.rate(&"new", &now.rows[1], |row| row.1), None);
        assert_eq!(
            pair.rate_from_nothing(&"new", &now.rows[1], |row| row.1),
            Some(5.0)
        );
        let once = Pair::new(None, &now, |row| row.0);
        assert_eq!(once.rate_from_nothing(&"new", &now.rows[1], |row| row.1), None);
        let same = Pair::new(Some(&now), &now, |row| row.0);
        assert_eq!(
            same.rate(&"reset", &now.rows[0], |row| row.1),
            None,
            "no time has passed"
        );
    }
}
