//! The routes of feeds, per prefix.
//!
//! A route names its attributes and its target, which are kept once each and counted: with feed, path identifier, age and
//! generation that is sixteen octets, and a prefix with one route costs what one of the kernel costs.
//!
//! A table of a feed has a *generation*, a number that every route has from its announcement. To mark a table is to begin
//! another generation, which touches no route; a route of another generation is stale; a sweep looks for those. The number
//! has 254 values: before one comes round again, what is stale from before gets 255, which is none of them.

#[path = "unicast.rs"]
mod unicast;

use std::{num::NonZeroU8, sync::Arc};

use ipnet::IpNet;

use super::{
    decision::{Class, UNLISTED},
    entry::{self, Entry},
    interned::{Interned, Number},
    targets::Targets,
};
use crate::{
    config::Source,
    fib::{family::Address, path::Path, prefixes::Prefixes},
    filter::blackhole::{Community, is_blackhole},
    source::feed::{Attributes, FeedId, FeedRoute, FeedTable, Segment, Target},
    with_family,
};

/// Most routes of one prefix, all feeds together: with ADD-PATH a neighbour may announce any number, and each is looked at
/// whenever one of them changes.
pub const MOST_PATHS: usize = 64;

/// Most octets that the attributes of one feed's routes may take, each set counted once, for who announced it first: a full
/// table with all its communities takes a fifth of it. A neighbour may put four thousand octets on each of millions of routes.
pub const MOST_OCTETS: usize = if cfg!(test) { 8 << 20 } else { 512 << 20 };

/// LLGR_STALE (RFC 9494 4.2): least preferred wherever it comes from.
const LLGR_STALE: u32 = 0xffff_0006;
/// NO_LLGR (RFC 9494 4.3): not to be kept for long.
const NO_LLGR: u32 = 0xffff_0007;

/// The first generation, and what is none.
const FIRST_GENERATION: NonZeroU8 = NonZeroU8::MIN;
const NO_GENERATION: NonZeroU8 = NonZeroU8::MAX;
/// Sets of attributes asked for lately that are known without comparing them.
const RECENT: usize = 1 << 17;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    path_id: u32,
    /// When it was announced first as it is, seconds since 1970.
    since: u32,
    attributes: Number,
    target: Number,
    /// Its feed's place in the list.
    feed: u8,
    generation: NonZeroU8,
}

const _: () = assert!(size_of::<Entry<Candidate>>() == 16);

impl Candidate {
    /// What it says, whenever it said so first.
    fn says(&self) -> (Number, Number) {
        (self.attributes, self.target)
    }
}

/// A unicast table of a feed.
#[derive(Clone, Copy, Debug)]
struct Side {
    generation: NonZeroU8,
    /// Stale routes are used only where there is nothing else.
    least_preferred: bool,
    routes: usize,
    /// Of these, those that are not stale.
    fresh: usize,
}

/// What is known of a feed.
#[derive(Clone, Debug)]
struct Feed {
    id: FeedId,
    source: Source,
    class: Class,
    sides: [Side; 2],
    /// What attributes take that it announced first.
    octets: usize,
}

/// What is known of a set of attributes.
#[derive(Clone, Copy)]
struct Kept {
    /// Its routes are to be dropped.
    blackhole: bool,
    /// The place of the feed that announced it first.
    first: u8,
    /// What it takes.
    octets: u32,
}

/// What an announcement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The choice of the prefix may be another.
    Changed,
    /// It said what was known.
    Same,
    /// The prefix has too many routes, or the feed too many attributes: this one was not taken.
    Refused,
    /// The same, and what it would have replaced is gone: its feed has taken that back.
    Ousted,
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
    /// In a table that is stale for long (RFC 9494).
    stale_for_long: bool,
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

impl View<'_> {
    /// To be used only where there is nothing else: stale for long here or wherever it comes from.
    pub fn least_preferred(&self) -> bool {
        self.stale_for_long || self.attributes.communities.contains(&LLGR_STALE)
    }
}

/// All routes of all feeds.
pub struct FeedRoutes {
    v4: Prefixes<u32, Entry<Candidate>>,
    v6: Prefixes<u128, Entry<Candidate>>,
    attributes: Interned<Arc<Attributes>, Kept>,
    targets: Targets,
    feeds: Vec<Feed>,
    /// The place in `feeds` of each number.
    places: Vec<Option<u8>>,
    /// Routes with one of these are dropped, wherever they lead.
    blackholes: Vec<Community>,
    /// Goes up with every change of a route.
    version: u64,
}

