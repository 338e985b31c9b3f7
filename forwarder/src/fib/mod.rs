//! The FIB compiler: prefixes in, words of the forwarding table out, incrementally and without a moment of untruth.
//!
//! # Parts
//! [`stride`] lays prefixes in the words of one family; [`slots`] gives each prefix its counter slot and keeps the pinned
//! directory; [`adjacency`] turns what routes say into next hops and groups. This module joins them.
//!
//! # Order of writes
//! Directory entry (`Installing`), indirect group word, leaves, directory entry (`Live`). A controller that dies in between
//! leaves a table in which every packet finds the old or the new route, and a directory that says which prefixes to lay
//! again. A withdrawal goes `Removing`, leaves, `Retired`; after a grace period the slot is `Free`, its counter standing
//! where it stood: what was counted before is the next prefix's baseline.
//!
//! # Running out
//! When slots or blocks run out, the prefix goes to the kernel and nothing else changes: its range gets a punt leaf
//! (reason `fib-full`), from one of the reserved slots, one for each prefix length, so that more-specifics still win and
//! less-specifics do not overwrite it. Where even a block is missing, the word that covers the prefix is punted whole.

pub mod adjacency;
mod anchors;
mod backup;
pub mod buckets;
pub mod family;
mod group_words;
mod nexthops;
pub mod path;
pub mod plan;
pub mod prefixes;
pub mod slots;
pub mod stride;

use std::collections::BTreeSet;

use forwarder_common::{
    directory::State,
    fib::{GROUP_INDIRECT, Leaf},
};
use ipnet::IpNet;

use self::{
    family::Address,
    prefixes::Prefixes,
    slots::{RESERVED, Slots, punt_slot, sticky_slot},
    stride::{Stride, Words},
};
use crate::{dataplane::Tables, with_family};

/// What became of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The prefix has its leaves.
    Installed,
    /// The table is full: the prefix is left to the kernel.
    Refused,
}

/// One family: words' bookkeeping and the prefixes laid.
struct Half<A> {
    stride: Stride,
    /// Slot of every prefix laid.
    slots: Prefixes<A, u32>,
    /// Prefixes that found no room.
    refused: BTreeSet<(A, u8)>,
}

