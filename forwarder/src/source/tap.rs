//! A tap on the octets that a feed reads, for `forwarder record` and `forwarder run --record`.
//!
//! Closed it costs a feed one load per read. Open it copies what was read into a bounded channel; a feed never waits for
//! whoever records, so what finds no room there is counted and said in the recording ([`Kind::Missed`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::clock::since_1970;
use crate::locked::locked;

/// Chunks that wait for the recorder at most.
const ROOM: usize = 1_024;

/// Something that happened to a feed's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A session began.
    Begin,
    /// Octets were read.
    Read,
    /// The session ended.
    End,
    /// Octets were read that the recorder had no room for: their number, eight octets, big-endian.
    Missed,
}

/// A piece of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// When, since the Unix epoch.
    pub at: Duration,
    /// What.
    pub kind: Kind,
    /// The octets.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Of this moment.
    #[must_use]
    pub fn now(kind: Kind, bytes: &[u8]) -> Chunk {
        Chunk {
            at: since_1970(),
            kind,
            bytes: bytes.to_vec(),
        }
    }
}

/// The tap of a feed; closed until somebody records.
#[derive(Debug, Default)]
pub struct Tap {
    open: AtomicBool,
    sink: Mutex<Option<Sink>>,
}

#[derive(Debug)]
struct Sink {
    sender: SyncSender<Chunk>,
    missed: u64,
    /// Dead when the recording was dropped.
    listener: Weak<()>,
}

/// What flows out of an open tap; dropping it closes the tap.
#[derive(Debug)]
pub struct Recording {
    /// The pieces, in order.
    pub chunks: Receiver<Chunk>,
    _here: Arc<()>,
}

impl Tap {
    /// A session began.
    pub fn begin(&self) {
        self.put(Kind::Begin, &[]);
    }

    /// These octets were read.
    #[inline]
    pub fn read(&self, bytes: &[u8]) {
        self.put(Kind::Read, bytes);
    }

    /// The session ended.
    pub fn end(&self) {
        self.put(Kind::End, &[]);
    }

    /// Opens it, until the recording is dropped. `None` while somebody else records.
    #[must_use]
    pub fn open(&self) -> Option<Recording> {
        let mut sink = locked(&self.sink);
        if sink.as_ref().is_some_and(|sink| sink.listener.strong_count() > 0) {
            return None;
        }
        let (sender, chunks) = mpsc::sync_channel(ROOM);
        let here = Arc::new(());
        *sink = Some(Sink {
            sender,
            missed: 0,
            listener: Arc::downgrade(&here),
        });
        self.open.store(true, Ordering::Release);
        Some(Recording { chunks, _here: here })
    }

    fn put(&self, kind: Kind, bytes: &[u8]) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        let mut guard = locked(&self.sink);
        let Some(sink) = guard.as_mut() else { return };
        if sink.missed > 0 {
            match sink.sender.try_send(missed_chunk(sink.missed)) {
                Ok(()) => sink.missed = 0,
                Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => {
                    *guard = None;
                    self.open.store(false, Ordering::Release);
                    return;
                }
            }
        }
        let sent = if sink.missed == 0 {
            sink.sender.try_send(Chunk::now(kind, bytes))
        } else {
            Err(TrySendError::Full(missed_chunk(0)))
        };
        match sent {
            Ok(()) => {}
            // A session's beginning or end counts as one octet missed: it must not go unsaid.
            Err(TrySendError::Full(_)) => sink.missed += bytes.len().max(1) as u64,
            Err(TrySendError::Disconnected(_)) => {
                *guard = None;
                self.open.store(false, Ordering::Release);
            }
        }
    }
}

fn missed_chunk(missed: u64) -> Chunk {
    Chunk::now(Kind::Missed, &missed.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_tap_keeps_nothing_and_an_open_one_everything() {
        let tap = Tap::default();
        tap.read(b"before");
        let recording = tap.open().unwrap();
        tap.begin();
        tap.read(b"octets");
        tap.end();
        let got: Vec<_> = recording
            .chunks
            .try_iter()
            .map(|chunk| (chunk.kind, chunk.bytes))
            .collect();
        assert_eq!(
            got,
            [
                (Kind::Begin, vec![]),
                (Kind::Read, b"octets".to_vec()),
                (Kind::End, vec![])
            ]
        );
    }

    #[test]
    fn one_records_at_a_time_and_the_next_may_when_it_is_gone() {
        let tap = Tap::default();
        let first = tap.open().unwrap();
        assert!(tap.open().is_none());
        drop(first);
        let second = tap.open().unwrap();
        tap.read(b"x");
        assert_eq!(second.chunks.try_iter().count(), 1);
        drop(second);
        tap.read(b"y");
        assert!(
            !tap.open.load(Ordering::Relaxed),
            "closed again when nobody listens"
        );
    }

    #[test]
    fn a_recorder_that_is_too_slow_is_told_how_much_it_missed() {
        let tap = Tap::default();
        let recording = tap.open().unwrap();
        for _ in 0..ROOM {
            tap.read(b"kept");
        }
        tap.read(b"12345");
        tap.end();
        assert_eq!(recording.chunks.iter().take(ROOM).count(), ROOM);
        tap.read(b"again");
        let rest: Vec<_> = recording
            .chunks
            .try_iter()
            .map(|chunk| (chunk.kind, chunk.bytes))
            .collect();
        assert_eq!(
            rest,
            [
                (Kind::Missed, 6u64.to_be_bytes().to_vec()),
                (Kind::Read, b"again".to_vec())
            ]
        );
    }
}
