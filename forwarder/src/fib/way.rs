//! From a path to the next hops that routes, objects and gateways name for it, whether the fast path can use them or not.
//!
//! Pure. [`super::path`] makes of them what packets are sent to, [`super::origin`] where packets may come from.

use forwarder_common::reason::Reason;

use super::{
    path::{Path, Topology},
    recursion::Resolution,
};
use crate::source::{
    event::{Hop, NexthopKind},
    feed::FeedId,
};

/// Most next hops that an object of a feed leads to, groups of groups flattened; and most objects looked at for that.
const MOST_HOPS: usize = 256;
pub(super) const MOST_LOOKS: usize = 4096;
/// Most that one next hop of a nested group weighs.
const MOST_WEIGHT: u32 = 1 << 16;
/// How deep groups of a feed may nest.
pub(super) const DEPTH: usize = 4;

/// What a path leads to.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Every packet leaves with this reason.
    Special {
        /// The reason.
        reason: Reason,
        /// Its share.
        weight: u32,
    },
    /// A next hop.
    Hop {
        /// As the route or the object says it.
        hop: Hop,
        /// Route MTU, 0 = the interface's.
        mtu: u32,
        /// The share that a group of objects gives it; `None`: its own weight.
        share: Option<u32>,
    },
}

impl Step {
    fn special(reason: Reason, weight: u32) -> Step {
        Step::Special { reason, weight }
    }
}

/// What a path leads to, and the family of its packets.
pub(super) fn steps(world: &Topology, path: &Path) -> (Vec<Step>, u8) {
    match path {
        Path::Special(reason) => (vec![Step::special(*reason, 1)], 0),
        Path::Victim(_) => (vec![Step::special(Reason::Blackhole, 1)], 0),
        Path::Neighbour { ifindex, address } => {
            let family = if address.is_ipv4() { 4 } else { 6 };
            let hop = Hop {
                ifindex: *ifindex,
                gateway: Some(*address),
                weight: 1,
                dead: false,
                unsupported: false,
            };
            (hops(&[hop], 0), family)
        }
        Path::Hops {
            hops: all,
            mtu,
            family,
        } => (hops(all, *mtu), *family),
        Path::Object { id, mtu, family } => (object(world, *id, *mtu, None), *family),
        Path::Recursive { gateway, family } => {
            let steps = match world.gateways.get(gateway) {
                Some(Resolution::Hops { hops: all, mtu, .. }) => hops(all, *mtu),
                Some(Resolution::Object { id, mtu, direct, .. }) => object(world, *id, *mtu, Some(*direct)),
                Some(Resolution::Special { reason, .. }) => vec![Step::special(*reason, 1)],
                Some(Resolution::Unresolved(_)) | None => nowhere(),
            };
            (steps, *family)
        }
        Path::FeedObject { feed, id, family } => {
            let mut flat = Flat {
                world,
                feed: *feed,
                looks: 0,
                steps: Vec::new(),
            };
            flat.add(*id, 1, DEPTH);
            let steps = if flat.steps.is_empty() {
                nowhere()
            } else {
                flat.steps
            };
            (steps, *family)
        }
    }
}

fn hops(all: &[Hop], mtu: u32) -> Vec<Step> {
    let step = |hop: &Hop| Step::Hop {
        hop: *hop,
        mtu,
        share: None,
    };
    all.iter().map(step).collect()
}

/// What leads nowhere is left to the kernel, and weighs nothing: anything else is better.
fn nowhere() -> Vec<Step> {
    vec![Step::special(Reason::GatewayUnresolved, 0)]
}

/// `direct` is who is sent to where the object names an interface alone.
fn object(world: &Topology, id: u32, mtu: u32, direct: Option<std::net::IpAddr>) -> Vec<Step> {
    let step = |hop: &Hop, share| Step::Hop {
        hop: Hop {
            gateway: hop.gateway.or(direct),
            ..*hop
        },
        mtu,
        share,
    };
    let unsupported = || vec![Step::special(Reason::UnsupportedRoute, 1)];
    match world.nexthops.get(&id) {
        Some(NexthopKind::Hop(hop)) => vec![step(hop, None)],
        Some(NexthopKind::Blackhole) => vec![Step::special(Reason::Blackhole, 1)],
        Some(NexthopKind::Group(members)) if members.is_empty() => unsupported(),
        Some(NexthopKind::Group(members)) => members
            .iter()
            .map(|(member, weight)| {
                let weight = u32::from(*weight);
                match world.nexthops.get(member) {
                    Some(NexthopKind::Hop(hop)) => step(hop, Some(weight)),
                    Some(NexthopKind::Blackhole) => Step::special(Reason::Blackhole, weight),
                    // Groups do not nest (net/ipv4/nexthop.c); whatever else it is, the kernel knows.
                    _ => Step::special(Reason::UnsupportedRoute, weight),
                }
            })
            .collect(),
        Some(NexthopKind::Unsupported) | None => unsupported(),
    }
}

/// The next hops of a feed's object. What it names and nobody has told of yet is left out.
struct Flat<'a> {
    world: &'a Topology,
    feed: FeedId,
    looks: usize,
    steps: Vec<Step>,
}

impl Flat<'_> {
    fn add(&mut self, id: u32, weight: u32, depth: usize) {
        self.looks += 1;
        if self.looks > MOST_LOOKS || self.steps.len() >= MOST_HOPS {
            return;
        }
        let world = self.world;
        match world.feed_nexthops.get(&(self.feed, id)) {
            Some(NexthopKind::Hop(hop)) => self.steps.push(Step::Hop {
                hop: *hop,
                mtu: 0,
                share: Some(weight),
            }),
            Some(NexthopKind::Group(members)) if depth > 0 => {
                for (member, share) in members {
                    let weight = weight.saturating_mul((*share).max(1) as u32).min(MOST_WEIGHT);
                    self.add(*member, weight, depth - 1);
                }
            }
            Some(NexthopKind::Blackhole) => self.steps.push(Step::special(Reason::Blackhole, weight)),
            Some(NexthopKind::Group(_) | NexthopKind::Unsupported) => {
                self.steps.push(Step::special(Reason::UnsupportedRoute, weight));
            }
            None => {}
        }
    }
}
