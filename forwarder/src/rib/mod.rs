//! The routes of the kernel, per prefix, and which of them counts.
//!
//! A full table is a million prefixes that do one of a few hundred things, so what a route does is kept once
//! ([`Kind`]) and a route is twelve octets. The best route is that of table local, else the lowest metric, else the
//! first of equals: as `fib_table_lookup` (net/ipv4/fib_trie.c) and `fib6_select_path` choose.

use std::{collections::HashMap, net::IpAddr};

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use crate::{
    fib::{adjacency::Path, family::Address, prefixes::Prefixes},
    source::event::{Action, Change, Route},
    with_family,
};

/// Table local, `RT_TABLE_LOCAL`.
pub const TABLE_LOCAL: u32 = 255;

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// What it does.
    pub action: Action,
    /// Route MTU.
    pub mtu: Option<u32>,
    /// TOS it is for; 0 = any.
    pub tos: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    kind: u32,
    metric: u32,
    protocol: u8,
    local: bool,
}

impl Candidate {
    fn rank(&self) -> (bool, u32) {
        (!self.local, self.metric)
    }
}

enum Entry {
    One(Candidate),
    Many(Box<Vec<Candidate>>),
}

impl Entry {
    fn as_slice(&self) -> &[Candidate] {
        match self {
            Entry::One(one) => std::slice::from_ref(one),
            Entry::Many(many) => many,
        }
    }
}

/// A route of the RIB, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it does.
    pub kind: Kind,
    /// Metric.
    pub metric: u32,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// From table local.
    pub local: bool,
}

/// Kinds in use, each once.
#[derive(Default)]
struct Kinds {
    list: Vec<(Kind, u32)>,
    index: HashMap<Kind, u32>,
    free: Vec<u32>,
}

impl Kinds {
    fn hold(&mut self, kind: Kind) -> u32 {
        if let Some(id) = self.index.get(&kind) {
            self.list[*id as usize].1 += 1;
            return *id;
        }
        let id = match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = (kind.clone(), 1);
                id
            }
            None => {
                self.list.push((kind.clone(), 1));
                self.list.len() as u32 - 1
            }
        };
        self.index.insert(kind, id);
        id
    }

    fn release(&mut self, id: u32) {
        let (kind, references) = &mut self.list[id as usize];
        *references -= 1;
        if *references == 0 {
            self.index.remove(kind);
            self.free.push(id);
        }
    }

    fn get(&self, id: u32) -> &Kind {
        &self.list[id as usize].0
    }
}

/// All routes.
#[derive(Default)]
pub struct Rib {
    v4: Prefixes<u32, Entry>,
    v6: Prefixes<u128, Entry>,
    kinds: Kinds,
}

impl Rib {
    /// Applies an announcement.
    pub fn announce(&mut self, route: Route, change: Change) {
        let candidate = Candidate {
            kind: self.kinds.hold(Kind {
                action: route.action,
                mtu: route.mtu,
                tos: route.tos,
            }),
            metric: route.metric,
            protocol: route.protocol,
            local: route.table == TABLE_LOCAL,
        };
        let dropped = with_family!(
            route.prefix,
            |address, length| announce(&mut self.v4, address, length, candidate, change),
            |address, length| announce(&mut self.v6, address, length, candidate, change)
        );
        if let Some(kind) = dropped {
            self.kinds.release(kind);
        }
    }

    /// Applies a withdrawal; answers whether there was such a route.
    pub fn withdraw(&mut self, route: &Route) -> bool {
        let kind = Kind {
            action: route.action.clone(),
            mtu: route.mtu,
            tos: route.tos,
        };
        let kind = self.kinds.index.get(&kind).copied();
        let same = |candidate: &Candidate| {
            candidate.metric == route.metric && candidate.local == (route.table == TABLE_LOCAL)
        };
        let dropped = with_family!(
            route.prefix,
            |address, length| withdraw(&mut self.v4, address, length, kind, same),
            |address, length| withdraw(&mut self.v6, address, length, kind, same)
        );
        if let Some(kind) = dropped {
            self.kinds.release(kind);
        }
        dropped.is_some()
    }