/// The compiler's state for both families.
pub struct Fib {
    v4: Half<u32>,
    v6: Half<u128>,
    slots: Slots,
    /// The group that punts with `fib-full`.
    punt: u32,
    graceful: bool,
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
        }
    }

    /// Takes over the table an earlier controller left behind: free lists, references and prefixes from the directory.
    /// Prefixes it was in the middle of are laid again or taken away.
    ///
    /// # Errors
    /// A sentence where table and directory contradict each other: then the pins must be detached.
    pub fn adopt(tables: &Tables, punt: u32) -> Result<Fib, String> {
        let mut fib = Fib::new(tables, punt);
        let mut unfinished = Vec::new();
        for (slot, prefix, entry, state) in fib.slots.adopt(tables)? {
            with_family!(
                prefix,
                |address, length| fib.v4.slots.insert(address, length, slot),
                |address, length| fib.v6.slots.insert(address, length, slot)
            );
            if state != State::Live {
                unfinished.push((prefix, entry.group, state));
            }
        }
        fib.v4.adopt(tables, &mut fib.slots, tables.sizes.blocks4)?;
        fib.v6.adopt(tables, &mut fib.slots, tables.sizes.blocks6)?;
        for (prefix, group, state) in unfinished {
            if state == State::Installing {
                fib.announce(tables, prefix, group, 0);
            } else {
                fib.withdraw(tables, prefix);
            }
        }
        Ok(fib)
    }

    /// Lays a prefix, or gives one that is there another group.
    pub fn announce(&mut self, tables: &Tables, prefix: IpNet, group: u32, protocol: u8) -> Outcome {
        let (slots, punt) = (&mut self.slots, self.punt);
        with_family!(
            prefix,
            |address, length| self
                .v4
                .announce(tables, slots, punt, (address, length), group, protocol),
            |address, length| self
                .v6
                .announce(tables, slots, punt, (address, length), group, protocol)
        )
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
        self.slot(prefix).map(|slot| self.slots.group(tables, slot))
    }

    /// The slot of a prefix that is laid.
    pub fn slot(&self, prefix: IpNet) -> Option<u32> {
        with_family!(
            prefix,
            |address, length| self.v4.slots.get(address, length),
            |address, length| self.v6.slots.get(address, length)
        )
        .copied()
    }

    /// The longest prefix laid that covers all of `prefix` and more, with its group: what its packets would follow
    /// without it.
    pub fn cover(&self, tables: &Tables, prefix: IpNet) -> Option<(IpNet, u32)> {
        let shorter = prefix.prefix_len().checked_sub(1)?;
        let found = with_family!(
            prefix,
            |address, _length| self
                .v4
                .slots
                .covering(address, shorter)
                .and_then(|(a, l, slot)| Some((a.prefix(l)?, *slot))),
            |address, _length| self
                .v6
                .slots
                .covering(address, shorter)
                .and_then(|(a, l, slot)| Some((a.prefix(l)?, *slot)))
        );
        found.map(|(cover, slot)| (cover, self.slots.group(tables, slot)))
    }

    /// Every prefix laid, with its slot.
    pub fn prefixes(&self) -> Vec<(IpNet, u32)> {
        let v4 = self
            .v4
            .slots
            .iter()
            .filter_map(|(a, l, slot)| Some((a.prefix(l)?, *slot)));
        v4.chain(
            self.v6
                .slots
                .iter()
                .filter_map(|(a, l, slot)| Some((a.prefix(l)?, *slot))),
        )
        .collect()
    }

    /// Prefixes laid: IPv4 and IPv6.
    pub fn len(&self) -> (usize, usize) {
        (self.v4.slots.len(), self.v6.slots.len())
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

    /// It is over: what was retired before it is free. Refused prefixes are tried again where there is room now.
    pub fn grace_over(&mut self, tables: &Tables) {
        if !std::mem::take(&mut self.graceful) {
            return;
        }
        self.slots.grace_over(tables);
        self.v4.stride.grace_over();
        self.v6.stride.grace_over();
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

impl<A: Address> Half<A> {
    fn new(blocks: u32) -> Half<A> {
        Half {
            stride: Stride::new(blocks),
            slots: Prefixes::default(),
            refused: BTreeSet::new(),
        }
    }

    fn words<'a>(&self, tables: &'a Tables) -> Words<'a> {
        if A::FAMILY == 4 {
            Words {
                root: &tables.fib4_root,
                pool: &tables.fib4_pool,
            }
        } else {
            Words {
                root: &tables.fib6_root,
                pool: &tables.fib6_pool,
            }
        }
    }

    fn adopt(&mut self, tables: &Tables, slots: &mut Slots, blocks: u32) -> Result<(), String> {
        let words = self.words(tables);
        let mut members = Vec::new();
        for (address, length, slot) in self.slots.iter() {
            // One that was being laid or taken away is a member of its blocks while the way to them is whole: blocks are
            // linked before the first leaf is written and unlinked after the last.
            let whole = slots.state(tables, *slot) == Some(State::Live);
            let member = whole || stride::is_reachable(words, address, length);
            slots.set_laid(*slot, member);
            if member {
                members.push((address, length));
            }
        }
        self.stride = Stride::adopt(words, blocks, members.into_iter())?;
        Ok(())
    }

    fn announce(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
        group: u32,
        protocol: u8,
    ) -> Outcome {
        let words = self.words(tables);
        let known = self.slots.get(address, length).copied();
        let counted = known.is_some_and(|slot| slots.is_laid(slot));
        if let Some(slot) = known
            && slots.state(tables, slot) == Some(State::Live)
            && slots.group(tables, slot) == group
        {
            return Outcome::Installed;
        }
        let Some(slot) = known.or_else(|| slots.allocate()) else {
            self.refuse(tables, slots, punt, (address, length));
            return Outcome::Refused;
        };
        slots.installing(
            tables,
            slot,
            address.octets16(),
            length,
            A::FAMILY,
            group,
            protocol,
        );
        let leaf = leaf_for(tables, group, slot);
        // A word punted whole gives way to a prefix that lies inside it, to no other.
        let (below, bits) = self.stride.word_for(words, address);
        let thaw = below.slot() == sticky_slot() && length > bits;
        let gives_way = |old: Leaf| {
            old.is_none() || slots.length(old.slot()) <= length || thaw && old.slot() == sticky_slot()
        };
        match self
            .stride
            .announce(words, (address, length), leaf, !counted, &gives_way)
        {
            Ok(()) => {
                slots.live(tables, slot);
                self.slots.insert(address, length, slot);
                self.refused.remove(&(address, length));
                if thaw {
                    self.thaw(tables, slots, punt, (address, length));
                }
                Outcome::Installed
            }
            Err(stride::NoBlocks) => {
                slots.abandon(tables, slot);
                self.slots.remove(address, length);
                self.refuse(tables, slots, punt, (address, length));
                Outcome::Refused
            }
        }
    }

    fn withdraw(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
    ) -> Option<u32> {
        let words = self.words(tables);
        if self.refused.remove(&(address, length)) {
            let cover = self.cover(tables, slots, punt, address, length);
            self.clear_punt(tables, (address, length), cover);
            return None;
        }
        let slot = self.slots.remove(address, length)?;
        let group = slots.group(tables, slot);
        slots.removing(tables, slot);
        let cover = self.cover(tables, slots, punt, address, length);
        let whole = Leaf::route(punt, sticky_slot());
        self.stride.withdraw(words, (address, length), slot, cover, whole);
        slots.retire(tables, slot);
        Some(group)
    }

    /// What covers a prefix once it is gone: the next shorter one laid or refused.
    fn cover(&self, tables: &Tables, slots: &Slots, punt: u32, address: A, length: u8) -> Leaf {
        if length == 0 {
            return Leaf::NONE;
        }
        let laid = self.slots.covering(address, length - 1);
        let refused = (0..length)
            .rev()
            .find(|l| self.refused.contains(&(address.network(*l), *l)));
        match (laid, refused) {
            (Some((_, l, _)), Some(r)) if r > l => Leaf::route(punt, punt_slot(r)),
            (None, Some(r)) => Leaf::route(punt, punt_slot(r)),
            (Some((_, _, slot)), _) => leaf_for(tables, slots.group(tables, *slot), *slot),
            (None, None) => Leaf::NONE,
        }
    }

    /// Leaves a prefix to the kernel.
    fn refuse(&mut self, tables: &Tables, slots: &mut Slots, punt: u32, (address, length): (A, u8)) {
        let words = self.words(tables);
        self.refused.insert((address, length));
        let leaf = Leaf::route(punt, punt_slot(length));
        let gives_way = |old: Leaf| old.is_none() || slots.length(old.slot()) <= length;
        let (_, bits) = self.stride.word_for(words, address);
        // Where the words that the prefix needs exist, exactly they are punted; no block counts it as a member.
        if length <= bits {
            let placed = self
                .stride
                .announce(words, (address, length), leaf, false, &gives_way);
            debug_assert_eq!(placed, Ok(()));
        } else {
            self.stride
                .punt_word(words, address, Leaf::route(punt, sticky_slot()));
        }
    }

    /// Gives the words that a refused prefix punted back to what covers it.
    fn clear_punt(&mut self, tables: &Tables, (address, length): (A, u8), cover: Leaf) {
        let words = self.words(tables);
        let (leaf, bits) = self.stride.word_for(words, address);
        if leaf.slot() == sticky_slot() {
            let network = address.network(bits);
            if self
                .refused
                .iter()
                .any(|(a, l)| *l > bits && a.network(bits) == network)
            {
                return;
            }
            let _ = self.stride.punt_word(words, address, cover);
        } else if length <= bits {
            let slot = punt_slot(length);
            let gives_way = |old: Leaf| old.slot() == slot;
            let placed = self
                .stride
                .announce(words, (address, length), cover, false, &gives_way);
            debug_assert_eq!(placed, Ok(()));
        }
    }

    /// A prefix found room in a word that was punted whole: refused prefixes inside it are punted again, exactly, and
    /// what else of the word no refused prefix needs goes back to what covers it.
    fn thaw(&mut self, tables: &Tables, slots: &mut Slots, punt: u32, (address, length): (A, u8)) {
        let words = self.words(tables);
        let inside = |a: &A, l: u8, bits: u8| l > bits && a.network(bits) == address.network(bits);
        let nested: Vec<_> = self
            .refused
            .iter()
            .filter(|(a, l)| inside(a, *l, length))
            .copied()
            .collect();
        for prefix in nested {
            self.refuse(tables, slots, punt, prefix);
        }
        // From the innermost word out: each word's cover must not reach into the one before, which may have a longer one.
        for bits in (address.root().1..length).step_by(8).rev() {
            if self.refused.iter().any(|(a, l)| inside(a, *l, bits)) {
                continue;
            }
            let network = address.network(bits);
            let cover = match self.slots.covering(network, bits) {
                Some((_, _, slot)) => leaf_for(tables, slots.group(tables, *slot), *slot),
                None => Leaf::NONE,
            };
            let sticky = |old: Leaf| old.slot() == sticky_slot();
            let placed = self
                .stride
                .announce(words, (network, bits), cover, false, &sticky);
            debug_assert_eq!(placed, Ok(()));
        }
    }
}

/// The leaf for a group and a slot; the indirect group word is stored first where one is needed.
fn leaf_for(tables: &Tables, group: u32, slot: u32) -> Leaf {
    if group < GROUP_INDIRECT {
        return Leaf::route(group, slot);
    }
    if slot >= RESERVED {
        tables
            .slot_group(slot)
            .store(group, std::sync::atomic::Ordering::Release);
    }
    Leaf::route(GROUP_INDIRECT, slot)
}

#[cfg(test)]
mod tests;
