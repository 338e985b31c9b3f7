//! What counters did in the last second, and when they last did anything.

use std::{collections::HashMap, hash::Hash};

use forwarder_common::counters::Counter;

/// Counters by name, as they were when they were read last.
pub struct Meter<K> {
    known: HashMap<K, (Counter, Option<u32>)>,
}

/// What a counter has done since it was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Packets a second.
    pub packets: u64,
    /// Octets a second.
    pub bytes: u64,
    /// Seconds since it last rose; `None`: not since the controller began to watch.
    pub last_hit: Option<u64>,
}

impl<K> Default for Meter<K> {
    fn default() -> Meter<K> {
        Meter {
            known: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq> Meter<K> {
    /// A counter as it is `now`, `elapsed` seconds after it was read last.
    pub fn read(&mut self, key: K, counter: Counter, now: u32, elapsed: f64) -> Pace {
        let (known, last_hit) = self.known.entry(key).or_insert((counter, None));
        // Less than before: another has this name now.
        let more = if counter.packets < known.packets {
            counter
        } else {
            counter.since(*known)
        };
        if more.packets > 0 {
            *last_hit = Some(now);
        }
        *known = counter;
        let each_second = |count: u64| (count as f64 / elapsed.max(0.001)).round() as u64;
        Pace {
            packets: each_second(more.packets),
            bytes: each_second(more.bytes),
            last_hit: last_hit.map(|at| u64::from(now.saturating_sub(at))),
        }
    }

    /// Forgets those that are not named any more.
    pub fn keep(&mut self, named: impl Fn(&K) -> bool) {
        self.known.retain(|key, _| named(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    fn a_counter_that_rises_has_a_pace_and_one_that_stands_has_an_age() {
        let mut meter = Meter::default();
        assert_eq!(meter.read(1, counter(50), 100, 1.0), Pace::default());
        let pace = meter.read(1, counter(70), 102, 2.0);
        assert_eq!((pace.packets, pace.bytes, pace.last_hit), (10, 1_000, Some(0)));
        let pace = meter.read(1, counter(70), 107, 5.0);
        assert_eq!((pace.packets, pace.last_hit), (0, Some(5)));
        assert_eq!(meter.read(1, counter(3), 108, 1.0).packets, 3);
        meter.keep(|key| *key != 1);
        assert_eq!(meter.read(1, counter(90), 108, 1.0), Pace::default());
    }
}
