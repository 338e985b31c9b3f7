//! The feeds of the configuration, and their way into the engine.
//!
//! A feed speaks its daemon's protocol on a thread of its own and sends batches down a bounded channel: while the engine is
//! behind, the feed stops reading, and the daemon waits. The controller's loop takes a slice of what there is, then looks at
//! the kernel again: the kernel's news wait for [`TURN`], or for the listing of a whole table, which takes a tenth of a second
//! for a full one.
//!
//! The loop sleeps on the kernel's news, so between a feed's channel and the loop there is a thread that passes a batch on
//! and wakes the loop.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, SyncSender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tracing::{error, info};

use super::engine::Engine;
use crate::{
    config::{RoutesConfig, Source},
    dataplane::Dataplane,
    source::{
        bgp::{Speaker, Stranger},
        feed::{Batch, FeedEvent, FeedHandle, FeedId},
        fpm::Fpm,
        kernel::Waker,
        record,
    },
};

/// Batches that wait in a feed's channel.
const ROOM: usize = 4;
/// How long feeds are listened to before the kernel is again.
pub const TURN: Duration = Duration::from_millis(10);
/// How long somebody who was turned away is worth a word: daemons call again every minute or two.
const LATELY: Duration = Duration::from_secs(150);
/// Events, or prefixes of work on a whole table, between two looks at the clock.
const SLICE: usize = 256;

/// Numbers of feeds: the same in every run. BGP's neighbours are numbered from theirs.
const FPM: FeedId = 1;
const BGP: FeedId = 16;

/// Something that runs one or more feeds; dropping it ends them.
pub trait Running: Send {
    /// The feeds there are. One whose neighbour is not configured may come later.
    fn feeds(&self) -> Vec<FeedHandle>;

    /// Connections that were closed and belong to no feed: from addresses that are no neighbour's, and those for which too
    /// many others were no sessions yet.
    fn turned_away(&self) -> [u64; 2] {
        [0, 0]
    }

    /// Who called last and was not served.
    fn last_stranger(&self) -> Option<Stranger> {
        None
    }
}

/// Starts what runs a source's feeds.
pub type Start<'a> = Box<dyn FnOnce(SyncSender<Batch>) -> Result<Box<dyn Running>> + 'a>;

/// What the configuration asks for.
fn configured(routes: &RoutesConfig) -> Vec<(Source, Start<'_>)> {
    let mut all: Vec<(Source, Start<'_>)> = Vec::new();
    if let Some(config) = &routes.bgp {
        all.push((
            Source::Bgp,
            Box::new(|sender| Ok(Box::new(Speaker::start(config, BGP, sender)?))),
        ));
    }
    if let Some(config) = &routes.fpm {
        all.push((
            Source::Fpm,
            Box::new(|sender| {
                let (feed, handle) = Fpm::start(*config, FPM, sender)?;
                Ok(Box::new(Zebra { _feed: feed, handle }))
            }),
        ));
    }
    all
}

impl Running for Speaker {
    fn feeds(&self) -> Vec<FeedHandle> {
        Speaker::feeds(self)
    }

    fn turned_away(&self) -> [u64; 2] {
        let counts = self.counts();
        [&counts.strangers, &counts.crowded].map(|count| count.load(Ordering::Relaxed))
    }

    fn last_stranger(&self) -> Option<Stranger> {
        self.counts().last_stranger()
    }
}

/// zebra's connection.
struct Zebra {
    _feed: Fpm,
    handle: FeedHandle,
}

impl Running for Zebra {
    fn feeds(&self) -> Vec<FeedHandle> {
        vec![self.handle.clone()]
    }
}

/// A source at work.
struct Line {
    source: Source,
    /// Dropped first: then a feed that waits for room sees that nobody will make any, and can be ended.
    batches: Receiver<Batch>,
    running: Box<dyn Running>,
    /// What is left of a batch.
    rest: Option<(FeedId, std::vec::IntoIter<FeedEvent>)>,
    /// Feeds that the engine knows.
    known: Vec<FeedHandle>,
    ended: bool,
    /// Where what they read is kept.
    record: Option<PathBuf>,
}

/// Every feed.
#[derive(Default)]
pub struct Feeds {
    lines: Vec<Line>,
    /// Where what they read is kept.
    record: Option<PathBuf>,
}

impl Feeds {
    /// None yet; what they will read is kept in this directory, where one is named.
    pub fn recording(record: Option<PathBuf>) -> Feeds {
        Feeds {
            lines: Vec::new(),
            record,
        }
    }

    /// Starts what the configuration asks for. `waker` wakes the loop.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn start<D: Dataplane>(
        &mut self,
        routes: &RoutesConfig,
        engine: &mut Engine<D>,
        waker: &Waker,
    ) -> Result<()> {
        for (source, start) in configured(routes) {
            self.add(source, start, engine, waker)
                .with_context(|| format!("[routes.{}]", source.name()))?;
        }
        Ok(())
    }

    /// Starts one source.
    ///
    /// # Errors
    /// It cannot start.
    pub fn add<D: Dataplane>(
        &mut self,
        source: Source,
        start: Start<'_>,
        engine: &mut Engine<D>,
        waker: &Waker,
    ) -> Result<()> {
        let (sender, from_feed) = mpsc::sync_channel(ROOM);
        let (to_loop, batches) = mpsc::sync_channel(1);
        let running = start(sender)?;
        let waker = waker.clone();
        thread::Builder::new()
            .name(format!("{} news", source.name()))
            .spawn(move || pass_on(&from_feed, &to_loop, &waker))
            .context("cannot start a thread")?;
        let mut line = Line {
            source,
            batches,
            running,
            rest: None,
            known: Vec::new(),
            ended: false,
            record: self.record.clone(),
        };
        engine.await_source(source);
        line.register(engine);
        self.lines.push(line);
        Ok(())
    }

    /// Applies what feeds have said, and work that is left from before, for about [`TURN`]. Answers whether there is more.
    pub fn turn<D: Dataplane>(&mut self, engine: &mut Engine<D>) -> bool {
        let until = Instant::now() + TURN;
        loop {
            let mut more = engine.work(SLICE);
            for line in &mut self.lines {
                more |= line.slice(engine);
            }
            if !more || Instant::now() >= until {
                return more;
            }
        }
    }

    /// Connections that belong to no feed: see [`Running::turned_away`].
    pub fn turned_away(&self) -> [u64; 2] {
        let all = self.lines.iter().map(|line| line.running.turned_away());
        all.fold([0, 0], |[a, b], [c, d]| [a + c, b + d])
    }

    /// The feeds there are: source, handle, and whether it has ended by itself.
    pub fn handles(&self) -> impl Iterator<Item = (Source, &FeedHandle, bool)> {
        self.lines.iter().flat_map(|line| {
            let handles = line.known.iter();
            handles.map(|handle| (line.source, handle, line.ended))
        })
    }

    /// Sources of which there is no feed yet.
    pub fn silent(&self) -> impl Iterator<Item = Source> {
        let silent = self.lines.iter().filter(|line| line.known.is_empty());
        silent.map(|line| line.source)
    }

    /// Who has called lately and was not served.
    pub fn strangers(&self) -> impl Iterator<Item = (Source, Stranger)> {
        self.lines.iter().filter_map(|line| {
            let stranger = line.running.last_stranger()?;
            (stranger.at.elapsed() < LATELY).then_some((line.source, stranger))
        })
    }
}

