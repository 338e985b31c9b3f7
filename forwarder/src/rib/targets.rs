//! Where the routes of feeds lead: each target once, with the paths it makes, and whether it leads anywhere.

use std::{collections::HashMap, sync::Arc};

use forwarder_common::reason::Reason;

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

/// A target in use.
pub struct Held {
    /// As it came.
    pub target: Target,
    /// What it does with IPv4 and with IPv6 packets.
    pub paths: [Arc<Path>; 2],
    /// Whether it leads somewhere.
    pub usable: bool,
    space: Option<FeedId>,
    references: u32,
}

/// Targets in use.
#[derive(Default)]
pub struct Targets {
    list: Vec<Held>,
    index: HashMap<Name, u32, foldhash::fast::RandomState>,
    free: Vec<u32>,
    last: Option<u32>,
    /// Targets that came, whose way nobody has looked for yet.
    fresh: Vec<u32>,
    /// Gateways that no route names any more.
    idle: Vec<Gateway>,
}

impl Targets {
    /// The number of a target, with one reference more.
    pub(super) fn hold(&mut self, feed: FeedId, target: &Target) -> u32 {
        let space = matches!(target, Target::Nexthop(_)).then_some(feed);
        let same = |held: &Held| held.space == space && held.target == *target;
        let last = self.last.filter(|number| same(&self.list[*number as usize]));
        let known = last.or_else(|| {
            let target = target.clone();
            self.index.get(&Name { space, target }).copied()
        });
        if let Some(number) = known {
            self.list[number as usize].references += 1;
            self.last = Some(number);
            return number;
        }
        let held = Held {
            target: target.clone(),
            paths: [4, 6].map(|family| Arc::new(path_of(feed, target, family))),
            usable: true,
            space,
            references: 1,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = held;
                number
            }
            None => {
                self.list.push(held);
                self.list.len() as u32 - 1
            }
        };
        let target = target.clone();
        if matches!(target, Target::Gateway(_) | Target::Nexthop(_)) {
            self.fresh.push(number);
        }
        self.index.insert(Name { space, target }, number);
        number
    }

    /// One reference less.
    pub(super) fn release(&mut self, number: u32) {
        let held = &mut self.list[number as usize];
        held.references -= 1;
        if held.references > 0 {
            return;
        }
        let name = Name {
            space: held.space,
            target: std::mem::replace(&mut held.target, Target::Unreachable),
        };
        self.index.remove(&name);
        if let Target::Gateway(gateway) = name.target {
            self.idle.push(gateway);
        }
        self.free.push(number);
        self.last = None;
    }

    pub(super) fn get(&self, number: u32) -> &Held {
        &self.list[number as usize]
    }

    /// Targets in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Whether [`Self::take_fresh`] has anything to tell.
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Targets that came since the last call.
    pub fn take_fresh(&mut self) -> Vec<u32> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|number| self.list[*number as usize].references > 0);
        fresh
    }

    /// Gateways that no route names any more.
    pub fn take_idle(&mut self) -> Vec<Gateway> {
        let mut idle = std::mem::take(&mut self.idle);
        idle.retain(|gateway| self.number_of(*gateway).is_none());
        idle
    }

    fn number_of(&self, gateway: Gateway) -> Option<u32> {
        let target = Target::Gateway(gateway);
        self.index.get(&Name { space: None, target }).copied()
    }

    /// Targets that lead to a gateway or a next-hop object, for which `concerned` says yes.
    pub fn select(&self, concerned: impl Fn(Option<FeedId>, &Target) -> bool) -> Vec<u32> {
        let of = |(name, number): (&Name, &u32)| concerned(name.space, &name.target).then_some(*number);
        self.index.iter().filter_map(of).collect()
    }

    /// The path of a target for packets of a family.
    pub fn path(&self, number: u32, ipv6: bool) -> &Arc<Path> {
        &self.list[number as usize].paths[usize::from(ipv6)]
    }

    /// The gateway of a target, where it is one.
    pub fn gateway(&self, number: u32) -> Option<Gateway> {
        match self.list[number as usize].target {
            Target::Gateway(gateway) => Some(gateway),
            _ => None,
        }
    }

    /// Says whether a target leads somewhere; answers whether that is news.
    pub fn set_usable(&mut self, number: u32, usable: bool) -> bool {
        let held = &mut self.list[number as usize];
        std::mem::replace(&mut held.usable, usable) != usable
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
