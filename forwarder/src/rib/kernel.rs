//! The routes of the kernel, per prefix, and which of them counts.
//!
//! A full table is a million prefixes that do one of a few hundred things, so what a route does is kept once
//! ([`Kind`]) and a route is twelve octets. The best route is that of the table that is asked first, there the lowest
//! metric, and the first of equals: as `fib_table_lookup` (net/ipv4/fib_trie.c) and `fib6_select_path` choose.
//!
//! Tables are asked one after the other, and the first that has any route for a destination answers. So a prefix of one table
//! covers what lies inside it in the tables behind ([`shade`]): those routes count for nothing, and what is left is one table whose
//! longest match is the kernel's answer.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use crate::{
    fib::{family::Address, path::Path, prefixes::Prefixes},
    source::{
        event::{Action, Change, Hop, Route},
        route_tables::RouteTables,
    },
    with_family,
};

/// Routes that the kernel made itself: with an address, or by autoconfiguration's prefix (`RTPROT_KERNEL`).
const RTPROT_KERNEL: u8 = 2;

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
    /// Its table's place in the order of asking.
    table: u8,
}

impl Candidate {
    fn rank(&self) -> (u8, u32) {
        (self.table, self.metric)
    }
}

enum Entry {
    One(Candidate),
    #[expect(
        clippy::box_collection,
        reason = "a thin pointer keeps the common entry at 16 octets"
    )]
    Many(Box<Vec<Candidate>>),
}

impl Entry {
    fn sole(&self) -> Option<Sole> {
        match self {
            Entry::One(one) => Some(Sole {
                kind: one.kind,
                protocol: one.protocol,
                table: one.table,
            }),
            Entry::Many(_) => None,
        }
    }

    fn as_slice(&self) -> &[Candidate] {
        match self {
            Entry::One(one) => std::slice::from_ref(one),
            Entry::Many(many) => many,
        }
    }
}

/// What there is of a prefix with one route.
#[derive(Clone, Copy)]
struct Sole {
    kind: u32,
    protocol: u8,
    table: u8,
}

/// A prefix in a list of all.
pub struct Listed {
    /// The prefix.
    pub prefix: IpNet,
    sole: Option<Sole>,
}

/// The routes of a prefix, as the choice among all sources looks at them.
pub struct Found<'a> {
    /// The best, which is also what the kernel would use.
    pub best: Offer<'a>,
    /// The prefix and metric alone do not decide: the kernel must.
    pub undecided: bool,
    /// The next best that does something else; only where the best can fail.
    pub next: Option<Offer<'a>>,
    /// It is of table local or a connected subnet.
    pub first: bool,
    table: u8,
}

/// A route as an offer.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// What it does.
    pub path: &'a Arc<Path>,
    /// `RTPROT_*`.
    pub protocol: u8,
}

/// What covers an address.
pub struct Cover<'a> {
    /// The prefix.
    pub prefix: IpNet,
    /// What its best route does.
    pub kind: &'a Kind,
    /// `RTPROT_*` of that.
    pub protocol: u8,
    /// The prefix and metric alone do not decide.
    pub undecided: bool,
    /// It is of table local or a connected subnet.
    pub first: bool,
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
    /// Its table.
    pub table: u32,
    /// That table's place in the order of asking.
    pub rank: u8,
    /// A table that is asked before has a prefix that covers this one.
    pub shaded: bool,
}

/// A kind in use.
struct Held {
    kind: Kind,
    references: u32,
    /// What it does with IPv4 and with IPv6 packets.
    paths: [Arc<Path>; 2],
}

/// Kinds in use, each once.
#[derive(Default)]
struct Kinds {
    list: Vec<Held>,
    index: HashMap<Kind, u32, foldhash::fast::RandomState>,
    free: Vec<u32>,
    /// The kind asked for last: routes of one next hop come in runs.
    last: Option<u32>,
}

