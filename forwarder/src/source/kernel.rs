//! The kernel as a source of routes: a watcher that runs before the first dump, and a rule for when to dump again.
//!
//! The kernel does not announce everything. When a link goes down or away, an address is removed or a next-hop object is
//! deleted, IPv4 routes vanish without RTM_DELROUTE, and when a link changes its state the hops of routes that stay
//! change their flags in silence (seen on 6.18; IPv6 is announced but for the flags). So such events are followed by
//! [`Event::Resync`]. Resyncs are also what follows an overrun, and both come in storms; a dump of a full table takes a
//! second. They are spaced: the first comes at once, the next not before [`SPACING`] has passed since the last dump
//! ended, and not before as much time as the dump itself took, so that at most half of the time goes into dumps. None
//! is lost: one that comes too early waits.

pub mod recorder;
pub mod sysctl;

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::event::{Dump, DumpSink, Event, Ifindex, Link, Route};
use super::route_tables::RouteTables;
use crate::netlink::Error;
use crate::netlink::dump::{self, Scope};
use crate::netlink::watch::{News, Watcher, Watching};

/// Least time between the end of a dump and the next [`Event::Resync`].
pub const SPACING: Duration = Duration::from_millis(200);

/// Routes that the thread that reads a dump hands over at a time.
const BATCH: usize = 1024;
/// How many of those it may be ahead: a few megabytes.
const AHEAD: usize = 32;

/// What happened.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of the kernel. [`Event::Resync`] stands at most once, as the last: call
    /// [`KernelSource::dump`] then, and reconcile. [`Event::SysctlChanged`] stands at most once.
    pub events: Vec<Event>,
    /// The watcher has ended and will tell nothing more.
    pub ended: bool,
}

/// Ends the wait of [`KernelSource::next`], from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Sender<News>);

impl Waker {
    /// For tests: wakes nobody.
    #[cfg(test)]
    pub fn of_nobody() -> Waker {
        Waker(mpsc::channel().0)
    }

    /// Wakes whoever waits now, or else who waits next.
    pub fn wake(&self) {
        // Whoever is gone needs no waking.
        let _ = self.0.send(News::default());
    }
}

/// The kernel's tables and their changes, of the network namespace of the thread that opened it.
pub struct KernelSource {
    receiver: Receiver<News>,
    waker: Waker,
    watching: Watching,
    /// Batches of the watcher that were taken out of the channel.
    taken: u64,
    /// Until when what the kernel announced is in them, in nanoseconds of the monotonic clock.
    until: u64,
    policy: Policy,
    tables: RouteTables,
}

impl KernelSource {
    /// Starts to watch these tables. Call [`Self::dump`] next: from then on every change is in the dump or in a batch.
    pub fn open(tables: RouteTables) -> Result<Self, Error> {
        Self::with_watcher(Watcher::open()?, tables)
    }

    /// The same with a watcher of one's own.
    pub fn with_watcher(watcher: Watcher, tables: RouteTables) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel();
        let waker = Waker(sender.clone());
        let watching = watcher.spawn(sender)?;
        Ok(Self {
            receiver,
            waker,
            watching,
            taken: 0,
            until: 0,
            policy: Policy::default(),
            tables,
        })
    }

    /// Everything as it stands. Batches that were not fetched are dropped: the dump has their changes.
    pub fn dump(&mut self) -> Result<Dump, Error> {
        let mut dump = Dump::default();
        self.dump_into(&mut dump)?;
        Ok(dump)
    }

    /// The same piece by piece, so that a full table is not held twice. After an error discard what came: the next batch
    /// asks for another dump.
    pub fn dump_into(&mut self, sink: &mut dyn DumpSink) -> Result<(), Error> {
        let started = Instant::now();
        while let Ok(news) = self.receiver.try_recv() {
            self.take(&news);
            self.policy.observe(&news.events);
        }
        let result = complete_dump(&self.tables, sink);
        match &result {
            Ok(links) => self.policy.dumped(links, started, Instant::now()),
            Err(_) => self.policy.dump_failed(started, Instant::now()),
        }
        result.map(drop)
    }

    /// What ends the wait for a batch.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The next batch; an empty one when `timeout` has passed or a [`Waker`] was used.
    pub fn next(&mut self, timeout: Duration) -> Batch {
        let deadline = Instant::now() + timeout;
        loop {
            let now = Instant::now();
            let until = self.policy.due().map_or(deadline, |due| due.min(deadline));
            // Looked at before the channel: what the watcher sent last is in there by the time it has ended.
            let watched = self.watching.is_alive();
            let (mut incoming, woken, ended) =
                match self.receiver.recv_timeout(until.saturating_duration_since(now)) {
                    Ok(news) => {
                        self.take(&news);
                        let woken = news.events.is_empty();
                        (news.events, woken, false)
                    }
                    Err(RecvTimeoutError::Timeout) => (Vec::new(), false, !watched),
                    Err(RecvTimeoutError::Disconnected) => (Vec::new(), false, true),
                };
            incoming.retain(|event| self.mirrors(event));
            let events = self.policy.pass(&mut incoming, Instant::now());
            if !events.is_empty() || ended || woken || Instant::now() >= deadline {
                return Batch { events, ended };
            }
        }
    }

    fn take(&mut self, news: &News) {
        self.taken += u64::from(!news.events.is_empty());
        self.until = self.until.max(news.until.unwrap_or(0));
    }

    /// Until when every change that the kernel announced has been in a batch, or in a dump since: until `now`, a time of the monotonic clock
    /// in nanoseconds that was taken before this is called, when nothing is on its way. `None` while a dump is wanted.
    #[must_use]
    pub fn told_until(&self, now: u64) -> Option<u64> {
        let all = || self.watching.all_sent().is_some_and(|sent| sent <= self.taken);
        (!self.policy.wanted).then(|| if all() { now } else { self.until })
    }

    /// Whether an event is of a table that is mirrored, or of none.
    fn mirrors(&self, event: &Event) -> bool {
        match event {
            Event::Route { route, .. } | Event::RouteGone(route) => self.tables.rank(route.table).is_some(),
            _ => true,
        }
    }

    /// Whether the watcher still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.watching.is_alive()
    }
}

