//! The gate of a start: what an earlier controller laid stays until every source has said what it knows.
//!
//! A restarted controller hears the kernel in a second and a daemon's session in a minute. A prefix that was found laid
//! stays as it was until a source speaks for it that no source still awaited comes before; a less preferred one waits, for
//! its answer would be taken back soon. New prefixes are laid at once. When the last source has ended its first
//! synchronisation, or its time is up, whatever was not spoken for is compared, and mended or taken away.

use std::collections::BTreeMap;

use crate::{config::Source, rib::decision::Class, source::feed::FeedId};

/// Somebody whose first synchronisation is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// A source none of whose feeds is there yet.
    Source(Source),
    /// A feed.
    Feed(FeedId),
}

/// Prefixes found laid that nobody has spoken for yet, by slot.
pub struct Gate {
    found: Vec<u64>,
    /// Who has not ended the first synchronisation: rank, and which of the two tables are missing.
    awaited: BTreeMap<Awaited, (Class, [bool; 2])>,
}

impl Gate {
    /// Closed, for tables with so many slots.
    pub fn new(slots: u32) -> Gate {
        Gate {
            found: vec![0; (slots as usize).div_ceil(64)],
            awaited: BTreeMap::new(),
        }
    }

    /// This slot was found laid.
    pub fn found(&mut self, slot: u32) {
        if let Some(word) = self.found.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Somebody spoke for this slot, or it is another prefix's now.
    pub fn clear(&mut self, slot: u32) {
        if let Some(word) = self.found.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Whether nobody has spoken for this slot yet.
    pub fn holds(&self, slot: u32) -> bool {
        let word = self.found.get(slot as usize / 64).copied().unwrap_or(0);
        word >> (slot % 64) & 1 == 1
    }

    /// Whether there is any slot that nobody has spoken for yet.
    pub fn holds_any(&self) -> bool {
        self.found.iter().any(|word| *word != 0)
    }

    /// Waits for the first feed of a source.
    pub fn await_source(&mut self, source: Source, class: Class) {
        self.awaited.insert(Awaited::Source(source), (class, [true; 2]));
    }

    /// Waits for a feed of a source.
    pub fn await_feed(&mut self, feed: FeedId, source: Source, class: Class) {
        self.awaited.remove(&Awaited::Source(source));
        self.awaited.insert(Awaited::Feed(feed), (class, [true; 2]));
    }

    /// A feed is no more: if it was waited for, that is for its source again, where this has no `others`.
    pub fn forget(&mut self, feed: FeedId, source: Source, class: Class, others: bool) {
        if self.awaited.remove(&Awaited::Feed(feed)).is_some() && !others {
            self.await_source(source, class);
        }
    }

    /// A feed has ended its first synchronisation of a unicast table.
    pub fn synchronised(&mut self, feed: FeedId, ipv6: bool) {
        let feed = Awaited::Feed(feed);
        if let Some((_, missing)) = self.awaited.get_mut(&feed) {
            missing[usize::from(ipv6)] = false;
            if *missing == [false; 2] {
                self.awaited.remove(&feed);
            }
        }
    }

    /// Who is still awaited.
    pub fn awaited(&self) -> impl Iterator<Item = Awaited> {
        self.awaited.keys().copied()
    }

    /// Whether nobody is awaited any more.
    pub fn may_open(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether a source of this rank may speak for what was found: nobody who comes before it is awaited.
    pub fn admits(&self, class: Class, ipv6: bool) -> bool {
        self.awaited
            .values()
            .all(|(awaited, missing)| *awaited >= class || !missing[usize::from(ipv6)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_speaks_for_what_was_found_once_nobody_before_it_is_awaited() {
        let mut gate = Gate::new(100);
        assert!(!gate.holds_any());
        gate.found(70);
        assert!(gate.holds_any());
        gate.await_source(Source::Bgp, 1);
        gate.await_feed(2, Source::Fpm, 2);
        assert!(!gate.admits(2, false));
        gate.await_feed(1, Source::Bgp, 1);
        assert!(gate.holds(70) && !gate.holds(71) && !gate.holds(1000));
        assert!(gate.admits(1, false) && !gate.admits(2, false));
        // It goes without a word, and its source is waited for again; one of two is not missed.
        gate.forget(1, Source::Bgp, 1, false);
        assert!(gate.awaited().any(|who| who == Awaited::Source(Source::Bgp)) && !gate.admits(2, false));
        gate.await_feed(1, Source::Bgp, 1);
        gate.await_feed(9, Source::Bgp, 1);
        gate.forget(9, Source::Bgp, 1, true);
        assert_eq!(gate.awaited().count(), 2);
        gate.synchronised(1, false);
        assert!(gate.admits(2, false) && !gate.admits(2, true));
        gate.synchronised(1, true);
        assert!(gate.admits(2, true) && !gate.may_open());
        gate.synchronised(2, true);
        gate.synchronised(2, false);
        assert!(gate.may_open());
        gate.clear(70);
        assert!(!gate.holds(70) && !gate.holds_any());
    }
}