impl Kinds {
    fn hold(&mut self, kind: Kind) -> u32 {
        let last = self.last.filter(|id| self.list[*id as usize].kind == kind);
        if let Some(id) = last.or_else(|| self.index.get(&kind).copied()) {
            self.list[id as usize].references += 1;
            self.last = Some(id);
            return id;
        }
        let held = Held {
            paths: [4, 6].map(|family| Arc::new(path_of(&kind, family))),
            kind: kind.clone(),
            references: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.list[id as usize] = held;
                id
            }
            None => {
                self.list.push(held);
                self.list.len() as u32 - 1
            }
        };
        self.index.insert(kind, id);
        id
    }

    fn release(&mut self, id: u32) {
        let held = &mut self.list[id as usize];
        held.references -= 1;
        if held.references == 0 {
            self.index.remove(&held.kind);
            self.free.push(id);
            self.last = None;
        }
    }

    fn get(&self, id: u32) -> &Kind {
        &self.list[id as usize].kind
    }

    fn path(&self, id: u32, ipv6: bool) -> &Arc<Path> {
        &self.list[id as usize].paths[usize::from(ipv6)]
    }
}

/// All routes of the kernel.
#[derive(Default)]
pub struct KernelRoutes {
    v4: Prefixes<u32, Entry>,
    v6: Prefixes<u128, Entry>,
    kinds: Kinds,
    tables: RouteTables,
    shades4: Shades<u32>,
    shades6: Shades<u128>,
}

impl KernelRoutes {
    /// None yet, of these tables.
    pub fn of(tables: RouteTables) -> KernelRoutes {
        KernelRoutes {
            tables,
            ..KernelRoutes::default()
        }
    }

    /// None, of the same tables.
    pub fn emptied(&self) -> KernelRoutes {
        Self::of(self.tables.clone())
    }

    /// The tables, in the order of asking.
    pub fn tables(&self) -> &RouteTables {
        &self.tables
    }

    /// Applies an announcement. Answers whether its effect is certain: IPv6 replaces the first route *of its kind* among
    /// equals, which the message does not name, so then only a dump tells.
    #[must_use]
    pub fn announce(&mut self, route: Route, change: Change) -> bool {
        let Some(table) = self.tables.rank(route.table) else {
            return true;
        };
        let candidate = Candidate {
            kind: self.kinds.hold(Kind {
                action: route.action,
                mtu: route.mtu,
                tos: route.tos,
            }),
            metric: route.metric,
            protocol: route.protocol,
            table,
        };
        let (dropped, certain) = with_family!(
            route.prefix,
            |address, length| announce(&mut self.v4, address, length, candidate, change),
            |address, length| announce(&mut self.v6, address, length, candidate, change)
        );
        if let Some(kind) = dropped {
            self.kinds.release(kind);
        }
        self.note_shade(route.prefix, table);
        certain
    }

    /// Applies a withdrawal; answers whether there was such a route.
    pub fn withdraw(&mut self, route: &Route) -> bool {
        let Some(table) = self.tables.rank(route.table) else {
            return false;
        };
        if route.prefix.addr().is_ipv6() && self.withdraw_hops(route) {
            return true;
        }
        let kind = Kind {
            action: route.action.clone(),
            mtu: route.mtu,
            tos: route.tos,
        };
        let kind = self.kinds.index.get(&kind).copied();
        let same = |candidate: &Candidate| candidate.rank() == (table, route.metric);
        let dropped = with_family!(
            route.prefix,
            |address, length| withdraw(&mut self.v4, address, length, kind, same),
            |address, length| withdraw(&mut self.v6, address, length, kind, same)
        );
        if let Some(kind) = dropped {
            self.kinds.release(kind);
        }
        self.note_shade(route.prefix, table);
        dropped.is_some()
    }

    /// Brings what a prefix covers in later tables up to date, after a change of its routes in this table.
    fn note_shade(&mut self, prefix: IpNet, table: u8) {
        if table < self.tables.last() {
            let last = self.tables.last();
            with_family!(
                prefix,
                |address, length| self
                    .shades4
                    .note(address, length, self.v4.get(address, length), last),
                |address, length| self
                    .shades6
                    .note(address, length, self.v6.get(address, length), last)
            );
        }
    }

