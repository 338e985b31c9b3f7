//! The speaker: one thread that listens, reads, writes and keeps the time for all neighbours.
//!
//! One thread and not one per session, nor a runtime: nothing here waits but `poll`. A neighbour whose events the RIB has
//! no room for is not read from, and the kernel's window makes its daemon wait; KEEPALIVEs go on being written and the
//! others go on being read. So no two threads ever share a session, and the order of its events is the order of the code.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::callers::{Callers, Outcome};
use super::connection::{Connection, Peer};
use super::neighbour::{ConnectionId, Neighbour, Output};
use super::open::Identity;
use super::socket;
use super::speaker::{Command, Known, Shared};
use super::update::Limits;
use crate::config::{BgpConfig, BgpNeighbour};
use crate::locked::locked;
use crate::source::feed::{Batch, FeedEvent, FeedId};

/// Neighbours that are served without being configured.
pub const UNNAMED: usize = 8;
/// Connections that are no sessions, of all neighbours together.
const HALF_OPEN: usize = 16;
/// Connections that wait for the other side's end.
const CLOSING: usize = 64;
/// How long they do.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How long we stay to say goodbye.
const STOP_TIME: Duration = Duration::from_millis(300);
/// How soon the RIB is asked again whether it has room.
const RETRY: Duration = Duration::from_millis(1);
/// How long nothing is accepted after the kernel had no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where the thread hears what it is asked for.
pub(super) struct Inbox {
    /// What.
    pub commands: Receiver<Command>,
    /// A byte for each, so that `poll` ends.
    pub woken: UnixStream,
}

/// The thread's own.
pub(super) struct Service {
    config: BgpConfig,
    first: FeedId,
    sink: SyncSender<Batch>,
    listeners: Vec<TcpListener>,
    inbox: Inbox,
    shared: Arc<Shared>,
    peers: Vec<Peer>,
    /// Who may become one, where none is configured.
    callers: Callers,
    sockets: Vec<Connection>,
    /// Connections whose end the other side has not read yet: closed at once, they would be reset, and our last words lost.
    closing: VecDeque<(TcpStream, Instant)>,
    next_id: ConnectionId,
    accept_after: Option<Instant>,
    stranger_logged: Option<Instant>,
}

impl Service {
    /// Everything that is configured, before anybody has called.
    pub fn new(
        config: &BgpConfig,
        first: FeedId,
        sink: SyncSender<Batch>,
        listeners: Vec<TcpListener>,
        inbox: Inbox,
        shared: Arc<Shared>,
    ) -> Service {
        let mut service = Service {
            config: config.clone(),
            first,
            sink,
            listeners,
            inbox,
            shared,
            peers: Vec::new(),
            callers: Callers::default(),
            sockets: Vec::new(),
            closing: VecDeque::new(),
            next_id: 0,
            accept_after: None,
            stranger_logged: None,
        };
        for neighbour in &config.neighbours {
            service.add(neighbour.clone());
        }
        service
    }