/// [`dump::settle`] first: among the events that were dropped may be one that the kernel announced before it was done.
/// Answers the links.
fn complete_dump(tables: &RouteTables, sink: &mut dyn DumpSink) -> Result<Vec<Link>, Error> {
    dump::settle()?;
    let surroundings = dump::dump(Scope::WITHOUT_ROUTES)?;
    let links = surroundings.links.clone();
    sink.surroundings(surroundings);
    stream_routes(tables, &mut |route| sink.route(route))?;
    Ok(links)
}

/// The routes, read and parsed on a thread of their own while the caller does something with those before: half of the time
/// of a dump is the kernel's, half of a load's is ours.
fn stream_routes(tables: &RouteTables, route: &mut dyn FnMut(Route)) -> Result<(), Error> {
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Route>>(AHEAD);
        let reading = thread::Builder::new()
            .name("dump".into())
            .spawn_scoped(scope, move || {
                let mut batch = Vec::with_capacity(BATCH);
                dump::dump_tables(tables, &mut |route| {
                    batch.push(route);
                    if batch.len() == BATCH {
                        // Nobody takes it only where the caller is unwinding.
                        let _ = sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                    }
                })?;
                let _ = sender.send(batch);
                Ok(())
            });
        let Ok(reading) = reading else {
            return dump::dump_tables(tables, route);
        };
        for batch in receiver {
            batch.into_iter().for_each(&mut *route);
        }
        reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// When to ask for a dump. Time is an input.
#[derive(Debug, Default)]
struct Policy {
    /// Up, carrier, running, as last seen; `None` where a dump and the events before it differ: then the next event may
    /// be older than the dump, and whatever it says counts as a change.
    links: HashMap<Ifindex, Option<[bool; 3]>>,
    /// A resync is wanted.
    wanted: bool,
    /// Not before this.
    earliest: Option<Instant>,
}

impl Policy {
    /// Takes what the watcher saw; what the caller is to see.
    fn pass(&mut self, incoming: &mut Vec<Event>, now: Instant) -> Vec<Event> {
        let mut sysctl = false;
        let mut events = std::mem::take(incoming);
        events.retain(|event| {
            self.wanted |= self.invalidates(event);
            match event {
                Event::Resync => false,
                Event::SysctlChanged => !std::mem::replace(&mut sysctl, true),
                _ => true,
            }
        });
        if self.wanted && self.earliest.is_none_or(|earliest| now >= earliest) {
            self.wanted = false;
            // Until the caller has dumped; should it fail to, this keeps a storm from becoming a loop.
            self.earliest = Some(now + SPACING);
            events.push(Event::Resync);
        }
        events
    }

    /// Whether routes may have changed without an announcement.
    fn invalidates(&mut self, event: &Event) -> bool {
        match event {
            Event::Resync | Event::AddressGone(_) | Event::NexthopGone(_) => true,
            // A new link has no routes yet; its addresses are announced with theirs.
            Event::Link(link) => {
                let state = Some(state(link));
                self.links
                    .insert(link.ifindex, state)
                    .is_some_and(|before| before != state)
            }
            Event::LinkGone(ifindex) => {
                self.links.remove(ifindex);
                true
            }
            Event::Address(_)
            | Event::Neighbour(_)
            | Event::NeighbourGone { .. }
            | Event::Nexthop(_)
            | Event::Route { .. }
            | Event::RouteGone(_)
            | Event::SysctlChanged => false,
        }
    }

    /// Takes events that the caller will not see, because a dump replaces them.
    fn observe(&mut self, events: &[Event]) {
        for event in events {
            self.invalidates(event);
        }
    }

    /// When a waiting resync is due.
    fn due(&self) -> Option<Instant> {
        self.earliest.filter(|_| self.wanted)
    }

    fn dumped(&mut self, links: &[Link], started: Instant, ended: Instant) {
        let state_of = |link: &Link| (link.ifindex, Some(state(link)));
        let before = std::mem::replace(&mut self.links, links.iter().map(state_of).collect());
        for (ifindex, state) in &mut self.links {
            if before.get(ifindex).is_some_and(|before| before != state) {
                *state = None;
            }
        }
        self.wanted = false;
        self.earliest = Some(ended + SPACING.max(ended.saturating_duration_since(started)));
    }

    fn dump_failed(&mut self, started: Instant, ended: Instant) {
        self.wanted = true;
        self.earliest = Some(ended + SPACING.max(ended.saturating_duration_since(started)));
    }
}

/// `IFF_RUNNING` follows the carrier after `linkwatch` has told the routing tables (NETDEV_CHANGE), so its change
/// counts as one too: at the carrier's own the flags of hops may still be the old ones.
fn state(link: &Link) -> [bool; 3] {
    [link.admin_up, link.carrier, link.running]
}

#[cfg(test)]
mod tests;
