//! The controller's own knowledge, put where the API reads it.

use std::{
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    engine::{Engine, FeedStatus},
    feeds::Feeds,
    gate::Awaited,
    state::{Feed, State, Usage},
};
use crate::{
    clock,
    config::{Config, Source},
    dataplane::Dataplane,
    rib::{decision::UNLISTED, feeds::MOST_PATHS},
    source::feed::{FeedHandle, FeedState, FeedTable},
};

/// The state before the first dump is read.
pub fn starting(config: &Config) -> State {
    State {
        pid: process::id(),
        started: clock::unix_seconds(),
        feeds: vec![Feed {
            kind: "kernel".into(),
            name: "kernel".into(),
            state: "synchronising".into(),
            forwards: config.routes.sources.contains(&Source::Kernel),
            ..Feed::default()
        }],
        roles: config
            .interfaces
            .iter()
            .map(|i| (i.name.clone(), i.role))
            .collect(),
        commits: config
            .interfaces
            .iter()
            .filter_map(|i| Some((i.name.clone(), i.commit?)))
            .collect(),
        ..State::default()
    }
}

/// The state as it is now; `elapsed` since it was filled last. `in_step` says whether the tables are known to be what the kernel
/// says, `gate_left` when a gate that is closed opens in any case.
pub fn fill<D: Dataplane>(
    state: &mut State,
    engine: &Engine<D>,
    feeds: &Feeds,
    in_step: bool,
    gate_left: Option<Duration>,
    elapsed: Duration,
    mut problems: Vec<String>,
) {
    let (laid4, laid6) = engine.fib.len();
    let (refused4, refused6) = engine.fib.refused();
    let (groups, next_hops) = engine.adjacencies.used();
    let usage = engine.fib.usage();
    let mut rows = vec![kernel(state.feeds.first(), engine, in_step)];
    rows.extend(
        feeds
            .handles()
            .map(|(source, handle, ended)| feed(engine, source, handle, ended)),
    );
    // Of neighbours that are not configured there is none until one calls: the source is there all the same.
    rows.extend(feeds.silent().map(|source| Feed {
        kind: source.name().into(),
        name: source.name().into(),
        state: FeedState::Down.name().into(),
        forwards: engine.rib.class_of(source) != UNLISTED,
        awaited: engine.awaited().contains(&Awaited::Source(source)),
        ..Feed::default()
    }));
    for row in &mut rows {
        let known = |other: &&Feed| (&other.kind, &other.name) == (&row.kind, &row.name);
        let before = state.feeds.iter().find(known).map_or(0, |known| known.updates);
        let rate = row.updates.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.1);
        row.updates_per_second = rate.round() as u64;
    }
    state.gated = engine.keeps_found();
    for row in &mut rows {
        // Nobody waits where nothing is kept.
        row.awaited &= state.gated;
    }
    state.feeds = rows;
    [state.strangers, state.crowded] = feeds.turned_away();
    if state.gated {
        let limit = match gate_left {
            Some(left) => format!("for {} s more at most (sync-timeout)", left.as_secs()),
            None => "without limit (sync-timeout is 0)".to_string(),
        };
        problems.push(format!(
            "routes found at the start are kept as they were until these have told theirs, {limit}: {}",
            awaited(engine, feeds).join(", ")
        ));
    }
    for row in &state.feeds {
        problems.extend(problem(row));
    }
    problems.extend(feeds.strangers().map(|(source, stranger)| {
        let (name, address) = (source.name(), stranger.address);
        match stranger.why {
            None => format!(
                "{name}: somebody calls from {address}, which is no neighbour, and is not served: is an address in \
                 [routes.{name}] wrong?"
            ),
            Some(why) => format!("{name}: somebody who calls from {address} is refused: {why}"),
        }
    }));
    if refused4 + refused6 > 0 {
        problems.push(format!(
            "the table is full: {refused4} IPv4 and {refused6} IPv6 prefixes are left to the kernel; \
             raise the sizes in [tables], then `forwarder detach` and start again"
        ));
    }
    state.refused_ipv4 = refused4 as u64;
    state.refused_ipv6 = refused6 as u64;
    state.paths_refused = engine.activity.paths_refused;
    state.usage = Usage {
        slots: usage.slots as u64,
        ipv4_blocks: usage.blocks4 as u64,
        ipv6_blocks: usage.blocks6 as u64,
        groups: groups as u64,
        next_hops: next_hops as u64,
        prefixes_ipv4: laid4 as u64,
        prefixes_ipv6: laid6 as u64,
    };
    state.problems = problems;
}

fn kernel<D: Dataplane>(before: Option<&Feed>, engine: &Engine<D>, in_step: bool) -> Feed {
    let (routes4, routes6) = engine.rib.kernel.len();
    let activity = engine.activity;
    let news =
        before.is_none_or(|known| (known.updates, known.resyncs) != (activity.updates, activity.resyncs));
    Feed {
        kind: "kernel".into(),
        name: "kernel".into(),
        state: if in_step { "in step" } else { "synchronising" }.into(),
        forwards: engine.rib.class_of(Source::Kernel) != UNLISTED,
        routes_ipv4: routes4 as u64,
        routes_ipv6: routes6 as u64,
        last_change: if news {
            clock::unix_seconds()
        } else {
            before.map_or(0, |known| known.last_change)
        },
        updates: activity.updates,
        resyncs: activity.resyncs,
        ..Feed::default()
    }
}

