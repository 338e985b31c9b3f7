//! The routes of feeds, per prefix.
//!
//! A full table comes with some hundred thousand combinations of where it leads and what it carries, and a route names one
//! of them ([`Body`]): with path identifier, age and generation that is fourteen octets, and a prefix with one route costs
//! what one of the kernel costs. Attributes, targets and combinations are kept once each and counted.
//!
//! A table of a feed has a *generation*, a number that every route has from its announcement. To mark a table is to begin
//! another generation, which touches no route; a route of another generation is stale; a sweep looks for those. The number
//! has 255 values: before one comes round again, what is stale from before gets 0, which is none of them.

use std::sync::Arc;

use ipnet::IpNet;

use super::{
    decision::{Class, UNLISTED},
    interned::Interned,
    targets::Targets,
};
use crate::{
    config::Source,
    fib::{family::Address, path::Path, prefixes::Prefixes},
    source::feed::{Attributes, FeedId, FeedRoute, FeedTable, Target},
    with_family,
};

/// Most routes of one prefix, all feeds together: with ADD-PATH a neighbour may announce any number, and each is looked at
/// whenever one of them changes.
pub const MOST_PATHS: usize = 64;

/// LLGR_STALE (RFC 9494 4.2): least preferred wherever it comes from.
const LLGR_STALE: u32 = 0xffff_0006;
/// NO_LLGR (RFC 9494 4.3): not to be kept for long.
const NO_LLGR: u32 = 0xffff_0007;

/// What a route does and carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Body {
    attributes: u32,
    target: u32,
    feed: FeedId,
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    body: u32,
    path_id: u32,
    /// When it was announced first as it is, seconds since 1970.
    since: u32,
    generation: u8,
    /// Among its attributes is LLGR_STALE.
    least: bool,
}

enum Entry {
    One(Candidate),
    #[expect(
        clippy::box_collection,
        reason = "a thin pointer keeps the common entry at 16 octets"
    )]
    Many(Box<Vec<Candidate>>),
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    fn as_slice(&self) -> &[Candidate] {
        match self {
            Entry::One(one) => std::slice::from_ref(one),
            Entry::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Candidate] {
        match self {
            Entry::One(one) => std::slice::from_mut(one),
            Entry::Many(many) => many,
        }
    }

    fn add(&mut self, candidate: Candidate) {
        match self {
            Entry::One(one) => *self = Entry::Many(Box::new(vec![*one, candidate])),
            Entry::Many(many) => many.push(candidate),
        }
    }

    /// Keeps what `keep` says; answers whether anything is left.
    fn retain(&mut self, mut keep: impl FnMut(&Candidate) -> bool) -> bool {
        match self {
            Entry::One(one) => keep(one),
            Entry::Many(many) => {
                many.retain(&mut keep);
                match many.as_slice() {
                    [] => return false,
                    [one] => *self = Entry::One(*one),
                    _ => {}
                }
                true
            }
        }
    }
}

/// A unicast table of a feed.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    generation: u8,
    /// Stale routes are used only where there is nothing else.
    least_preferred: bool,
    routes: usize,
    /// Of these, those that are not stale.
    fresh: usize,
}

/// What is known of a feed.
#[derive(Clone, Debug)]
struct Feed {
    source: Source,
    class: Class,
    sides: [Side; 2],
}

/// What an announcement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The choice of the prefix may be another.
    Changed,
    /// It said what was known.
    Same,
    /// The prefix has too many routes: this one was not taken.
    Refused,
    /// Nobody knows this feed.
    Unknown,
}

/// A route, as the decision and people look at it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Whose.
    pub feed: FeedId,
    /// What kind of feed that is.
    pub source: Source,
    /// Rank of the source.
    pub class: Class,
    /// Path identifier.
    pub path_id: u32,
    /// Not announced since the last mark.
    pub stale: bool,
    /// Stale for long.
    pub least_preferred: bool,
    /// When it was announced first as it is, seconds since 1970.
    pub since: u32,
    /// Whether it leads somewhere.
    pub usable: bool,
    /// Where it leads, as it came.
    pub target: &'a Target,
    /// The same as a path.
    pub path: &'a Arc<Path>,
    /// What it carries.
    pub attributes: &'a Arc<Attributes>,
}

/// All routes of all feeds.
#[derive(Default)]
pub struct FeedRoutes {
    v4: Prefixes<u32, Entry>,
    v6: Prefixes<u128, Entry>,
    bodies: Interned<Body>,
    attributes: Interned<Arc<Attributes>>,
    targets: Targets,
    feeds: Vec<Option<Feed>>,
}

