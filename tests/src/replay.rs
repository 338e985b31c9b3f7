//! Recordings of feeds, played again without sockets: what a feed says as text, and the table that follows from it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::BufReader,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use forwarder::{
    config::FpmConfig,
    source::{
        event::{Hop, NexthopKind},
        feed::{FeedCounts, FeedEvent, FeedState, FeedTable, Target},
        fpm::Session,
        record::Player,
        tap::Kind,
    },
};
use ipnet::IpNet;

/// A route as the picture has it.
#[derive(Clone, Debug)]
struct Known {
    target: Target,
    protocol: u8,
    metric: u32,
    stale: bool,
}

/// What a reader of a feed knows.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    routes: BTreeMap<(IpNet, u32), Known>,
    nexthops: BTreeMap<u32, NexthopKind>,
    /// State of the session.
    pub state: FeedState,
}

impl Picture {
    /// Takes an event.
    pub fn apply(&mut self, event: &FeedEvent) {
        match event {
            FeedEvent::State(state) => self.state = *state,
            FeedEvent::Route {
                prefix,
                path_id,
                route,
            } => {
                let known = Known {
                    target: route.target.clone(),
                    protocol: route.attributes.protocol,
                    metric: route.attributes.metric,
                    stale: false,
                };
                self.routes.insert((*prefix, *path_id), known);
            }
            FeedEvent::RouteGone { prefix, path_id } => {
                self.routes.remove(&(*prefix, *path_id));
            }
            FeedEvent::Nexthop { id, kind } => {
                self.nexthops.insert(*id, kind.clone());
            }
            FeedEvent::NexthopGone(id) => {
                self.nexthops.remove(id);
            }
            FeedEvent::Mark { table, .. } => {
                for ((prefix, _), known) in &mut self.routes {
                    known.stale |= of(*table, prefix);
                }
            }
            FeedEvent::Sweep(table) => self
                .routes
                .retain(|(prefix, _), known| !(known.stale && of(*table, prefix))),
            FeedEvent::Synchronised(_) | FeedEvent::Flow(_) | FeedEvent::FlowGone(..) => {}
        }
    }

    /// Every prefix and what is done with its packets.
    #[must_use]
    pub fn ways(&self) -> BTreeMap<IpNet, String> {
        let ways = self.routes.iter();
        ways.map(|((prefix, _), known)| (*prefix, self.way(&known.target)))
            .collect()
    }

    /// Routes that wait to be announced again.
    #[must_use]
    pub fn stale(&self) -> usize {
        self.routes.values().filter(|known| known.stale).count()
    }

    /// Next-hop objects.
    #[must_use]
    pub fn nexthops(&self) -> usize {
        self.nexthops.len()
    }

    fn way(&self, target: &Target) -> String {
        match target {
            Target::Hops(hops) => way(hops),
            Target::Nexthop(id) => match self.nexthops.get(id) {
                Some(NexthopKind::Hop(hop)) => way(&[*hop]),
                Some(NexthopKind::Group(members)) => {
                    let mut hops = Vec::new();
                    for (member, weight) in members {
                        match self.nexthops.get(member) {
                            Some(NexthopKind::Hop(hop)) => hops.push(Hop {
                                weight: *weight,
                                ..*hop
                            }),
                            other => return format!("member {member} is {other:?}"),
                        }
                    }
                    way(&hops)
                }
                other => format!("{other:?}"),
            },
            Target::Gateway(gateway) => format!("by {}", gateway.address),
            Target::Blackhole => "blackhole".into(),
            Target::Unreachable => "unreachable".into(),
            Target::Prohibit => "prohibit".into(),
        }
    }

    /// The table as text, in the order of prefixes.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for ((prefix, path_id), known) in &self.routes {
            let path = if *path_id == 0 {
                String::new()
            } else {
                format!(" path {path_id}")
            };
            let _ = writeln!(
                text,
                "{prefix}{path} {} protocol {} metric {}{}",
                self.way(&known.target),
                known.protocol,
                known.metric,
                if known.stale { " stale" } else { "" }
            );
        }
        text
    }
}

fn of(table: FeedTable, prefix: &IpNet) -> bool {
    match table {
        FeedTable::Ipv4 => prefix.addr().is_ipv4(),
        FeedTable::Ipv6 => prefix.addr().is_ipv6(),
        FeedTable::FlowSpec4 | FeedTable::FlowSpec6 => false,
    }
}

/// Hops in an order of their own, as text.
#[must_use]
pub fn way(hops: &[Hop]) -> String {
    let mut hops = hops.to_vec();
    hops.sort_unstable();
    let words = hops.iter().map(|hop| {
        let mut text = match hop.gateway {
            Some(gateway) => format!("via {gateway} if{}", hop.ifindex),
            None => format!("if{}", hop.ifindex),
        };
        if hop.weight != 1 {
            let _ = write!(text, " weight {}", hop.weight);
        }
        if hop.unsupported {
            text += " (kernel)";
        }
        text
    });
    words.collect::<Vec<_>>().join(", ")
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
        FeedEvent::Flow(rule) => format!("flow {:?} {:02x?}", rule.table, rule.nlri),
        FeedEvent::FlowGone(table, nlri) => format!("flow gone {table:?} {nlri:02x?}"),
    }
}

/// Plays a recording of an FPM feed: every event with the second of its octets, and the table at the end.
///
/// # Errors
/// The file is no such recording.
pub fn fpm(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let player = Player::open(BufReader::new(file))?;
    ensure!(player.kind == "fpm", "a recording of {}", player.kind);
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
