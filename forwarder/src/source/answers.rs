//! What became of a feed's routes, said back to the feed: the engine puts it in, the feed's thread takes it out and sends
//! it to its daemon.
//!
//! The engine never waits: what finds no room is counted, and remembered as one bit. Once everything else is taken the
//! engine tells all of the feed's routes again ([`Answers::owes`]), as fast as there is room, so a daemon that does not read for
//! a while hears everything in the end, and no queue grows with its table.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use ipnet::IpNet;

use crate::locked::locked;

/// Answers that wait at most: two megabytes.
pub const ROOM: usize = 65_536;

/// What became of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Packets follow it in the fast path.
    Laid,
    /// It is laid, and what it says is for the kernel to do: the fast path hands its packets over.
    Trapped,
    /// It is not: no room, or another route of the prefix counts.
    Refused,
}

/// Of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its prefix.
    pub prefix: IpNet,
    /// Who the daemon says it is from (`RTPROT_*`).
    pub protocol: u8,
    /// What became of it.
    pub fate: Fate,
}

/// Where the answers of a feed wait.
#[derive(Debug)]
pub struct Answers {
    waiting: Mutex<Waiting>,
    /// A byte for the feed's thread when there is something after nothing.
    wake: UnixStream,
    woken: UnixStream,
    told: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Answer>,
    /// Sessions that began; there is one while `open`.
    session: u64,
    open: bool,
    /// The last prefix that found no room: all is to be told again.
    owed: Option<IpNet>,
}

impl Answers {
    /// Nobody to answer yet.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self {
            waiting: Mutex::default(),
            wake,
            woken,
            told: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// A session begins: it hears of its own routes only.
    pub fn begin(&self) {
        let mut waiting = self.lock();
        *waiting = Waiting {
            session: waiting.session + 1,
            open: true,
            ..Waiting::default()
        };
    }

    /// The session is over: nobody hears anything.
    pub fn end(&self) {
        let mut waiting = self.lock();
        *waiting = Waiting {
            session: waiting.session,
            ..Waiting::default()
        };
    }

    /// Tells of a route. What was to be told of the same prefix just before is not worth telling any more.
    pub fn tell(&self, answer: Answer) {
        let mut waiting = self.lock();
        if !waiting.open {
            return;
        }
        if let Some(last) = waiting.queue.back_mut()
            && last.prefix == answer.prefix
        {
            *last = answer;
            return;
        }
        if waiting.queue.len() >= ROOM {
            if waiting.owed.replace(answer.prefix) != Some(answer.prefix) {
                self.dropped.fetch_add(1, Relaxed);
            }
            return;
        }
        waiting.queue.push_back(answer);
        let first = waiting.queue.len() == 1;
        drop(waiting);
        if first {
            // Full: it is awake anyway.
            let _ = (&self.wake).write(&[0]);
        }
    }

    /// How many find room now; `None` where this session is not the one that is on.
    #[must_use]
    pub fn room(&self, session: u64) -> Option<usize> {
        let waiting = self.lock();
        (waiting.open && waiting.session == session).then(|| ROOM - waiting.queue.len())
    }

    /// The session that must be told everything again, because something found no room and nothing waits any more. Asking
    /// is promising.
    #[must_use]
    pub fn owes(&self) -> Option<u64> {
        let mut waiting = self.lock();
        if !waiting.queue.is_empty() {
            return None;
        }
        waiting.owed.take().map(|_| waiting.session)
    }

    /// Gives up to `limit` of them to `each`; answers whether there was any.
    pub fn take(&self, limit: usize, each: impl FnMut(Answer)) -> bool {
        // Before: what comes behind the last one wakes again.
        while let Ok(1..) = (&self.woken).read(&mut [0; 64]) {}
        let mut waiting = self.lock();
        let taken = limit.min(waiting.queue.len());
        waiting.queue.drain(..taken).for_each(each);
        drop(waiting);
        self.told.fetch_add(taken as u64, Relaxed);
        taken > 0
    }

    /// Given to the feed's thread so far, and those that found no room.
    #[must_use]
    pub fn counts(&self) -> [u64; 2] {
        [self.told.load(Relaxed), self.dropped.load(Relaxed)]
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        locked(&self.waiting)
    }
}

impl AsFd for Answers {
    /// Readable when there is something to take after there was nothing.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u32) -> Answer {
        Answer {
            prefix: IpNet::new(std::net::Ipv4Addr::from(number << 8).into(), 24).unwrap(),
            protocol: 186,
            fate: Fate::Laid,
        }
    }

    fn taken(answers: &Answers, limit: usize) -> Vec<Answer> {
        let mut all = Vec::new();
        answers.take(limit, |answer| all.push(answer));
        all
    }

    #[test]
    fn answers_come_out_in_order_and_a_later_one_of_the_same_prefix_stands_for_both() {
        let answers = Answers::new().unwrap();
        answers.begin();
        answers.tell(answer(1));
        answers.tell(answer(2));
        let refused = Answer {
            fate: Fate::Refused,
            ..answer(2)
        };
        answers.tell(refused);
        assert_eq!(taken(&answers, 1), [answer(1)]);
        assert_eq!(taken(&answers, 9), [refused]);
        assert_eq!(taken(&answers, 9), []);
        assert_eq!((answers.counts(), answers.owes()), ([2, 0], None));
    }

    #[test]
    fn without_a_session_nothing_waits_and_a_new_one_hears_nothing_of_the_old() {
        let answers = Answers::new().unwrap();
        answers.tell(answer(1));
        answers.begin();
        answers.tell(answer(2));
        answers.begin();
        assert_eq!(taken(&answers, 9), []);
        assert_eq!((answers.room(1), answers.room(2)), (None, Some(ROOM)));
        answers.tell(answer(3));
        answers.end();
        answers.tell(answer(4));
        assert_eq!((taken(&answers, 9), answers.room(2)), (Vec::new(), None));
    }

    #[test]
    fn what_finds_no_room_is_owed_once_everything_else_is_taken() {
        let answers = Answers::new().unwrap();
        answers.begin();
        for number in 0..ROOM as u32 + 10 {
            answers.tell(answer(number));
        }
        assert_eq!((answers.counts(), answers.room(1)), ([0, 10], Some(0)));
        assert_eq!(answers.owes(), None, "there is something to take");
        assert_eq!(taken(&answers, usize::MAX).len(), ROOM);
        assert_eq!((answers.owes(), answers.owes()), (Some(1), None));
    }

    #[test]
    fn whoever_waits_is_woken_by_the_first_and_by_the_first_after_the_last() {
        let answers = Answers::new().unwrap();
        let readable = || {
            let polled = crate::netlink::watch::poll([answers.as_fd()], Some(std::time::Duration::ZERO));
            polled.unwrap() == [true]
        };
        answers.begin();
        assert!(!readable());
        answers.tell(answer(1));
        answers.tell(answer(2));
        assert!(readable());
        taken(&answers, 9);
        assert!(!readable());
        answers.tell(answer(3));
        assert!(readable());
    }
}
