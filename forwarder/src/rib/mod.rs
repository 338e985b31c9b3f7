//! Every route of every source, per prefix, and which of them counts.
//!
//! The kernel's routes ([`kernel`]) and those of the feeds ([`feeds`]) are kept apart: a dump replaces the one and leaves the
//! other, and where there are no feeds nothing is looked for in them. [`decision`] says which counts; [`recursion`] where
//! the gateway of a BGP route is.
//!
//! Connected and local routes are always the kernel's and always first: what is ours and what is next to us nobody else can
//! know better. Behind them come the sources in the order of `[routes] sources`. Feeds that are not named there only tell
//! attributes. If the kernel is not named there, its other routes still decide where nobody else has anything to say: they are
//! laid as the kernel's to carry out, so that a shorter prefix of a feed does not take what the kernel sends elsewhere.

pub mod cones;
pub mod decision;
mod entry;
pub mod explain;
pub mod feeds;
pub mod flows;
mod interned;
pub mod kernel;
mod kinds;
pub mod recursion;
mod shades;
pub mod targets;

use std::{net::IpAddr, sync::Arc};

use forwarder_common::reason::Reason;
use ipnet::IpNet;

use self::{
    cones::Cones,
    decision::{Class, Contender, FIRST, UNLISTED},
    feeds::{FeedRoutes, View},
    kernel::{Cover, Found, KernelRoutes, Listed},
};
use crate::{
    config::Source,
    fib::{
        Provenance,
        path::Path,
        plan::{Others, Ways},
    },
    source::{
        feed::{Attributes, FeedId},
        route_tables::RouteTables,
    },
};

/// All routes.
pub struct Rib {
    /// Those of the kernel.
    pub kernel: KernelRoutes,
    /// Those of feeds.
    pub feeds: FeedRoutes,
    sources: Vec<Source>,
    listed_kernel: Class,
    punt: Arc<Path>,
    /// Whether all ways of a prefix count, for packets from there.
    pub all_ways: bool,
    /// Which ASes are behind which interface, where all ways count.
    pub cones: Cones,
}

/// Whether the first of two ways has no next hop that the second has not: then it is no backup for it.
pub type Alike<'a> = &'a dyn Fn(&Path, &Path) -> bool;

/// Which ways are looked at.
type Keep<'a> = &'a dyn Fn(&Arc<Path>) -> bool;

/// What packets of a prefix should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The best way, and the next.
    pub ways: Ways,
    /// Where the best route comes from.
    pub provenance: Provenance,
    /// The kernel's route is the best.
    pub by_kernel: bool,
    /// Whose word it is.
    pub class: Class,
}

impl Default for Rib {
    fn default() -> Rib {
        Rib::new(&[Source::Kernel], RouteTables::default())
    }
}

impl Rib {
    /// No routes. `sources` are those that forward, the preferred one first; `tables` those of the kernel.
    pub fn new(sources: &[Source], tables: RouteTables) -> Rib {
        Rib {
            kernel: KernelRoutes::of(tables),
            feeds: FeedRoutes::default(),
            sources: sources.to_vec(),
            listed_kernel: class_of(sources, Source::Kernel),
            punt: Arc::new(Path::Special(Reason::UnsupportedRoute)),
            all_ways: false,
            cones: Cones::default(),
        }
    }

    /// Who forwards, the preferred one first.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The rank of a source.
    pub fn class_of(&self, source: Source) -> Class {
        class_of(&self.sources, source)
    }

    /// From now on there is this feed.
    pub fn register(&mut self, feed: FeedId, source: Source) {
        self.feeds.register(feed, source, self.class_of(source));
    }

    /// Whether any source has a route for exactly this prefix, used or not.
    pub fn knows(&self, prefix: IpNet) -> bool {
        self.kernel.find(prefix).is_some() || self.feeds.routes(prefix).next().is_some()
    }

    /// What packets of a prefix should do, whatever its routes' next hops are.
    pub fn choose(&self, prefix: IpNet) -> Option<Choice> {
        self.choose_apart(prefix, &|_, _| false)
    }

    /// What packets of a prefix should do. The next way is that of the best route with a next hop that the best way has not,
    /// if there is one.
    pub fn choose_apart(&self, prefix: IpNet, alike: Alike<'_>) -> Option<Choice> {
        let choice = self.choose_with(prefix, self.kernel.find(prefix), alike);
        self.complete(prefix, choice)
    }