    /// The first table in which a prefix covers what lies inside it in the tables behind, by its place; `None` where it
    /// covers nothing. After a change look at everything [`Self::inside`].
    pub fn shade(&self, prefix: IpNet) -> Option<u8> {
        with_family!(
            prefix,
            |address, length| self.shades4.0.get(address, length).copied(),
            |address, length| self.shades6.0.get(address, length).copied()
        )
    }

    /// Every prefix inside this one, itself left out, in no order.
    pub fn inside(&self, outer: IpNet) -> Vec<IpNet> {
        fn all<A: Address>(prefixes: &Prefixes<A, Entry>) -> impl Iterator<Item = IpNet> {
            prefixes
                .iter()
                .filter_map(|(address, length, _)| address.prefix(length))
        }
        let within = |prefix: &IpNet| *prefix != outer && outer.contains(prefix);
        match outer {
            IpNet::V4(_) => all(&self.v4).filter(within).collect(),
            IpNet::V6(_) => all(&self.v6).filter(within).collect(),
        }
    }

    fn is_shaded(&self, prefix: IpNet, table: u8) -> bool {
        table > 0
            && !(self.shades4.0.is_empty() && self.shades6.0.is_empty())
            && with_family!(
                prefix,
                |address, length| self.shades4.over(address, length, table),
                |address, length| self.shades6.over(address, length, table)
            )
    }

