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

use crate::locked::locked;

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
    /// All that it had counted.
    pub counter: Counter,
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
