//! Neighbours: who has which MAC, and on which interface.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    first_octets::FirstOctets,
    source::event::{Ifindex, Neighbour},
};

/// Every neighbour entry the kernel told of, ordered by address.
#[derive(Default)]
pub struct Neighbours {
    entries: BTreeMap<(IpAddr, Ifindex), Neighbour>,
    octets: FirstOctets,
}

impl Neighbours {
    /// Adds or changes an entry; answers whether that matters to forwarding.
    ///
    /// Failure sticks until the entry has a MAC again or is gone: the kernel asks again and again for one that it manages
    /// (FAILED, INCOMPLETE, FAILED...), and in between nothing has become better.
    pub fn insert(&mut self, neighbour: Neighbour) -> bool {
        let key = (neighbour.address, neighbour.ifindex);
        let old = self.entries.get(&key).copied();
        let new = sticky(neighbour, old.as_ref());
        self.entries.insert(key, new);
        self.octets.note(key.0);
        old.and_then(|old| old.mac) != new.mac || old.is_some_and(|old| old.failed) != new.failed
    }

    /// Removes an entry; answers whether that matters to forwarding.
    pub fn remove(&mut self, ifindex: Ifindex, address: IpAddr) -> bool {
        self.entries
            .remove(&(address, ifindex))
            .is_some_and(|old| old.mac.is_some() || old.failed)
    }

    /// An entry.
    pub fn get(&self, ifindex: Ifindex, address: IpAddr) -> Option<&Neighbour> {
        self.entries.get(&(address, ifindex))
    }

    /// The MAC of a neighbour the kernel would send to.
    pub fn mac(&self, ifindex: Ifindex, address: IpAddr) -> Option<[u8; 6]> {
        self.get(ifindex, address)?.mac
    }

    /// Whether the kernel asked for this neighbour in vain and has not found it since.
    pub fn has_failed(&self, ifindex: Ifindex, address: IpAddr) -> bool {
        self.get(ifindex, address).is_some_and(|entry| entry.failed)
    }

    /// Entries for an address, on any interface.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = &Neighbour> {
        self.entries
            .range((address, 0)..=(address, u32::MAX))
            .map(|(_, neighbour)| neighbour)
    }

    /// Addresses of entries inside a prefix.
    pub fn inside(&self, prefix: IpNet) -> Vec<IpAddr> {
        if !self.octets.may_hold(prefix) {
            return Vec::new();
        }
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
        let new: BTreeMap<_, _> = dump
            .into_iter()
            .map(|n| {
                let key = (n.address, n.ifindex);
                (key, sticky(n, self.entries.get(&key)))
            })
            .collect();
        let mac =
            |map: &BTreeMap<(IpAddr, Ifindex), Neighbour>, key| map.get(key).and_then(|n: &Neighbour| n.mac);
        let changed = self
            .entries
            .keys()
            .chain(new.keys())
            .filter(|key| mac(&self.entries, key) != mac(&new, key))
            .map(|(address, ifindex)| (*ifindex, *address))
            .collect();
        new.keys().for_each(|(address, _)| self.octets.note(*address));
        self.entries = new;
        changed
    }
}

fn sticky(new: Neighbour, old: Option<&Neighbour>) -> Neighbour {
    let failed = new.mac.is_none() && (new.failed || old.is_some_and(|old| old.failed));
    Neighbour { failed, ..new }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mac: Option<[u8; 6]>, failed: bool) -> Neighbour {
        Neighbour {
            ifindex: 2,
            address: IpAddr::from([192, 0, 2, 1]),
            mac,
            failed,
            stale: false,
            managed: true,
        }
    }

    #[test]
    fn failure_sticks_until_there_is_a_mac_or_no_entry() {
        let mut all = Neighbours::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        let (failed, asking, found) = (entry(None, true), entry(None, false), entry(Some([2; 6]), false));
        assert!(!all.insert(asking), "not resolved yet is not failed");
        assert!(!all.has_failed(2, address));
        assert!(all.insert(failed));
        assert!(!all.insert(asking));
        assert!(all.has_failed(2, address));
        all.replace(vec![asking]);
        assert!(all.has_failed(2, address), "a dump caught it asking");
        assert!(all.insert(found));
        assert!(!all.has_failed(2, address));
        all.insert(failed);
        assert!(all.remove(2, address));
        all.insert(asking);
        assert!(!all.has_failed(2, address));
    }
}
