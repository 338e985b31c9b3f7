//! The speaker as the rest of the controller holds it: started, asked, dropped. What it does is [`super::service`]'s.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::error;

use super::service::{Inbox, Service};
use super::socket;
use crate::config::BgpConfig;
use crate::locked::locked;
use crate::source::feed::{Batch, FeedCounts, FeedHandle, FeedId};
use crate::source::listening;
use crate::source::tap::Tap;

/// How long an answer of the thread may take.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Somebody who called and was not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// From where.
    pub address: IpAddr,
    /// When.
    pub at: Instant,
    /// What was wrong with its OPEN; `None`: nobody is configured at this address.
    pub why: Option<String>,
}

/// What neighbours cannot be blamed for.
#[derive(Debug, Default)]
pub struct SpeakerCounts {
    /// Connections from addresses that are no neighbour's, or that did not say who they are.
    pub strangers: AtomicU64,
    /// The last of these.
    last_stranger: Mutex<Option<Stranger>>,
    /// Connections refused because too many were no sessions yet.
    pub crowded: AtomicU64,
}

impl SpeakerCounts {
    /// Counts a connection from an address that is no neighbour's, or whose OPEN was wrong: `why`.
    pub(super) fn stranger(&self, address: IpAddr, why: Option<String>, now: Instant) {
        self.strangers.fetch_add(1, Relaxed);
        let at = now;
        *locked(&self.last_stranger) = Some(Stranger { address, at, why });
    }

    /// Who called last and was not served.
    #[must_use]
    pub fn last_stranger(&self) -> Option<Stranger> {
        locked(&self.last_stranger).clone()
    }
}

/// What the thread is asked for.
pub(super) enum Command {
    /// To have a neighbour say everything again.
    Refresh(FeedId, Sender<bool>),
    /// To end.
    Stop,
}

/// What the thread writes and others read.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The feeds there are.
    pub feeds: Mutex<Vec<Known>>,
    /// What no neighbour counts.
    pub counts: SpeakerCounts,
}

/// A feed that exists.
#[derive(Debug)]
pub(super) struct Known {
    /// Its number.
    pub id: FeedId,
    /// The neighbour's name.
    pub name: String,
    /// Its counts.
    pub counts: Arc<FeedCounts>,
    /// Its tap.
    pub tap: Arc<Tap>,
}

/// A running speaker; dropping it stops it.
#[derive(Debug)]
pub struct Speaker {
    commands: Sender<Command>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Speaker {
    /// Listens, and serves whoever is configured. Feeds are numbered from `first`: one for each neighbour configured, or
    /// up to [`UNNAMED`](super::UNNAMED) when none is.
    ///
    /// # Errors
    /// An address that cannot be listened on, or a key that the kernel does not take.
    pub fn start(config: &BgpConfig, first: FeedId, sink: SyncSender<Batch>) -> io::Result<Speaker> {
        let mut listeners = Vec::new();
        for at in &config.listen {
            let listener = socket::listen(*at, &config.neighbours).map_err(|why| {
                let text = format!("BGP cannot listen on {at}: {}", listening::refusal(&why));
                io::Error::new(why.kind(), text)
            })?;
            listeners.push(listener);
        }
        let addresses = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (commands, received) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let inbox = Inbox {
            commands: received,
            woken,
        };
        let mut service = Service::new(config, first, sink, listeners, inbox, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("bgp".into())
            .spawn(move || service.run())?;
        Ok(Speaker {
            commands,
            waker,
            thread: Some(thread),
            shared,
            addresses,
        })
    }

    /// The feeds there are. Of neighbours that are not configured there is one once they called.
    #[must_use]
    pub fn feeds(&self) -> Vec<FeedHandle> {
        let feeds = locked(&self.shared.feeds);
        feeds
            .iter()
            .map(|known| FeedHandle {
                id: known.id,
                kind: "bgp",
                name: known.name.clone(),
                counts: Arc::clone(&known.counts),
                tap: Arc::clone(&known.tap),
                answers: None,
            })
            .collect()
    }

    /// Asks a neighbour for all its routes again (RFC 2918). Answers whether it could be asked.
    #[must_use]
    pub fn refresh(&self, feed: FeedId) -> bool {
        let (sender, answer) = mpsc::channel();
        self.command(Command::Refresh(feed, sender));
        answer.recv_timeout(ANSWER_TIME).unwrap_or_default()
    }

    /// What no neighbour counts.
    #[must_use]
    pub fn counts(&self) -> &SpeakerCounts {
        &self.shared.counts
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn command(&self, command: Command) {
        // A thread that has ended needs nothing said; a waker that is full has been heard.
        let _ = self.commands.send(command);
        let _ = (&self.waker).write(&[0]);
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the BGP speaker had ended before it was stopped");
        }
    }
}

#[cfg(test)]
#[path = "speaker_tests.rs"]
mod tests;