impl Line {
    /// Applies a slice. Answers whether it found anything to do.
    fn slice<D: Dataplane>(&mut self, engine: &mut Engine<D>) -> bool {
        let (feed, mut rest) = match self.rest.take() {
            Some(rest) => rest,
            None => match self.batches.try_recv() {
                Ok(batch) => {
                    let known = |line: &Line| line.known.iter().any(|handle| handle.id == batch.feed);
                    if !known(self) {
                        self.register(engine);
                    }
                    if !known(self) {
                        // It came and went before it was looked at.
                        return true;
                    }
                    (batch.feed, batch.events.into_iter())
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    if !std::mem::replace(&mut self.ended, true) {
                        error!(
                            source = self.source.name(),
                            "the feed has ended by itself: its routes stay as they are; start the controller again"
                        );
                    }
                    return false;
                }
            },
        };
        // What it says next is about a table that is still being swept.
        if !engine.is_busy(feed) {
            // So far that no work on a table is done in one piece because something is said behind it.
            let whole_table = |event: &FeedEvent| match event {
                FeedEvent::Sweep(_) => true,
                FeedEvent::Mark { least_preferred, .. } => *least_preferred,
                _ => false,
            };
            let ahead = rest.as_slice();
            let count = ahead.iter().take(SLICE).position(whole_table);
            let count = count.map_or(SLICE, |at| at + 1);
            if let [FeedEvent::Forgotten] = ahead {
                self.known.retain(|handle| handle.id != feed);
            }
            engine.apply_feed_events(feed, rest.by_ref().take(count));
        }
        if rest.len() > 0 {
            self.rest = Some((feed, rest));
        }
        true
    }

    /// Tells the engine of feeds that it does not know.
    fn register<D: Dataplane>(&mut self, engine: &mut Engine<D>) {
        for handle in self.running.feeds() {
            if !self.known.iter().any(|known| known.id == handle.id) {
                info!(kind = handle.kind, name = handle.name, "feed");
                if let Some(dir) = &self.record
                    && let Err(why) = record::keep(&handle, dir)
                {
                    error!(kind = handle.kind, name = handle.name, %why, "what the feed reads is not recorded");
                }
                engine.register(handle.id, self.source);
                if let Some(answers) = &handle.answers {
                    engine.answer_to(handle.id, Arc::clone(answers));
                }
                self.known.push(handle);
            }
        }
    }
}

fn pass_on(from_feed: &Receiver<Batch>, to_loop: &SyncSender<Batch>, waker: &Waker) {
    for batch in from_feed {
        if to_loop.send(batch).is_err() {
            return;
        }
        // Afterwards: the loop looks once when it is woken, and again while there is anything.
        waker.wake();
    }
}

#[cfg(test)]
#[path = "feeds_tests.rs"]
mod tests;
