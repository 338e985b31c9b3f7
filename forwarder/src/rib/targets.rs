//! Where the routes of feeds lead: each target once, with the paths it makes, and whether it leads anywhere.

use std::sync::Arc;

use forwarder_common::reason::Reason;

use super::interned::{Interned, Number};
use crate::{
    fib::path::Path,
    source::feed::{FeedId, Gateway, Target},
};

/// Identity of a target. Next-hop objects are numbered by each feed on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    space: Option<FeedId>,
    target: Target,
}

/// What follows from a target.
struct Way {
    /// What it does with IPv4 and with IPv6 packets.
    paths: [Arc<Path>; 2],
    /// Whether it leads somewhere.
    usable: bool,
}

/// Targets in use.
pub struct Targets {
    all: Interned<Name, Way>,
    /// Targets that came, whose way nobody has looked for yet.
    fresh: Vec<Number>,
    /// Gateways that no route names any more.
    idle: Vec<Gateway>,
    /// Goes up whenever one begins or ceases to lead somewhere.
    version: u64,
}

impl Default for Targets {
    fn default() -> Targets {
        let nothing = Name {
            space: None,
            target: Target::Unreachable,
        };
        Targets {
            // Routes of one next hop come in runs.
            all: Interned::new(nothing, 1),
            fresh: Vec::new(),
            idle: Vec::new(),
            version: 0,
        }
    }
}

impl Targets {
    /// The number of a target, with one reference more; `None` where there are too many.
    pub(super) fn hold(&mut self, feed: FeedId, target: &Target) -> Option<Number> {
        let space = matches!(target, Target::Nexthop(_)).then_some(feed);
        let before = self.all.len();
        let number = self.all.hold(
            0,
            |known| known.space == space && known.target == *target,
            || Name {
                space,
                target: target.clone(),
            },
            |name| Way {
                paths: [4, 6].map(|family| Arc::new(path_of(feed, &name.target, family))),
                usable: true,
            },
        )?;
        if self.all.len() > before && matches!(target, Target::Gateway(_) | Target::Nexthop(_)) {
            self.fresh.push(number);
        }
        Some(number)
    }

    /// One reference less.
    pub(super) fn release(&mut self, number: Number) {
        if let Some(Name {
            target: Target::Gateway(gateway),
            ..
        }) = self.all.release(number)
        {
            self.idle.push(gateway);
        }
    }

    /// A target as it came.
    pub(super) fn get(&self, number: Number) -> &Target {
        &self.all.get(number).target
    }

    /// Whether it leads somewhere.
    pub(super) fn is_usable(&self, number: Number) -> bool {
        self.all.value(number).usable
    }

    /// Targets in use.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether [`Self::take_fresh`] has anything to tell.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Targets that came since the last call.
    pub fn take_fresh(&mut self) -> Vec<Number> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|number| self.all.is_held(*number));
        fresh
    }

    /// Gateways that no route names any more.
    pub fn take_idle(&mut self) -> Vec<Gateway> {
        let mut idle = std::mem::take(&mut self.idle);
        idle.retain(|gateway| self.number_of(*gateway).is_none());
        idle
    }

    fn number_of(&self, gateway: Gateway) -> Option<Number> {
        let target = Target::Gateway(gateway);
        self.all.find(&Name { space: None, target })
    }

    /// Targets that lead to a gateway or a next-hop object, for which `concerned` says yes.
    pub fn select(&self, concerned: impl Fn(Option<FeedId>, &Target) -> bool) -> Vec<Number> {
        let of = |(name, number): (&Name, Number)| concerned(name.space, &name.target).then_some(number);
        self.all.iter().filter_map(of).collect()
    }

    /// The path of a target for packets of a family.
    pub fn path(&self, number: Number, ipv6: bool) -> &Arc<Path> {
        &self.all.value(number).paths[usize::from(ipv6)]
    }

    /// The gateway of a target, where it is one.
    pub fn gateway(&self, number: Number) -> Option<Gateway> {
        match self.get(number) {
            Target::Gateway(gateway) => Some(*gateway),
            _ => None,
        }
    }

    /// Says whether a target leads somewhere; answers whether that is news.
    pub fn set_usable(&mut self, number: Number, usable: bool) -> bool {
        let way = self.all.value_mut(number);
        let news = std::mem::replace(&mut way.usable, usable) != usable;
        self.version += u64::from(news);
        news
    }

    /// A number that is another whenever one began or ceased to lead somewhere.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Says the same of a gateway's target.
    pub fn set_gateway_usable(&mut self, gateway: Gateway, usable: bool) -> bool {
        match self.number_of(gateway) {
            Some(number) => self.set_usable(number, usable),
            None => false,
        }
    }
}

fn path_of(feed: FeedId, target: &Target, family: u8) -> Path {
    match target {
        Target::Gateway(gateway) => Path::Recursive {
            gateway: *gateway,
            family,
        },
        Target::Hops(hops) => {
            let mut hops = hops.clone();
            hops.sort_unstable();
            Path::Hops { hops, mtu: 0, family }
        }
        Target::Nexthop(id) => Path::FeedObject {
            feed,
            id: *id,
            family,
        },
        Target::Blackhole => Path::Special(Reason::Blackhole),
        Target::Unreachable => Path::Special(Reason::Unreachable),
        Target::Prohibit => Path::Special(Reason::Prohibit),
    }
}