    /// The routes of a prefix, the best first.
    pub fn routes(&self, prefix: IpNet) -> Vec<Shown> {
        let mut candidates = with_family!(
            prefix,
            |address, length| self.v4.get(address, length).map(|e| e.as_slice().to_vec()),
            |address, length| self.v6.get(address, length).map(|e| e.as_slice().to_vec())
        )
        .unwrap_or_default();
        candidates.sort_by_key(Candidate::rank);
        let shown = |c: &Candidate| Shown {
            kind: self.kinds.get(c.kind).clone(),
            metric: c.metric,
            protocol: c.protocol,
            local: c.local,
        };
        candidates.iter().map(shown).collect()
    }

    /// What packets of a prefix do, and the protocol of the route that says so.
    pub fn path(&self, prefix: IpNet) -> Option<(Path, u8)> {
        let family = if prefix.addr().is_ipv4() { 4 } else { 6 };
        let (candidate, by_tos) = with_family!(
            prefix,
            |address, length| best(self.v4.get(address, length)?, &self.kinds),
            |address, length| best(self.v6.get(address, length)?, &self.kinds)
        )?;
        if by_tos {
            return Some((Path::Special(Reason::UnsupportedRoute), candidate.protocol));
        }
        Some((
            path_of(self.kinds.get(candidate.kind), family),
            candidate.protocol,
        ))
    }

    /// The best route that covers an address: its prefix and what it does.
    pub fn covering(&self, address: IpAddr) -> Option<(IpNet, &Kind)> {
        match address {
            IpAddr::V4(v4) => covering(&self.v4, u32::from(v4), &self.kinds),
            IpAddr::V6(v6) => covering(&self.v6, u128::from(v6), &self.kinds),
        }
    }

    /// Every prefix.
    pub fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self
            .v4
            .iter()
            .filter_map(|(address, length, _)| address.prefix(length));
        v4.chain(
            self.v6
                .iter()
                .filter_map(|(address, length, _)| address.prefix(length)),
        )
    }

    /// Prefixes: IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

fn announce<A: Address>(
    prefixes: &mut Prefixes<A, Entry>,
    address: A,
    length: u8,
    candidate: Candidate,
    change: Change,
) -> Option<u32> {
    let Some(entry) = prefixes.get_mut(address, length) else {
        prefixes.insert(address, length, Entry::One(candidate));
        return None;
    };
    let mut all = entry.as_slice().to_vec();
    if all.contains(&candidate) {
        // Already there, from the dump that this notification overlapped.
        return Some(candidate.kind);
    }
    let equal = |other: &Candidate| other.rank() == candidate.rank();
    let replaced = match change {
        Change::Replace => all.iter().position(equal),
        Change::Append | Change::Add => None,
    };
    let dropped = match replaced {
        Some(at) => Some(std::mem::replace(&mut all[at], candidate).kind),
        None => {
            all.push(candidate);
            None
        }
    };
    *entry = if all.len() == 1 {
        Entry::One(all[0])
    } else {
        Entry::Many(Box::new(all))
    };
    dropped
}

fn withdraw<A: Address>(
    prefixes: &mut Prefixes<A, Entry>,
    address: A,
    length: u8,
    kind: Option<u32>,
    same: impl Fn(&Candidate) -> bool,
) -> Option<u32> {
    let mut all = prefixes.get(address, length)?.as_slice().to_vec();
    // The very route if it is known; else one of that metric (its next hops' flags may have changed since).
    let exact = all
        .iter()
        .position(|candidate| same(candidate) && Some(candidate.kind) == kind);
    let at = exact.or_else(|| all.iter().position(&same))?;
    let dropped = all.remove(at).kind;
    match all.as_slice() {
        [] => prefixes.remove(address, length),
        [one] => prefixes.insert(address, length, Entry::One(*one)),
        _ => prefixes.insert(address, length, Entry::Many(Box::new(all))),
    };
    Some(dropped)
}

/// The best candidate, and whether the answer depends on TOS.
fn best<'a>(entry: &'a Entry, kinds: &Kinds) -> Option<(&'a Candidate, bool)> {
    let all = entry.as_slice();
    let by_tos = all.iter().any(|candidate| kinds.get(candidate.kind).tos != 0);
    all.iter()
        .min_by_key(|candidate| candidate.rank())
        .map(|candidate| (candidate, by_tos))
}

