//! What the engine does with a whole dump of the kernel.
//!
//! The first is laid as it is read: most of a load's time is the kernel's own, and nothing is known yet that would have to
//! stay until the dump is complete. IPv4 comes in the order of addresses, which is that of laying; IPv6 comes with what is
//! covered before what covers it, and waits for the end. A later dump is collected, takes the place of what was known, and
//! every difference is mended.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

use super::{Engine, known};
use crate::{
    dataplane::Dataplane,
    rib::kernel::{KernelRoutes, Listed},
    source::event::{Change, Dump, DumpSink, Route},
};

/// A dump on its way into the engine. Where it is dropped before [`Self::finish`], what was known stays; routes of a first
/// dump that have come stay laid.
pub struct Load<'a, D> {
    engine: &'a mut Engine<D>,
    to: To,
}

enum To {
    /// Into the tables at once.
    Tables {
        /// Prefixes of one address, until the next address comes: the kernel tells the longest first.
        row: Vec<IpNet>,
        /// Neighbours that differ from those before.
        neighbours: Vec<IpAddr>,
    },
    /// Beside what is known, until it is complete.
    Beside {
        surroundings: Dump,
        routes: Box<KernelRoutes>,
    },
}

impl<D: Dataplane> DumpSink for Load<'_, D> {
    fn surroundings(&mut self, dump: Dump) {
        match &mut self.to {
            To::Tables { neighbours, .. } => {
                *neighbours = self.engine.surround(dump);
                self.engine.refresh_all();
            }
            To::Beside { surroundings, .. } => *surroundings = dump,
        }
    }

    fn route(&mut self, route: Route) {
        // Each behind the one before.
        let change = Change::Append;
        match &mut self.to {
            To::Tables { row, .. } => {
                let prefix = route.prefix.trunc();
                let _certain = self.engine.rib.kernel.announce(route, change);
                if prefix.addr().is_ipv4() {
                    if row.first().is_some_and(|first| first.addr() != prefix.addr()) {
                        self.engine.lay_row(row);
                    }
                    row.push(prefix);
                }
            }
            To::Beside { routes, .. } => {
                let _certain = routes.announce(route, change);
            }
        }
    }
}

impl<D: Dataplane> Load<'_, D> {
    /// The dump is complete: what it does not hold goes.
    pub fn finish(self) {
        let engine = self.engine;
        engine.loading = false;
        let (old, neighbours) = match self.to {
            To::Tables { mut row, neighbours } => {
                engine.lay_row(&mut row);
                engine.resolve_all();
                engine.lay(engine.rib.kernel.sorted_v6());
                (None, neighbours)
            }
            To::Beside { surroundings, routes } => {
                let neighbours = engine.surround(surroundings);
                let old = std::mem::replace(&mut engine.rib.kernel, *routes);
                engine.resolve_all();
                engine.refresh_all();
                engine.lay(engine.rib.kernel.sorted());
                // Without feeds every prefix laid is compared: that needs no memory of what there was.
                let compare = engine.activity.resyncs > 0 && !engine.rib.feeds.is_empty();
                (compare.then_some(old), neighbours)
            }
        };
        engine.mend(old, neighbours);
    }
}

impl<D: Dataplane> Engine<D> {
    /// Replaces everything known with a dump and mends every difference.
    pub fn load(&mut self, mut dump: Dump) {
        let routes = std::mem::take(&mut dump.routes);
        let mut load = self.begin_load();
        load.surroundings(dump);
        routes.into_iter().for_each(|route| load.route(route));
        load.finish();
    }

