//! Questions that only the engine can answer, from the threads of the API to the controller's loop.

use std::{
    sync::mpsc::{self, Receiver, SyncSender},
    time::Duration,
};

use crate::{
    source::kernel::Waker,
    stats::{CandidateRow, routes::Selection},
};

/// Questions that wait at a time.
const ROOM: usize = 16;
/// How long somebody waits for an answer: a loop that is busy with a dump answers afterwards.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question: every source's routes for what is selected.
pub struct Ask {
    /// What.
    pub selection: Selection,
    answer: SyncSender<Vec<CandidateRow>>,
}

impl Ask {
    /// Answers it.
    pub fn answer(self, rows: Vec<CandidateRow>) {
        // Whoever asked may have lost patience.
        let _ = self.answer.try_send(rows);
    }
}

/// Asks.
#[derive(Clone)]
pub struct Asker {
    sender: SyncSender<Ask>,
    waker: Waker,
}

/// Both ends.
pub fn channel(waker: Waker) -> (Asker, Receiver<Ask>) {
    let (sender, receiver) = mpsc::sync_channel(ROOM);
    (Asker { sender, waker }, receiver)
}

impl Asker {
    /// Every source's routes; `None` where nobody answers in time.
    pub fn ask(&self, selection: Selection) -> Option<Vec<CandidateRow>> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.sender.try_send(Ask { selection, answer }).ok()?;
        self.waker.wake();
        answered.recv_timeout(PATIENCE).ok()
    }
}