    /// Until it is asked to stop, or nobody takes what it has to say.
    pub fn run(&mut self) {
        for listener in &self.listeners {
            if let Ok(at) = listener.local_addr() {
                info!("BGP listens on {at}");
            }
        }
        while self.turn() {}
        for peer in &mut self.peers {
            peer.neighbour.stop();
        }
        self.outputs(Instant::now());
        let until = Instant::now() + STOP_TIME;
        while !self.closing.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
            self.finish(Instant::now());
        }
    }

    /// Waits until something happens and does what follows. Answers whether to go on.
    fn turn(&mut self) -> bool {
        let ready = self.wait();
        let now = Instant::now();
        let mut byte = [0; 64];
        while matches!((&self.inbox.woken).read(&mut byte), Ok(1..)) {}
        while let Ok(command) = self.inbox.commands.try_recv() {
            if !self.obey(command) {
                return false;
            }
        }
        if ready.accept {
            self.accept(now);
        }
        for id in ready.readable {
            self.read(id, now);
        }
        let us = self.anybody();
        for outcome in self.callers.read(&us, now) {
            self.called(outcome, now);
        }
        for index in 0..self.peers.len() {
            let blocked = !self.peers[index].offer(&self.sink);
            if !blocked {
                // What was read while the RIB had no room.
                self.process_all(index, now);
            }
            let blocked = self.peers[index].pending.is_some();
            self.peers[index].neighbour.tick(blocked, now);
        }
        self.outputs(now);
        self.finish(now);
        for peer in &mut self.peers {
            peer.offer(&self.sink);
            if peer.gone(&self.sink) {
                return false;
            }
        }
        self.forget_the_silent();
        true
    }

    /// `poll` on what can go on.
    fn wait(&self) -> Ready {
        let mut descriptors = vec![descriptor(&self.inbox.woken, libc::POLLIN)];
        let now = Instant::now();
        let accepting = self.accept_after.is_none_or(|after| now >= after);
        let listeners: &[TcpListener] = if accepting { &self.listeners } else { &[] };
        descriptors.extend(
            listeners
                .iter()
                .map(|listener| descriptor(listener, libc::POLLIN)),
        );
        let mut ids = Vec::new();
        for connection in &self.sockets {
            let reading = self.peers[connection.peer].pending.is_none();
            let events = if reading { libc::POLLIN } else { 0 }
                | if connection.output.is_empty() {
                    0
                } else {
                    libc::POLLOUT
                };
            // One that is asked for nothing still answers that it is closed, again and again.
            if events != 0 {
                descriptors.push(descriptor(&connection.stream, events));
                ids.push(connection.id);
            }
        }
        descriptors.extend(
            self.callers
                .streams()
                .map(|stream| descriptor(stream, libc::POLLIN)),
        );
        descriptors.extend(
            self.closing
                .iter()
                .map(|(stream, _)| descriptor(stream, libc::POLLIN)),
        );
        let timeout = self.deadline(now).map_or(-1, |wait| {
            i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: an array of descriptors that are open, and its length.
        let count = unsafe {
            libc::poll(
                descriptors.as_mut_ptr(),
                descriptors.len() as libc::nfds_t,
                timeout,
            )
        };
        if count <= 0 {
            return Ready::default();
        }
        let (listening, rest) = descriptors[1..].split_at(listeners.len());
        Ready {
            accept: listening.iter().any(|descriptor| descriptor.revents != 0),
            readable: ids
                .into_iter()
                .zip(rest)
                .filter(|(_, descriptor)| descriptor.revents & !libc::POLLOUT != 0)
                .map(|(id, _)| id)
                .collect(),
        }
    }

    /// How long nothing needs to be done.
    fn deadline(&self, now: Instant) -> Option<Duration> {
        if self.peers.iter().any(|peer| peer.pending.is_some()) {
            return Some(RETRY);
        }
        let neighbours = self.peers.iter().filter_map(|peer| peer.neighbour.next());
        let closing = self.closing.iter().map(|(_, until)| *until);
        neighbours
            .chain(closing)
            .chain(self.accept_after)
            .chain(self.callers.next())
            .min()
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Stop => return false,
            Command::Refresh(feed, answer) => {
                let peer = self.peers.iter_mut().find(|peer| peer.feed == feed);
                let _ = answer.send(peer.is_some_and(|peer| peer.neighbour.refresh()));
            }
        }
        true
    }

    fn accept(&mut self, now: Instant) {
        self.accept_after = None;
        for index in 0..self.listeners.len() {
            // Not for ever, however many there are.
            for _ in 0..socket::BACKLOG {
                match self.listeners[index].accept() {
                    Ok((stream, from)) => self.accepted(stream, from, now),
                    Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                    Err(why)
                        if matches!(why.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                    Err(why) => {
                        warn!("BGP cannot accept connections: {why}");
                        self.accept_after = Some(now + ACCEPT_PAUSE);
                        break;
                    }
                }
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream, from: SocketAddr, now: Instant) {
        let address = from.ip().to_canonical();
        if self.config.neighbours.is_empty() && address.is_loopback() {
            if let Err(why) = socket::prepare(&stream, from.is_ipv4(), false) {
                warn!("BGP connection from {from} cannot be used: {why}");
                return;
            }
            let us = self.anybody();
            if let Some(outcome) = self.callers.called(stream, from, &us, now) {
                self.called(outcome, now);
            }
            return;
        }
        let Some(index) = self.known(address) else {
            self.shared.counts.stranger(address, None, now);
            self.log_stranger(&format!("from {from}, which is no neighbour: closed"), now);
            return;
        };
        let half_open: usize = self.peers.iter().map(|peer| peer.neighbour.half_open()).sum();
        if half_open >= HALF_OPEN {
            self.shared.counts.crowded.fetch_add(1, Relaxed);
            return;
        }
        let peer = &mut self.peers[index];
        if let Err(why) = socket::prepare(&stream, from.is_ipv4(), peer.config.ttl_security) {
            warn!(peer = %peer.config.name, "BGP connection from {from} cannot be used: {why}");
            return;
        }
        self.connected(index, stream, Vec::new(), now);
    }

    /// A connection of a neighbour, which has said this already.
    fn connected(&mut self, index: usize, stream: TcpStream, said: Vec<u8>, now: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        let interface = stream.local_addr().ok().and_then(socket::interface);
        self.peers[index].neighbour.connected(id, interface, now);
        self.sockets.push(Connection::with_input(id, index, stream, said));
        self.outputs(now);
        if let Some(at) = self.sockets.iter().position(|connection| connection.id == id) {
            self.process(at, now);
            self.outputs(now);
        }
    }

    /// What became of somebody who called from this host.
    fn called(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Neighbour(caller) => {
                let address = caller.from.ip().to_canonical();
                let index = match self.known(address) {
                    Some(index) => index,
                    None => {
                        let config = BgpNeighbour::plain(address, self.config.local_as);
                        match self.room(now) {
                            Some(index) => self.put(index, config),
                            None => {
                                self.shared.counts.crowded.fetch_add(1, Relaxed);
                                return;
                            }
                        }
                    }
                };
                self.connected(index, caller.stream, caller.input, now);
            }
            Outcome::Refused(caller, fault) => {
                let address = caller.from.ip().to_canonical();
                self.log_stranger(&format!("from {} refused: {fault}", caller.from), now);
                self.shared.counts.stranger(address, Some(fault.why), now);
                self.wait_for_end(caller.stream, now);
            }
            Outcome::Gone => {
                self.shared.counts.strangers.fetch_add(1, Relaxed);
            }
            Outcome::Crowded => {
                self.shared.counts.crowded.fetch_add(1, Relaxed);
            }
        }
    }

    /// One line a second at most.
    fn log_stranger(&mut self, text: &str, now: Instant) {
        let due = |last| now.duration_since(last).as_secs() >= 1;
        if self.stranger_logged.is_none_or(due) {
            self.stranger_logged = Some(now);
            warn!("BGP connection {text}");
        }
    }

    /// The neighbour with this address.
    fn known(&self, address: IpAddr) -> Option<usize> {
        let at = |peer: &Peer| peer.config.address == address && !peer.vacant;
        self.peers.iter().position(at)
    }

    /// Who we are to whoever calls from this host.
    fn anybody(&self) -> Identity {
        let anybody = BgpNeighbour::plain(IpAddr::from([127, 0, 0, 1]), self.config.local_as);
        self.identity(&anybody)
    }

    fn identity(&self, config: &BgpNeighbour) -> Identity {
        Identity {
            local_as: self.config.local_as,
            peer_as: config.peer_as,
            router_id: self.config.router_id,
            hold_time: self.config.hold_time,
            add_path: config.add_path,
            graceful_restart: self.config.graceful_restart,
        }
    }

    /// A place for a neighbour that is not configured: a free one, or that of one that is away and of which nothing is left,
    /// or at worst of one that is here and has never said anything.
    fn room(&mut self, now: Instant) -> Option<usize> {
        if let Some(vacant) = self.peers.iter().position(|peer| peer.vacant) {
            return Some(vacant);
        }
        if self.peers.len() < UNNAMED {
            return Some(self.peers.len());
        }
        let idle = |peer: &Peer| peer.pending.is_none();
        let down = |peer: &Peer| idle(peer) && peer.neighbour.is_alone() && peer.neighbour.is_down();
        let silent = |peer: &Peer| idle(peer) && peer.neighbour.has_said_nothing();
        let peers = || self.peers.iter();
        let index = peers().position(down).or_else(|| peers().position(silent))?;
        self.peers[index].neighbour.stop();
        self.outputs(now);
        self.forget(index);
        Some(index)
    }

    /// Neighbours that are not configured are forgotten when they go without ever having told a route: a gate or a check of
    /// sources that waited for them would wait for nobody.
    fn forget_the_silent(&mut self) {
        if !self.config.neighbours.is_empty() {
            return;
        }
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            let silent = peer.neighbour.is_alone() && peer.neighbour.has_said_nothing();
            // What it has said last comes first.
            if silent && !peer.vacant && peer.pending.is_none() && !peer.neighbour.has_events() {
                self.forget(index);
            }
        }
    }

    /// Leaves nothing of a neighbour but its place.
    fn forget(&mut self, index: usize) {
        let config = self.peers[index].config.clone();
        let (mut empty, _) = self.make(index, config);
        empty.vacant = true;
        empty.pending = Some(Batch {
            feed: empty.feed,
            events: vec![FeedEvent::Forgotten],
        });
        let feed = empty.feed;
        self.peers[index] = empty;
        locked(&self.shared.feeds).retain(|known| known.id != feed);
    }

    /// A neighbour in a place, and its feed.
    fn make(&self, index: usize, config: BgpNeighbour) -> (Peer, Known) {
        let known = Known {
            id: self.first + index as FeedId,
            name: config.name.clone(),
            counts: Arc::default(),
            tap: Arc::default(),
        };
        let most = [
            config.limits.ipv4,
            config.limits.ipv6,
            config.limits.flowspec,
            config.limits.flowspec,
        ];
        let limits = Limits {
            most: most.map(|most| most as usize),
            disconnect: config.disconnect,
        };
        let (identity, counts) = (self.identity(&config), Arc::clone(&known.counts));
        let neighbour = Neighbour::new(config.name.clone(), identity, limits, counts);
        let tap = Arc::clone(&known.tap);
        (Peer::new(known.id, config, neighbour, tap), known)
    }

    /// Makes a neighbour and its feed in this place.
    fn put(&mut self, index: usize, config: BgpNeighbour) -> usize {
        let (mut peer, known) = self.make(index, config);
        locked(&self.shared.feeds).push(known);
        match self.peers.get_mut(index) {
            Some(place) => {
                // That the one before it is gone is said first.
                peer.pending = place.pending.take();
                *place = peer;
            }
            None => self.peers.push(peer),
        }
        index
    }

    fn add(&mut self, config: BgpNeighbour) {
        self.put(self.peers.len(), config);
    }

    /// Reads what a connection has, once: the others want their turn.
    fn read(&mut self, id: ConnectionId, now: Instant) {
        let Some(index) = self.sockets.iter().position(|connection| connection.id == id) else {
            return;
        };
        let peer = self.sockets[index].peer;
        if self.peers[peer].pending.is_some() {
            return;
        }
        let tapped = self.peers[peer].tapped == Some(id);
        let tap = tapped.then_some(&*self.peers[peer].tap);
        match self.sockets[index].read(tap) {
            Ok(0) => self.peers[peer]
                .neighbour
                .lost(id, "closed by the other side", now),
            Ok(_) => self.process(index, now),
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(why) => self.peers[peer].neighbour.lost(id, &why.to_string(), now),
        }
        self.outputs(now);
    }

    fn process_all(&mut self, peer: usize, now: Instant) {
        for index in 0..self.sockets.len() {
            if self.sockets[index].peer == peer && self.sockets[index].filled > 0 {
                self.process(index, now);
            }
        }
    }

    /// Takes the messages of a connection until they are through, or the RIB has no more room.
    fn process(&mut self, index: usize, now: Instant) {
        let connection = &mut self.sockets[index];
        let peer = &mut self.peers[connection.peer];
        let mut start = 0;
        while peer.pending.is_none() {
            let stream = &connection.input[start..connection.filled];
            let used = peer.neighbour.received(connection.id, stream, now);
            start += used;
            if !peer.offer(&self.sink) || used == 0 {
                break;
            }
        }
        connection.input.copy_within(start..connection.filled, 0);
        connection.filled -= start;
        peer.follow(&mut self.sockets);
    }

    /// Does what the neighbours want done with their connections.
    fn outputs(&mut self, now: Instant) {
        for peer in 0..self.peers.len() {
            for output in self.peers[peer].neighbour.outputs() {
                let (Output::Send(id, _) | Output::Close(id)) = &output;
                let Some(index) = self.sockets.iter().position(|connection| connection.id == *id) else {
                    continue;
                };
                match output {
                    Output::Send(_, message) => self.sockets[index].output.extend(message),
                    Output::Close(_) => self.close(index, now),
                }
            }
            self.peers[peer].follow(&mut self.sockets);
        }
        let mut lost = Vec::new();
        for connection in &mut self.sockets {
            match connection.flush() {
                Ok(taken) => {
                    let waits = !connection.output.is_empty();
                    let neighbour = &mut self.peers[connection.peer].neighbour;
                    neighbour.sending(connection.id, waits, taken, now);
                }
                Err(why) => lost.push((connection.id, connection.peer, why)),
            }
        }
        for (id, peer, why) in lost {
            self.peers[peer].neighbour.lost(id, &why.to_string(), now);
            // What it wants done now is to close a connection that does not take anything.
            for output in self.peers[peer].neighbour.outputs() {
                if let Output::Close(id) = output
                    && let Some(index) = self.sockets.iter().position(|connection| connection.id == id)
                {
                    self.close(index, now);
                }
            }
        }
    }

    /// Says the last words of a connection, and waits for the other side to have heard them.
    fn close(&mut self, index: usize, now: Instant) {
        let mut connection = self.sockets.swap_remove(index);
        let _ = connection.flush();
        let _ = connection.stream.shutdown(Shutdown::Write);
        self.wait_for_end(connection.stream, now);
        self.peers[connection.peer].follow(&mut self.sockets);
    }

    /// Keeps a connection until the other side has read its end, for a while.
    fn wait_for_end(&mut self, stream: TcpStream, now: Instant) {
        if self.closing.len() >= CLOSING {
            self.closing.pop_front();
        }
        self.closing.push_back((stream, now + CLOSE_TIME));
    }

    /// Lets go of connections that the other side has closed too, or that took too long.
    fn finish(&mut self, now: Instant) {
        let mut rest = [0; 4096];
        self.closing.retain_mut(|(stream, until)| {
            // A little at a time: who goes on sending is cut off by the time.
            let open = match stream.read(&mut rest) {
                Ok(count) => count > 0,
                Err(why) => matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            };
            open && now < *until
        });
    }
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    accept: bool,
    readable: Vec<ConnectionId>,
}

fn descriptor(of: &impl AsRawFd, events: i16) -> libc::pollfd {
    libc::pollfd {
        fd: of.as_raw_fd(),
        events,
        revents: 0,
    }
}