fn covering<'a, A: Address>(
    prefixes: &Prefixes<A, Entry>,
    address: A,
    kinds: &'a Kinds,
) -> Option<(IpNet, &'a Kind)> {
    let (network, length, entry) = prefixes.covering(address, A::BITS)?;
    let (candidate, _) = best(entry, kinds)?;
    Some((network.prefix(length)?, kinds.get(candidate.kind)))
}

fn path_of(kind: &Kind, family: u8) -> Path {
    let mtu = kind.mtu.unwrap_or(0);
    match &kind.action {
        Action::Hops(hops) => {
            let mut hops = hops.clone();
            hops.sort_unstable();
            Path::Hops { hops, mtu, family }
        }
        Action::Nexthop(id) => Path::Object { id: *id, mtu, family },
        Action::Local => Path::Special(Reason::Local),
        Action::Broadcast => Path::Special(Reason::Broadcast),
        Action::Blackhole => Path::Special(Reason::Blackhole),
        Action::Unreachable => Path::Special(Reason::Unreachable),
        Action::Prohibit => Path::Special(Reason::Prohibit),
        Action::Unsupported => Path::Special(Reason::UnsupportedRoute),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::event::Hop;

    fn route(prefix: &str, metric: u32, gateway: &str) -> Route {
        let hop = Hop {
            ifindex: 2,
            gateway: Some(gateway.parse().expect("address")),
            weight: 1,
            dead: false,
            unsupported: false,
        };
        Route {
            prefix: prefix.parse().expect("prefix"),
            table: 254,
            metric,
            protocol: 12,
            tos: 0,
            mtu: None,
            action: Action::Hops(vec![hop]),
        }
    }

    fn gateway(rib: &Rib, prefix: &str) -> Option<String> {
        match rib.path(prefix.parse().expect("prefix"))?.0 {
            Path::Hops { hops, .. } => Some(hops[0].gateway?.to_string()),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn the_lowest_metric_wins_and_the_next_takes_over() {
        let mut rib = Rib::default();
        rib.announce(route("192.0.2.0/24", 200, "198.51.100.2"), Change::Add);
        rib.announce(route("192.0.2.0/24", 100, "198.51.100.1"), Change::Add);
        assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("198.51.100.1"));
        assert!(rib.withdraw(&route("192.0.2.0/24", 100, "198.51.100.1")));
        assert_eq!(gateway(&rib, "192.0.2.0/24").as_deref(), Some("198.51.100.2"));
        assert!(rib.withdraw(&route("192.0.2.0/24", 200, "198.51.100.2")));
        assert!(rib.is_empty() && rib.kinds.index.is_empty());
    }

    #[test]
    fn a_replace_takes_the_place_and_table_local_wins() {
        let mut rib = Rib::default();
        rib.announce(route("192.0.2.1/32", 0, "198.51.100.1"), Change::Add);
        rib.announce(route("192.0.2.1/32", 0, "198.51.100.9"), Change::Replace);
        assert_eq!(rib.routes("192.0.2.1/32".parse().expect("prefix")).len(), 1);
        let local = Route {
            table: TABLE_LOCAL,
            action: Action::Local,
            ..route("192.0.2.1/32", 0, "::")
        };
        rib.announce(local, Change::Add);
        assert_eq!(gateway(&rib, "192.0.2.1/32").as_deref(), Some("Special(Local)"));
    }

    #[test]
    fn the_same_route_twice_is_one() {
        let mut rib = Rib::default();
        rib.announce(route("2001:db8::/32", 1024, "2001:db8::1"), Change::Add);
        rib.announce(route("2001:db8::/32", 1024, "2001:db8::1"), Change::Append);
        assert!(rib.withdraw(&route("2001:db8::/32", 1024, "2001:db8::1")));
        assert!(rib.is_empty());
        assert!(!rib.withdraw(&route("2001:db8::/32", 1024, "2001:db8::1")));
    }

    #[test]
    fn a_route_for_one_tos_leaves_the_prefix_to_the_kernel() {
        let mut rib = Rib::default();
        rib.announce(route("192.0.2.0/24", 0, "198.51.100.1"), Change::Add);
        rib.announce(
            Route {
                tos: 8,
                ..route("192.0.2.0/24", 0, "198.51.100.2")
            },
            Change::Add,
        );
        assert_eq!(
            gateway(&rib, "192.0.2.0/24").as_deref(),
            Some("Special(UnsupportedRoute)")
        );
    }
}