impl Default for FeedRoutes {
    fn default() -> FeedRoutes {
        FeedRoutes {
            v4: Prefixes::default(),
            v6: Prefixes::default(),
            attributes: Interned::new(Arc::default(), RECENT),
            targets: Targets::default(),
            feeds: Vec::new(),
            places: Vec::new(),
            blackholes: Vec::new(),
            version: 0,
        }
    }
}

/// What a set of attributes takes, octets: itself, its lists, and its places in the tables of sets.
pub(super) fn octets(attributes: &Attributes) -> usize {
    const ENTRIES: usize = 96;
    let path = attributes.as_path.iter().map(|segment| {
        let (Segment::Sequence(list) | Segment::Set(list)) = segment;
        size_of::<Segment>() + size_of_val(&list[..])
    });
    size_of::<Attributes>()
        + ENTRIES
        + path.sum::<usize>()
        + size_of_val(&attributes.communities[..])
        + size_of_val(&attributes.extended[..])
        + size_of_val(&attributes.extended6[..])
        + size_of_val(&attributes.large[..])
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
    /// Routes with one of these communities that come from now on are dropped, wherever they lead.
    pub fn drop_with(&mut self, communities: &[Community]) {
        self.blackholes = communities.to_vec();
    }

    /// From now on there is this feed. There may be 256, which is more than can be configured.
    pub fn register(&mut self, feed: FeedId, source: Source, class: Class) {
        let Ok(place) = u8::try_from(self.feeds.len()) else {
            return;
        };
        let at = usize::from(feed);
        if self.places.len() <= at {
            self.places.resize(at + 1, None);
        }
        let side = Side {
            generation: FIRST_GENERATION,
            least_preferred: false,
            routes: 0,
            fresh: 0,
        };
        if self.places[at].is_none() {
            self.places[at] = Some(place);
            self.feeds.push(Feed {
                id: feed,
                source,
                class,
                sides: [side; 2],
                octets: 0,
            });
        }
    }

    fn place(&self, feed: FeedId) -> Option<u8> {
        *self.places.get(usize::from(feed))?
    }

    fn feed(&self, feed: FeedId) -> Option<&Feed> {
        self.feeds.get(usize::from(self.place(feed)?))
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

    /// Attributes and targets in use.
    pub fn shared(&self) -> (usize, usize) {
        (self.attributes.len(), self.targets.len())
    }

    /// A number that is another after every change of a route, or of whether one leads somewhere.
    pub fn version(&self) -> u64 {
        self.version + self.targets.version()
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
        let at = usize::from(prefix.addr().is_ipv6());
        let Some((place, generation)) = self
            .place(feed)
            .map(|place| (place, self.feeds[usize::from(place)].sides[at].generation))
        else {
            return Effect::Unknown;
        };
        let mut held = self.hold(feed, place, route);
        let mut ousted = false;
        if held.is_none() && self.withdraw(feed, prefix, path_id) {
            // What was said before does not hold any more, and may have been what took the room.
            ousted = true;
            held = self.hold(feed, place, route);
        }
        let Some((attributes, target)) = held else {
            return if ousted { Effect::Ousted } else { Effect::Refused };
        };
        let candidate = Candidate {
            path_id,
            since: now,
            attributes,
            target,
            feed: place,
            generation,
        };
        let placed = with_family!(
            prefix,
            |address, length| lay(&mut self.v4, address, length, candidate),
            |address, length| lay(&mut self.v6, address, length, candidate)
        );
        let side = &mut self.feeds[usize::from(place)].sides[at];
        match placed {
            Placed::New => {
                self.version += 1;
                side.routes += 1;
                side.fresh += 1;
                Effect::Changed
            }
            Placed::Instead(old) => {
                let refreshed = old.generation != generation;
                side.fresh += usize::from(refreshed);
                let changed = old.says() != candidate.says() || refreshed && side.least_preferred;
                self.version += u64::from(changed);
                self.release(&old);
                if changed { Effect::Changed } else { Effect::Same }
            }
            Placed::Refused => {
                self.release(&candidate);
                Effect::Refused
            }
        }
    }

    /// The numbers of what a route carries and where it leads.
    fn hold(&mut self, feed: FeedId, first: u8, route: &FeedRoute) -> Option<(Number, Number)> {
        let given = &route.attributes;
        // A session gives routes of the same attributes the same, so their address mostly tells.
        let mut entered = 0;
        let place = (Arc::as_ptr(given).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let attributes = self.attributes.hold(
            place as usize,
            |known| Arc::ptr_eq(known, given),
            || Arc::clone(given),
            |new| {
                entered = octets(new);
                Kept {
                    blackhole: is_blackhole(new, &self.blackholes),
                    first,
                    octets: u32::try_from(entered).unwrap_or(u32::MAX),
                }
            },
        )?;
        if entered > 0 {
            let taken = &mut self.feeds[usize::from(first)].octets;
            *taken += entered;
            if *taken > MOST_OCTETS {
                self.release_attributes(attributes);
                return None;
            }
        }
        let target = if self.attributes.value(attributes).blackhole {
            &Target::Blackhole
        } else {
            &route.target
        };
        let Some(target) = self.targets.hold(feed, target) else {
            self.release_attributes(attributes);
            return None;
        };
        Some((attributes, target))
    }

    fn release_attributes(&mut self, number: Number) {
        let Kept { first, octets, .. } = *self.attributes.value(number);
        if self.attributes.release(number).is_some() {
            let taken = &mut self.feeds[usize::from(first)].octets;
            *taken = taken.saturating_sub(octets as usize);
        }
    }

    fn release(&mut self, candidate: &Candidate) {
        self.release_attributes(candidate.attributes);
        self.targets.release(candidate.target);
    }

    /// Takes a route away; answers whether there was such a one.
    pub fn withdraw(&mut self, feed: FeedId, prefix: IpNet, path_id: u32) -> bool {
        let Some(place) = self.place(feed) else {
            return false;
        };
        self.take(prefix, |known| (known.feed, known.path_id) == (place, path_id))
    }

    /// Takes those routes of a prefix away that `goes` names; answers whether there were any.
    fn take(&mut self, prefix: IpNet, goes: impl Fn(&Candidate) -> bool) -> bool {
        let gone = with_family!(
            prefix,
            |address, length| take(&mut self.v4, address, length, goes),
            |address, length| take(&mut self.v6, address, length, goes)
        );
        self.version += u64::from(!gone.is_empty());
        let at = usize::from(prefix.addr().is_ipv6());
        for candidate in &gone {
            let side = &mut self.feeds[usize::from(candidate.feed)].sides[at];
            side.routes -= 1;
            side.fresh -= usize::from(candidate.generation == side.generation);
            self.release(candidate);
        }
        !gone.is_empty()
    }

    /// Begins another generation: every route of the table is stale. Answers whether the preference of any may have
    /// changed.
    pub fn mark(&mut self, feed: FeedId, table: FeedTable, least_preferred: bool) -> bool {
        let (Some(at), Some(place)) = (side(table), self.place(feed)) else {
            return false;
        };
        let generation = self.feeds[usize::from(place)].sides[at].generation;
        let next = generation.saturating_add(1);
        let next = if next == NO_GENERATION {
            self.age(place, at);
            FIRST_GENERATION
        } else {
            next
        };
        let side = &mut self.feeds[usize::from(place)].sides[at];
        side.generation = next;
        side.fresh = 0;
        let before = std::mem::replace(&mut side.least_preferred, least_preferred);
        self.version += 1;
        (before || least_preferred) && side.routes > 0
    }

    /// Gives every route of the table the generation that is none.
    fn age(&mut self, place: u8, side: usize) {
        fn none<'a>(entries: impl Iterator<Item = &'a mut Entry<Candidate>>, place: u8) {
            let candidates = entries.flat_map(Entry::as_mut_slice);
            for candidate in candidates.filter(|candidate| candidate.feed == place) {
                candidate.generation = NO_GENERATION;
            }
        }
        match side {
            0 => none(self.v4.values_mut(), place),
            _ => none(self.v6.values_mut(), place),
        }
    }

    /// The prefixes of a table that have stale routes of this feed, neighbours near each other; with `unwanted`, only of those that must
    /// not be kept for long (NO_LLGR).
    pub fn stale(&self, feed: FeedId, table: FeedTable, unwanted: bool) -> Vec<IpNet> {
        let (Some(at), Some(place)) = (side(table), self.place(feed)) else {
            return Vec::new();
        };
        let stale = self.stale_routes(place, at, unwanted);
        match at {
            0 => list(&self.v4, stale),
            _ => list(&self.v6, stale),
        }
    }

    /// Which routes a sweep takes.
    fn stale_routes(&self, place: u8, side: usize, unwanted: bool) -> impl Fn(&Candidate) -> bool {
        let generation = self.feeds[usize::from(place)].sides[side].generation;
        move |candidate: &Candidate| {
            candidate.feed == place
                && candidate.generation != generation
                && (!unwanted
                    || self
                        .attributes
                        .get(candidate.attributes)
                        .communities
                        .contains(&NO_LLGR))
        }
    }

    /// Takes the routes of a prefix away that [`Self::stale`] would list it for; answers whether there were any.
    pub fn sweep(&mut self, feed: FeedId, prefix: IpNet, unwanted: bool) -> bool {
        let Some(place) = self.place(feed) else {
            return false;
        };
        let stale = self.stale_routes(place, usize::from(prefix.addr().is_ipv6()), unwanted);
        let listed: Vec<Candidate> = self
            .candidates(prefix)
            .iter()
            .filter(|c| stale(c))
            .copied()
            .collect();
        drop(stale);
        !listed.is_empty() && self.take(prefix, |candidate| listed.contains(candidate))
    }

    fn candidates(&self, prefix: IpNet) -> &[Candidate] {
        entry::of(&self.v4, &self.v6, prefix)
    }

    /// The routes of a prefix.
    pub fn routes(&self, prefix: IpNet) -> impl Iterator<Item = View<'_>> {
        let ipv6 = prefix.addr().is_ipv6();
        self.candidates(prefix)
            .iter()
            .map(move |candidate| self.view(candidate, ipv6))
    }

    fn view(&self, candidate: &Candidate, ipv6: bool) -> View<'_> {
        let feed = &self.feeds[usize::from(candidate.feed)];
        let side = &feed.sides[usize::from(ipv6)];
        let stale = candidate.generation != side.generation;
        View {
            feed: feed.id,
            source: feed.source,
            class: feed.class,
            path_id: candidate.path_id,
            stale,
            stale_for_long: stale && side.least_preferred,
            since: candidate.since,
            usable: self.targets.is_usable(candidate.target),
            target: self.targets.get(candidate.target),
            path: self.targets.path(candidate.target, ipv6),
            attributes: self.attributes.get(candidate.attributes),
        }
    }

    /// The longest prefix of at most `longest` that covers an address and has a route of a source that is used.
    pub fn covering(&self, address: std::net::IpAddr, longest: u8) -> Option<IpNet> {
        fn find<A: Address>(
            routes: &FeedRoutes,
            prefixes: &Prefixes<A, Entry<Candidate>>,
            address: A,
            mut longest: u8,
        ) -> Option<IpNet> {
            loop {
                let (network, length, entry) = prefixes.covering(address, longest)?;
                let used = |c: &Candidate| routes.feeds[usize::from(c.feed)].class != UNLISTED;
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
        let mut all = list(&self.v4, |_| true);
        all.append(&mut list(&self.v6, |_| true));
        all
    }

    /// The same, of those with a route of this feed.
    pub fn prefixes_of(&self, feed: FeedId) -> Vec<IpNet> {
        let Some(place) = self.place(feed) else {
            return Vec::new();
        };
        let mut all = list(&self.v4, |candidate| candidate.feed == place);
        all.append(&mut list(&self.v6, |candidate| candidate.feed == place));
        all
    }

    /// Whether a prefix has more than one route.
    pub fn has_several(&self, prefix: IpNet) -> bool {
        let several = |entry: &Entry<Candidate>| entry.sole().is_none();
        with_family!(
            prefix,
            |address, length| self.v4.get(address, length).is_some_and(several),
            |address, length| self.v6.get(address, length).is_some_and(several)
        )
    }
}

/// The prefixes with any such route. Not sorted: that would take longer than all the rest, in one piece.
fn list<A: Address>(
    prefixes: &Prefixes<A, Entry<Candidate>>,
    any: impl Fn(&Candidate) -> bool,
) -> Vec<IpNet> {
    prefixes
        .iter()
        .filter(|(.., entry)| entry.as_slice().iter().any(&any))
        .filter_map(|(address, length, _)| address.prefix(length))
        .collect()
}

enum Placed {
    New,
    Instead(Candidate),
    Refused,
}

fn lay<A: Address>(
    prefixes: &mut Prefixes<A, Entry<Candidate>>,
    address: A,
    length: u8,
    candidate: Candidate,
) -> Placed {
    let Some(entry) = prefixes.get_or_insert(address, length, || Entry::One(candidate)) else {
        return Placed::New;
    };
    let same = |known: &&mut Candidate| (known.feed, known.path_id) == (candidate.feed, candidate.path_id);
    if let Some(known) = entry.as_mut_slice().iter_mut().find(same) {
        let since = if known.says() == candidate.says() {
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
    prefixes: &mut Prefixes<A, Entry<Candidate>>,
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
