//! Whether the routes are whole: only then may a source be turned away because none leads to it.
//!
//! A feed that is away, or has not told everything, leaves a table in which good sources have no route. Destinations of that
//! kind go to the kernel, which knows better; sources would be dropped. So source validation waits for every source of routes
//! that counts, and says so.

use super::{engine::Engine, feeds::Feeds, publish};
use crate::{dataplane::Dataplane, rib::decision::UNLISTED, source::feed::FeedState};

/// Why the routes may not be whole; `None`: they are, as far as anybody can know. `in_step` says whether the tables are
/// known to be what the kernel says.
pub fn of<D: Dataplane>(engine: &Engine<D>, feeds: &Feeds, in_step: bool) -> Option<String> {
    if !in_step {
        return Some("the kernel's are being read".into());
    }
    if engine.is_gated() {
        let awaited = publish::awaited(engine, feeds);
        return Some(format!("these have not told theirs: {}", awaited.join(", ")));
    }
    let counts = |source| engine.rib.class_of(source) != UNLISTED;
    if let Some(source) = feeds.silent().find(|source| counts(*source)) {
        return Some(format!("{}: nobody has called", source.name()));
    }
    feeds
        .handles()
        .filter(|(source, ..)| counts(*source))
        .find_map(|(source, handle, ended)| {
            let name = publish::session(source, handle);
            let status = engine.feed(handle.id).cloned().unwrap_or_default();
            let refused = publish::refused(&status, handle);
            if ended {
                Some(format!("{name} has ended"))
            } else if !matches!(status.state, FeedState::Live | FeedState::Stale) {
                Some(format!("{name} is {}", status.state.name()))
            } else if refused > 0 {
                Some(format!("{name}: {refused} routes were refused"))
            } else {
                None
            }
        })
}
