//! A feed by FPM: octets and time in, events out.
//!
//! zebra connects and says its whole table, without a word when it has ended, then every change. So the end of the replay
//! is taken to be there when few updates have come for a while (`quiet-time`), and at the latest after `sync-time`. Few, not
//! none: the Internet's table never stands still. The first [`SMALL`] of a session count whatever their rate, so that a
//! small table that comes slowly is waited for. Who has said nothing at all has not told an empty table: whoever can connect
//! would take away what zebra told before.
//!
//! ```text
//!          connected               quiet, or sync-time over
//!   Down ------------> Syncing ---------------------------> Live      Mark at the beginning of Syncing,
//!    ^                  |   ^                                |        Sweep and Synchronised at its end
//!    | restart-time     |   | connected                      |
//!    | over: Mark,      v   |                                |
//!    +----- Sweep ---- Stale <-------------------------------+ lost: Mark
//! ```
//! What is stale is marked when the session is lost, so that it shows as such, and again when the next begins: what a replay
//! that was cut short had said anew is nothing to rely on.
//!
//! Routes of a lost session stay for `restart-time`. Sessions that come and are lost again without ever being in step do
//! not prolong that: `restart-time` and `sync-time` after the first loss what is still stale goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::Fault;
use super::frame::Frames;
use super::table::{OverLimit, Table};
use crate::config::FpmConfig;
use crate::netlink::relayed::{self, Relayed};
use crate::source::feed::{FeedCounts, FeedEvent, FeedState, FeedTable};

/// Updates of a session that count as its replay however slowly they come.
const SMALL: u32 = 1_000;
/// Updates in a second that are more than the Internet's noise.
const BUSY: u32 = 100;
/// How long a frame may take from its first octet to its last.
const FRAME_TIME: Duration = Duration::from_secs(30);
/// How often unused objects are looked for.
const COLLECT: Duration = Duration::from_secs(60);

const TABLES: [FeedTable; 2] = [FeedTable::Ipv4, FeedTable::Ipv6];

/// The feed's state.
#[derive(Debug)]
pub struct Session {
    config: FpmConfig,
    counts: Arc<FeedCounts>,
    table: Table,
    frames: Frames,
    state: FeedState,
    /// The replay that is on.
    replay: Option<Replay>,
    /// When a session that had been in step was lost, until one is in step again.
    lost: Option<Instant>,
    /// When everything goes unless a session begins before.
    restart: Option<Instant>,
    /// Since when a frame is not whole.
    partial: Option<Instant>,
    /// More routes came than may be: nothing of this session is heard any more.
    deaf: bool,
    collected: Option<Instant>,
}

#[derive(Debug)]
struct Replay {
    /// The last time of many updates.
    busy: Instant,
    /// Ends at the latest then.
    deadline: Instant,
    /// The second that is counted.
    second: Instant,
    in_second: u32,
    updates: u32,
    /// A message has come.
    heard: bool,
}

impl Replay {
    fn update(&mut self, now: Instant) {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.in_second = 0;
        }
        self.in_second += 1;
        self.updates = self.updates.saturating_add(1);
        if self.updates <= SMALL || self.in_second >= BUSY {
            self.busy = now;
        }
    }

    /// A message came: it is from the first that quiet is counted.
    fn hear(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.heard, true) {
            self.busy = now;
        }
    }

    fn ends(&self, quiet: Duration) -> Instant {
        match self.heard {
            true => self.deadline.min(self.busy + quiet),
            false => self.deadline,
        }
    }
}

impl Session {
    /// Nobody has connected yet.
    #[must_use]
    pub fn new(config: FpmConfig, counts: Arc<FeedCounts>) -> Self {
        Self {
            table: Table::new(config.max_routes as usize, Arc::clone(&counts)),
            config,
            counts,
            frames: Frames::default(),
            state: FeedState::Down,
            replay: None,
            lost: None,
            restart: None,
            partial: None,
            deaf: false,
            collected: None,
        }
    }

    /// zebra has connected.
    pub fn connected(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.counts.sessions.fetch_add(1, Relaxed);
        self.frames.clear();
        self.partial = None;
        self.hear();
        self.restart = None;
        let deadline = now + self.config.sync_time;
        self.replay = Some(Replay {
            busy: now,
            deadline: self.patience().map_or(deadline, |end| end.min(deadline)),
            second: now,
            in_second: 0,
            updates: 0,
            heard: false,
        });
        self.enter(FeedState::Syncing, events);
        for table in TABLES {
            events.push(mark(table));
        }
        self.table.begin(now, events);
    }

    /// Octets came. After a fault the connection is to be closed and [`Self::lost`] to be called.
    pub fn received(&mut self, bytes: &[u8], now: Instant, events: &mut Vec<FeedEvent>) -> Result<(), Fault> {
        self.counts.bytes.fetch_add(bytes.len() as u64, Relaxed);
        if self.deaf {
            return Ok(());
        }
        let (mut over, mut whole) = (false, 0);
        let (counts, table, replay) = (&self.counts, &mut self.table, &mut self.replay);
        let result = self.frames.feed(bytes, |payload| {
            whole += 1;
            if over {
                return Ok(());
            }
            match frame(payload, table, counts, now, events) {
                Ok(routes) => {
                    if let Some(replay) = replay {
                        if !payload.is_empty() {
                            replay.hear(now);
                        }
                        (0..routes).for_each(|_| replay.update(now));
                    }
                    Ok(())
                }
                Err(Failed::OverLimit) => {
                    over = true;
                    Ok(())
                }
                Err(Failed::Fault(fault)) => Err(fault),
            }
        });
        if over {
            self.go_deaf(now, events);
            return Ok(());
        }
        self.partial = match self.partial {
            _ if !self.frames.is_partial() => None,
            Some(since) if whole == 0 => Some(since),
            _ => Some(now),
        };
        result
    }

