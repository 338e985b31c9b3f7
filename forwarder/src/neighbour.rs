//! Neighbours: who has which MAC, and on which interface.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::source::event::{Ifindex, Neighbour};

/// Every neighbour entry the kernel told of, ordered by address.
#[derive(Default)]
pub struct Neighbours {
    entries: BTreeMap<(IpAddr, Ifindex), Neighbour>,
}

impl Neighbours {
    /// Adds or changes an entry; answers whether that matters to forwarding.
    pub fn insert(&mut self, neighbour: Neighbour) -> bool {
        let old = self
            .entries
            .insert((neighbour.address, neighbour.ifindex), neighbour);
        old.and_then(|old| old.mac) != neighbour.mac
    }

    /// Removes an entry; answers whether it was usable.
    pub fn remove(&mut self, ifindex: Ifindex, address: IpAddr) -> bool {
        self.entries
            .remove(&(address, ifindex))
            .is_some_and(|old| old.mac.is_some())
    }

    /// An entry.
    pub fn get(&self, ifindex: Ifindex, address: IpAddr) -> Option<&Neighbour> {
        self.entries.get(&(address, ifindex))
    }

    /// The MAC of a neighbour the kernel would send to.
    pub fn mac(&self, ifindex: Ifindex, address: IpAddr) -> Option<[u8; 6]> {
        self.get(ifindex, address)?.mac
    }

    /// Entries for an address, on any interface.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = &Neighbour> {
        self.entries
            .range((address, 0)..=(address, u32::MAX))
            .map(|(_, neighbour)| neighbour)
    }

    /// Addresses of entries inside a prefix.
    pub fn inside(&self, prefix: IpNet) -> Vec<IpAddr> {
        let last = match prefix {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        let mut addresses: Vec<IpAddr> = self
            .entries
            .range((prefix.network(), 0)..=(last, u32::MAX))
            .map(|((a, _), _)| *a)
            .collect();
        addresses.dedup();
        addresses
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.entries.values()
    }

    /// Replaces everything with a dump; answers the addresses whose entries differ.
    pub fn replace(&mut self, dump: Vec<Neighbour>) -> Vec<(Ifindex, IpAddr)> {
        let new: BTreeMap<_, _> = dump.into_iter().map(|n| ((n.address, n.ifindex), n)).collect();
        let mac =
            |map: &BTreeMap<(IpAddr, Ifindex), Neighbour>, key| map.get(key).and_then(|n: &Neighbour| n.mac);
        let changed = self
            .entries
            .keys()
            .chain(new.keys())
            .filter(|key| mac(&self.entries, key) != mac(&new, key))
            .map(|(address, ifindex)| (*ifindex, *address))
            .collect();
        self.entries = new;
        changed
    }
}
