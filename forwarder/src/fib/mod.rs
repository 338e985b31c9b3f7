//! The FIB compiler: prefixes in, words of the forwarding table out, incrementally and without a moment of untruth.
//!
//! # Parts
//! [`stride`] lays prefixes in the words of one family; [`slots`] gives each prefix its counter slot and keeps the pinned
//! directory; [`tree`] knows what covers what; [`half`] joins them for one family, [`refusal`] does so for prefixes that
//! find no room; [`adjacency`] turns what routes say into next hops and groups. This module is the whole.
//!
//! # Order of writes
//! Directory entry (`Installing`), indirect group word, leaves, directory entry (`Live`). A controller that dies in between
//! leaves a table in which every packet finds the old or the new route, and a directory that says which prefixes to lay
//! again. A withdrawal goes `Removing`, leaves, `Retired`; after a grace period the slot is `Free`, its counter standing
//! where it stood: what was counted before is the next prefix's baseline.

pub mod accounts;
pub mod adjacency;
mod anchors;
mod backup;
pub mod buckets;
pub mod family;
mod group_words;
mod half;
pub mod journal;
mod nexthops;
pub mod origin;
pub mod path;
pub mod plan;
pub mod prefixes;
mod provenance;
pub mod readings;
pub mod recursion;
mod refusal;
pub mod slots;
pub mod stride;
mod tree;
mod way;

use forwarder_common::directory::{COUNTING, State};
use ipnet::IpNet;

use self::{
    family::{Address, prefix_of},
    half::Half,
    slots::Slots,
};
pub use self::{provenance::Provenance, readings::Readings};
use crate::{dataplane::Tables, with_family};

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The prefix has its leaves.
    Installed,
    /// The table is full: the prefix is left to the kernel.
    Refused,
}

/// The compiler's state for both families.
pub struct Fib {
    v4: Half<u32>,
    v6: Half<u128>,
    slots: Slots,
    /// The group that punts with `fib-full`.
    punt: u32,
    graceful: bool,
    /// Counting prefixes that an earlier controller laid, and their slots.
    found_counting: Vec<(IpNet, u32)>,
}

impl Fib {
    /// An empty table. `punt` is the group that refused prefixes get.
    pub fn new(tables: &Tables, punt: u32) -> Fib {
        Fib {
            v4: Half::new(tables.sizes.blocks4),
            v6: Half::new(tables.sizes.blocks6),
            slots: Slots::new(tables),
            punt,
            graceful: false,
            found_counting: Vec::new(),
        }
    }

    /// Takes over the table an earlier controller left behind: free lists, references and prefixes from the directory.
    /// Prefixes it was in the middle of are laid again or taken away.
    ///
    /// # Errors
    /// A sentence where table and directory contradict each other: then the pins must be detached.
    pub fn adopt(tables: &Tables, punt: u32) -> Result<Fib, String> {
        let mut fib = Fib::new(tables, punt);
        let (mut v4, mut v6, mut unfinished) = (Vec::new(), Vec::new(), Vec::new());
        let mut counting = Vec::new();
        let used = fib.slots.adopt(tables, |slot, prefix, entry, state| {
            with_family!(
                prefix,
                |address, length| v4.push((address, length, slot)),
                |address, length| v6.push((address, length, slot))
            );
            if state != State::Live {
                unfinished.push((prefix, slot, entry, state));
            }
            if entry.flags & COUNTING != 0 {
                counting.push((prefix, slot));
            }
        })?;
        fib.found_counting = counting;
        if !used {
            // Just made: no word of it names anything.
            return Ok(fib);
        }
        fib.v4.adopt(tables, &mut fib.slots, v4)?;
        fib.v6.adopt(tables, &mut fib.slots, v6)?;
        for (prefix, slot, entry, state) in unfinished {
            let (slots, group) = (&mut fib.slots, entry.group);
            let install = (state == State::Installing).then_some(group);
            with_family!(
                prefix,
                |address, length| fib
                    .v4
                    .finish(tables, slots, punt, (address, length), slot, install),
                |address, length| fib
                    .v6
                    .finish(tables, slots, punt, (address, length), slot, install)
            );
        }
        Ok(fib)
    }

    /// Lays a prefix, or gives one that is there another group.
    pub fn announce(
        &mut self,
        tables: &Tables,
        prefix: IpNet,
        group: u32,
        provenance: Provenance,
    ) -> Outcome {
        let (slots, punt) = (&mut self.slots, self.punt);
        with_family!(
            prefix,
            |address, length| self
                .v4
                .announce(tables, slots, punt, (address, length), group, provenance),
            |address, length| self
                .v6
                .announce(tables, slots, punt, (address, length), group, provenance)
        )
    }

    /// From now on readings of slots that come to stand for something else are left there.
    pub fn leave_readings(&mut self, readings: Readings) {
        self.slots.leave_readings(readings);
    }

    /// The route of a prefix that is laid comes from there now.
    pub fn note(&mut self, tables: &Tables, slot: u32, provenance: Provenance) {
        self.slots.note(tables, slot, provenance);
    }

    /// The group of a slot.
    pub fn group_of(&self, tables: &Tables, slot: u32) -> u32 {
        self.slots.group(tables, slot)
    }

