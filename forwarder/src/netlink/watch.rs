//! The stream of changes: multicast groups into batches of [`Event`].

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::constants::{
    NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_NETCONF, RTNLGRP_IPV6_ROUTE, RTNLGRP_LINK,
    RTNLGRP_NEIGH, RTNLGRP_NEXTHOP,
};
use super::socket::Socket;
use super::wire::Messages;
use super::{Error, Malformed, parse};
use crate::clock::monotonic_ns;
use crate::source::event::Event;

/// Room for some tens of thousands of changes while nobody reads. An overrun is normal when a daemon loads a full
/// table, and harmless: it asks for a dump.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Datagrams that one [`Watcher::read`] takes at most, so that a storm comes in batches.
const BATCH: usize = 4096;

/// At most one log line of unreadable messages in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Every group, and whether a kernel may lack it: NEXTHOP came with 5.3.
const GROUPS: [(u32, bool); 9] = [
    (RTNLGRP_LINK, false),
    (RTNLGRP_IPV4_IFADDR, false),
    (RTNLGRP_IPV6_IFADDR, false),
    (RTNLGRP_NEIGH, false),
    (RTNLGRP_IPV4_ROUTE, false),
    (RTNLGRP_IPV6_ROUTE, false),
    (RTNLGRP_NEXTHOP, true),
    (RTNLGRP_IPV4_NETCONF, false),
    (RTNLGRP_IPV6_NETCONF, false),
];

/// A subscription to every change that matters, in the network namespace of the thread that opened it.
pub struct Watcher {
    socket: Socket,
    malformed: u64,
    overruns: u64,
    logged: Option<Instant>,
    /// When the queue was last found empty, in nanoseconds of the monotonic clock.
    empty_at: Option<u64>,
}

/// What the thread of a watcher sends.
#[derive(Debug, Default)]
pub struct News {
    /// What happened, in order; nothing where somebody only wakes the receiver.
    pub events: Vec<Event>,
    /// Everything that the kernel had announced until then, in nanoseconds of the monotonic clock, is in this and what was sent before
    /// it. `None` where the queue was not empty when these had been read.
    pub until: Option<u64>,
}

impl Watcher {
    /// Joins all groups; changes are queued from now on.
    pub fn open() -> Result<Self, Error> {
        Self::with_receive_buffer(RECEIVE_BUFFER)
    }

    /// The same with a receive buffer of about `octets`.
    pub fn with_receive_buffer(octets: usize) -> Result<Self, Error> {
        let socket = Socket::open(octets)?;
        for (group, optional) in GROUPS {
            match socket.join(group) {
                Err(error) if optional && error.kind() == io::ErrorKind::InvalidInput => {
                    tracing::info!(group, "this kernel has no next-hop objects");
                }
                result => result.map_err(Error::os("join a netlink multicast group"))?,
            }
        }
        Ok(Self {
            socket,
            malformed: 0,
            overruns: 0,
            logged: None,
            empty_at: None,
        })
    }

    /// What has happened since the last call, without waiting; [`Event::Resync`] stands where messages were not understood,
    /// and at the end where some were lost. One call takes a bounded number of messages; while there are more, the
    /// descriptor stays readable.
    ///
    /// After an overrun the kernel drops everything, without another error, until the queue has been read empty
    /// (`NETLINK_S_CONGESTED`, net/netlink/af_netlink.c). Only a dump that starts after that has all; so then there is no
    /// bound, and none is needed, for nothing is added.
    pub fn read(&mut self) -> Result<Vec<Event>, Error> {
        let (mut events, mut overrun, mut taken) = (Vec::new(), false, 0);
        while taken < BATCH || overrun {
            taken += 1;
            let asked = monotonic_ns();
            let unreadable = match self.socket.receive(false) {
                Ok(Some(datagram)) => read_datagram(datagram, &mut events),
                Ok(None) => {
                    self.empty_at = Some(asked);
                    break;
                }
                Err(Error::Overrun) => {
                    overrun = true;
                    self.overruns += 1;
                    tracing::debug!(
                        overruns = self.overruns,
                        "netlink overrun (ENOBUFS): the tables are dumped again"
                    );
                    continue;
                }
                Err(Error::Malformed(malformed)) => Err(malformed),
                Err(error) => return Err(error),
            };
            if let Err(malformed) = unreadable {
                self.count_malformed(malformed);
                events.push(Event::Resync);
            }
        }
        events.extend(overrun.then_some(Event::Resync));
        Ok(events)
    }