    /// The kernel announces that one next hop of an IPv6 set is gone by a withdrawal that names just that one
    /// (`fib6_del_route`): the rest stays. Answers whether that is what happened.
    fn withdraw_hops(&mut self, gone: &Route) -> bool {
        let Action::Hops(gone_hops) = &gone.action else {
            return false;
        };
        let Some(table) = self.tables.rank(gone.table) else {
            return false;
        };
        let address = match gone.prefix.trunc() {
            IpNet::V6(net) => u128::from(net.network()),
            IpNet::V4(_) => return false,
        };
        let Some(entry) = self.v6.get(address, gone.prefix.prefix_len()) else {
            return false;
        };
        let named = |hop: &Hop| {
            gone_hops
                .iter()
                .any(|g| (g.ifindex, g.gateway) == (hop.ifindex, hop.gateway))
        };
        let found = entry.as_slice().iter().find_map(|candidate| {
            if candidate.rank() != (table, gone.metric) {
                return None;
            }
            let kind = self.kinds.get(candidate.kind);
            let Action::Hops(hops) = &kind.action else {
                return None;
            };
            let rest: Vec<Hop> = hops.iter().filter(|hop| !named(hop)).copied().collect();
            let partly = !rest.is_empty() && rest.len() < hops.len();
            partly.then(|| {
                (
                    *candidate,
                    Kind {
                        action: Action::Hops(rest),
                        ..kind.clone()
                    },
                )
            })
        });
        let Some((old, kind)) = found else { return false };
        let new = Candidate {
            kind: self.kinds.hold(kind),
            ..old
        };
        let Some(entry) = self.v6.get_mut(address, gone.prefix.prefix_len()) else {
            return false;
        };
        match entry {
            Entry::One(one) => *one = new,
            Entry::Many(many) => {
                if let Some(place) = many.iter_mut().find(|candidate| **candidate == old) {
                    *place = new;
                }
            }
        }
        self.kinds.release(old.kind);
        true
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
            table: self.tables.at(c.table).unwrap_or_default(),
            rank: c.table,
            shaded: self.is_shaded(prefix, c.table),
        };
        candidates.iter().map(shown).collect()
    }

    /// The routes of a prefix, for the choice among all sources.
    pub fn find(&self, prefix: IpNet) -> Option<Found<'_>> {
        with_family!(
            prefix,
            |address, length| self.counting(find(self.v4.get(address, length)?, &self.kinds, false)?, prefix),
            |address, length| self.counting(find(self.v6.get(address, length)?, &self.kinds, true)?, prefix)
        )
    }

    /// What was found, unless an earlier table has the say there.
    fn counting<'a>(&self, found: Found<'a>, prefix: IpNet) -> Option<Found<'a>> {
        (!self.is_shaded(prefix, found.table)).then_some(found)
    }

    /// The best route that covers an address.
    pub fn covering(&self, address: IpAddr) -> Option<Cover<'_>> {
        match address {
            IpAddr::V4(v4) => covering(&self.v4, u32::from(v4), &self.kinds, &self.shades4),
            IpAddr::V6(v6) => covering(&self.v6, u128::from(v6), &self.kinds, &self.shades6),
        }
    }

    /// Every prefix by address, IPv4 first; of those that begin at the same, the shortest first. A list of its own that
    /// outlives changes; what it says of each stands until the next.
    pub fn sorted(&self) -> impl Iterator<Item = Listed> + use<> {
        list(&self.v4).chain(self.sorted_v6())
    }

    /// Those of IPv6 alone.
    pub fn sorted_v6(&self) -> impl Iterator<Item = Listed> + use<> {
        list(&self.v6)
    }

    /// [`Self::find`] of a prefix in a list, where that has one route only: without looking for it.
    pub fn find_listed(&self, listed: &Listed) -> Option<Found<'_>> {
        let ipv6 = listed.prefix.addr().is_ipv6();
        match listed.sole {
            Some(sole) if self.kinds.get(sole.kind).tos == 0 => self.counting(
                Found {
                    best: Offer {
                        path: self.kinds.path(sole.kind, ipv6),
                        protocol: sole.protocol,
                    },
                    undecided: false,
                    next: None,
                    first: sole.table == 0 || is_connected(self.kinds.get(sole.kind), sole.protocol),
                    table: sole.table,
                },
                listed.prefix,
            ),
            _ => self.find(listed.prefix),
        }
    }

    /// Makes room for so many prefixes.
    pub fn reserve(&mut self, v4: usize, v6: usize) {
        self.v4.reserve(v4);
        self.v6.reserve(v6);
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

fn list<A: Address>(prefixes: &Prefixes<A, Entry>) -> impl Iterator<Item = Listed> + use<A> {
    let mut list: Vec<(A, u8, Option<Sole>)> = prefixes
        .iter()
        .map(|(address, length, entry)| (address, length, entry.sole()))
        .collect();
    list.sort_unstable_by_key(|(address, length, _)| (*address, *length));
    list.into_iter().filter_map(|(address, length, sole)| {
        let prefix = address.prefix(length)?;
        Some(Listed { prefix, sole })
    })
}

fn announce<A: Address>(
    prefixes: &mut Prefixes<A, Entry>,
    address: A,
    length: u8,
    candidate: Candidate,
    change: Change,
) -> (Option<u32>, bool) {
    let Some(entry) = prefixes.get_or_insert(address, length, || Entry::One(candidate)) else {
        return (None, true);
    };
    let mut all = entry.as_slice().to_vec();
    let equal = |other: &Candidate| other.rank() == candidate.rank();
    let first = all.iter().position(equal);
    let certain = A::FAMILY == 4 || change != Change::Replace || all.iter().filter(|c| equal(c)).count() < 2;
    if all.contains(&candidate) {
        // Already there, from the dump that this notification overlapped.
        return (Some(candidate.kind), certain);
    }
    let dropped = match (change, first) {
        (Change::Replace, Some(at)) => Some(std::mem::replace(&mut all[at], candidate).kind),
        // Without NLM_F_APPEND a new one goes before its equals (net/ipv4/fib_trie.c fib_table_insert).
        (Change::Add, Some(at)) => {
            all.insert(at, candidate);
            None
        }
        (Change::Append, _) | (_, None) => {
            all.push(candidate);
            None
        }
    };
    *entry = if all.len() == 1 {
        Entry::One(all[0])
    } else {
        Entry::Many(Box::new(all))
    };
    (dropped, certain)
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

/// The best candidate, and whether the prefix and metric alone do not decide: a route for one TOS, or several IPv6 routes
/// of one metric that are no set (the kernel chooses among those by reachability, RFC 4191).
fn best<'a>(entry: &'a Entry, kinds: &Kinds, ipv6: bool) -> Option<(&'a Candidate, bool)> {
    let all = entry.as_slice();
    let best = all.iter().min_by_key(|candidate| candidate.rank())?;
    let by_tos = all.iter().any(|candidate| kinds.get(candidate.kind).tos != 0);
    let several = ipv6
        && all
            .iter()
            .filter(|candidate| candidate.rank() == best.rank())
            .count()
            > 1;
    Some((best, by_tos || several))
}

/// A subnet that an address of ours is on.
fn is_connected(kind: &Kind, protocol: u8) -> bool {
    let direct = |action: &Action| match action {
        Action::Hops(hops) => hops.iter().all(|hop| hop.gateway.is_none()),
        _ => false,
    };
    protocol == RTPROT_KERNEL && direct(&kind.action)
}

fn is_first(candidate: &Candidate, kinds: &Kinds) -> bool {
    candidate.table == 0 || is_connected(kinds.get(candidate.kind), candidate.protocol)
}

fn find<'a>(entry: &'a Entry, kinds: &'a Kinds, ipv6: bool) -> Option<Found<'a>> {
    let (candidate, undecided) = best(entry, kinds, ipv6)?;
    let path = kinds.path(candidate.kind, ipv6);
    let next = match entry {
        Entry::Many(all) if path.has_gateways() => {
            let others = all.iter().map(|other| (other, kinds.path(other.kind, ipv6)));
            let others = others.filter(|(_, other)| *other != path);
            others.min_by_key(|(other, _)| other.rank())
        }
        _ => None,
    };
    let offer = |candidate: &Candidate, path| Offer {
        path,
        protocol: candidate.protocol,
    };
    Some(Found {
        best: offer(candidate, path),
        undecided,
        next: next.map(|(other, path)| offer(other, path)),
        first: is_first(candidate, kinds),
        table: candidate.table,
    })
}

fn covering<'a, A: Address>(
    prefixes: &'a Prefixes<A, Entry>,
    address: A,
    kinds: &'a Kinds,
    shades: &Shades<A>,
) -> Option<Cover<'a>> {
    prefixes
        .all_covering(address, A::BITS)
        .find_map(|(network, length, entry)| {
            let (candidate, undecided) = best(entry, kinds, A::FAMILY == 6)?;
            if candidate.table > 0 && shades.over(network, length, candidate.table) {
                return None;
            }
            Some(Cover {
                prefix: network.prefix(length)?,
                kind: kinds.get(candidate.kind),
                protocol: candidate.protocol,
                undecided,
                first: is_first(candidate, kinds),
            })
        })
}