    /// Takes a prefix away. Answers the group it had.
    pub fn withdraw(&mut self, tables: &Tables, prefix: IpNet) -> Option<u32> {
        let (slots, punt) = (&mut self.slots, self.punt);
        with_family!(
            prefix,
            |address, length| self.v4.withdraw(tables, slots, punt, (address, length)),
            |address, length| self.v6.withdraw(tables, slots, punt, (address, length))
        )
    }

    /// The group a prefix has.
    pub fn group(&self, tables: &Tables, prefix: IpNet) -> Option<u32> {
        self.slot(tables, prefix)
            .map(|slot| self.slots.group(tables, slot))
    }

    /// The slot of a prefix that is laid.
    pub fn slot(&self, tables: &Tables, prefix: IpNet) -> Option<u32> {
        let slots = &self.slots;
        with_family!(
            prefix,
            |address, length| self.v4.find(tables, slots, address, length),
            |address, length| self.v6.find(tables, slots, address, length)
        )
    }

    /// The longest prefix laid that covers all of `prefix` and more, with its group: what its packets would follow
    /// without it.
    pub fn cover(&self, tables: &Tables, prefix: IpNet) -> Option<(IpNet, u32)> {
        let slots = &self.slots;
        let slot = with_family!(
            prefix,
            |address, length| self.v4.cover(tables, slots, address, length),
            |address, length| self.v6.cover(tables, slots, address, length)
        )?;
        let entry = tables.slot_directory.get(slot as usize);
        let prefix = prefix_of(entry.family, entry.address, entry.length)?;
        Some((prefix, entry.group))
    }

    /// Counting prefixes that an earlier controller laid, with their slots; once.
    pub fn take_found_counting(&mut self) -> Vec<(IpNet, u32)> {
        std::mem::take(&mut self.found_counting)
    }

    /// Whether a prefix that is laid is a counting prefix ([`accounts`]).
    pub fn is_counting(&self, tables: &Tables, prefix: IpNet) -> bool {
        self.slot(tables, prefix)
            .is_some_and(|slot| slots::is_counting(tables, slot))
    }

    /// Says whether a prefix that is laid is a counting prefix.
    pub fn set_counting(&self, tables: &Tables, prefix: IpNet, counting: bool) {
        if let Some(slot) = self.slot(tables, prefix) {
            slots::set_counting(tables, slot, counting);
        }
    }

    /// The slot of the longest prefix laid that covers all of `prefix` and more, and is no counting prefix.
    pub fn route_around(&self, tables: &Tables, mut prefix: IpNet) -> Option<u32> {
        loop {
            (prefix, _) = self.cover(tables, prefix)?;
            let slot = self.slot(tables, prefix)?;
            if !slots::is_counting(tables, slot) {
                return Some(slot);
            }
        }
    }

    /// Calls `each` with every prefix laid, its slot and its group, in the order of slots.
    pub fn each(&self, tables: &Tables, mut each: impl FnMut(IpNet, u32, u32)) {
        for (slot, entry) in slots::live(tables) {
            if let Some(prefix) = prefix_of(entry.family, entry.address, entry.length) {
                each(prefix, slot, entry.group);
            }
        }
    }

    /// Prefixes laid: IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }

    /// Whether nothing is laid.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// Prefixes refused because the table is full: IPv4 and IPv6.
    pub fn refused(&self) -> (usize, usize) {
        (self.v4.refused.len(), self.v6.refused.len())
    }

    /// Slots and blocks in use.
    pub fn usage(&self) -> Usage {
        Usage {
            slots: self.slots.used(),
            blocks4: self.v4.stride.blocks_used(),
            blocks6: self.v6.stride.blocks_used(),
        }
    }

    /// Whether blocks or slots wait for a grace period that has not begun.
    pub fn wants_grace(&self) -> bool {
        !self.graceful
            && (self.slots.has_retired() || self.v4.stride.has_retired() || self.v6.stride.has_retired())
    }

    /// A grace period begins.
    pub fn grace_begins(&mut self) {
        self.graceful = true;
        self.slots.grace_begins();
        self.v4.stride.grace_begins();
        self.v6.stride.grace_begins();
    }

    /// It is over: what was retired before it is free.
    pub fn grace_over(&mut self, tables: &Tables) {
        if !std::mem::take(&mut self.graceful) {
            return;
        }
        self.slots.grace_over(tables);
        self.v4.stride.grace_over();
        self.v6.stride.grace_over();
        self.v4.settle(tables, &mut self.slots);
        self.v6.settle(tables, &mut self.slots);
    }

    /// The first sync after an adoption is over: what earlier refusals left in the table and no prefix needs may go.
    pub fn adoption_ends(&mut self, tables: &Tables) {
        self.v4.settle(tables, &mut self.slots);
        self.v6.settle(tables, &mut self.slots);
    }

    /// Refused prefixes, for another try.
    pub fn take_refused(&self, limit: usize) -> Vec<IpNet> {
        let v4 = self.v4.refused.iter().filter_map(|(a, l)| a.prefix(*l));
        v4.chain(self.v6.refused.iter().filter_map(|(a, l)| a.prefix(*l)))
            .take(limit)
            .collect()
    }
}

/// How full the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Slots in use.
    pub slots: usize,
    /// IPv4 blocks in use.
    pub blocks4: usize,
    /// IPv6 blocks in use.
    pub blocks6: usize,
}

#[cfg(test)]
mod tests;
