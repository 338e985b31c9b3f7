//! The controller's own knowledge, put where the API reads it.

use std::{
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    engine::Engine,
    state::{Feed, State, Usage},
};
use crate::{config::Config, dataplane::Dataplane};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The state before the first dump is read.
pub fn starting(config: &Config) -> State {
    State {
        pid: process::id(),
        started: now(),
        feeds: vec![Feed {
            name: "kernel".into(),
            state: "synchronising".into(),
            ..Feed::default()
        }],
        roles: config
            .interfaces
            .iter()
            .map(|i| (i.name.clone(), i.role))
            .collect(),
        ..State::default()
    }
}

/// The state as it is now. `in_step` says whether the tables are known to be what the kernel says.
pub fn fill<D: Dataplane>(state: &mut State, engine: &Engine<D>, in_step: bool, mut problems: Vec<String>) {
    let (routes4, routes6) = engine.rib.kernel.len();
    let (laid4, laid6) = engine.fib.len();
    let (refused4, refused6) = engine.fib.refused();
    let (groups, next_hops) = engine.adjacencies.used();
    let usage = engine.fib.usage();
    let activity = engine.activity;
    if let Some(feed) = state.feeds.first_mut() {
        if (feed.updates, feed.resyncs) != (activity.updates, activity.resyncs) {
            feed.last_change = now();
        }
        feed.state = if in_step { "in step" } else { "synchronising" }.into();
        feed.routes_ipv4 = routes4 as u64;
        feed.routes_ipv6 = routes6 as u64;
        feed.updates = activity.updates;
        feed.resyncs = activity.resyncs;
    }
    if refused4 + refused6 > 0 {
        problems.push(format!(
            "the table is full: {refused4} IPv4 and {refused6} IPv6 prefixes are left to the kernel; \
             raise the sizes in [tables], then `forwarder detach` and start again"
        ));
    }
    state.refused_ipv4 = refused4 as u64;
    state.refused_ipv6 = refused6 as u64;
    state.paths_refused = activity.paths_refused;
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
