//! A neighbour with its feed, and its connections with what they hold: between the neighbour's logic and the sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::neighbour::{ConnectionId, Neighbour};
use crate::config::BgpNeighbour;
use crate::source::feed::{Batch, FeedId};
use crate::source::tap::Tap;

/// What a connection may hold of what it read.
const INPUT: usize = 256 * 1024;
/// With this it begins.
const FIRST_INPUT: usize = 8 * 1024;
/// What may wait to be written. We send a few octets each half minute: who does not take them is dead.
const OUTPUT: usize = 64 * 1024;

/// A neighbour with its feed.
pub(super) struct Peer {
    /// Its feed.
    pub feed: FeedId,
    /// As configured.
    pub config: BgpNeighbour,
    /// Its logic.
    pub neighbour: Neighbour,
    /// What the RIB had no room for.
    pub pending: Option<Batch>,
    /// Its tap.
    pub tap: Arc<Tap>,
    /// The connection that the tap is on.
    pub tapped: Option<ConnectionId>,
    /// Nobody has this place.
    pub vacant: bool,
}

/// A connection.
pub(super) struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Whose it is.
    pub peer: usize,
    /// The socket.
    pub stream: TcpStream,
    /// Room for what is read.
    pub input: Vec<u8>,
    /// How much of it is read and not yet taken.
    pub filled: usize,
    /// What waits to be written.
    pub output: Vec<u8>,
    /// What was read before the tap came to this connection.
    early: Vec<u8>,
}

impl Peer {
    /// One whom nobody has heard from.
    pub fn new(feed: FeedId, config: BgpNeighbour, neighbour: Neighbour, tap: Arc<Tap>) -> Peer {
        Peer {
            feed,
            config,
            neighbour,
            pending: None,
            tap,
            tapped: None,
            vacant: false,
        }
    }

    /// Offers the RIB what there is. Answers whether it took all of it.
    pub fn offer(&mut self, sink: &SyncSender<Batch>) -> bool {
        loop {
            let batch = match self.pending.take() {
                Some(batch) => batch,
                None if self.neighbour.has_events() => Batch {
                    feed: self.feed,
                    events: self.neighbour.events(),
                },
                None => return true,
            };
            match sink.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                    self.pending = Some(batch);
                    return false;
                }
            }
        }
    }

    /// Whether nobody will ever take what there is.
    pub fn gone(&self, sink: &SyncSender<Batch>) -> bool {
        let nothing = Batch {
            feed: self.feed,
            events: Vec::new(),
        };
        self.pending.is_some() && matches!(sink.try_send(nothing), Err(TrySendError::Disconnected(_)))
    }

    /// Keeps the tap on the neighbour's first connection.
    pub fn follow(&mut self, sockets: &mut [Connection]) {
        let first = self.neighbour.first();
        if self.tapped == first {
            return;
        }
        if self.tapped.is_some() {
            self.tap.end();
        }
        self.tapped = first;
        let connection = sockets.iter_mut().find(|connection| Some(connection.id) == first);
        if let Some(connection) = connection {
            self.tap.begin();
            let early = std::mem::take(&mut connection.early);
            if !early.is_empty() {
                self.tap.read(&early);
            }
        } else {
            self.tapped = None;
        }
    }
}

impl Connection {
    /// One that has just been accepted.
    pub fn new(id: ConnectionId, peer: usize, stream: TcpStream) -> Connection {
        Connection {
            id,
            peer,
            stream,
            input: vec![0; FIRST_INPUT],
            filled: 0,
            output: Vec::new(),
            early: Vec::new(),
        }
    }

    /// One that has said this already.
    pub fn with_input(id: ConnectionId, peer: usize, stream: TcpStream, said: Vec<u8>) -> Connection {
        let mut connection = Connection::new(id, peer, stream);
        connection.filled = said.len();
        connection.early = said.clone();
        connection.input = said;
        connection.input.resize(FIRST_INPUT.max(connection.filled), 0);
        connection
    }

    /// Reads what there is, once: the others want their turn. Answers how many octets that was.
    pub fn read(&mut self, tap: Option<&Tap>) -> io::Result<usize> {
        if self.filled == self.input.len() && self.input.len() < INPUT {
            self.input.resize((self.input.len() * 4).min(INPUT), 0);
        }
        let count = self.stream.read(&mut self.input[self.filled..])?;
        let fresh = &self.input[self.filled..self.filled + count];
        match tap {
            Some(tap) => tap.read(fresh),
            None if self.early.len() < INPUT => self.early.extend(fresh),
            None => {}
        }
        self.filled += count;
        Ok(count)
    }

    /// Writes what waits, as far as the kernel takes it. Answers whether it took anything.
    pub fn flush(&mut self) -> io::Result<bool> {
        let mut taken = false;
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.output.drain(..count);
                    taken = true;
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) if why.kind() == ErrorKind::WouldBlock && self.output.len() <= OUTPUT => break,
                Err(why) => return Err(why),
            }
        }
        Ok(taken)
    }
}
