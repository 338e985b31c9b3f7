//! Our speaker on the lab's router, and what its events amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail};
use forwarder::config::{self, BgpConfig};
use forwarder::source::bgp::Speaker;
use forwarder::source::feed::{
    Attributes, Batch, FeedEvent, FeedHandle, FeedRoute, FeedState, FeedTable, FlowRule, Gateway, Target,
};
use forwarder_tests::lab::Lab;
use ipnet::IpNet;

/// How many times the lab's own limit something may take.
const PATIENCE: usize = 3;

/// Our end of the session, and its feed.
pub struct Feed {
    pub speaker: Speaker,
    batches: Receiver<Batch>,
    /// Routes by prefix and path, and whether they are stale.
    pub routes: BTreeMap<(IpNet, u32), (FeedRoute, bool)>,
    /// Rules by table and name, and whether they are stale.
    pub rules: BTreeMap<(FeedTable, Vec<u8>), (Arc<FlowRule>, bool)>,
    pub state: FeedState,
    /// Tables that have been synchronised since the session began.
    pub synchronised: BTreeSet<FeedTable>,
    /// Routes that were swept.
    pub swept: usize,
}

impl Feed {
    /// Listens on the router with this `[routes.bgp]`.
    pub fn start(lab: &Lab, section: &str) -> Result<Feed> {
        let text = format!("[[interface]]\nname = \"a\"\n[routes.bgp]\n{section}");
        let config: BgpConfig = config::parse("test", &text)?.routes.bgp.context("no section")?;
        let (sink, batches) = sync_channel(64);
        // The thread it starts stays in the router's namespace.
        let speaker = lab.inside("router", || Ok(Speaker::start(&config, 0, sink)?))?;
        Ok(Feed {
            speaker,
            batches,
            routes: BTreeMap::new(),
            rules: BTreeMap::new(),
            state: FeedState::Down,
            synchronised: BTreeSet::new(),
            swept: 0,
        })
    }

    /// Takes what was said, and waits until that is so.
    pub fn wait(&mut self, lab: &Lab, what: &str, mut so: impl FnMut(&Feed) -> bool) -> Result<()> {
        // Daemons wait for half a minute and more after some ends.
        let mut done = Ok(());
        for _ in 0..PATIENCE {
            done = lab.wait(what, || {
                self.take();
                Ok(so(self).then_some(()))
            });
            if done.is_ok() {
                break;
            }
        }
        done.with_context(|| format!("{what}: {}", self.picture()))
    }

    /// Takes what was said.
    pub fn take(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            for event in batch.events {
                self.apply(event);
            }
        }
    }

    fn apply(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::State(state) => {
                if state == FeedState::Syncing {
                    self.synchronised.clear();
                }
                self.state = state;
            }
            FeedEvent::Route {
                prefix,
                path_id,
                route,
            } => {
                self.routes.insert((prefix, path_id), (route, false));
            }
            FeedEvent::RouteGone { prefix, path_id } => {
                self.routes.remove(&(prefix, path_id));
            }
            FeedEvent::Flow(rule) => {
                self.rules.insert((rule.table, rule.nlri.clone()), (rule, false));
            }
            FeedEvent::FlowGone(table, nlri) => {
                self.rules.remove(&(table, nlri));
            }
            FeedEvent::Mark { table, .. } => {
                for ((prefix, _), (_, stale)) in &mut self.routes {
                    *stale |= table_of(*prefix) == table;
                }
                for ((of, _), (_, stale)) in &mut self.rules {
                    *stale |= *of == table;
                }
            }
            FeedEvent::Sweep(table) => {
                let before = self.routes.len();
                self.routes
                    .retain(|(prefix, _), (_, stale)| !(*stale && table_of(*prefix) == table));
                self.swept += before - self.routes.len();
                self.rules.retain(|(of, _), (_, stale)| !(*stale && *of == table));
            }
            FeedEvent::Synchronised(table) => {
                self.synchronised.insert(table);
            }
            FeedEvent::Nexthop { .. } | FeedEvent::NexthopGone(_) => {
                panic!("BGP has no next-hop objects: {event:?}")
            }
        }
    }

    /// Every prefix of a family, once.
    pub fn prefixes(&self, ipv4: bool) -> Vec<IpNet> {
        let all: BTreeSet<IpNet> = self
            .routes
            .keys()
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| matches!(prefix, IpNet::V4(_)) == ipv4)
            .collect();
        all.into_iter().collect()
    }

    /// The next hops of a prefix, one for each path.
    pub fn gateways(&self, prefix: &str) -> Result<Vec<Gateway>> {
        let prefix: IpNet = prefix.parse()?;
        self.routes
            .iter()
            .filter(|((known, _), _)| *known == prefix)
            .map(|(_, (route, _))| match route.target {
                Target::Gateway(gateway) => Ok(gateway),
                ref other => bail!("{prefix} leads to {other:?}"),
            })
            .collect()
    }

    /// The attributes of a prefix's first path.
    pub fn attributes(&self, prefix: &str) -> Result<Arc<Attributes>> {
        let prefix: IpNet = prefix.parse()?;
        let route = self.routes.iter().find(|((known, _), _)| *known == prefix);
        let (_, (route, _)) = route.with_context(|| format!("no {prefix}: {}", self.picture()))?;
        Ok(Arc::clone(&route.attributes))
    }

    /// How many routes are stale.
    pub fn stale(&self) -> usize {
        self.routes.values().filter(|(_, stale)| *stale).count()
    }

    /// The only feed.
    pub fn handle(&self) -> Result<FeedHandle> {
        self.speaker
            .feeds()
            .into_iter()
            .next()
            .context("nobody has called")
    }

    pub fn errors(&self) -> u64 {
        self.handle()
            .map_or(0, |handle| handle.counts.errors.load(Relaxed))
    }

    pub fn sessions(&self) -> u64 {
        self.handle()
            .map_or(0, |handle| handle.counts.sessions.load(Relaxed))
    }

    /// What an operator would ask for.
    pub fn picture(&self) -> String {
        format!(
            "{:?}, {} routes ({} stale), {} rules, synchronised {:?}, last error {:?}, {:?}",
            self.state,
            self.routes.len(),
            self.stale(),
            self.rules.len(),
            self.synchronised,
            self.handle().ok().and_then(|handle| handle.counts.last_error()),
            self.speaker.views(),
        )
    }
}

const fn table_of(prefix: IpNet) -> FeedTable {
    match prefix {
        IpNet::V4(_) => FeedTable::Ipv4,
        IpNet::V6(_) => FeedTable::Ipv6,
    }
}

/// An address.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