    /// The same of a prefix in a list of the kernel's.
    pub fn choose_listed(&self, listed: &Listed, alike: Alike<'_>) -> Option<Choice> {
        let choice = self.choose_with(listed.prefix, self.kernel.find_listed(listed), alike);
        self.complete(listed.prefix, choice)
    }

    /// With what all routes of the prefix say, those of feeds that only tell attributes among them.
    fn complete(&self, prefix: IpNet, choice: Option<Choice>) -> Option<Choice> {
        let mut choice = choice?;
        // The kernel does not know ASes. What is ours or next to us is of no AS but our own.
        if choice.by_kernel && choice.class != FIRST && !self.feeds.is_empty() {
            let views: Vec<View<'_>> = self.feeds.routes(prefix).collect();
            if let Some(view) = best_of(&views, |_| true) {
                choice.provenance = provenance(view.attributes, choice.provenance.protocol);
            }
        }
        Some(self.with_others(prefix, choice))
    }

    /// With the ways of all other routes of the prefix.
    fn with_others(&self, prefix: IpNet, mut choice: Choice) -> Choice {
        if self.all_ways {
            let ways = &choice.ways;
            let known = |path: &&Arc<Path>| **path == ways.path || Some(*path) == ways.alternate.as_ref();
            let feeds: Vec<View<'_>> = self.feeds.routes(prefix).collect();
            let of_feeds = feeds.iter().map(|view| view.path);
            let all = self.kernel.paths(prefix).chain(of_feeds);
            let origins = feeds.iter().filter_map(|view| view.attributes.origin_as());
            let behind = origins.flat_map(|origin| self.cones.interfaces(origin));
            choice.ways.others = Others::of(all.filter(|path| !known(path)), behind);
        }
        choice
    }

    fn choose_with(&self, prefix: IpNet, found: Option<Found<'_>>, alike: Alike<'_>) -> Option<Choice> {
        if self.feeds.is_empty() {
            return found.map(|found| self.by_kernel(&found, &[], alike));
        }
        let mut feeds = self.feeds.routes(prefix).filter(|view| view.class != UNLISTED);
        let Some(first) = feeds.next() else {
            return found.map(|found| self.by_kernel(&found, &[], alike));
        };
        match (found, feeds.next()) {
            (None, None) => Some(by_feed(&first, None)),
            (Some(found), None) => {
                let class = self.class_of_found(&found);
                let kernel_first = class != UNLISTED && (class < first.class || !first.usable);
                Some(if kernel_first {
                    self.by_kernel(&found, &[first], alike)
                } else {
                    let path = (class != UNLISTED).then(|| self.path_of(&found));
                    by_feed(&first, path.filter(|path| *path != first.path))
                })
            }
            (found, Some(second)) => {
                let views: Vec<View<'_>> = [first, second].into_iter().chain(feeds).collect();
                Some(self.choose_among(found, &views, alike))
            }
        }
    }