    /// The same with the dump given piece by piece as it is read, so that a full table is not held twice.
    pub fn begin_load(&mut self) -> Load<'_, D> {
        // As many as there were.
        let (v4, v6) = match self.rib.kernel.len() {
            (0, 0) => self.room(),
            known => known,
        };
        let mut routes = self.rib.kernel.emptied();
        routes.reserve(v4, v6);
        let first = self.activity.resyncs == 0 && self.rib.kernel.is_empty() && self.rib.feeds.is_empty();
        self.loading = first;
        let to = if first {
            self.rib.kernel = routes;
            To::Tables {
                row: Vec::new(),
                neighbours: Vec::new(),
            }
        } else {
            To::Beside {
                surroundings: Dump::default(),
                routes: Box::new(routes),
            }
        };
        Load { engine: self, to }
    }

    /// Takes everything of a dump but its routes; answers the neighbours that differ from those before.
    fn surround(&mut self, dump: Dump) -> Vec<IpAddr> {
        let mut links = BTreeSet::new();
        for link in dump.links {
            links.insert(link.ifindex);
            self.world.links.insert(link);
        }
        for gone in self
            .world
            .links
            .indices()
            .into_iter()
            .filter(|ifindex| !links.contains(ifindex))
        {
            self.world.links.remove(gone);
            self.world.links.serve(gone, None);
        }
        self.addresses = dump.addresses.iter().map(|a| (a.ifindex, a.address)).collect();
        self.world.nexthops = dump
            .nexthops
            .into_iter()
            .map(|object| (object.id, object.kind))
            .collect();
        let differ = self.world.neighbours.replace(dump.neighbours);
        differ.into_iter().map(|(_, address)| address).collect()
    }

    /// Finds the way of every gateway again.
    fn resolve_all(&mut self) {
        let gateways = self.world.gateways.iter().map(|(gateway, _)| *gateway);
        let gateways = gateways.collect();
        self.resolve_again(gateways);
    }

    fn refresh_all(&mut self) {
        self.adjacencies
            .refresh_all(known(&self.dataplane, &self.world, &self.fib));
    }

    /// Lays prefixes of one address, what covers before what it covers, and empties the row.
    fn lay_row(&mut self, row: &mut Vec<IpNet>) {
        row.sort_unstable_by_key(IpNet::prefix_len);
        row.dedup();
        for prefix in row.drain(..) {
            self.sync(prefix);
        }
    }

    /// By address, what covers before what it covers: neighbours in the address space get neighbouring slots, and a prefix
    /// finds its backup laid.
    fn lay(&mut self, listed: impl Iterator<Item = Listed>) {
        for listed in listed {
            if listed.prefix.prefix_len() == listed.prefix.max_prefix_len() {
                self.sync(listed.prefix);
            } else {
                let wanted = self.rib.choose_listed(&listed, &self.alike());
                self.bring(listed.prefix, wanted, false);
                self.follow(listed.prefix);
            }
        }
    }

    /// The routes of a dump are laid: what else hangs on it follows, and what it does not hold goes. `old` is what was known
    /// before, where that is to be looked at.
    fn mend(&mut self, old: Option<KernelRoutes>, neighbours: Vec<IpAddr>) {
        let hosts: BTreeSet<IpNet> = self
            .world
            .neighbours
            .iter()
            .map(|n| n.address)
            .chain(neighbours)
            .map(IpNet::from)
            .collect();
        for host in &hosts {
            self.sync(*host);
        }
        let counted: Vec<IpNet> = self.accounts.all().collect();
        for prefix in &counted {
            self.sync_one(*prefix, None);
        }
        match old {
            Some(old) => {
                for gone in old.sorted() {
                    if self.rib.kernel.find(gone.prefix).is_none() {
                        self.sync(gone.prefix);
                    }
                }
            }
            None => self.sweep(&hosts, &counted),
        }
        for prefix in self.fib.take_refused(usize::MAX) {
            self.sync(prefix);
        }
        if self.gate.is_none() && !self.releasing {
            self.adoption_ends();
        }
        self.gateways_changed = true;
        self.activity.resyncs += 1;
    }

    /// Takes away what is laid and no longer wanted, where every route, every one of `hosts` and what is `counted` are laid.
    fn sweep(&mut self, hosts: &BTreeSet<IpNet>, counted: &[IpNet]) {
        let tables = self.dataplane.tables();
        let counted = counted.iter().filter(|prefix| !hosts.contains(*prefix));
        let beside = hosts
            .iter()
            .chain(counted)
            .filter(|host| self.fib.slot(tables, **host).is_some() && self.rib.kernel.find(**host).is_none());
        let sum = |(v4, v6): (usize, usize)| v4 + v6;
        // As many laid as there should be, and all that should be are: then there is nothing else.
        if sum(self.fib.refused()) == 0
            && self.rib.feeds.is_empty()
            && sum(self.fib.len()) == sum(self.rib.kernel.len()) + beside.count()
        {
            return;
        }
        let mut unwanted = Vec::new();
        self.fib.each(tables, |prefix, _, _| {
            let counted = || self.accounts.has(prefix) && self.counted(prefix).is_some();
            if self.wanted(prefix).is_none() && !counted() {
                unwanted.push(prefix);
            }
        });
        for prefix in unwanted {
            self.sync(prefix);
        }
    }
}
