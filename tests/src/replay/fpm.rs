//! A recording of FPM, played again.

use std::{
    fmt::Write as _,
    io::BufRead,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use forwarder::{
    config::FpmConfig,
    source::{
        event::NexthopKind,
        feed::{FeedCounts, FeedEvent, FeedTable, Target},
        fpm::Session,
        record::Player,
        tap::Kind,
    },
};

use super::{Picture, way};

/// Every event, and the table at the end.
pub fn play(player: Player<impl BufRead>) -> Result<String> {
    let mut session = Session::new(FpmConfig::default(), Arc::new(FeedCounts::default()));
    let (start, mut first) = (Instant::now(), None);
    let mut told = Told::default();
    let mut events = Vec::new();
    let mut now = start;
    for chunk in player {
        let chunk = chunk?;
        let at = start + chunk.at.saturating_sub(*first.get_or_insert(chunk.at));
        now = pass(&mut session, now, at, &mut |event, at| {
            told.event(&event, at - start)
        })?;
        match chunk.kind {
            Kind::Begin => session.connected(now, &mut events),
            Kind::Read => session.received(&chunk.bytes, now, &mut events)?,
            Kind::End => session.lost(now, &mut events),
            Kind::Missed => bail!("octets are missing in the recording"),
        }
        for event in events.drain(..) {
            told.event(&event, now - start);
        }
    }
    let end = now + Duration::from_secs(600);
    pass(&mut session, now, end, &mut |event, at| {
        told.event(&event, at - start)
    })?;
    // The table before the end of the restart time empties it says more than an empty one.
    Ok(format!(
        "{}\nbefore the last sweep:\n{}",
        told.text, told.before_sweep
    ))
}

/// Lets time pass, with a look whenever one is due.
fn pass(
    session: &mut Session,
    mut now: Instant,
    end: Instant,
    each: &mut dyn FnMut(FeedEvent, Instant),
) -> Result<Instant> {
    while let Some(due) = session.due().filter(|due| *due <= end) {
        now = due.max(now);
        let mut events = Vec::new();
        session.tick(now, &mut events)?;
        events.into_iter().for_each(|event| each(event, now));
        if session.due().is_some_and(|next| next <= due) {
            bail!("time stands still");
        }
    }
    Ok(end.max(now))
}

#[derive(Default)]
struct Told {
    text: String,
    picture: Picture,
    before_sweep: String,
}

impl Told {
    fn event(&mut self, event: &FeedEvent, at: Duration) {
        if let FeedEvent::Sweep(FeedTable::Ipv4) = event {
            self.before_sweep = self.picture.table();
        }
        self.picture.apply(event);
        // Seconds: what the daemons did within one is not always in the same tenth.
        let _ = writeln!(self.text, "{:>4} {}", at.as_secs(), line(event));
    }
}

/// An event as a line.
fn line(event: &FeedEvent) -> String {
    match event {
        FeedEvent::State(state) => format!("state {}", state.name()),
        FeedEvent::Route {
            prefix,
            path_id,
            route,
        } => {
            let target = match &route.target {
                Target::Nexthop(id) => format!("next-hop {id}"),
                Target::Hops(hops) => way(hops),
                other => format!("{other:?}").to_lowercase(),
            };
            format!(
                "route {prefix} path {path_id} {target} protocol {} metric {}",
                route.attributes.protocol, route.attributes.metric
            )
        }
        FeedEvent::RouteGone { prefix, path_id } => format!("gone {prefix} path {path_id}"),
        FeedEvent::Nexthop { id, kind } => {
            let kind = match kind {
                NexthopKind::Hop(hop) => way(&[*hop]),
                NexthopKind::Group(members) => {
                    let words = members.iter().map(|(id, weight)| format!("{id}*{weight}"));
                    format!("group {}", words.collect::<Vec<_>>().join(" "))
                }
                NexthopKind::Blackhole => "blackhole".into(),
                NexthopKind::Unsupported => "(kernel)".into(),
            };
            format!("next-hop {id} {kind}")
        }
        FeedEvent::NexthopGone(id) => format!("next-hop {id} gone"),
        FeedEvent::Mark { table, .. } => format!("mark {table:?}").to_lowercase(),
        FeedEvent::Sweep(table) => format!("sweep {table:?}").to_lowercase(),
        FeedEvent::Synchronised(table) => format!("synchronised {table:?}").to_lowercase(),
        FeedEvent::Forgotten => "forgotten".into(),
        FeedEvent::Flow(rule) => format!("flow {:?} {:02x?}", rule.table, rule.nlri),
        FeedEvent::FlowGone(table, nlri) => format!("flow gone {table:?} {nlri:02x?}"),
    }
}
