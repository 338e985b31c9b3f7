//! Our speaker on the lab's router, and what its events amount to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, Result, bail};
use forwarder::config::{self, BgpConfig};
use forwarder::source::bgp::Speaker;
use forwarder::source::feed::{Attributes, Batch, FeedHandle, FeedState, Gateway, Target};
use forwarder::source::tap::Recording;
use forwarder_tests::lab::Lab;
use forwarder_tests::replay::{self, Picture};
use ipnet::IpNet;

/// How many times the lab's own limit something may take.
const PATIENCE: usize = 3;

/// Our end of the session, and its feed.
pub struct Feed {
    pub speaker: Speaker,
    batches: Receiver<Batch>,
    recordings: Vec<Recording>,
    picture: Picture,
}

impl Deref for Feed {
    type Target = Picture;

    fn deref(&self) -> &Picture {
        &self.picture
    }
}

impl DerefMut for Feed {
    fn deref_mut(&mut self) -> &mut Picture {
        &mut self.picture
    }
}

impl Feed {
    /// Listens on the router with this `[routes.bgp]`.
    pub fn start(lab: &Lab, section: &str) -> Result<Feed> {
        let text = format!("[[interface]]\nname = \"a\"\n[routes.bgp]\n{section}");
        let config: BgpConfig = config::parse("test", &text)?.routes.bgp.context("no section")?;
        let (sink, batches) = sync_channel(64);
        // The thread it starts stays in the router's namespace.
        let speaker = lab.inside("router", || Ok(Speaker::start(&config, 0, sink)?))?;
        // Configured neighbours are there before they have called.
        let feeds = speaker.feeds();
        let recordings = feeds.iter().filter_map(|feed| feed.tap.open()).collect();
        Ok(Feed {
            speaker,
            batches,
            recordings,
            picture: Picture::default(),
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
        done.with_context(|| format!("{what}: {}", self.summary()))
    }

    /// Takes what was said.
    pub fn take(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            for event in &batch.events {
                self.picture.apply(event);
            }
        }
    }

    /// Keeps what the configured neighbour with this index said, when asked to.
    pub fn keep(&self, index: usize, name: &str) -> Result<()> {
        let feeds = self.speaker.feeds();
        let of = feeds.get(index).zip(self.recordings.get(index));
        let (feed, recording) = of.context("no such neighbour is configured")?;
        replay::keep(feed, recording, name)
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

    /// Whether the session is live with so many prefixes of each family.
    pub fn is_whole(&self, numbers: usize) -> bool {
        self.state == FeedState::Live && [true, false].map(|ipv4| self.prefixes(ipv4).len()) == [numbers; 2]
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
        let (_, (route, _)) = route.with_context(|| format!("no {prefix}: {}", self.summary()))?;
        Ok(Arc::clone(&route.attributes))
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
    pub fn summary(&self) -> String {
        format!(
            "{:?}, {} routes ({} stale), {} rules, synchronised {:?}, last error {:?}, {:?}",
            self.state,
            self.routes.len(),
            self.stale(),
            self.rules.len(),
            self.synchronised,
            self.handle().ok().and_then(|handle| handle.counts.last_error()),
            self.handle().ok().map(|handle| handle.counts.session()),
        )
    }
}

/// An address.
pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