/// Which of the two unicast tables; `None` of a FlowSpec table.
fn side(table: FeedTable) -> Option<usize> {
    match table {
        FeedTable::Ipv4 => Some(0),
        FeedTable::Ipv6 => Some(1),
        FeedTable::FlowSpec4 | FeedTable::FlowSpec6 => None,
    }
}

impl FeedRoutes {
    /// From now on there is this feed.
    pub fn register(&mut self, feed: FeedId, source: Source, class: Class) {
        let at = feed as usize;
        if self.feeds.len() <= at {
            self.feeds.resize_with(at + 1, || None);
        }
        let sides = [Side {
            generation: 1,
            ..Side::default()
        }; 2];
        self.feeds[at] = Some(Feed { source, class, sides });
    }

    fn feed(&self, feed: FeedId) -> Option<&Feed> {
        self.feeds.get(feed as usize)?.as_ref()
    }

    /// What kind of feed it is.
    pub fn source(&self, feed: FeedId) -> Option<Source> {
        self.feed(feed).map(|feed| feed.source)
    }

    /// Whether no feed has any route.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Prefixes: IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Makes room for so many prefixes.
    pub fn reserve(&mut self, v4: usize, v6: usize) {
        self.v4.reserve(v4);
        self.v6.reserve(v6);
    }

    /// Routes of a table of a feed, and how many of these are stale.
    pub fn count(&self, feed: FeedId, table: FeedTable) -> (usize, usize) {
        let side = side(table).and_then(|side| Some(self.feed(feed)?.sides[side]));
        side.map_or((0, 0), |side| (side.routes, side.routes - side.fresh))
    }

    /// Attributes, combinations and targets in use.
    pub fn shared(&self) -> (usize, usize, usize) {
        (self.attributes.len(), self.bodies.len(), self.targets.len())
    }

    /// Where routes lead.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The same, to be changed.
    pub fn targets_mut(&mut self) -> &mut Targets {
        &mut self.targets
    }

    /// Takes a route; it takes the place of the one with the same prefix, feed and path identifier.
    pub fn announce(
        &mut self,
        feed: FeedId,
        prefix: IpNet,
        path_id: u32,
        route: &FeedRoute,
        now: u32,
    ) -> Effect {
        let Some(generation) = self
            .feed(feed)
            .map(|feed| feed.sides[usize::from(prefix.addr().is_ipv6())].generation)
        else {
            return Effect::Unknown;
        };
        let body = self.hold(feed, route);
        let least = route.attributes.communities.contains(&LLGR_STALE);
        let candidate = Candidate {
            body,
            path_id,
            since: now,
            generation,
            least,
        };
        let bodies = &self.bodies;
        let same = |known: &Candidate| known.path_id == path_id && bodies.get(known.body).feed == feed;
        let placed = with_family!(
            prefix,
            |address, length| place(&mut self.v4, address, length, candidate, same),
            |address, length| place(&mut self.v6, address, length, candidate, same)
        );
        let side = usize::from(prefix.addr().is_ipv6());
        let Some(Some(feed)) = self.feeds.get_mut(feed as usize) else {
            return Effect::Unknown;
        };
        let side = &mut feed.sides[side];
        match placed {
            Placed::New => {
                side.routes += 1;
                side.fresh += 1;
                Effect::Changed
            }
            Placed::Instead(old) => {
                let refreshed = old.generation != generation;
                side.fresh += usize::from(refreshed);
                let changed = old.body != body || refreshed && side.least_preferred;
                self.drop_body(old.body);
                if changed { Effect::Changed } else { Effect::Same }
            }
            Placed::Refused => {
                self.drop_body(body);
                Effect::Refused
            }
        }
    }

    fn hold(&mut self, feed: FeedId, route: &FeedRoute) -> u32 {
        let attributes = self.attributes.hold(&route.attributes, Arc::ptr_eq);
        let target = self.targets.hold(feed, &route.target);
        let known = self.bodies.len();
        let body = Body {
            attributes,
            target,
            feed,
        };
        let number = self.bodies.hold(&body, |one, other| one == other);
        if self.bodies.len() == known {
            // The combination is known, and holds its parts already.
            self.attributes.release(attributes);
            self.targets.release(target);
        }
        number
    }

    fn drop_body(&mut self, body: u32) {
        if let Some(body) = self.bodies.release(body) {
            self.attributes.release(body.attributes);
            self.targets.release(body.target);
        }
    }

    /// Takes a route away; answers whether there was such a one.
    pub fn withdraw(&mut self, feed: FeedId, prefix: IpNet, path_id: u32) -> bool {
        let bodies = &self.bodies;
        let named = |known: &Candidate| known.path_id == path_id && bodies.get(known.body).feed == feed;
        let gone = with_family!(
            prefix,
            |address, length| take(&mut self.v4, address, length, named),
            |address, length| take(&mut self.v6, address, length, named)
        );
        self.forget(prefix, &gone);
        !gone.is_empty()
    }

