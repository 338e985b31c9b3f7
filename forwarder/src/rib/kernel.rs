//! The routes of the kernel, per prefix, and which of them counts.
//!
//! A full table is a million prefixes that do one of a few hundred things, so what a route does is kept once
//! ([`Kind`]) and a route is twelve octets. The best route is that of the table that is asked first, there the lowest
//! metric, and the first of equals: as `fib_table_lookup` (net/ipv4/fib_trie.c) and `fib6_select_path` choose.
//!
//! Tables are asked one after the other, and the first that has any route for a destination answers. So a prefix of one table
//! covers what lies inside it in the tables behind ([`KernelRoutes::shade`]): those routes count for nothing, and what is left is one table whose
//! longest match is the kernel's answer.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

pub use super::kinds::Kind;
use super::{
    entry::{self, Entry},
    interned::Number,
    kinds::Kinds,
    shades::Shades,
};
use crate::{
    fib::{family::Address, path::Path, prefixes::Prefixes},
    source::{
        event::{Action, Change, Hop, Route},
        route_tables::RouteTables,
    },
    with_family,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    kind: Number,
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

/// What there is of a prefix with one route.
#[derive(Clone, Copy)]
struct Sole {
    kind: Number,
    protocol: u8,
    table: u8,
}

impl Sole {
    fn of(candidate: &Candidate) -> Sole {
        Sole {
            kind: candidate.kind,
            protocol: candidate.protocol,
            table: candidate.table,
        }
    }
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

/// All routes of the kernel.
#[derive(Default)]
pub struct KernelRoutes {
    v4: Prefixes<u32, Entry<Candidate>>,
    v6: Prefixes<u128, Entry<Candidate>>,
    kinds: Kinds,
    tables: RouteTables,
    shades: Shades,
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
        if route.prefix.addr().is_ipv6() && self.withdraw_hops(route, table) {
            return true;
        }
        let kind = Kind {
            action: route.action.clone(),
            mtu: route.mtu,
            tos: route.tos,
        };
        let kind = self.kinds.find(&kind);
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
        let last = self.tables.last();
        if table < last {
            let tables = self.candidates(prefix).iter().map(|candidate| candidate.table);
            let first = tables.min().filter(|first| *first < last);
            self.shades.note(prefix, first);
        }
    }

    /// The first table in which a prefix covers what lies inside it in the tables behind, by its place; `None` where it
    /// covers nothing. After a change look at everything [`Self::inside`].
    pub fn shade(&self, prefix: IpNet) -> Option<u8> {
        self.shades.of(prefix)
    }

    /// Every prefix inside this one, itself left out, in no order.
    pub fn inside(&self, outer: IpNet) -> Vec<IpNet> {
        fn all<A: Address>(prefixes: &Prefixes<A, Entry<Candidate>>) -> impl Iterator<Item = IpNet> {
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

    /// The kernel announces that one next hop of an IPv6 set is gone by a withdrawal that names just that one
    /// (`fib6_del_route`): the rest stays. Answers whether that is what happened.
    fn withdraw_hops(&mut self, gone: &Route, table: u8) -> bool {
        let Action::Hops(gone_hops) = &gone.action else {
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
        if let Some(place) = entry.as_mut_slice().iter_mut().find(|known| **known == old) {
            *place = new;
        }
        self.kinds.release(old.kind);
        true
    }

    /// The routes of a prefix, the best first.
    pub fn routes(&self, prefix: IpNet) -> Vec<Shown> {
        let mut candidates = self.candidates(prefix).to_vec();
        candidates.sort_by_key(Candidate::rank);
        let shown = |c: &Candidate| Shown {
            kind: self.kinds.get(c.kind).clone(),
            metric: c.metric,
            protocol: c.protocol,
            table: self.tables.at(c.table).unwrap_or_default(),
            rank: c.table,
            shaded: self.shades.over(prefix, c.table),
        };
        candidates.iter().map(shown).collect()
    }

    /// What the routes of a prefix do, as far as packets find them.
    pub fn paths(&self, prefix: IpNet) -> impl Iterator<Item = &Arc<Path>> {
        let ipv6 = prefix.addr().is_ipv6();
        let found = move |c: &&Candidate| !self.shades.over(prefix, c.table);
        let candidates = self.candidates(prefix).iter().filter(found);
        candidates.map(move |c| self.kinds.path(c.kind, ipv6))
    }

    fn candidates(&self, prefix: IpNet) -> &[Candidate] {
        entry::of(&self.v4, &self.v6, prefix)
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
        (!self.shades.over(prefix, found.table)).then_some(found)
    }

    /// The best route that covers an address.
    pub fn covering(&self, address: IpAddr) -> Option<Cover<'_>> {
        match address {
            IpAddr::V4(v4) => covering(&self.v4, u32::from(v4), &self.kinds, &self.shades),
            IpAddr::V6(v6) => covering(&self.v6, u128::from(v6), &self.kinds, &self.shades),
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
                    first: sole.table == 0 || self.kinds.get(sole.kind).is_connected(sole.protocol),
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

fn list<A: Address>(prefixes: &Prefixes<A, Entry<Candidate>>) -> impl Iterator<Item = Listed> + use<A> {
    let mut list: Vec<(A, u8, Option<Sole>)> = prefixes
        .iter()
        .map(|(address, length, entry)| (address, length, entry.sole().map(Sole::of)))
        .collect();
    list.sort_unstable_by_key(|(address, length, _)| (*address, *length));
    list.into_iter().filter_map(|(address, length, sole)| {
        let prefix = address.prefix(length)?;
        Some(Listed { prefix, sole })
    })
}

fn announce<A: Address>(
    prefixes: &mut Prefixes<A, Entry<Candidate>>,
    address: A,
    length: u8,
    candidate: Candidate,
    change: Change,
) -> (Option<Number>, bool) {
    let Some(entry) = prefixes.get_or_insert(address, length, || Entry::One(candidate)) else {
        return (None, true);
    };
    let all = entry.as_mut_slice();
    let equal = |other: &Candidate| other.rank() == candidate.rank();
    let first = all.iter().position(equal);
    let certain = A::FAMILY == 4 || change != Change::Replace || all.iter().filter(|c| equal(c)).count() < 2;
    if all.contains(&candidate) {
        // Already there, from the dump that this notification overlapped.
        return (Some(candidate.kind), certain);
    }
    match (change, first) {
        (Change::Replace, Some(at)) => {
            let old = std::mem::replace(&mut all[at], candidate);
            return (Some(old.kind), certain);
        }
        // Without NLM_F_APPEND a new one goes before its equals (net/ipv4/fib_trie.c fib_table_insert).
        (Change::Add, Some(at)) => entry.insert(at, candidate),
        (Change::Append, _) | (_, None) => entry.add(candidate),
    }
    (None, certain)
}

fn withdraw<A: Address>(
    prefixes: &mut Prefixes<A, Entry<Candidate>>,
    address: A,
    length: u8,
    kind: Option<Number>,
    same: impl Fn(&Candidate) -> bool,
) -> Option<Number> {
    let entry = prefixes.get_mut(address, length)?;
    let all = entry.as_slice();
    // The very route if it is known; else one of that metric (its next hops' flags may have changed since).
    let exact = all
        .iter()
        .position(|candidate| same(candidate) && Some(candidate.kind) == kind);
    let at = exact.or_else(|| all.iter().position(&same))?;
    let dropped = all[at].kind;
    if !entry.remove(at) {
        prefixes.remove(address, length);
    }
    Some(dropped)
}

/// The best candidate, and whether the prefix and metric alone do not decide: a route for one TOS, or several IPv6 routes
/// of one metric that are no set (the kernel chooses among those by reachability, RFC 4191).
fn best<'a>(entry: &'a Entry<Candidate>, kinds: &Kinds, ipv6: bool) -> Option<(&'a Candidate, bool)> {
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

fn is_first(candidate: &Candidate, kinds: &Kinds) -> bool {
    candidate.table == 0 || kinds.get(candidate.kind).is_connected(candidate.protocol)
}

fn find<'a>(entry: &'a Entry<Candidate>, kinds: &'a Kinds, ipv6: bool) -> Option<Found<'a>> {
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
    prefixes: &'a Prefixes<A, Entry<Candidate>>,
    address: A,
    kinds: &'a Kinds,
    shades: &Shades,
) -> Option<Cover<'a>> {
    prefixes
        .all_covering(address, A::BITS)
        .find_map(|(network, length, entry)| {
            let (candidate, undecided) = best(entry, kinds, A::FAMILY == 6)?;
            let prefix = network.prefix(length)?;
            if shades.over(prefix, candidate.table) {
                return None;
            }
            Some(Cover {
                prefix,
                kind: kinds.get(candidate.kind),
                protocol: candidate.protocol,
                undecided,
                first: is_first(candidate, kinds),
            })
        })
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