    fn choose_among(&self, found: Option<Found<'_>>, views: &[View<'_>], alike: Alike<'_>) -> Choice {
        let kernel = found
            .as_ref()
            .map(|found| (found, self.class_of_found(found)))
            .filter(|(_, class)| *class != UNLISTED);
        let Some(best) = best_of(views, |_| true) else {
            return refused(&self.punt);
        };
        if let Some((found, class)) = kernel
            && (class < best.class || !best.usable)
        {
            return self.by_kernel(found, views, alike);
        }
        // The best of those that do something else, the kernel's among them.
        let path = apart(best.path, alike, &|other| {
            let next = best_of(views, |view| view.usable && other(view.path));
            let kernel = kernel.map(|(found, class)| (self.path_of(found), class));
            match (next, kernel.filter(|(path, _)| other(path))) {
                (Some(next), Some((path, class))) if class < next.class => Some(path),
                (Some(next), _) => Some(next.path),
                (None, kernel) => kernel.map(|(path, _)| path),
            }
        });
        by_feed(best, path)
    }

    /// The rank of a route of the kernel; `first`: of table local or a connected subnet.
    fn kernel_class(&self, first: bool) -> Class {
        if first { FIRST } else { self.listed_kernel }
    }

    fn class_of_found(&self, found: &Found<'_>) -> Class {
        self.kernel_class(found.first)
    }

    /// What the kernel's best route does, where the kernel is asked.
    fn path_of<'a>(&'a self, found: &Found<'a>) -> &'a Arc<Path> {
        if found.undecided || self.class_of_found(found) == UNLISTED {
            &self.punt
        } else {
            found.best.path
        }
    }

    fn by_kernel(&self, found: &Found<'_>, feeds: &[View<'_>], alike: Alike<'_>) -> Choice {
        let path = self.path_of(found);
        let next = || {
            apart(path, alike, &|other| {
                let kernels = found.next.map(|offer| offer.path).filter(|path| other(path));
                let of_feeds = || best_of(feeds, |view| view.usable && other(view.path));
                kernels.or_else(|| of_feeds().map(|view| view.path))
            })
        };
        let alternate = if path.has_gateways() { next() } else { None };
        Choice {
            ways: Ways {
                path: path.clone(),
                alternate: alternate.cloned(),
                others: Others::default(),
                account: 0,
            },
            provenance: Provenance {
                protocol: found.best.protocol,
                ..Provenance::default()
            },
            by_kernel: true,
            class: self.class_of_found(found),
        }
    }

    /// The route of the kernel that covers an address, unless a feed has a longer one, or one that comes before it.
    pub fn kernel_cover(&self, address: IpAddr) -> Option<Cover<'_>> {
        let cover = self.kernel.covering(address)?;
        if self.feeds.is_empty() {
            return Some(cover);
        }
        let class = self.kernel_class(cover.first);
        if class == UNLISTED {
            return None;
        }
        let longest = cover.prefix.max_prefix_len();
        match self.feeds.covering(address, longest) {
            Some(by_feed) if by_feed.prefix_len() > cover.prefix.prefix_len() => None,
            Some(by_feed) if by_feed.prefix_len() == cover.prefix.prefix_len() => {
                let chosen = self.choose(by_feed)?;
                (chosen.class == class).then_some(cover)
            }
            _ => Some(cover),
        }
    }
}

fn class_of(sources: &[Source], source: Source) -> Class {
    let place = sources.iter().position(|known| *known == source);
    place.map_or(UNLISTED, |place| FIRST + 1 + place as Class)
}

/// A route of a feed for the decision.
pub fn contend<'a>(view: &View<'a>) -> Contender<'a> {
    Contender {
        usable: view.usable,
        class: view.class,
        table: 0,
        metric: view.attributes.metric,
        least_preferred: view.least_preferred(),
        attributes: Some(view.attributes),
        feed: view.feed,
        order: view.path_id,
    }
}

/// The best of the routes that `keep` leaves in.
fn best_of<'a, 'b>(views: &'a [View<'b>], keep: impl Fn(&View<'b>) -> bool) -> Option<&'a View<'b>> {
    let kept: Vec<&View<'_>> = views.iter().filter(|view| keep(view)).collect();
    if let [one] = kept[..] {
        return Some(one);
    }
    let contenders: Vec<Contender<'_>> = kept.iter().map(|view| contend(view)).collect();
    decision::best(&contenders).map(|at| kept[at])
}

/// What `best` offers of the ways that have a next hop which the way of the best route has not; of all others if none has.
/// Next hops change without their routes: what is alike now and was not then is passed over when the group is filled.
fn apart<'a>(
    own: &Arc<Path>,
    alike: Alike<'_>,
    best: &dyn Fn(Keep<'_>) -> Option<&'a Arc<Path>>,
) -> Option<&'a Arc<Path>> {
    let other = |path: &Arc<Path>| path != own;
    let first = best(&other)?;
    if !alike(first, own) {
        return Some(first);
    }
    best(&|path| other(path) && !alike(path, own)).or(Some(first))
}

fn by_feed(view: &View<'_>, next: Option<&Arc<Path>>) -> Choice {
    let alternate = if view.path.has_gateways() { next } else { None };
    Choice {
        ways: Ways {
            path: view.path.clone(),
            alternate: alternate.cloned(),
            others: Others::default(),
            account: 0,
        },
        provenance: provenance(view.attributes, view.attributes.protocol),
        by_kernel: false,
        class: view.class,
    }
}

fn provenance(attributes: &Attributes, protocol: u8) -> Provenance {
    Provenance {
        protocol,
        origin_as: attributes.origin_as().unwrap_or(0),
        neighbour_as: attributes.neighbour_as().unwrap_or(0),
    }
}

fn refused(punt: &Arc<Path>) -> Choice {
    Choice {
        ways: Ways {
            path: punt.clone(),
            alternate: None,
            others: Others::default(),
            account: 0,
        },
        provenance: Provenance::default(),
        by_kernel: false,
        class: UNLISTED,
    }
}

#[cfg(test)]
mod tests;
