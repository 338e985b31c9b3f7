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

    /// The bits of the smallest word that covers a prefix, where that is larger than the prefix and punted whole.
    pub(super) fn frozen(&self, words: Words<'_>, address: A, length: u8) -> Option<u8> {
        let (below, bits) = self.stride.word_for(words, address);
        (below.slot() == sticky_slot() && length > bits).then_some(bits)
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
        self.clear_punt(tables, slots, punt, (address, length));
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
    fn clear_punt(&mut self, tables: &Tables, slots: &Slots, punt: u32, (address, length): (A, u8)) {
        let words = self.words(tables);
        let (_, bits) = self.stride.word_for(words, address);
        if length > bits {
            self.thaw(tables, slots, punt, address, bits);
            return;
        }
        let cover = self.cover_or_punt(tables, slots, punt, address, length);
        let slot = punt_slot(length);
        let mut gives_way = |old: Leaf| old.slot() == slot;
        let placed = self
            .stride
            .announce(words, (address, length), cover, false, &mut gives_way);
        debug_assert_eq!(placed, Ok(()));
    }

    /// A block collapsed into the word that an address is in now: where all its words were the same punt, of prefixes longer
    /// than this word is, the word is one that is punted whole.
    pub(super) fn freeze_collapsed(&self, words: Words<'_>, slots: &Slots, punt: u32, address: A) {
        let (leaf, bits) = self.stride.word_for(words, address);
        let punted = (punt_slot(0)..sticky_slot()).contains(&leaf.slot());
        if punted && slots.tree.length(leaf.slot()) > bits {
            self.stride
                .punt_word(words, address, Leaf::route(punt, sticky_slot()));
        }
    }

    /// A prefix that froze the word of so many bits around an address is gone, or found room. Every word that this left
    /// frozen, blocks below included, stays so only while it is larger than a refused prefix inside it; else it gets
    /// its own answer, of which no less-specific one's may be the way: so one store each.
    pub(super) fn thaw(&self, tables: &Tables, slots: &Slots, punt: u32, address: A, bits: u8) {
        let words = self.words(tables);
        stride::each_leaf_inside(words, address, bits, &mut |old: Leaf, network, bits| {
            if old.slot() != sticky_slot() || self.refused_inside(network, bits).next().is_some() {
                return old;
            }
            self.cover_or_punt(tables, slots, punt, network, bits + 1)
        });
    }
}
