//! What the data path does with a destination, read from the tables by the program's own walk.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use forwarder_common::{
    directory::{COUNTING, SlotEntry},
    fib::{GROUP_INDIRECT, Leaf},
    reason::Reason,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{names, prefixes};
use crate::{
    dataplane::Tables,
    fib::{family::Address, slots::RESERVED},
};

/// One member of a next-hop group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Next-hop id.
    pub id: u32,
    /// The neighbour; null where every packet leaves with a reason.
    pub via: Option<IpAddr>,
    /// Egress interface.
    pub ifname: Option<String>,
    /// Its kernel index; 0 for none.
    pub ifindex: u32,
    /// "usable", or the reason packets leave with.
    pub state: String,
    /// Destination MAC, once it is known.
    pub destination_mac: Option<String>,
    /// Source MAC.
    pub source_mac: Option<String>,
    /// Largest IP packet it takes, octets.
    pub mtu: u32,
    /// Buckets of the group that lead to it.
    pub weight: u32,
}

impl Hop {
    /// Whether packets are forwarded there.
    pub fn is_usable(&self) -> bool {
        self.state == USABLE
    }

    /// What happens to packets that are led here: "forward", "pass", "drop".
    pub fn verdict(&self) -> &'static str {
        self.reason().policy().as_str()
    }

    /// The reason packets leave with.
    pub fn reason(&self) -> Reason {
        let named = |reason: &&Reason| reason.name() == self.state;
        if self.is_usable() {
            Reason::Forwarded
        } else {
            Reason::ALL
                .iter()
                .find(named)
                .copied()
                .unwrap_or(Reason::Internal)
        }
    }
}

/// The state of a next hop that packets are forwarded to.
pub const USABLE: &str = "usable";

/// What takes over from the way of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// Its next hops, as a person would write them; null where there is none that could be used.
    pub hops: Option<String>,
    /// The way of the route itself has failed: packets go by the backup.
    pub in_use: bool,
}

/// What happens to packets for an address.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The leaf's word.
    pub leaf: u32,
    /// Counter slot.
    pub slot: u32,
    /// Next-hop group.
    pub group: u32,
    /// The prefix that counts; `None` where none covers it or the table was too full for it.
    pub prefix: Option<IpNet>,
    /// The slot's directory entry.
    pub entry: SlotEntry,
    /// Next hops; none where no prefix covers the address.
    pub hops: Arc<Vec<Hop>>,
    /// What takes over from them, or has.
    pub backup: Backup,
}

impl Decision {
    /// Whether the prefix is there only to be counted, and what covers it is the route.
    pub fn is_counting(&self) -> bool {
        self.prefix.is_some() && self.entry.flags & COUNTING != 0
    }
}

/// Reads decisions; next hops of a group are read once.
pub struct Paths<'a> {
    tables: &'a Tables,
    groups: HashMap<u32, Arc<Vec<Hop>>>,
    backups: HashMap<u32, Backup>,
}

