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
    nexthop::{
        AGGREGATED, EXACT_LENGTH, GENERIC, INNER_SERVICE, NextHop, OUTER_SERVICE, OUTSIDE, SEVERAL_BUFFERS,
        TAGGED, TWICE,
    },
    reason::Reason,
};
use ipnet::IpNet;

use super::{
    family::{Address, prefix_of},
    recursion::Gateways,
    way::{DEPTH, MOST_LOOKS, Step, steps},
};
use crate::{
    dataplane::Tables,
    link::Links,
    neighbour::Neighbours,
    source::{
        event::{Hop, Ifindex, NexthopKind},
        feed::{FeedId, Gateway},
    },
    with_family,
};

/// What a route does, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Every packet leaves with this reason.
    Special(Reason),
    /// Every packet of this prefix is thrown away, and counted for it.
    Victim(IpNet),
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
            Path::Special(_) | Path::Victim(_) | Path::Neighbour { .. } => false,
        }
    }

    /// Whether what it leads to may change while it stays the same.
    pub fn is_indirect(&self) -> bool {
        match self {
            Path::Object { .. } | Path::Recursive { .. } | Path::FeedObject { .. } => true,
            Path::Special(_) | Path::Victim(_) | Path::Hops { .. } | Path::Neighbour { .. } => false,
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
    /// Packets of a blackhole route.
    Victim(IpNet),
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

/// The next hops a path leads to, with weights; weight 0 for one that the kernel does not use now.
pub(super) fn resolve(world: &Topology, path: &Path) -> Vec<(Key, u32)> {
    if let Path::Victim(prefix) = path {
        return vec![(Key::Victim(*prefix), 1)];
    }
    let (steps, family) = steps(world, path);
    let member = |step: &Step| match step {
        Step::Special { reason, weight } => (Key::Special(*reason), *weight),
        Step::Hop { hop, mtu, share } => {
            let (key, weight) = hop_key(world, hop, family, *mtu);
            (key, share.map_or(weight, |share| weight.min(1) * share))
        }
    };
    steps.iter().map(member).collect()
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

fn hop_key(world: &Topology, hop: &Hop, family: u8, mtu: u32) -> (Key, u32) {
    let gone = hop.ifindex != 0 && world.links.get(hop.ifindex).is_none();
    let weight = if hop.dead || gone {
        0
    } else {
        (hop.weight as u32).max(1)
    };
    let key = if hop.unsupported || hop.ifindex == 0 {
        Key::Special(Reason::UnsupportedRoute)
    } else if world
        .links
        .served(hop.ifindex)
        .is_none_or(|served| served.frame.closed)
    {
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
    let last = |hop: &NextHop| {
        hop.port as u64 | (hop.flags as u64) << 16 | (hop.device as u64) << 32 | (hop.inner as u64) << 48
    };
    let egress = |hop: &NextHop| (hop.ifindex, hop.mtu, hop.source, last(hop));
    let usable = |hop: &NextHop| hop.state() == Reason::Forwarded.index();
    // Losing it: say so first. Gaining it: last.
    if !usable(&new) {
        word(0, new.destination);
    }
    if egress(&new) != egress(&old) {
        word(8, new.source);
        word(16, new.ifindex as u64 | (new.mtu as u64) << 32);
        word(24, last(&new));
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
            return NextHop::special(Reason::Blackhole);
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
    let frame = served.frame;
    let [outer, inner] = frame.tags;
    let exact = frame.exact || frame.device == 0 && !link.kind.is_empty();
    let largest = match frame.most {
        0 => interface_mtu,
        most => interface_mtu.min(most),
    };
    let bits = [
        (EXACT_LENGTH, exact),
        (GENERIC, served.generic),
        (OUTSIDE, served.outside),
        (TAGGED, outer.is_some() && inner.is_none()),
        (TWICE, inner.is_some()),
        (OUTER_SERVICE, outer.is_some_and(|tag| tag.service)),
        (INNER_SERVICE, inner.is_some_and(|tag| tag.service)),
        (AGGREGATED, frame.aggregated),
        (SEVERAL_BUFFERS, frame.several),
    ];
    NextHop {
        destination: NextHop::destination_word(mac.unwrap_or_default(), state),
        source: NextHop::source_word(link.mac, outer.map_or(0, |tag| tag.id)),
        ifindex: if frame.wire == 0 { *ifindex } else { frame.wire },
        mtu: if *mtu == 0 { largest } else { largest.min(*mtu) },
        port: served.port,
        flags: bits
            .iter()
            .filter(|(_, set)| *set)
            .fold(0, |flags, (bit, _)| flags | bit),
        device: if frame.device == 0 {
            *ifindex as u16
        } else {
            frame.device
        },
        inner: inner.map_or(0, |tag| tag.id),
    }
}

pub(super) fn entry_of(world: &Topology, key: &Key) -> NextHopEntry {
    match key {
        Key::Special(reason) => NextHopEntry {
            special: *reason as u8,
            ..NextHopEntry::default()
        },
        Key::Victim(prefix) => {
            let (address, packet_family) = with_family!(
                *prefix,
                |address, _length| (address.octets16(), 4),
                |address, _length| (address.octets16(), 6)
            );
            NextHopEntry {
                address,
                mtu: u32::from(prefix.prefix_len()),
                special: Reason::Blackhole as u8,
                packet_family,
                ..NextHopEntry::default()
            }
        }
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
        _ if entry.packet_family != 0 => return victim_of(entry).map(Key::Victim),
        _ => return Reason::from_index(entry.special as usize).map(Key::Special),
    };
    Some(Key::Neighbour {
        ifindex: entry.ifindex,
        address,
        family: entry.packet_family,
        mtu: entry.mtu,
    })
}

/// The prefix whose packets a next hop throws away, in use or not.
pub fn victim_of(entry: &NextHopEntry) -> Option<IpNet> {
    let length = u8::try_from(entry.mtu).ok()?;
    match entry.family {
        0 => prefix_of(entry.packet_family, entry.address, length),
        _ => None,
    }
}