    fn forget(&mut self, prefix: IpNet, gone: &[Candidate]) {
        let side = usize::from(prefix.addr().is_ipv6());
        for candidate in gone {
            let feed = self.bodies.get(candidate.body).feed;
            if let Some(Some(feed)) = self.feeds.get_mut(feed as usize) {
                let side = &mut feed.sides[side];
                side.routes -= 1;
                side.fresh -= usize::from(candidate.generation == side.generation);
            }
            self.drop_body(candidate.body);
        }
    }

    /// Begins another generation: every route of the table is stale. Answers whether the preference of any may have
    /// changed.
    pub fn mark(&mut self, feed: FeedId, table: FeedTable, least_preferred: bool) -> bool {
        let Some(at) = side(table) else { return false };
        let Some(generation) = self.feed(feed).map(|feed| feed.sides[at].generation) else {
            return false;
        };
        if generation == u8::MAX {
            self.age(feed, at);
        }
        let Some(Some(feed)) = self.feeds.get_mut(feed as usize) else {
            return false;
        };
        let side = &mut feed.sides[at];
        side.generation = if generation == u8::MAX { 1 } else { generation + 1 };
        side.fresh = 0;
        let before = std::mem::replace(&mut side.least_preferred, least_preferred);
        (before || least_preferred) && side.routes > 0
    }

    /// Gives every route of the table the generation that is none.
    fn age(&mut self, feed: FeedId, side: usize) {
        fn none<'a>(entries: impl Iterator<Item = &'a mut Entry>, own: impl Fn(&Candidate) -> bool) {
            for entry in entries {
                let candidates = entry.as_mut_slice().iter_mut();
                for candidate in candidates.filter(|candidate| own(candidate)) {
                    candidate.generation = 0;
                }
            }
        }
        let bodies = &self.bodies;
        let own = |candidate: &Candidate| bodies.get(candidate.body).feed == feed;
        match side {
            0 => none(self.v4.values_mut(), own),
            _ => none(self.v6.values_mut(), own),
        }
    }

    /// The prefixes of a table that have stale routes of this feed, neighbours near each other; with `unwanted`, only of those that must
    /// not be kept for long (NO_LLGR).
    pub fn stale(&self, feed: FeedId, table: FeedTable, unwanted: bool) -> Vec<IpNet> {
        let sweep = Sweep {
            routes: self,
            feed,
            unwanted,
        };
        match table {
            FeedTable::Ipv4 => sweep.list(&self.v4),
            FeedTable::Ipv6 => sweep.list(&self.v6),
            FeedTable::FlowSpec4 | FeedTable::FlowSpec6 => Vec::new(),
        }
    }

    /// Takes the routes of a prefix away that [`Self::stale`] would list it for; answers whether there were any.
    pub fn sweep(&mut self, feed: FeedId, prefix: IpNet, unwanted: bool) -> bool {
        let sweep = Sweep {
            routes: self,
            feed,
            unwanted,
        };
        let of = |entry: &Entry, family| -> Vec<u32> {
            let stale = entry.as_slice().iter().filter(|c| sweep.takes(c, family));
            stale.map(|candidate| candidate.path_id).collect()
        };
        let gone = with_family!(
            prefix,
            |address, length| self.v4.get(address, length).map(|entry| of(entry, 0)),
            |address, length| self.v6.get(address, length).map(|entry| of(entry, 1))
        )
        .unwrap_or_default();
        for path_id in &gone {
            self.withdraw(feed, prefix, *path_id);
        }
        !gone.is_empty()
    }

    /// The routes of a prefix.
    pub fn routes(&self, prefix: IpNet) -> impl Iterator<Item = View<'_>> {
        let ipv6 = prefix.addr().is_ipv6();
        let candidates = with_family!(
            prefix,
            |address, length| self.v4.get(address, length).map(Entry::as_slice),
            |address, length| self.v6.get(address, length).map(Entry::as_slice)
        );
        let all = candidates.unwrap_or_default().iter();
        all.filter_map(move |candidate| self.view(candidate, ipv6))
    }

    fn view(&self, candidate: &Candidate, ipv6: bool) -> Option<View<'_>> {
        let body = self.bodies.get(candidate.body);
        let feed = self.feed(body.feed)?;
        let side = &feed.sides[usize::from(ipv6)];
        let stale = candidate.generation != side.generation;
        let target = self.targets.get(body.target);
        Some(View {
            feed: body.feed,
            source: feed.source,
            class: feed.class,
            path_id: candidate.path_id,
            stale,
            least_preferred: candidate.least || stale && side.least_preferred,
            since: candidate.since,
            usable: target.usable,
            target: &target.target,
            path: &target.paths[usize::from(ipv6)],
            attributes: self.attributes.get(body.attributes),
        })
    }

    /// The longest prefix of at most `longest` that covers an address and has a route of a source that is used.
    pub fn covering(&self, address: std::net::IpAddr, longest: u8) -> Option<IpNet> {
        fn find<A: Address>(
            routes: &FeedRoutes,
            prefixes: &Prefixes<A, Entry>,
            address: A,
            mut longest: u8,
        ) -> Option<IpNet> {
            loop {
                let (network, length, entry) = prefixes.covering(address, longest)?;
                let used = |c: &Candidate| {
                    let feed = routes.feed(routes.bodies.get(c.body).feed);
                    feed.is_some_and(|feed| feed.class != UNLISTED)
                };
                if entry.as_slice().iter().any(used) {
                    return network.prefix(length);
                }
                longest = length.checked_sub(1)?;
            }
        }
        match address {
            std::net::IpAddr::V4(v4) => find(self, &self.v4, v4.into(), longest),
            std::net::IpAddr::V6(v6) => find(self, &self.v6, v6.into(), longest),
        }
    }

    /// Every prefix, in the order of the map: neighbours near each other.
    pub fn prefixes(&self) -> Vec<IpNet> {
        fn list<A: Address>(prefixes: &Prefixes<A, Entry>) -> impl Iterator<Item = IpNet> {
            let all = prefixes.iter();
            all.filter_map(|(address, length, _)| address.prefix(length))
        }
        list(&self.v4).chain(list(&self.v6)).collect()
    }

    /// Whether a prefix has more than one route.
    pub fn has_several(&self, prefix: IpNet) -> bool {
        let several = |entry: &Entry| matches!(entry, Entry::Many(_));
        with_family!(
            prefix,
            |address, length| self.v4.get(address, length).is_some_and(several),
            |address, length| self.v6.get(address, length).is_some_and(several)
        )
    }
}

