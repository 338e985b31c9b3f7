//! The socket that zebra connects to, and the thread that reads it.
//!
//! One connection at a time: two zebras would undo each other's routes. One that has said nothing for [`SILENCE`] that could be
//! understood gives its place to the next; what a silent one keeps out is never more than one attempt of zebra's. When the RIB is behind, the channel is full and
//! the socket is not read; zebra waits, with at most eight megabytes of its own. It waits for a whole second whenever these are
//! full while it walks its table (`fpm_rib_send`, zebra/dplane_fpm_nl.c), however soon there is room. So the kernel keeps most of
//! a full table for us ([`RECEIVE`]), which costs nothing where nothing waits.
//!
//! With `offload` what became of its routes goes back on the same connection. What zebra does not read stays in the socket, in
//! a buffer of [`WRITE`] octets and in [`Answers`]; none of it keeps the thread from reading.

use std::io::{self, ErrorKind, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tracing::{debug, info, warn};

use super::frame;
use super::session::Session;
use crate::config::FpmConfig;
use crate::netlink::{
    relayed,
    socket::force_receive_buffer,
    watch::{poll, poll_events},
};
use crate::source::answers::Answers;
use crate::source::feed::{Batch, FeedCounts, FeedEvent, FeedHandle, FeedId, FeedState, SessionView};
use crate::source::listening;
use crate::source::tap::Tap;

/// Octets read at once.
const READ: usize = 256 << 10;
/// Octets that the kernel may keep for us. It takes twice as many with its own overhead, and so keeps most of a full table.
/// Less in tests, which fill it.
const RECEIVE: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };
/// Octets of answers that are made ready at once.
const WRITE: usize = 64 << 10;
/// Events in a batch, about.
const BATCH: usize = 4_096;
/// Reads before the other descriptors are looked at.
const ROUNDS: usize = 64;
/// How long to wait for room in the channel before looking whether to stop.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long a client may hold the place against others without a message. zebra begins to tell at once.
const SILENCE: Duration = if cfg!(test) {
    Duration::from_millis(300)
} else {
    Duration::from_secs(2)
};
/// At most one log line of a kind about refused connections and the like in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The feed cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen for zebra on {address}: {}", listening::refusal(why))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: io::Error,
    },
    /// No thread, or no pipe.
    #[error("cannot start the FPM thread: {0}")]
    Thread(#[from] io::Error),
}

