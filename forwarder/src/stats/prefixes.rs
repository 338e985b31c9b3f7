//! Which slot belongs to which prefix, read while the controller writes.

use forwarder_common::{
    counters::Counter,
    directory::{SlotEntry, State},
};
use ipnet::IpNet;

use crate::{
    dataplane::Tables,
    fib::{family::prefix_of, slots::RESERVED},
};

/// A prefix that somebody asked to have counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedRow {
    /// The prefix.
    pub prefix: IpNet,
    /// Forwarded to it since the controller started.
    pub counter: Counter,
}

/// A directory entry of which no word is newer than another. The controller may be writing it; a few tries suffice.
pub fn entry(tables: &Tables, slot: u32) -> SlotEntry {
    let mut seen = tables.slot_directory.get(slot as usize);
    for _ in 0..8 {
        let again = tables.slot_directory.get(slot as usize);
        if again == seen {
            break;
        }
        seen = again;
    }
    seen
}

/// The prefix a slot belongs to now.
pub fn owner(entry: &SlotEntry) -> Option<IpNet> {
    match State::from_number(entry.state)? {
        State::Installing | State::Live | State::Removing => {}
        State::Free | State::Retired => return None,
    }
    prefix_of(entry.family, entry.address, entry.length)
}

/// Every prefix that is laid, with its slot.
pub fn laid(tables: &Tables) -> impl Iterator<Item = (u32, IpNet, SlotEntry)> {
    (RESERVED..tables.sizes.slots).filter_map(|slot| {
        let entry = entry(tables, slot);
        owner(&entry).map(|prefix| (slot, prefix, entry))
    })
}

/// How many prefixes are laid: IPv4, IPv6.
pub fn count(tables: &Tables) -> (u64, u64) {
    laid(tables).fold((0, 0), |(v4, v6), (_, prefix, _)| match prefix {
        IpNet::V4(_) => (v4 + 1, v6),
        IpNet::V6(_) => (v4, v6 + 1),
    })
}

/// What a prefix has counted.
pub fn counted(tables: &Tables, slot: u32, entry: &SlotEntry) -> Counter {
    tables.slot_counter(slot).since(entry.baseline)
}
