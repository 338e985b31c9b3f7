//! One family of the compiler: where a prefix is found, laid and taken away.
//!
//! What covers what is told by the [`super::tree`]; while prefixes are refused for want of room, by an index of all
//! prefixes of the family ([`super::refusal`]).

use std::collections::BTreeSet;

use forwarder_common::{
    directory::State,
    fib::{GROUP_INDIRECT, Leaf},
};

use super::{
    Outcome,
    family::Address,
    prefixes::Prefixes,
    provenance::Provenance,
    slots::{RESERVED, Slots, sticky_slot},
    stride::{self, Stride, Words},
};
use crate::dataplane::Tables;

/// One family: words' bookkeeping and the prefixes laid.
pub(super) struct Half<A> {
    pub(super) stride: Stride,
    /// Prefixes that found no room.
    pub(super) refused: BTreeSet<(A, u8)>,
    /// Slot of every prefix laid, while punts hide some of the tree.
    pub(super) index: Option<Prefixes<A, u32>>,
    /// Prefixes laid.
    count: usize,
}

impl<A: Address> Half<A> {
    /// Nothing is laid.
    pub fn new(blocks: u32) -> Half<A> {
        Half {
            stride: Stride::new(blocks),
            refused: BTreeSet::new(),
            index: None,
            count: 0,
        }
    }