/// A feed at work; dropping it ends its thread and closes its sockets.
#[derive(Debug)]
pub struct Fpm {
    address: SocketAddr,
    /// Its closing is the signal.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Fpm {
    /// Listens, and sends what zebra says to `sender`.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub fn start(
        config: FpmConfig,
        id: FeedId,
        sender: SyncSender<Batch>,
    ) -> Result<(Self, FeedHandle), Error> {
        let listening = TcpListener::bind(config.listen).and_then(|listener| {
            listener.set_nonblocking(true)?;
            // Before a connection: it agrees on the window's scale.
            if let Err(error) = force_receive_buffer(&listener, RECEIVE) {
                debug!(%error, "no SO_RCVBUFFORCE: zebra waits longer while the RIB is behind");
            }
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = listening.map_err(|why| Error::Listen {
            address: config.listen,
            why,
        })?;
        let answers = Arc::new(Answers::new()?);
        let handle = FeedHandle {
            id,
            kind: "fpm",
            name: address.to_string(),
            counts: Arc::new(FeedCounts::default()),
            tap: Arc::new(Tap::default()),
            answers: config.offload.then(|| Arc::clone(&answers)),
        };
        let (stopped, stop) = io::pipe()?;
        let counts = Arc::clone(&handle.counts);
        let mut reader = Reader {
            listener,
            connection: None,
            stopped: OwnedFd::from(stopped),
            session: Session::new(config, Arc::clone(&counts)),
            events: Vec::new(),
            feed: id,
            sender,
            counts,
            tap: Arc::clone(&handle.tap),
            answers,
            buffer: vec![0; READ],
            unsent: Vec::new(),
            sent: 0,
            logged: [None; KINDS],
        };
        let thread = thread::Builder::new().name("fpm".into()).spawn(move || {
            // Why it ends is said where it is seen.
            let Ended = reader.run();
        })?;
        info!(%address, "waiting for zebra");
        let fpm = Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        };
        Ok((fpm, handle))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Who is connected.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    since: Instant,
    /// Messages of all sessions when it came.
    before: u64,
}

/// What is logged, each kind at its own pace: a client that is refused hides no loss of zebra's.
#[derive(Clone, Copy)]
enum Line {
    /// A client was refused, or another error.
    Refused,
    /// A client that had said nothing went.
    Silent,
    /// A session was lost.
    Lost,
}
const KINDS: usize = 3;

/// The thread is to end: it was told so, or nobody listens to it any more.
struct Ended;

struct Reader {
    listener: TcpListener,
    connection: Option<Client>,
    stopped: OwnedFd,
    session: Session,
    events: Vec<FeedEvent>,
    feed: FeedId,
    sender: SyncSender<Batch>,
    counts: Arc<FeedCounts>,
    tap: Arc<Tap>,
    answers: Arc<Answers>,
    buffer: Vec<u8>,
    /// Answers ready to be written, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    logged: [Option<Instant>; KINDS],
}

impl Reader {
    fn run(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.round() {
                return ended;
            }
        }
    }

    fn round(&mut self) -> Result<(), Ended> {
        let due = self.session.due();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()) + PATIENCE);
        let (stop, listener) = (self.stopped.as_fd(), self.listener.as_fd());
        let polled = match &self.connection {
            Some(Client { stream, .. }) => {
                let writing = if self.unsent.is_empty() { 0 } else { libc::POLLOUT };
                let waited = [
                    (stop, libc::POLLIN),
                    (listener, libc::POLLIN),
                    (stream.as_fd(), libc::POLLIN | writing),
                    (self.answers.as_fd(), libc::POLLIN),
                ];
                poll_events(waited, timeout)
            }
            None => poll([stop, listener], timeout)
                .map(|[stop, listener]| [i16::from(stop), i16::from(listener), 0, 0]),
        };
        let [stop, knocking, stream, answered] = polled.map_err(|why| {
            warn!(%why, "the FPM feed has ended");
            Ended
        })?;
        if stop != 0 {
            return Err(Ended);
        }
        let (knocking, readable) = (knocking != 0, stream & !libc::POLLOUT != 0);
        // What the connection still has to say, its end above all, comes before whoever wants its place.
        if readable {
            self.read()?;
        } else if due.is_some_and(|due| Instant::now() >= due)
            && let Err(fault) = self.session.tick(Instant::now(), &mut self.events)
        {
            self.close(&fault.to_string(), true);
        }
        if answered != 0 || stream & libc::POLLOUT != 0 {
            self.answer();
        }
        if knocking {
            self.accept();
        }
        self.send()
    }

    /// Writes answers, as many as the socket takes, and no more than [`ROUNDS`] times before zebra is heard again.
    fn answer(&mut self) {
        for _ in 0..ROUNDS {
            if self.sent == self.unsent.len() && !self.next_answers() {
                return;
            }
            let Some(Client { stream, .. }) = &mut self.connection else {
                return;
            };
            match stream.write(&self.unsent[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return,
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => {
                    self.close(&why.to_string(), false);
                    return;
                }
            }
        }
        if self.sent == self.unsent.len() {
            // Nobody wakes us for what waits already: what is ready does.
            self.next_answers();
        }
    }

    /// Makes answers ready to be written, each in a frame of its own: of a frame zebra reads the first message. Answers
    /// whether there was any.
    fn next_answers(&mut self) -> bool {
        self.forget_unsent();
        let mut message = Vec::with_capacity(relayed::LONGEST_ANSWER);
        let room = WRITE / (frame::HEADER + relayed::LONGEST_ANSWER);
        self.answers.take(room, |answer| {
            message.clear();
            relayed::answer(&answer, &mut message);
            frame::put(&message, &mut self.unsent);
        })
    }

    fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.sent = 0;
    }

    fn accept(&mut self) {
        let (stream, peer) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(why) if why.kind() == ErrorKind::WouldBlock => return,
            Err(why) => {
                self.error(&format!("cannot accept a connection: {why}"));
                // Out of descriptors: it stays readable, and there is nothing to do but wait.
                thread::sleep(Duration::from_millis(100));
                return;
            }
        };
        if let Some(client) = &self.connection {
            let other = client.peer;
            if self.has_spoken(client) || client.since.elapsed() < SILENCE {
                self.error(&format!(
                    "{peer} wants to connect while {other} is connected: refused"
                ));
                return;
            }
            self.close(&format!("it said nothing, and {peer} wants to connect"), true);
        }
        // A zebra on another machine that vanishes without a word is noticed within half a minute.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(5))
            .with_retries(4);
        let ready = stream
            .set_nonblocking(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        if let Err(why) = ready {
            self.error(&format!("cannot serve {peer}: {why}"));
            return;
        }
        info!(%peer, "zebra has connected");
        self.connection = Some(Client {
            stream,
            peer,
            since: Instant::now(),
            before: self.counts.messages.load(Relaxed),
        });
        self.show();
        self.tap.begin();
        self.answers.begin();
        self.session.connected(Instant::now(), &mut self.events);
    }

    /// Whether a client has said anything that could be understood.
    fn has_spoken(&self, client: &Client) -> bool {
        self.counts.messages.load(Relaxed) != client.before
    }

    /// Puts where others read it who is connected.
    fn show(&self) {
        self.counts.show(SessionView {
            connected: self.connection.as_ref().map(|client| client.peer.to_string()),
            ..SessionView::default()
        });
    }

    /// Reads what there is. Time passes for the session only when nothing is left.
    fn read(&mut self) -> Result<(), Ended> {
        for _ in 0..ROUNDS {
            let Some(Client { stream, .. }) = &mut self.connection else {
                return Ok(());
            };
            let length = match stream.read(&mut self.buffer) {
                Ok(0) => {
                    self.close("it closed the connection", false);
                    return Ok(());
                }
                Ok(length) => length,
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    if let Err(fault) = self.session.tick(Instant::now(), &mut self.events) {
                        self.close(&fault.to_string(), true);
                    }
                    return Ok(());
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => {
                    self.close(&why.to_string(), false);
                    return Ok(());
                }
            };
            let bytes = &self.buffer[..length];
            self.tap.read(bytes);
            if let Err(fault) = self.session.received(bytes, Instant::now(), &mut self.events) {
                self.close(&fault.to_string(), true);
                return Ok(());
            }
            if self.events.len() >= BATCH {
                self.send()?;
            }
        }
        Ok(())
    }

    fn close(&mut self, why: &str, fault: bool) {
        let Some(client) = self.connection.take() else {
            return;
        };
        let (peer, spoken) = (client.peer, self.has_spoken(&client));
        self.show();
        self.tap.end();
        self.answers.end();
        self.forget_unsent();
        self.session.lost(Instant::now(), &mut self.events);
        let routes = self.session.routes();
        if fault {
            self.counts.errors.fetch_add(1, Relaxed);
        }
        self.counts.note(format!("{peer}: {why}"));
        let kept = if self.session.state() == FeedState::Stale {
            "kept as stale"
        } else {
            "none kept"
        };
        // Once for a session, and zebra comes again after three seconds at the earliest.
        if self.may_log(if spoken { Line::Lost } else { Line::Silent }) {
            warn!(%peer, why, routes, kept, "the FPM session is lost");
        }
    }

    /// Counts it, and says it unless something of the kind was said just now.
    fn error(&mut self, text: &str) {
        self.counts.errors.fetch_add(1, Relaxed);
        self.counts.note(text.to_string());
        if self.may_log(Line::Refused) {
            warn!("FPM: {text}");
        }
    }

    fn may_log(&mut self, line: Line) -> bool {
        let now = Instant::now();
        let last = &mut self.logged[line as usize];
        let may = last.is_none_or(|last| now >= last + LOG_INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }

    /// Hands over what was said; waits while the RIB is behind.
    fn send(&mut self) -> Result<(), Ended> {
        if self.events.is_empty() {
            return Ok(());
        }
        let mut batch = Batch {
            feed: self.feed,
            events: std::mem::take(&mut self.events),
        };
        loop {
            batch = match self.sender.try_send(batch) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Ended),
                Err(TrySendError::Full(batch)) => batch,
            };
            if let Ok([true]) | Err(_) = poll([self.stopped.as_fd()], Some(PATIENCE)) {
                return Err(Ended);
            }
        }
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