/// Prefixes of all tables but the last that is asked, with the place of the first table that has each. Hosts cover nothing but
/// themselves, and 127.0.0.0/8 nothing that is forwarded: so with tables local and main this is empty.
struct Shades<A>(Prefixes<A, u8>);

impl<A> Default for Shades<A>
where
    A: Address,
{
    fn default() -> Self {
        Shades(Prefixes::default())
    }
}

impl<A: Address> Shades<A> {
    /// The routes of this prefix have changed to these; at least one of them is or was of an earlier table.
    fn note(&mut self, address: A, length: u8, entry: Option<&Entry>, last: u8) {
        let tables = entry
            .iter()
            .flat_map(|entry| entry.as_slice())
            .map(|candidate| candidate.table);
        let first = tables.min().filter(|first| *first < last);
        let loopback = address
            .prefix(length)
            .is_some_and(|prefix| prefix.addr().is_loopback());
        match first {
            Some(first) if length < A::BITS && !loopback => {
                self.0.insert(address, length, first);
            }
            _ => {
                self.0.remove(address, length);
            }
        }
    }

    /// Whether an earlier table than this has a prefix that covers this one and is shorter.
    fn over(&self, address: A, length: u8, table: u8) -> bool {
        length > 0
            && self
                .0
                .all_covering(address, length - 1)
                .any(|(.., first)| *first < table)
    }
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
#[path = "kernel_tests.rs"]
mod tests;
