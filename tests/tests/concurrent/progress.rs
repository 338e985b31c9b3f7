//! How far the churner is, as the reader may know it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// Shared between the two threads.
///
/// The epoch is twice the number of complete updates, and one more while an update is under way. A run between two
/// readings of it saw the table after some number of updates from [`Progress::complete`] of the first to
/// [`Progress::begun`] of the second.
#[derive(Default)]
pub struct Progress {
    epoch: AtomicUsize,
    runs: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// The epoch now.
    pub fn epoch(&self) -> usize {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Updates that were complete at an epoch.
    pub const fn complete(epoch: usize) -> usize {
        epoch / 2
    }

    /// Updates that had begun by an epoch.
    pub const fn begun(epoch: usize) -> usize {
        epoch.div_ceil(2)
    }

    /// An update begins: nothing of it may be visible before this is.
    pub fn begin(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// It is complete: all of it is visible before this is.
    pub fn end(&self) {
        fence(Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The reader has run the program once more.
    pub fn ran(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub fn runs(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Either side is through, or has failed.
    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether either is.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Says so to the other side when this one ends, however it ends.
pub struct Finish<'a>(pub &'a Progress);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}