    /// Prefixes laid.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The words of this family.
    pub fn words<'a>(&self, tables: &'a Tables) -> Words<'a> {
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

    /// Takes over what an earlier controller laid: network, length and slot of every prefix in the directory.
    pub fn adopt(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        prefixes: Vec<(A, u8, u32)>,
    ) -> Result<(), String> {
        let words = self.words(tables);
        self.count = prefixes.len();
        for (address, length, slot) in &prefixes {
            // One that was being laid or taken away is a member of its blocks while the way to them is whole: blocks are
            // linked before the first leaf is written and unlinked after the last.
            let whole = slots.state(tables, *slot) == Some(State::Live);
            let member = whole || stride::is_reachable(words, *address, *length);
            slots.tree.set_laid(*slot, member);
        }
        let members = prefixes
            .iter()
            .filter(|(.., slot)| slots.tree.is_laid(*slot))
            .map(|(address, length, _)| (*address, *length));
        let (stride, punted) = Stride::adopt(words, self.stride.blocks() as u32, members, |leaf: Leaf| {
            (1..RESERVED).contains(&leaf.slot())
        })?;
        self.stride = stride;
        if punted {
            self.enter_index(tables);
        }
        slots.tree.rebuild(prefixes);
        Ok(())
    }

    /// Lays or takes away what an earlier controller was in the middle of.
    pub fn finish(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        prefix: (A, u8),
        slot: u32,
        install: Option<u32>,
    ) {
        match install {
            Some(group) => {
                let provenance = Provenance::of(tables, &tables.slot_directory.get(slot as usize));
                self.lay(tables, slots, punt, prefix, Ok(slot), group, provenance);
            }
            None => {
                self.take(tables, slots, punt, prefix, slot);
            }
        }
    }

    /// The slot of exactly this prefix, if it is laid.
    pub fn find(&self, tables: &Tables, slots: &Slots, address: A, length: u8) -> Option<u32> {
        self.locate(tables, slots, address, length).ok()
    }

    /// The slot of exactly this prefix; or, by the tree, the slot of what covers it (0: nothing does).
    fn locate(&self, tables: &Tables, slots: &Slots, address: A, length: u8) -> Result<u32, u32> {
        if let Some(index) = &self.index {
            return index.get(address, length).copied().ok_or(0);
        }
        let slot = self.up_to(tables, slots, address, length);
        if slot != 0 && slots.tree.length(slot) == length {
            Ok(slot)
        } else {
            Err(slot)
        }
    }

    /// The slot of the longest prefix laid that covers this one and is shorter.
    pub fn cover(&self, tables: &Tables, slots: &Slots, address: A, length: u8) -> Option<u32> {
        let shorter = length.checked_sub(1)?;
        if let Some(index) = &self.index {
            return index.covering(address, shorter).map(|(.., slot)| *slot);
        }
        let slot = self.up_to(tables, slots, address, shorter);
        (slot != 0).then_some(slot)
    }

    /// By the tree: the slot of the longest prefix of at most `length` that covers `address`; 0 where none does.
    fn up_to(&self, tables: &Tables, slots: &Slots, address: A, length: u8) -> u32 {
        let (leaf, _) = self.stride.word_for(self.words(tables), address);
        slots.tree.climb(leaf.slot(), length)
    }

    /// Lays a prefix, or gives one that is there another group.
    pub fn announce(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
        group: u32,
        provenance: Provenance,
    ) -> Outcome {
        let place = self.locate(tables, slots, address, length);
        if let Ok(slot) = place
            && slots.is(tables, slot, State::Live, group)
        {
            slots.note(tables, slot, provenance);
            return Outcome::Installed;
        }
        self.lay(tables, slots, punt, (address, length), place, group, provenance)
    }

    #[allow(clippy::too_many_arguments, reason = "what is laid, and where")]
    fn lay(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
        place: Result<u32, u32>,
        group: u32,
        provenance: Provenance,
    ) -> Outcome {
        let words = self.words(tables);
        let known = place.ok();
        let Some(slot) = known.or_else(|| slots.allocate()) else {
            self.refuse(tables, slots, punt, (address, length));
            return Outcome::Refused;
        };
        let counted = known.is_some_and(|slot| slots.tree.is_laid(slot));
        // A prefix that is new takes the place of what covered it, for all that lies inside it.
        let threaded = known.is_none() && self.index.is_none();
        let cover = place.err().unwrap_or(0);
        slots.installing(tables, slot, (address, length), group, provenance);
        let leaf = leaf_for(tables, group, slot);
        let frozen = match self.index {
            Some(_) => self.frozen(words, address, length),
            None => None,
        };
        let tree = &mut slots.tree;
        if threaded {
            tree.set_parent(slot, cover);
        }
        let mut gives_way = |old: Leaf| {
            let old = old.slot();
            if old == 0 || tree.length(old) <= length {
                return true;
            }
            if threaded {
                tree.rehang(old, cover, slot);
            }
            false
        };
        let placed = self
            .stride
            .announce(words, (address, length), leaf, !counted, &mut gives_way);
        match placed {
            Ok(()) => {
                slots.live(tables, slot);
                self.count += usize::from(known.is_none());
                if let Some(index) = &mut self.index {
                    index.insert(address, length, slot);
                    self.refused.remove(&(address, length));
                    // What a frozen word leaves to the prefix, its thaw gives it.
                    if let Some(bits) = frozen {
                        self.thaw(tables, slots, punt, address, bits);
                    }
                }
                Outcome::Installed
            }
            Err(stride::NoBlocks) => {
                slots.abandon(tables, slot);
                self.count -= usize::from(known.is_some());
                if let Some(index) = &mut self.index {
                    index.remove(address, length);
                }
                self.refuse(tables, slots, punt, (address, length));
                Outcome::Refused
            }
        }
    }

    /// Takes a prefix away. Answers the group it had.
    pub fn withdraw(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
    ) -> Option<u32> {
        if self.withdraw_refused(tables, slots, punt, (address, length)) {
            return None;
        }
        let slot = self.find(tables, slots, address, length)?;
        Some(self.take(tables, slots, punt, (address, length), slot))
    }

    fn take(
        &mut self,
        tables: &Tables,
        slots: &mut Slots,
        punt: u32,
        (address, length): (A, u8),
        slot: u32,
    ) -> u32 {
        let words = self.words(tables);
        let group = slots.group(tables, slot);
        slots.removing(tables, slot);
        let threaded = self.index.is_none();
        let above = slots.tree.parent(slot);
        let cover = if let Some(index) = &mut self.index {
            index.remove(address, length);
            self.cover_or_punt(tables, slots, punt, address, length)
        } else {
            slots.leaf(tables, above)
        };
        let tree = &mut slots.tree;
        let mut gives_way = |old: Leaf| {
            if old.slot() == slot {
                return true;
            }
            if threaded && !old.is_none() {
                tree.rehang(old.slot(), slot, above);
            }
            false
        };
        let whole = Leaf::route(punt, sticky_slot());
        self.stride
            .withdraw(words, (address, length), cover, whole, &mut gives_way);
        if self.index.is_some() {
            self.freeze_collapsed(words, slots, punt, address);
        }
        self.count -= 1;
        slots.retire(tables, slot);
        group
    }
}

/// The leaf for a group and a slot; the indirect group word is stored first where one is needed.
pub(super) fn leaf_for(tables: &Tables, group: u32, slot: u32) -> Leaf {
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