    /// The connection is gone.
    pub fn lost(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.frames.clear();
        self.partial = None;
        self.replay = None;
        self.hear();
        if self.table.len() == 0 {
            self.lost = None;
            self.enter(FeedState::Down, events);
            return;
        }
        self.lost.get_or_insert(now);
        let restart = now + self.config.restart_time;
        self.restart = Some(self.patience().map_or(restart, |end| end.min(restart)));
        events.extend(TABLES.map(mark));
        self.enter(FeedState::Stale, events);
    }

    /// Time has passed. Call it when nothing is left to be read, or what waits in a socket counts as silence.
    pub fn tick(&mut self, now: Instant, events: &mut Vec<FeedEvent>) -> Result<(), Fault> {
        if self.partial.is_some_and(|since| now >= since + FRAME_TIME) {
            return Err(Fault::new(
                format!(
                    "a frame was not whole {} seconds after it began",
                    FRAME_TIME.as_secs()
                ),
                &[],
            ));
        }
        let quiet = self.config.quiet_time;
        if self
            .replay
            .as_ref()
            .is_some_and(|replay| now >= replay.ends(quiet))
        {
            self.replay = None;
            self.lost = None;
            events.extend(TABLES.map(FeedEvent::Sweep));
            self.table.sweep(now, events);
            events.extend(TABLES.map(FeedEvent::Synchronised));
            self.enter(FeedState::Live, events);
        }
        if self.restart.is_some_and(|end| now >= end) {
            self.restart = None;
            self.lost = None;
            self.drop_all(now, events);
        }
        if self.collected.is_none_or(|last| now >= last + COLLECT) {
            self.collected = Some(now);
            self.table.collect(now, events);
        }
        Ok(())
    }

    /// When the next [`Self::tick`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let quiet = self.config.quiet_time;
        [
            self.partial.map(|since| since + FRAME_TIME),
            self.replay.as_ref().map(|replay| replay.ends(quiet)),
            self.restart,
            self.collected
                .map(|last| last + COLLECT)
                .filter(|_| self.table.objects() > 0),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Routes known now.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.table.len()
    }

    /// Next-hop objects known now.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.table.objects()
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> FeedState {
        self.state
    }

    /// Until when stale routes may stay, whatever comes and goes.
    fn patience(&self) -> Option<Instant> {
        let lost = self.lost?;
        Some(lost + self.config.restart_time + self.config.sync_time)
    }

    /// A table that does not fit is no table: without some of its routes packets would follow what covers them.
    fn go_deaf(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        self.counts.over_limit.fetch_add(1, Relaxed);
        self.counts.refused.store(1, Relaxed);
        self.counts.note(format!(
            "more than max-routes = {} routes: nothing of this session is used",
            self.config.max_routes
        ));
        self.deaf = true;
        self.replay = None;
        self.lost = None;
        self.partial = None;
        self.frames.clear();
        self.drop_all(now, events);
    }

    /// What was refused went with the session.
    fn hear(&mut self) {
        self.deaf = false;
        self.counts.refused.store(0, Relaxed);
    }

    fn drop_all(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        for table in TABLES {
            events.push(mark(table));
            events.push(FeedEvent::Sweep(table));
        }
        self.table.clear(now, events);
        self.enter(FeedState::Down, events);
    }

    fn enter(&mut self, state: FeedState, events: &mut Vec<FeedEvent>) {
        if self.state != state {
            self.state = state;
            events.push(FeedEvent::State(state));
        }
    }
}

fn mark(table: FeedTable) -> FeedEvent {
    FeedEvent::Mark {
        table,
        least_preferred: false,
    }
}

enum Failed {
    Fault(Fault),
    OverLimit,
}

/// The messages of a frame; how many of them were about routes. An update is a DELROUTE and a NEWROUTE of the same prefix:
/// one event, or packets would find no route between the two.
fn frame(
    payload: &[u8],
    table: &mut Table,
    counts: &FeedCounts,
    now: Instant,
    events: &mut Vec<FeedEvent>,
) -> Result<u32, Failed> {
    let mut routes = 0;
    let mut withdrawal: Option<Relayed> = None;
    let mut apply = |message, events: &mut Vec<FeedEvent>| match table.apply(message, now, events) {
        Ok(route) => {
            routes += u32::from(route);
            Ok(())
        }
        Err(OverLimit) => Err(Failed::OverLimit),
    };
    for message in relayed::messages(payload) {
        counts.messages.fetch_add(1, Relaxed);
        let message = message.map_err(|why| Failed::Fault(Fault::new(why.to_string(), payload)))?;
        if let Some(before) = withdrawal.take()
            && !replaces(&message, &before)
        {
            apply(before, events)?;
        }
        if matches!(message, Relayed::RouteGone(..)) {
            withdrawal = Some(message);
        } else {
            apply(message, events)?;
        }
    }
    if let Some(last) = withdrawal {
        apply(last, events)?;
    }
    Ok(routes)
}

/// Whether an announcement takes the place of what a withdrawal before it took away.
fn replaces(message: &Relayed, before: &Relayed) -> bool {
    match (message, before) {
        (Relayed::Route(new, new_some), Relayed::RouteGone(old, old_some)) => {
            (new.prefix, new.table, new_some) == (old.prefix, old.table, old_some)
        }
        _ => false,
    }
}
