//! What a slot had counted when it came to stand for something else.
//!
//! Whoever adds up by prefix reads slots from time to time. Between two readings a slot may be given to another prefix, or its
//! prefix may be heard from another network. So the compiler reads the slot at that moment and leaves the reading here
//! *before* the directory says otherwise: a reader that sees the new entry finds the reading of the old one. With a [`Journal`] the
//! next controller finds it, too, whatever ends this one.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use forwarder_common::{counters::Counter, directory::SlotEntry};
use tracing::warn;

use super::journal::{Journal, Mark};
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
    queue: Mutex<Queue>,
    count: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    list: Vec<Reading>,
    journal: Option<Journal>,
    /// Up to where they were taken.
    taken: Mark,
}

impl Readings {
    /// From now on they are written down, too. `maps` says which maps they are of.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn write_down(&self, path: &Path, maps: u64) -> io::Result<()> {
        let journal = Journal::open(path, maps)?;
        let mut queue = locked(&self.0.queue);
        let [before, _] = journal.ends();
        queue.taken = before;
        queue.journal = Some(journal);
        Ok(())
    }

    /// Leaves one.
    pub fn leave(&self, reading: Reading) {
        let mut queue = locked(&self.0.queue);
        if let Some(journal) = &mut queue.journal
            && journal.append(&reading)
        {
            warn!(
                "no room beside the socket for what prefixes counted that are gone: if the controller is killed before the next \
                 sample of the history, that is known in sum and not by prefix"
            );
        }
        if queue.list.len() < ROOM {
            queue.list.push(reading);
            self.0.count.store(queue.list.len(), Ordering::Release);
        }
    }

    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > 0
    }

    /// Whether there are so many that taking them should not wait.
    pub fn many(&self) -> bool {
        self.0.count.load(Ordering::Acquire) > ROOM / 4
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<Reading> {
        let mut queue = locked(&self.0.queue);
        self.0.count.store(0, Ordering::Release);
        if let Some(journal) = &queue.journal {
            [_, queue.taken] = journal.ends();
        }
        std::mem::take(&mut queue.list)
    }

    /// Up to where they were taken.
    pub fn taken(&self) -> Mark {
        locked(&self.0.queue).taken
    }

    /// What is taken next is what was written down behind this place: so far samples go. Without a file it is as before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn again(&self, sampled: Mark) -> io::Result<()> {
        let mut queue = locked(&self.0.queue);
        let Some(journal) = &queue.journal else {
            return Ok(());
        };
        let behind = journal.behind(sampled)?;
        queue.list = behind.into_iter().map(|(_, reading)| reading).collect();
        self.0.count.store(queue.list.len(), Ordering::Release);
        Ok(())
    }

    /// Those up to this place are in samples that are on the disk.
    pub fn sampled(&self, mark: Mark) {
        let mut queue = locked(&self.0.queue);
        if let Some(journal) = &mut queue.journal
            && let Err(why) = journal.forget(mark)
        {
            warn!("readings of slots cannot be forgotten: {why}; tried again with the next sample");
        }
    }
}
