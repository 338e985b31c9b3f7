//! What a route does, and the next hops that leads to.
//!
//! Pure: from a [`Path`] and what is known of the world to the identity of next hops ([`Key`]) and the words of each.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::atomic::Ordering,
};

use forwarder_common::{
    directory::{NextHopEntry, State},
    nexthop::{EXACT_LENGTH, GENERIC, NextHop},
    reason::Reason,
};

use super::{
    family::Address,
    recursion::{Gateways, Resolution},
};
use crate::{
    dataplane::Tables,
    link::Links,
    neighbour::Neighbours,
    source::{
        event::{Hop, Ifindex, NexthopKind},
        feed::{FeedId, Gateway},
    },
};

/// What a route does, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Every packet leaves with this reason.
    Special(Reason),
    /// Next hops written in the route.
    Hops {
        /// Sorted.
        hops: Vec<Hop>,
        /// Route MTU, 0 = the interface's.
        mtu: u32,
        /// Family of the packets, 4 or 6.
        family: u8,
    },
    /// A next-hop object.
    Object {
        /// Its id.
        id: u32,
        /// Route MTU, 0 = the interface's.
        mtu: u32,
        /// Family of the packets, 4 or 6.
        family: u8,
    },
    /// A gateway that other routes lead to.
    Recursive {
        /// The gateway.
        gateway: Gateway,
        /// Family of the packets, 4 or 6.
        family: u8,
    },
    /// A next-hop object of a feed.
    FeedObject {
        /// Whose numbers these are.
        feed: FeedId,
        /// Its id.
        id: u32,
        /// Family of the packets, 4 or 6.
        family: u8,
    },
    /// A resolved neighbour on a connected subnet.
    Neighbour {
        /// Its interface.
        ifindex: Ifindex,
        /// Its address.
        address: IpAddr,
    },
}

impl Path {
    /// Whether it leads to gateways alone. Such a way can fail and be replaced; hosts of a connected subnet are nowhere
    /// else, and what the kernel does itself is the kernel's to replace.
    pub fn has_gateways(&self) -> bool {
        match self {
            Path::Hops { hops, .. } => hops.iter().all(|hop| hop.gateway.is_some() && !hop.unsupported),
            Path::Object { .. } | Path::Recursive { .. } | Path::FeedObject { .. } => true,
            Path::Special(_) | Path::Neighbour { .. } => false,
        }
    }

    /// Whether what it leads to may change while it stays the same.
    pub fn is_indirect(&self) -> bool {
        match self {
            Path::Object { .. } | Path::Recursive { .. } | Path::FeedObject { .. } => true,
            Path::Special(_) | Path::Hops { .. } | Path::Neighbour { .. } => false,
        }
    }

    /// Whether it means the same to another controller: numbers that a daemon gives may not outlive it.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Path::FeedObject { .. })
    }
}

/// Identity of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Every packet leaves with this reason.
    Special(Reason),
    /// A neighbour.
    Neighbour {
        /// Egress interface.
        ifindex: Ifindex,
        /// Its address there.
        address: IpAddr,
        /// Family of the packets.
        family: u8,
        /// Route MTU, 0 = the interface's.
        mtu: u32,
    },
}

/// What is known of the world beside routes.
#[derive(Default)]
pub struct Topology {
    /// Links.
    pub links: Links,
    /// Neighbours.
    pub neighbours: Neighbours,
    /// Next-hop objects.
    pub nexthops: HashMap<u32, NexthopKind>,
    /// Gateways of recursive routes.
    pub gateways: Gateways,
    /// Next-hop objects of feeds.
    pub feed_nexthops: HashMap<(FeedId, u32), NexthopKind>,
}

impl Topology {
    /// Whether an object of a feed is one of these, or a group that leads to one of them.
    pub fn names(&self, feed: FeedId, id: u32, these: &BTreeSet<u32>) -> bool {
        self.names_within(feed, id, these, DEPTH, &mut 0)
    }