/// Which routes a sweep takes.
struct Sweep<'a> {
    routes: &'a FeedRoutes,
    feed: FeedId,
    unwanted: bool,
}

impl Sweep<'_> {
    fn takes(&self, candidate: &Candidate, side: usize) -> bool {
        let body = self.routes.bodies.get(candidate.body);
        if body.feed != self.feed {
            return false;
        }
        let Some(feed) = self.routes.feed(body.feed) else {
            return false;
        };
        let stale = candidate.generation != feed.sides[side].generation;
        let attributes = || self.routes.attributes.get(body.attributes);
        stale && (!self.unwanted || attributes().communities.contains(&NO_LLGR))
    }

    fn list<A: Address>(&self, prefixes: &Prefixes<A, Entry>) -> Vec<IpNet> {
        let side = usize::from(A::FAMILY == 6);
        let any = |entry: &Entry| entry.as_slice().iter().any(|c| self.takes(c, side));
        // Not sorted: that would take longer than all the rest, in one piece.
        prefixes
            .iter()
            .filter(|(.., entry)| any(entry))
            .filter_map(|(address, length, _)| address.prefix(length))
            .collect()
    }
}

enum Placed {
    New,
    Instead(Candidate),
    Refused,
}

fn place<A: Address>(
    prefixes: &mut Prefixes<A, Entry>,
    address: A,
    length: u8,
    candidate: Candidate,
    same: impl Fn(&Candidate) -> bool,
) -> Placed {
    let Some(entry) = prefixes.get_or_insert(address, length, || Entry::One(candidate)) else {
        return Placed::New;
    };
    if let Some(known) = entry.as_mut_slice().iter_mut().find(|known| same(known)) {
        let since = if known.body == candidate.body {
            known.since
        } else {
            candidate.since
        };
        return Placed::Instead(std::mem::replace(known, Candidate { since, ..candidate }));
    }
    if entry.as_slice().len() >= MOST_PATHS {
        return Placed::Refused;
    }
    entry.add(candidate);
    Placed::New
}

fn take<A: Address>(
    prefixes: &mut Prefixes<A, Entry>,
    address: A,
    length: u8,
    named: impl Fn(&Candidate) -> bool,
) -> Vec<Candidate> {
    let mut gone = Vec::new();
    let Some(entry) = prefixes.get_mut(address, length) else {
        return gone;
    };
    let left = entry.retain(|candidate| {
        let goes = named(candidate);
        if goes {
            gone.push(*candidate);
        }
        !goes
    });
    if !left {
        prefixes.remove(address, length);
    }
    gone
}
