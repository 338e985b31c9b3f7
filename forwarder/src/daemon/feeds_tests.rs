//! Feeds without sockets: what they say comes in pieces, in order, and they wait when nobody listens.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::*;
use crate::{
    daemon::gate::Awaited,
    dataplane::{Sizes, memory::MemoryDataplane},
    source::{
        event::Dump,
        feed::{FeedRoute, FeedState, FeedTable, Target},
        route_tables::RouteTables,
    },
};

/// A daemon that is a list of batches.
struct Fake {
    feeds: Arc<Mutex<Vec<FeedHandle>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running for Fake {
    fn feeds(&self) -> Vec<FeedHandle> {
        self.feeds.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn handle(id: FeedId) -> FeedHandle {
    FeedHandle {
        id,
        kind: "bgp",
        name: format!("peer{id}"),
        counts: Arc::default(),
        tap: Arc::default(),
        answers: None,
    }
}

/// Says these batches, and counts those that were taken from it. Feeds appear when they speak first, the last never ends.
fn says(batches: Vec<Batch>, taken: Arc<AtomicUsize>, stays: bool) -> Start<'static> {
    Box::new(move |sender| {
        let feeds: Arc<Mutex<Vec<FeedHandle>>> = Arc::default();
        let known = Arc::clone(&feeds);
        let thread = thread::spawn(move || {
            for batch in batches {
                let mut known = known.lock().expect("nobody panicked");
                if known.iter().all(|handle| handle.id != batch.feed) {
                    known.push(handle(batch.feed));
                }
                if let [FeedEvent::Forgotten] = batch.events[..] {
                    known.retain(|handle| handle.id != batch.feed);
                }
                drop(known);
                if sender.send(batch).is_err() {
                    return;
                }
                taken.fetch_add(1, Ordering::SeqCst);
            }
            while stays
                && sender
                    .send(Batch {
                        feed: 7,
                        events: Vec::new(),
                    })
                    .is_ok()
            {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let thread = Some(thread);
        Ok(Box::new(Fake { feeds, thread }))
    })
}

fn route(number: u32) -> FeedEvent {
    FeedEvent::Route {
        prefix: format!("20.{}.{}.0/24", number >> 8 & 255, number & 255)
            .parse()
            .expect("a prefix"),
        path_id: 0,
        route: FeedRoute {
            target: Target::Blackhole,
            attributes: Arc::default(),
        },
    }
}

fn engine() -> Engine<MemoryDataplane> {
    let sources = [Source::Bgp, Source::Kernel];
    let dataplane = MemoryDataplane::new(Sizes::SMALL);
    Engine::with_sources(dataplane, &sources, RouteTables::default()).expect("sound tables")
}

/// Adds a source of BGP that is this.
fn start(feeds: &mut Feeds, source: Start<'_>, engine: &mut Engine<MemoryDataplane>) {
    feeds
        .add(Source::Bgp, source, engine, &Waker::of_nobody())
        .expect("starts");
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_feed_waits_while_nobody_listens_and_everything_arrives_in_the_end() {
    let mut engine = engine();
    let batches: Vec<Batch> = (0..40u32)
        .map(|batch| Batch {
            feed: 7,
            events: (0..100).map(|n| route(batch * 100 + n)).collect(),
        })
        .collect();
    let taken = Arc::new(AtomicUsize::new(0));
    let mut feeds = Feeds::default();
    start(&mut feeds, says(batches, Arc::clone(&taken), true), &mut engine);
    assert_eq!(
        engine.awaited().len(),
        1,
        "the source, or its feed if that has called already"
    );
    engine.load(Dump::default());
    // The channel, the thread behind it and the loop's own piece hold so many.
    thread::sleep(Duration::from_millis(100));
    assert!(taken.load(Ordering::SeqCst) <= ROOM + 3, "{taken:?}");
    wait("every route", || {
        feeds.turn(&mut engine);
        engine.rib.feeds.len() == (4000, 0)
    });
    assert_eq!(engine.fib.len(), (4000, 0));
    assert_eq!(engine.awaited(), [Awaited::Feed(7)]);
    assert_eq!(feeds.handles().count(), 1);
}

#[test]
fn work_on_a_table_goes_before_what_its_feed_says_next_and_others_go_on() {
    let mut engine = engine();
    engine.load(Dump::default());
    let events = |events| Batch { feed: 7, events };
    let mark = FeedEvent::Mark {
        table: FeedTable::Ipv4,
        least_preferred: false,
    };
    let batches = vec![
        events((0..2000).map(route).collect()),
        events(vec![mark, route(1), FeedEvent::Sweep(FeedTable::Ipv4)]),
        events(vec![route(5000)]),
        Batch {
            feed: 8,
            events: vec![route(6000), FeedEvent::State(FeedState::Live)],
        },
    ];
    let mut feeds = Feeds::default();
    start(&mut feeds, says(batches, Arc::default(), true), &mut engine);
    wait("the second feed's route", || {
        feeds.turn(&mut engine);
        if engine.rib.feeds.count(7, FeedTable::Ipv4).1 > 0 {
            assert_eq!(
                engine.rib.feeds.stale(7, FeedTable::Ipv4, false).len() % 256,
                1999 % 256
            );
        }
        engine.feed(8).is_some_and(|feed| feed.state == FeedState::Live)
    });
    assert_eq!(engine.rib.feeds.len(), (3, 0));
    assert_eq!(
        feeds
            .handles()
            .map(|(_, handle, _)| handle.id)
            .collect::<Vec<_>>(),
        [7, 8]
    );
}

#[test]
fn a_feed_that_ends_by_itself_is_told() {
    let mut engine = engine();
    engine.load(Dump::default());
    let batches = vec![Batch {
        feed: 7,
        events: vec![route(1)],
    }];
    let mut feeds = Feeds::default();
    start(&mut feeds, says(batches, Arc::default(), false), &mut engine);
    wait("its end", || {
        feeds.turn(&mut engine);
        feeds.handles().any(|(_, _, ended)| ended)
    });
    assert_eq!(engine.rib.feeds.len(), (1, 0), "what it said stays");
}

#[test]
fn a_feed_that_is_forgotten_is_waited_for_no_more_and_shown_nowhere() {
    let mut engine = engine();
    let says_of = |feed, event| Batch {
        feed,
        events: vec![event],
    };
    let batches = vec![
        says_of(8, FeedEvent::State(FeedState::Connecting)),
        says_of(8, FeedEvent::Forgotten),
        says_of(10, FeedEvent::State(FeedState::Connecting)),
    ];
    let mut feeds = Feeds::default();
    start(&mut feeds, says(batches, Arc::default(), true), &mut engine);
    wait("the last one", || {
        feeds.turn(&mut engine);
        engine.feed(10).is_some()
    });
    assert!(engine.feed(8).is_none());
    let shown: Vec<FeedId> = feeds.handles().map(|(_, handle, _)| handle.id).collect();
    assert_eq!(shown, [10]);
    assert_eq!(engine.awaited(), [Awaited::Feed(10)]);
}
