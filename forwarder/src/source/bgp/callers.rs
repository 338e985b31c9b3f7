//! Connections that are nobody's yet, where no neighbour is configured: whoever calls from this host may become one, and does
//! so by an OPEN that is accepted, not by calling. Until then nobody waits for it, nothing shows it, and it has
//! [`CALL_TIME`]. Where too many call the oldest goes, after a last look at what it has said: so a flood of connections
//! keeps a daemon out for no longer than it takes to write its OPEN.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::open::{Identity, Offer, Terms};
use super::wire::{self, Fault, Kind, LONGEST};

/// How long a caller may take to its OPEN. Daemons write it as soon as they are connected.
pub const CALL_TIME: Duration = Duration::from_secs(5);
/// Callers at once.
pub const CALLERS: usize = 64;

/// Somebody who has called.
pub struct Caller {
    /// The connection.
    pub stream: TcpStream,
    /// From where.
    pub from: SocketAddr,
    /// What was read: an OPEN in the end, and what came with it.
    pub input: Vec<u8>,
    until: Instant,
}

/// What became of a caller.
pub enum Outcome {
    /// Its OPEN is accepted.
    Neighbour(Caller),
    /// It was turned away, for this reason; the connection has our last words.
    Refused(Caller, Fault),
    /// It went away, or took too long.
    Gone,
    /// Others took its place before it had said anything.
    Crowded,
}

/// How far a caller is.
enum Progress {
    Waits,
    Opened,
    Wrong(Fault),
    Gone,
}

/// Everybody who has called and not said who it is, the first one first.
#[derive(Default)]
pub struct Callers {
    waiting: VecDeque<Caller>,
}

impl Callers {
    /// Somebody calls. Answers what became of the one that makes room.
    pub fn called(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        us: &Identity,
        now: Instant,
    ) -> Option<Outcome> {
        self.waiting.push_back(Caller {
            stream,
            from,
            input: Vec::new(),
            until: now + CALL_TIME,
        });
        if self.waiting.len() <= CALLERS {
            return None;
        }
        let mut oldest = self.waiting.pop_front()?;
        Some(match oldest.read(us) {
            Progress::Waits => Outcome::Crowded,
            progress => settled(oldest, progress, us),
        })
    }

    /// Reads what they have said. Answers what became of those who need not wait any more.
    pub fn read(&mut self, us: &Identity, now: Instant) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for mut caller in std::mem::take(&mut self.waiting) {
            match caller.read(us) {
                Progress::Waits if now < caller.until => self.waiting.push_back(caller),
                Progress::Waits => outcomes.push(Outcome::Gone),
                progress => outcomes.push(settled(caller, progress, us)),
            }
        }
        outcomes
    }

    /// Their connections.
    pub fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        self.waiting.iter().map(|caller| &caller.stream)
    }

    /// When [`Callers::read`] has something to do though nobody says anything.
    pub fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|caller| caller.until)
    }
}

/// What follows for a caller that need not wait any more.
fn settled(mut caller: Caller, progress: Progress, us: &Identity) -> Outcome {
    match progress {
        Progress::Opened => Outcome::Neighbour(caller),
        Progress::Wrong(fault) => {
            // An OPEN comes before any other word of ours. A new connection has room for both; if not, they are lost.
            let _ = caller
                .stream
                .write_all(&[us.open(), fault.notification()].concat());
            let _ = caller.stream.shutdown(Shutdown::Write);
            Outcome::Refused(caller, fault)
        }
        Progress::Gone | Progress::Waits => Outcome::Gone,
    }
}

impl Caller {
    /// Reads until there is a whole message, or nothing more for now.
    fn read(&mut self, us: &Identity) -> Progress {
        let mut octets = [0; LONGEST];
        loop {
            match wire::first(&self.input, LONGEST) {
                Ok(None) => {}
                Ok(Some((message, _))) => {
                    return match message.kind {
                        Kind::Open => {
                            match Offer::read(message.body).and_then(|offer| Terms::agree(us, &offer)) {
                                Ok(_) => Progress::Opened,
                                Err(fault) => Progress::Wrong(fault),
                            }
                        }
                        Kind::Notification => Progress::Gone,
                        kind => {
                            Progress::Wrong(Fault::new(5, 1, format!("it begins with a {kind:?} message")))
                        }
                    };
                }
                Err(fault) => return Progress::Wrong(fault),
            }
            match self.stream.read(&mut octets) {
                Ok(0) => return Progress::Gone,
                Ok(count) => self.input.extend(&octets[..count]),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Progress::Waits,
                Err(_) => return Progress::Gone,
            }
        }
    }
}