    fn names_within(
        &self,
        feed: FeedId,
        id: u32,
        these: &BTreeSet<u32>,
        depth: usize,
        looks: &mut usize,
    ) -> bool {
        *looks += 1;
        if *looks > MOST_LOOKS || these.contains(&id) {
            return true;
        }
        match self.feed_nexthops.get(&(feed, id)) {
            Some(NexthopKind::Group(members)) if depth > 0 => members
                .iter()
                .any(|(member, _)| self.names_within(feed, *member, these, depth - 1, looks)),
            _ => false,
        }
    }
}

/// Most next hops that an object of a feed leads to, groups of groups flattened; and most objects looked at for that.
const MOST_HOPS: usize = 256;
const MOST_LOOKS: usize = 4096;
/// Most that one next hop of a nested group weighs.
const MOST_WEIGHT: u32 = 1 << 16;
/// How deep groups of a feed may nest.
const DEPTH: usize = 4;

/// The next hops a path leads to, with weights; weight 0 for one that the kernel does not use now.
pub(super) fn resolve(world: &Topology, path: &Path) -> Vec<(Key, u32)> {
    match path {
        Path::Special(reason) => vec![(Key::Special(*reason), 1)],
        Path::Neighbour { ifindex, address } => {
            let family = if address.is_ipv4() { 4 } else { 6 };
            let hop = Hop {
                ifindex: *ifindex,
                gateway: Some(*address),
                weight: 1,
                dead: false,
                unsupported: false,
            };
            vec![hop_key(world, &hop, family, 0)]
        }
        Path::Hops { hops, mtu, family } => hops
            .iter()
            .map(|hop| hop_key(world, hop, *family, *mtu))
            .collect(),
        Path::Object { id, mtu, family } => resolve_object(world, *id, *family, *mtu, None),
        Path::Recursive { gateway, family } => match world.gateways.get(gateway) {
            Some(Resolution::Hops { hops, mtu, .. }) => {
                let keys = hops.iter().map(|hop| hop_key(world, hop, *family, *mtu));
                keys.collect()
            }
            Some(Resolution::Object { id, mtu, direct, .. }) => {
                resolve_object(world, *id, *family, *mtu, Some(*direct))
            }
            Some(Resolution::Special { reason, .. }) => vec![(Key::Special(*reason), 1)],
            Some(Resolution::Unresolved(_)) | None => nowhere(),
        },
        Path::FeedObject { feed, id, family } => {
            let mut flat = Flat {
                world,
                feed: *feed,
                family: *family,
                looks: 0,
                hops: Vec::new(),
            };
            flat.add(*id, 1, DEPTH);
            if flat.hops.is_empty() {
                return nowhere();
            }
            flat.hops
        }
    }
}

/// What leads nowhere is left to the kernel, and weighs nothing: anything else is better.
fn nowhere() -> Vec<(Key, u32)> {
    vec![(Key::Special(Reason::GatewayUnresolved), 0)]
}

/// Whether these next hops are nowhere.
pub(super) fn is_nowhere(keys: &[(Key, u32)]) -> bool {
    keys.iter()
        .all(|(key, _)| *key == Key::Special(Reason::GatewayUnresolved))
}

/// Whether a path leads anywhere at all, working or not.
pub fn leads_somewhere(world: &Topology, path: &Path) -> bool {
    !path.is_indirect() || !is_nowhere(&resolve(world, path))
}

/// Whether a path has no next hop that another has not: it fails whenever that does.
pub fn adds_nothing(world: &Topology, path: &Path, other: &Path) -> bool {
    is_within(&resolve(world, path), &resolve(world, other))
}

/// The same of next hops.
pub fn is_within(keys: &[(Key, u32)], others: &[(Key, u32)]) -> bool {
    keys.iter()
        .all(|(key, _)| others.iter().any(|(other, _)| other == key))
}

/// The next hops of a feed's object. What it names and nobody has told of yet is left out.
struct Flat<'a> {
    world: &'a Topology,
    feed: FeedId,
    family: u8,
    looks: usize,
    hops: Vec<(Key, u32)>,
}

