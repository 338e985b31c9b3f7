//! What a slot had counted when it came to stand for something else.
//!
//! Whoever adds up by prefix reads slots from time to time. Between two readings a slot may be given to another prefix, or its
//! prefix may be heard from another network. So the compiler reads the slot at that moment and leaves the reading here
//! *before* the directory says otherwise: a reader that sees the new entry finds the reading of the old one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use forwarder_common::{counters::Counter, directory::SlotEntry};

use crate::{dataplane::Tables, locked::locked};

/// Readings that wait at most; a reader that is far behind loses those that come then, and what they counted is of no
/// prefix any more.
const ROOM: usize = 1 << 17;

/// A slot as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which.
    pub slot: u32,
    /// What it stood for.
    pub entry: SlotEntry,
    /// All that it had counted of packets to its prefixes.
    pub to: Counter,
    /// Of packets from them, where those are counted.
    pub from: Counter,
    /// What of that was before it stood for this.
    pub from_baseline: Counter,
}

impl Reading {
    /// A slot as it is now, by whoever writes its entry. One that was never used has counted nothing, and reading its
    /// counters would only cost cache lines.
    pub fn now(tables: &Tables, slot: u32, entry: SlotEntry) -> Reading {
        let zero = Counter::default();
        let (to, from, from_baseline) = match (entry.generation, tables.sizes.sources) {
            (0, _) => (zero, zero, zero),
            (_, false) => (tables.slot_counter(slot), zero, zero),
            (_, true) => (
                tables.slot_counter(slot),
                tables.slot_source_counter(slot),
                tables.source_baselines.get(slot as usize),
            ),
        };
        Reading {
            slot,
            entry,
            to,
            from,
            from_baseline,
        }
    }

    /// Whether it has counted anything as what it stood for.
    pub fn has_counted(&self) -> bool {
        self.to != self.entry.baseline || self.from != self.from_baseline
    }
}

/// Readings that nobody has taken yet, in their order. One side writes and one takes.
#[derive(Clone, Default)]
pub struct Readings(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    list: Mutex<Vec<Reading>>,
    count: AtomicUsize,
}

impl Readings {
    /// Leaves one.
    pub fn leave(&self, reading: Reading) {
        let mut list = locked(&self.0.list);
        if list.len() < ROOM {
            list.push(reading);
            self.0.count.store(list.len(), Ordering::Release);
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<Reading> {
        let mut list = locked(&self.0.list);
        self.0.count.store(0, Ordering::Release);
        std::mem::take(&mut *list)
    }
}