impl<'a> Paths<'a> {
    /// On these tables.
    pub fn new(tables: &'a Tables) -> Paths<'a> {
        Paths {
            tables,
            groups: HashMap::new(),
            backups: HashMap::new(),
        }
    }

    /// What happens to packets for an address.
    pub fn decide(&mut self, address: IpAddr) -> Decision {
        // A walk that never ends contradicts the tables; the program would say `internal`, and so does an empty answer.
        let leaf = self.tables.lookup(address).unwrap_or(Leaf::NONE);
        if leaf.is_none() {
            return Decision {
                leaf: leaf.0,
                slot: 0,
                group: 0,
                prefix: None,
                entry: SlotEntry::default(),
                hops: Arc::default(),
                backup: Backup::default(),
            };
        }
        let slot = leaf.slot().min(self.tables.sizes.slots.saturating_sub(1));
        let group = self.group_of(leaf);
        let entry = prefixes::entry(self.tables, slot);
        Decision {
            leaf: leaf.0,
            slot,
            group,
            prefix: (slot >= RESERVED).then(|| prefixes::owner(&entry)).flatten(),
            entry,
            hops: self.hops(group),
            backup: self.backup(group),
        }
    }

    /// The group a leaf names.
    pub fn group_of(&self, leaf: Leaf) -> u32 {
        if leaf.group() == GROUP_INDIRECT {
            self.tables
                .slot_group(leaf.slot())
                .load(std::sync::atomic::Ordering::Acquire)
        } else {
            leaf.group()
        }
    }

    /// The members of a group, by weight.
    pub fn hops(&mut self, group: u32) -> Arc<Vec<Hop>> {
        if let Some(known) = self.groups.get(&group) {
            return known.clone();
        }
        let hops = Arc::new(members(self.tables, group));
        self.groups.insert(group, hops.clone());
        hops
    }

    /// What takes over from a group's next hops.
    pub fn backup(&mut self, group: u32) -> Backup {
        let tables = self.tables;
        let known = self.backups.entry(group);
        known.or_insert_with(|| backup(tables, group)).clone()
    }

    /// Forgets what was read: the tables may have changed.
    pub fn forget(&mut self) {
        self.groups.clear();
        self.backups.clear();
    }
}

fn members(tables: &Tables, group: u32) -> Vec<Hop> {
    if group == 0 || group >= tables.sizes.groups {
        return Vec::new();
    }
    let entry = tables.groups.get(group as usize);
    let mut hops: Vec<Hop> = Vec::new();
    let buckets = if entry.width <= 1 {
        &entry.buckets[..1]
    } else {
        &entry.buckets[..]
    };
    for id in buckets.iter().map(|id| *id as u32) {
        match hops.iter_mut().find(|hop| hop.id == id) {
            Some(hop) => hop.weight += 1,
            None => hops.extend(next_hop(tables, id)),
        }
    }
    hops
}

fn backup(tables: &Tables, group: u32) -> Backup {
    if group == 0 || group >= tables.sizes.groups {
        return Backup::default();
    }
    let entry = tables.group_directory.get(group as usize);
    let hops = entry.backup.iter().filter_map(|id| next_hop(tables, *id as u32));
    let hops: Vec<String> = hops
        .filter_map(|hop| Some(format!("via {} dev {}", hop.via?, hop.ifname?)))
        .collect();
    Backup {
        hops: (!hops.is_empty()).then(|| hops.join(", ")),
        in_use: entry.on_backup != 0,
    }
}

/// One next hop; its weight is 1.
pub fn next_hop(tables: &Tables, id: u32) -> Option<Hop> {
    if id == 0 || id >= tables.sizes.nexthops {
        return None;
    }
    let hop = tables.nexthops.get(id as usize);
    let entry = tables.nexthop_directory.get(id as usize);
    let via = match entry.family {
        4 => Some(u32::from_octets16(entry.address).ip()),
        6 => Some(u128::from_octets16(entry.address).ip()),
        _ => None,
    };
    let state = match Reason::from_index(hop.state()) {
        Some(Reason::Forwarded) => USABLE,
        Some(reason) => reason.name(),
        None => Reason::Internal.name(),
    };
    let address = |octets: [u8; 6]| (octets != [0; 6]).then(|| names::mac(octets));
    Some(Hop {
        id,
        via,
        ifname: via.and_then(|_| names::port_name(tables, hop.port as u32)),
        ifindex: hop.ifindex,
        state: state.to_string(),
        destination_mac: address(hop.destination_mac()),
        source_mac: address(hop.source_mac()),
        mtu: hop.mtu,
        weight: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn an_address_leads_to_its_prefix_group_and_next_hops() {
        let tables = sample::tables();
        let mut paths = Paths::new(&tables);
        let decision = paths.decide("198.51.100.7".parse().unwrap());
        assert_eq!(decision.prefix, Some("198.51.100.0/24".parse().unwrap()));
        assert_eq!(decision.hops.len(), 1);
        let hop = &decision.hops[0];
        assert!(hop.is_usable());
        assert_eq!(hop.via, Some("192.0.2.9".parse().unwrap()));
        assert_eq!(hop.ifname.as_deref(), Some("core0"));
        assert_eq!(hop.destination_mac.as_deref(), Some("02:00:00:00:00:09"));
        let nothing = paths.decide("203.0.113.1".parse().unwrap());
        assert!(nothing.hops.is_empty() && nothing.prefix.is_none());
    }
}