    /// The same, datagram by datagram as the kernel sends them; answers whether some were lost.
    pub fn read_datagrams(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<bool, Error> {
        let (mut overrun, mut taken) = (false, 0);
        while taken < BATCH || overrun {
            taken += 1;
            match self.socket.receive(false) {
                Ok(Some(datagram)) => each(datagram),
                Ok(None) => break,
                Err(Error::Overrun | Error::Malformed(_)) => overrun = true,
                Err(error) => return Err(error),
            }
        }
        Ok(overrun)
    }

    /// Notifications that could not be read so far.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Overruns so far.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    fn count_malformed(&mut self, malformed: Malformed) {
        self.malformed += 1;
        if self.logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            tracing::warn!(%malformed, count = self.malformed, "unreadable notification of the kernel: dumping again");
        }
    }

    /// Runs it on a thread of its own that sends batches into `sender`. It ends when the receiver is gone, when the
    /// returned handle is dropped, or, after it has sent a last [`Event::Resync`], when the socket fails.
    pub fn spawn(mut self, sender: Sender<News>) -> Result<Watching, Error> {
        let (stopped, stop) = io::pipe().map_err(Error::os("make a pipe"))?;
        let stopped = OwnedFd::from(stopped);
        let queue = self.as_fd().try_clone_to_owned();
        let queue = queue.map_err(Error::os("look at the netlink socket"))?;
        let progress = Arc::new(Progress::default());
        let theirs = Arc::clone(&progress);
        let thread = thread::Builder::new()
            .name("netlink".into())
            .spawn(move || {
                if let Err(error) = self.run(&stopped, &sender, &theirs) {
                    tracing::error!(%error, "no more changes from the kernel");
                    // The receiver may be gone: then nobody needs to know.
                    let _ = sender.send(News {
                        events: vec![Event::Resync],
                        until: None,
                    });
                }
            })
            .map_err(Error::os("start the netlink thread"))?;
        Ok(Watching {
            stop: Some(stop),
            thread: Some(thread),
            queue,
            progress,
        })
    }

    fn run(&mut self, stopped: &OwnedFd, sender: &Sender<News>, progress: &Progress) -> Result<(), Error> {
        loop {
            progress.waits.store(true, SeqCst);
            let [_, stop] = poll([self.as_fd(), stopped.as_fd()], None)?;
            progress.waits.store(false, SeqCst);
            if stop {
                return Ok(());
            }
            self.empty_at = None;
            let events = self.read()?;
            if events.is_empty() {
                continue;
            }
            progress.sent.fetch_add(1, SeqCst);
            let until = self.empty_at;
            if sender.send(News { events, until }).is_err() {
                return Ok(());
            }
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How far a watcher's thread is.
#[derive(Default)]
struct Progress {
    /// It waits for the socket: what it has read, it has sent.
    waits: AtomicBool,
    /// Batches sent.
    sent: AtomicU64,
}

/// A watcher at work; dropping it ends its thread.
pub struct Watching {
    /// Its closing is the signal.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    /// The socket, to see whether something waits in it.
    queue: OwnedFd,
    progress: Arc<Progress>,
}

impl Watching {
    /// Whether the thread still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Whether everything that the kernel had announced when this was called is in the batches that were sent, and how many those are.
    /// `None` where some of it may be on its way.
    ///
    /// In this order: what is not in the socket any more was taken out of it by a thread that had said before that it waits no longer,
    /// and says that it waits again only after it has sent it.
    #[must_use]
    pub fn all_sent(&self) -> Option<u64> {
        let empty = poll([self.queue.as_fd()], Some(Duration::ZERO)).is_ok_and(|[readable]| !readable);
        (empty && self.progress.waits.load(SeqCst)).then(|| self.progress.sent.load(SeqCst))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Every message of a datagram, also those behind an unreadable one.
pub fn read_datagram(datagram: &[u8], events: &mut Vec<Event>) -> Result<(), Malformed> {
    let mut result = Ok(());
    for message in Messages(datagram) {
        let parsed = message.and_then(|message| match message.kind {
            NLMSG_NOOP | NLMSG_ERROR | NLMSG_DONE => Ok(()),
            NLMSG_OVERRUN => {
                events.push(Event::Resync);
                Ok(())
            }
            _ => parse::notification(&message, events),
        });
        result = result.and(parsed);
    }
    result
}

/// Waits until one of the descriptors is readable or closed by the other side; which.
pub(crate) fn poll<const N: usize>(
    descriptors: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> Result<[bool; N], Error> {
    let happened = poll_events(descriptors.map(|fd| (fd, libc::POLLIN)), timeout)?;
    Ok(happened.map(|events| events != 0))
}

/// The same for what is asked of each (`POLLIN`, `POLLOUT`); what happened to each.
pub(crate) fn poll_events<const N: usize>(
    descriptors: [(BorrowedFd<'_>, i16); N],
    timeout: Option<Duration>,
) -> Result<[i16; N], Error> {
    let mut polled = descriptors.map(|(fd, events)| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    });
    let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    loop {
        // SAFETY: the array is N pollfd long and lives for the call; the descriptors are borrowed for it.
        let result = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
        if result >= 0 {
            return Ok(polled.map(|fd| fd.revents));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(Error::os("poll")(error));
        }
    }
}
