//! Running out: prefixes that find no slot or no block.
//!
//! When slots or blocks run out, the prefix goes to the kernel and nothing else changes: its range gets a punt leaf
//! (reason `fib-full`), from one of the reserved slots, one for each prefix length, so that more-specifics still win and
//! less-specifics do not overwrite it. Where even a block is missing, the word that covers the prefix is punted whole
//! ("frozen").
//!
//! A punt hides what it covers, so the tree does not tell any more what is laid: an index of all prefixes of the family
//! does, from the first refusal until the last punt is gone.

use forwarder_common::fib::Leaf;

use super::{
    family::Address,
    half::Half,
    prefixes::Prefixes,
    slots::{RESERVED, Slots, punt_slot, sticky_slot},
    stride::{self, Words},
};
use crate::dataplane::Tables;

/// One part in this many of the slots and blocks must be free before the index is given up: it takes a while to build.
const ROOM: usize = 64;

impl<A: Address> Half<A> {
    /// From now on the index tells what is laid.
    pub(super) fn enter_index(&mut self, tables: &Tables) {
        if self.index.is_some() {
            return;
        }
        let mut index = Prefixes::default();
        for (slot, entry) in super::slots::known(tables) {
            if entry.family == A::FAMILY {
                index.insert(A::from_octets16(entry.address), entry.length, slot);
            }
        }
        self.index = Some(index);
    }

    /// From now on the tree tells, if there is nothing that it cannot tell.
    pub(super) fn settle(&mut self, tables: &Tables, slots: &mut Slots) {
        let room = slots.free() > slots.tree.len() / ROOM
            && self.stride.blocks_used() <= self.stride.blocks() - self.stride.blocks() / ROOM;
        if !self.refused.is_empty() || !room {
            return;
        }
        let Some(index) = self.index.take() else {
            return;
        };
        // Punts of prefixes that an earlier controller refused and nobody announced since.
        let words = self.words(tables);
        stride::each_leaf(words, &mut |leaf: Leaf, address: A, bits| {
            if !(1..RESERVED).contains(&leaf.slot()) {
                return leaf;
            }
            let cover = index.covering(address, bits);
            cover.map_or(Leaf::NONE, |(.., slot)| slots.leaf(tables, *slot))
        });
        let all = index
            .iter()
            .map(|(address, length, slot)| (address, length, *slot));
        slots.tree.rebuild(all.collect());
    }

    /// Whether the smallest word that covers a prefix is punted whole and larger than the prefix.
    pub(super) fn is_frozen(&self, words: Words<'_>, address: A, length: u8) -> bool {
        let (below, bits) = self.stride.word_for(words, address);
        below.slot() == sticky_slot() && length > bits
    }

    /// What covers a prefix once it is gone: the next shorter one laid or refused.
    pub(super) fn cover_or_punt(
        &self,
        tables: &Tables,
        slots: &Slots,
        punt: u32,
        address: A,
        length: u8,
    ) -> Leaf {
        let laid = self.cover(tables, slots, address, length);
        let laid = laid.map(|slot| (slots.tree.length(slot), slot));
        let refused = (0..length)
            .rev()
            .find(|l| self.refused.contains(&(address.network(*l), *l)));
        match (laid, refused) {
            (Some((l, _)), Some(r)) if r > l => Leaf::route(punt, punt_slot(r)),
            (None, Some(r)) => Leaf::route(punt, punt_slot(r)),
            (Some((_, slot)), _) => slots.leaf(tables, slot),
            (None, None) => Leaf::NONE,
        }
    }

    /// Leaves a prefix to the kernel.
    pub(super) fn refuse(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
    ) {
        self.enter_index(tables);
        let words = self.words(tables);
        self.refused.insert((address, length));
        let leaf = Leaf::route(punt, punt_slot(length));
        let (_, bits) = self.stride.word_for(words, address);
        // Where the words that the prefix needs exist, exactly they are punted; no block counts it as a member.
        if length <= bits {
            let tree = &slots.tree;
            let mut gives_way = |old: Leaf| old.is_none() || tree.length(old.slot()) <= length;
            let placed = self
                .stride
                .announce(words, (address, length), leaf, false, &mut gives_way);
            debug_assert_eq!(placed, Ok(()));
        } else {
            self.stride
                .punt_word(words, address, Leaf::route(punt, sticky_slot()));
        }
    }

    /// Withdraws a prefix that was refused; answers whether it was.
    pub(super) fn withdraw_refused(
        &mut self,
        tables: &Tables,
        slots: &Slots,
        punt: u32,
        (address, length): (A, u8),
    ) -> bool {
        if !self.refused.remove(&(address, length)) {
            return false;
        }
        let cover = self.cover_or_punt(tables, slots, punt, address, length);
        self.clear_punt(tables, (address, length), cover);
        true
    }

    /// Refused prefixes longer than `bits` inside the word of so many bits around an address.
    fn refused_inside(&self, address: A, bits: u8) -> impl Iterator<Item = (A, u8)> {
        let (first, last) = (address.network(bits), address.last(bits));
        self.refused
            .range((first, 0)..=(last, u8::MAX))
            .filter(move |(_, length)| *length > bits)
            .copied()
    }

    /// Gives the words that a refused prefix punted back to what covers it.
    fn clear_punt(&mut self, tables: &Tables, (address, length): (A, u8), cover: Leaf) {
        let words = self.words(tables);
        let (leaf, bits) = self.stride.word_for(words, address);
        if leaf.slot() == sticky_slot() {
            if self.refused_inside(address, bits).next().is_none() {
                self.stride.punt_word(words, address, cover);
            }
        } else if length <= bits {
            let slot = punt_slot(length);
            let mut gives_way = |old: Leaf| old.slot() == slot;
            let placed = self
                .stride
                .announce(words, (address, length), cover, false, &mut gives_way);
            debug_assert_eq!(placed, Ok(()));
        }
    }

    /// A prefix found room in a word that was punted whole: refused prefixes inside it are punted again, exactly, and
    /// what else of the word no refused prefix needs goes back to what covers it.
    pub(super) fn thaw(&mut self, tables: &Tables, slots: &mut Slots, punt: u32, (address, length): (A, u8)) {
        let words = self.words(tables);
        let nested: Vec<_> = self.refused_inside(address, length).collect();
        for prefix in nested {
            self.refuse(tables, slots, punt, prefix);
        }
        // From the innermost word out: each word's cover must not reach into the one before, which may have a longer one.
        for bits in (address.root().1..length).step_by(8).rev() {
            if self.refused_inside(address, bits).next().is_some() {
                continue;
            }
            let network = address.network(bits);
            let cover = self.cover_or_punt(tables, slots, punt, network, bits + 1);
            let mut frozen = |old: Leaf| old.slot() == sticky_slot();
            let placed = self
                .stride
                .announce(words, (network, bits), cover, false, &mut frozen);
            debug_assert_eq!(placed, Ok(()));
        }
    }
}
