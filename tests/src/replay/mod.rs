//! Recordings of feeds, played again without sockets: what a feed says as text, and the table that follows from it.

mod bgp;
mod fpm;
mod kernel;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use forwarder::source::{
    event::{Hop, NexthopKind},
    feed::{FeedEvent, FeedHandle, FeedRoute, FeedState, FeedTable, FlowRule, Target},
    record::{self, Player},
    tap::Recording,
};
use ipnet::IpNet;

/// What a reader of a feed knows.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Routes by prefix and path, and whether they are stale.
    pub routes: BTreeMap<(IpNet, u32), (FeedRoute, bool)>,
    /// Rules by table and name, and whether they are stale.
    pub rules: BTreeMap<(FeedTable, Vec<u8>), (Arc<FlowRule>, bool)>,
    nexthops: BTreeMap<u32, NexthopKind>,
    /// State of the session.
    pub state: FeedState,
    /// Tables that have been synchronised since the session began.
    pub synchronised: BTreeSet<FeedTable>,
    /// Routes that were swept.
    pub swept: usize,
}

impl Picture {
    /// Takes an event.
    pub fn apply(&mut self, event: &FeedEvent) {
        match event {
            FeedEvent::State(state) => {
                if *state == FeedState::Syncing {
                    self.synchronised.clear();
                }
                self.state = *state;
            }
            FeedEvent::Route {
                prefix,
                path_id,
                route,
            } => {
                self.routes.insert((*prefix, *path_id), (route.clone(), false));
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
            FeedEvent::Flow(rule) => {
                let name = (rule.table, rule.nlri.clone());
                self.rules.insert(name, (Arc::clone(rule), false));
            }
            FeedEvent::FlowGone(table, nlri) => {
                self.rules.remove(&(*table, nlri.clone()));
            }
            FeedEvent::Mark { table, .. } => {
                for ((prefix, _), (_, stale)) in &mut self.routes {
                    *stale |= of(*table, prefix);
                }
                for ((of, _), (_, stale)) in &mut self.rules {
                    *stale |= of == table;
                }
            }
            FeedEvent::Sweep(table) => {
                let before = self.routes.len();
                self.routes
                    .retain(|(prefix, _), (_, stale)| !(*stale && of(*table, prefix)));
                self.swept += before - self.routes.len();
                self.rules.retain(|(of, _), (_, stale)| !(*stale && of == table));
            }
            FeedEvent::Forgotten => *self = Picture::default(),
            FeedEvent::Synchronised(table) => {
                self.synchronised.insert(*table);
            }
        }
    }

    /// Every prefix and what is done with its packets.
    #[must_use]
    pub fn ways(&self) -> BTreeMap<IpNet, String> {
        let ways = self.routes.iter();
        ways.map(|((prefix, _), (route, _))| (*prefix, self.way(&route.target)))
            .collect()
    }

    /// Routes that wait to be announced again.
    #[must_use]
    pub fn stale(&self) -> usize {
        self.routes.values().filter(|(_, stale)| *stale).count()
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
        for ((prefix, path_id), (route, stale)) in &self.routes {
            let path = if *path_id == 0 {
                String::new()
            } else {
                format!(" path {path_id}")
            };
            let _ = writeln!(
                text,
                "{prefix}{path} {} protocol {} metric {}{}",
                self.way(&route.target),
                route.attributes.protocol,
                route.attributes.metric,
                if *stale { " stale" } else { "" }
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

/// Plays a recording: every event with the second of its octets, and the table.
///
/// # Errors
/// The file is no recording of a feed that can be played.
pub fn play(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let player = Player::open(BufReader::new(file))?;
    match player.kind.as_str() {
        "bgp" => bgp::play(player),
        "fpm" => fpm::play(player),
        "kernel" => kernel::play(player),
        other => bail!("a recording of {other}"),
    }
}

/// Keeps what a feed said as `tests/data/KIND/NAME.rec`, when asked to (`cargo xtask bless --captures`).
///
/// # Errors
/// The file cannot be written.
pub fn keep(feed: &FeedHandle, recording: &Recording, name: &str) -> Result<()> {
    if std::env::var_os("FORWARDER_CAPTURE").is_none() {
        return Ok(());
    }
    let dir = data().join(feed.kind);
    std::fs::create_dir_all(&dir)?;
    let mut file = std::io::BufWriter::new(File::create(dir.join(format!("{name}.rec")))?);
    record::write_header(&mut file, feed.kind, &feed.name)?;
    for chunk in recording.chunks.try_iter() {
        record::write_chunk(&mut file, &chunk)?;
    }
    Ok(())
}

/// Where recordings are.
#[must_use]
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}
