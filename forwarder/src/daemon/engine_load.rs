//! What the engine does with a whole dump of the kernel.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Engine, known};
use crate::{
    dataplane::Dataplane,
    rib::kernel::KernelRoutes,
    source::event::{Change, Dump, Route},
};

impl<D: Dataplane> Engine<D> {
    /// Replaces everything known with a dump and mends every difference.
    pub fn load(&mut self, mut dump: Dump) {
        let routes = std::mem::take(&mut dump.routes);
        let loaded: Result<(), std::convert::Infallible> = self.load_from(|each| {
            routes.into_iter().for_each(each);
            Ok(dump)
        });
        match loaded {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// The same with the routes given one by one, in the kernel's order, so that a full table is not held twice. `read`
    /// answers the rest of the dump.
    ///
    /// # Errors
    /// Those of `read`; then everything is as it was.
    pub fn load_from<E>(
        &mut self,
        read: impl FnOnce(&mut dyn FnMut(Route)) -> Result<Dump, E>,
    ) -> Result<(), E> {
        let mut routes = KernelRoutes::default();
        // As many as there were; at the start, as a full table that just fits would have: growing means to move them all,
        // and room that is not used is not touched.
        let slots = self.dataplane.tables().sizes.slots as usize;
        match self.rib.kernel.len() {
            (0, 0) => routes.reserve(slots / 4 * 3, slots / 8),
            (v4, v6) => routes.reserve(v4, v6),
        }
        let dump = read(&mut |route| {
            // Each behind the one before.
            let _certain = routes.announce(route, Change::Append);
        })?;
        self.reconcile(dump, routes);
        Ok(())
    }

    fn reconcile(&mut self, dump: Dump, routes: KernelRoutes) {
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
        let neighbours = self.world.neighbours.replace(dump.neighbours);
        let first = self.activity.resyncs == 0;
        let old = std::mem::replace(&mut self.rib.kernel, routes);
        // Without feeds every prefix laid is compared: that needs no memory of what there was.
        let old = (!first && !self.rib.feeds.is_empty()).then_some(old);
        let gateways = self.world.gateways.iter().map(|(gateway, _)| *gateway);
        let gateways = gateways.collect();
        self.resolve_again(gateways);
        self.adjacencies
            .refresh_all(known(&self.dataplane, &self.world, &self.fib));
        // By address, what covers before what it covers: neighbours in the address space get neighbouring slots, and a
        // prefix finds its backup laid.
        for listed in self.rib.kernel.sorted() {
            if listed.prefix.prefix_len() == listed.prefix.max_prefix_len() {
                self.sync(listed.prefix);
            } else {
                let wanted = self.rib.choose_listed(&listed);
                self.bring(listed.prefix, wanted);
            }
        }
        let hosts: BTreeSet<IpNet> = self
            .world
            .neighbours
            .iter()
            .map(|n| n.address)
            .chain(neighbours.into_iter().map(|(_, address)| address))
            .map(IpNet::from)
            .collect();
        for host in &hosts {
            self.sync(*host);
        }
        match old {
            Some(old) => {
                for gone in old.sorted() {
                    if self.rib.kernel.find(gone.prefix).is_none() {
                        self.sync(gone.prefix);
                    }
                }
            }
            None => self.sweep(&hosts),
        }
        for prefix in self.fib.take_refused(usize::MAX) {
            self.sync(prefix);
        }
        if self.gate.is_none() && !self.releasing {
            self.fib.adoption_ends(self.dataplane.tables());
            self.adjacencies.adoption_ends(self.dataplane.tables());
        }
        self.gateways_changed = true;
        self.activity.resyncs += 1;
    }

    /// Takes away what is laid and no longer wanted, where every route and every one of `hosts` is laid.
    fn sweep(&mut self, hosts: &BTreeSet<IpNet>) {
        let tables = self.dataplane.tables();
        let beside = hosts
            .iter()
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
            if self.wanted(prefix).is_none() {
                unwanted.push(prefix);
            }
        });
        for prefix in unwanted {
            self.sync(prefix);
        }
    }
}