fn feed<D: Dataplane>(engine: &Engine<D>, source: Source, handle: &FeedHandle, ended: bool) -> Feed {
    let status = engine.feed(handle.id).cloned().unwrap_or_default();
    let routes = |table| engine.rib.feeds.count(handle.id, table);
    let (v4, v6) = (routes(FeedTable::Ipv4), routes(FeedTable::Ipv6));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &handle.counts;
    let unplaced = [FeedTable::Ipv4, FeedTable::Ipv6]
        .iter()
        .filter_map(|table| status.refused.get(table))
        .sum();
    let [answered, answers_dropped] = handle.answers.as_ref().map_or([0, 0], |answers| answers.counts());
    Feed {
        kind: source.name().into(),
        name: handle.name.clone(),
        state: if ended { "ended" } else { status.state.name() }.into(),
        forwards: engine.rib.class_of(source) != UNLISTED,
        awaited: engine.awaited().contains(&Awaited::Feed(handle.id)),
        routes_ipv4: v4.0 as u64,
        routes_ipv6: v6.0 as u64,
        stale_ipv4: v4.1 as u64,
        stale_ipv6: v6.1 as u64,
        flowspec_ipv4: engine.flows.count(handle.id, FeedTable::FlowSpec4) as u64,
        flowspec_ipv6: engine.flows.count(handle.id, FeedTable::FlowSpec6) as u64,
        last_change: status.last_change,
        updates: status.updates,
        sessions: count(&counts.sessions),
        messages: count(&counts.messages),
        end_of_rib: status.synchronised.iter().copied().collect(),
        errors: count(&counts.errors),
        refused: refused(&status, handle),
        unplaced,
        left_out: count(&counts.left_out),
        answered,
        answers_dropped,
        last_error: counts.last_error(),
        session: counts.session(),
        ..Feed::default()
    }
}

/// Routes and rules of a feed that were not taken, by the feed or by the tables.
pub fn refused(status: &FeedStatus, handle: &FeedHandle) -> u64 {
    handle.counts.refused.load(Ordering::Relaxed) + status.refused.values().sum::<u64>()
}

/// What is wrong with a source, if anything is.
fn problem(row: &Feed) -> Option<String> {
    let stale = row.stale_ipv4 + row.stale_ipv6;
    let who = if row.kind == row.name {
        row.name.clone()
    } else {
        format!("{} {}", row.kind, row.name)
    };
    if row.state == "ended" {
        Some(format!(
            "{who}: the feed has ended by itself, its routes stay as they are: start the controller again, and report it"
        ))
    } else if row.state == FeedState::Stale.name() {
        Some(format!(
            "{who}: the session is lost, {stale} routes of it are kept for its restart time"
        ))
    } else if row.forwards && row.state == FeedState::Down.name() && row.sessions == 0 {
        Some(format!(
            "{who}: no session since the start. The daemon connects, we only listen: is it told to?"
        ))
    } else if row.forwards && row.state == FeedState::Down.name() {
        Some(format!("{who}: no session, and no routes of it"))
    } else if row.unplaced > 0 {
        Some(format!(
            "{who}: {} routes are missing: {} because there were too many, {} because their prefix has {MOST_PATHS} routes \
             already, because its routes differ in more ways than are kept, or their \
             attributes take more memory than a session may. These are not asked for again: reset the session \
             when there is room",
            row.refused,
            row.refused - row.unplaced,
            row.unplaced
        ))
    } else if row.refused > 0 {
        Some(format!(
            "{who}: {} routes are missing, refused because there were too many",
            row.refused
        ))
    } else {
        None
    }
}

/// Whose first synchronisation is awaited, by name and with the state of its session.
pub fn awaited<D: Dataplane>(engine: &Engine<D>, feeds: &Feeds) -> Vec<String> {
    let name = |awaited| match awaited {
        Awaited::Source(source) => not_called(source),
        Awaited::Feed(id) => {
            let known = feeds.handles().find(|(_, handle, _)| handle.id == id);
            let name = known.map_or_else(|| id.to_string(), |(source, handle, _)| session(source, handle));
            let state = engine.feed(id).map(|feed| feed.state).unwrap_or_default();
            in_state(&name, state)
        }
    };
    engine.awaited().into_iter().map(name).collect()
}

/// What a session is called where others are named beside it.
pub fn session(source: Source, handle: &FeedHandle) -> String {
    format!("{} {}", source.name(), handle.name)
}

/// A session, and how it is.
pub fn in_state(name: &str, state: FeedState) -> String {
    format!("{name} ({})", state.name())
}

/// A source of which there is no session.
pub fn not_called(source: Source) -> String {
    format!("{} (nobody has called)", source.name())
}
