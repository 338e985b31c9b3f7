//! A group's words: buckets and width for the program, and what the directory says of it.

use std::sync::atomic::Ordering;

use forwarder_common::{
    directory::{GroupEntry, State},
    nexthop::BUCKETS,
    reason::Reason,
};
use ipnet::IpNet;

use super::{backup::Tiers, buckets, family::Address, nexthops::Member};
use crate::{dataplane::Tables, with_family};

/// Stores a group's account, its buckets, then its width. Members that cannot be used now count only where none can.
pub(super) fn write_group(tables: &Tables, group: u32, account: u8, members: &[Member]) {
    let usable = |id: u16| {
        let state = tables.nexthops.get(id as usize).state();
        state == Reason::Forwarded.index()
    };
    let alive: Vec<Member> = members
        .iter()
        .filter(|(id, weight)| *weight > 0 && usable(*id))
        .copied()
        .collect();
    let chosen = if alive.is_empty() {
        members
            .iter()
            .map(|(id, weight)| (*id, (*weight).max(1)))
            .collect()
    } else {
        alive
    };
    let current = tables.groups.get(group as usize);
    let filled = buckets::fill(&current.buckets, &chosen);
    let region = tables.groups.region();
    let base = group as usize * 256;
    if current.account != u32::from(account) {
        region.u32(base + 4).store(account.into(), Ordering::Release);
    }
    for (index, id) in filled.iter().enumerate() {
        if current.buckets[index] != *id {
            region.u16(base + 8 + index * 2).store(*id, Ordering::Release);
        }
    }
    let single = filled.iter().all(|id| *id == filled[0]);
    region
        .u32(base)
        .store(if single { 1 } else { BUCKETS as u32 }, Ordering::Release);
}

/// What a group stands for, as the directory says it.
pub(super) fn entry_of((digest, anchor): (u64, Option<IpNet>)) -> GroupEntry {
    let mut entry = GroupEntry {
        state: State::Live as u8,
        digest,
        ..GroupEntry::default()
    };
    if let Some(anchor) = anchor {
        (entry.anchor, entry.anchor_length, entry.anchor_family) = with_family!(
            anchor,
            |address, length| (address.octets16(), length, 4),
            |address, length| (address.octets16(), length, 6)
        );
    }
    entry
}

/// Says in the directory what takes over, and whether it has.
pub(super) fn write_entry(tables: &Tables, group: u32, mut entry: GroupEntry, tiers: &Tiers) {
    entry.on_backup = u8::from(tiers.active != 0);
    let backup = tiers.backup.map_or(&[][..], |tier| &tiers.members[tier]);
    entry.backup = std::array::from_fn(|index| backup.get(index).map_or(0, |(id, _)| *id));
    if tables.group_directory.get(group as usize) != entry {
        tables.group_directory.set(group as usize, &entry);
    }
}