impl Flat<'_> {
    fn add(&mut self, id: u32, weight: u32, depth: usize) {
        self.looks += 1;
        if self.looks > MOST_LOOKS || self.hops.len() >= MOST_HOPS {
            return;
        }
        let world = self.world;
        match world.feed_nexthops.get(&(self.feed, id)) {
            Some(NexthopKind::Hop(hop)) => {
                let (key, usable) = hop_key(world, hop, self.family, 0);
                self.hops.push((key, usable.min(1) * weight));
            }
            Some(NexthopKind::Group(members)) if depth > 0 => {
                for (member, share) in members {
                    let weight = weight.saturating_mul((*share).max(1) as u32).min(MOST_WEIGHT);
                    self.add(*member, weight, depth - 1);
                }
            }
            Some(NexthopKind::Blackhole) => self.hops.push((Key::Special(Reason::Blackhole), weight)),
            Some(NexthopKind::Group(_) | NexthopKind::Unsupported) => {
                self.hops.push((Key::Special(Reason::UnsupportedRoute), weight));
            }
            None => {}
        }
    }
}

/// `direct` is who is sent to where the object names an interface alone.
fn resolve_object(
    world: &Topology,
    id: u32,
    family: u8,
    mtu: u32,
    direct: Option<IpAddr>,
) -> Vec<(Key, u32)> {
    let unsupported = || vec![(Key::Special(Reason::UnsupportedRoute), 1)];
    let hop_key = |world, hop: &Hop, family, mtu| {
        let hop = Hop {
            gateway: hop.gateway.or(direct),
            ..*hop
        };
        hop_key(world, &hop, family, mtu)
    };
    match world.nexthops.get(&id) {
        Some(NexthopKind::Hop(hop)) => vec![hop_key(world, hop, family, mtu)],
        Some(NexthopKind::Blackhole) => vec![(Key::Special(Reason::Blackhole), 1)],
        Some(NexthopKind::Group(members)) => {
            let resolved: Vec<_> = members
                .iter()
                .map(|(member, weight)| match world.nexthops.get(member) {
                    Some(NexthopKind::Hop(hop)) => {
                        let (key, usable) = hop_key(world, hop, family, mtu);
                        (key, usable.min(1) * *weight as u32)
                    }
                    Some(NexthopKind::Blackhole) => (Key::Special(Reason::Blackhole), *weight as u32),
                    // Groups do not nest (net/ipv4/nexthop.c); whatever else it is, the kernel knows.
                    _ => (Key::Special(Reason::UnsupportedRoute), *weight as u32),
                })
                .collect();
            if resolved.is_empty() {
                unsupported()
            } else {
                resolved
            }
        }
        Some(NexthopKind::Unsupported) | None => unsupported(),
    }
}

fn hop_key(world: &Topology, hop: &Hop, family: u8, mtu: u32) -> (Key, u32) {
    let gone = hop.ifindex != 0 && world.links.get(hop.ifindex).is_none();
    let weight = if hop.dead || gone {
        0
    } else {
        (hop.weight as u32).max(1)
    };
    let key = if hop.unsupported || hop.ifindex == 0 {
        Key::Special(Reason::UnsupportedRoute)
    } else if world.links.served(hop.ifindex).is_none() {
        Key::Special(Reason::EgressWithoutXdp)
    } else {
        match hop.gateway {
            None => Key::Special(Reason::NeighbourUnresolved),
            Some(address) => Key::Neighbour {
                ifindex: hop.ifindex,
                address,
                family,
                mtu,
            },
        }
    };
    (key, weight)
}

/// What can be said of the next hops that a path leads to, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// One at least can be used.
    Alive,
    /// None can, and the kernel may yet resolve one.
    Unresolved,
    /// None can, and one is the kernel's to use.
    Kernel,
    /// Links are down, gateways do not answer.
    Failed,
}

/// How next hops stand, whatever the tables say.
pub(super) fn standing(world: &Topology, members: &[(Key, u32)]) -> Standing {
    let mut all = Standing::Failed;
    for (key, _) in members.iter().filter(|(_, weight)| *weight > 0) {
        let Key::Neighbour { ifindex, address, .. } = key else {
            all = Standing::Kernel;
            continue;
        };
        if !world.links.is_up(*ifindex) || world.links.served(*ifindex).is_none() {
            continue;
        }
        if world.neighbours.mac(*ifindex, *address).is_some() {
            return Standing::Alive;
        }
        if all == Standing::Failed && !world.neighbours.has_failed(*ifindex, *address) {
            all = Standing::Unresolved;
        }
    }
    all
}

/// Brings a next hop's words up to date, one word at a time.
pub(super) fn write_nexthop(tables: &Tables, world: &Topology, id: u16, key: &Key) {
    let new = nexthop_of(world, key);
    let old = tables.nexthops.get(id as usize);
    if new == old {
        return;
    }
    let index = id as usize;
    let word = |offset, value: u64| {
        tables
            .nexthops
            .word(index, offset)
            .store(value, Ordering::Release)
    };
    let egress = |hop: &NextHop| (hop.ifindex, hop.mtu, hop.port, hop.flags, hop.source);
    let usable = |hop: &NextHop| hop.state() == Reason::Forwarded.index();
    // Losing it: say so first. Gaining it: last.
    if !usable(&new) {
        word(0, new.destination);
    }
    if egress(&new) != egress(&old) {
        word(8, new.source);
        word(16, new.ifindex as u64 | (new.mtu as u64) << 32);
        word(24, new.port as u64 | (new.flags as u64) << 16);
    }
    word(0, new.destination);
}

fn nexthop_of(world: &Topology, key: &Key) -> NextHop {
    let Key::Neighbour {
        ifindex,
        address,
        family,
        mtu,
    } = key
    else {
        let Key::Special(reason) = key else {
            return NextHop::special(Reason::Internal);
        };
        return NextHop::special(*reason);
    };
    let (Some(link), Some(served)) = (world.links.get(*ifindex), world.links.served(*ifindex)) else {
        return NextHop::special(Reason::NextHopDown);
    };
    let mac = world.neighbours.mac(*ifindex, *address);
    let state = if !world.links.is_up(*ifindex) {
        Reason::NextHopDown
    } else if mac.is_none() {
        Reason::NextHopUnresolved
    } else {
        Reason::Forwarded
    };
    let interface_mtu = if *family == 6 {
        link.mtu6.min(link.mtu)
    } else {
        link.mtu
    };
    let exact = if link.kind.is_empty() { 0 } else { EXACT_LENGTH };
    NextHop {
        destination: NextHop::destination_word(mac.unwrap_or_default(), state),
        source: NextHop::source_word(link.mac, 0),
        ifindex: *ifindex,
        mtu: if *mtu == 0 {
            interface_mtu
        } else {
            interface_mtu.min(*mtu)
        },
        port: served.port,
        flags: exact | if served.generic { GENERIC } else { 0 },
        reserved: 0,
    }
}

pub(super) fn entry_of(world: &Topology, key: &Key) -> NextHopEntry {
    match key {
        Key::Special(reason) => NextHopEntry {
            special: *reason as u8,
            ..NextHopEntry::default()
        },
        Key::Neighbour {
            ifindex,
            address,
            family,
            mtu,
        } => {
            let (octets, address_family) = match address {
                IpAddr::V4(v4) => (u32::from(*v4).octets16(), 4),
                IpAddr::V6(v6) => (v6.octets(), 6),
            };
            NextHopEntry {
                address: octets,
                ifindex: *ifindex,
                mtu: *mtu,
                family: address_family,
                packet_family: *family,
                port: world
                    .links
                    .served(*ifindex)
                    .map_or(0, |served| served.port as u32),
                ..NextHopEntry::default()
            }
        }
    }
}

/// The identity in a directory entry, if it is in use.
pub fn key_of(entry: &NextHopEntry) -> Option<Key> {
    if State::from_number(entry.state) != Some(State::Live) {
        return None;
    }
    let address = match entry.family {
        4 => u32::from_octets16(entry.address).ip(),
        6 => u128::from_octets16(entry.address).ip(),
        _ => return Reason::from_index(entry.special as usize).map(Key::Special),
    };
    Some(Key::Neighbour {
        ifindex: entry.ifindex,
        address,
        family: entry.packet_family,
        mtu: entry.mtu,
    })
}
