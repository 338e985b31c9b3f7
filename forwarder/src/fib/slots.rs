//! Counter slots and the pinned directory that says which prefix each belongs to.

use std::sync::atomic::Ordering;

use forwarder_common::{
    directory::{COUNTING, SlotEntry, State},
    fib::{Leaf, SLOT_MAX},
};
use ipnet::IpNet;

use super::{
    family::{Address, prefix_of},
    half::leaf_for,
    provenance::{Neighbours, Provenance},
    readings::{Reading, Readings},
    tree::Tree,
};
use crate::dataplane::Tables;

/// Slots below this are never given out: 0 is "none", then one punt slot for each prefix length, then the sticky one.
pub const RESERVED: u32 = 1 + 129 + 1;

/// The slot of punt leaves that stand for refused prefixes of this length.
pub const fn punt_slot(length: u8) -> u32 {
    1 + length as u32
}

/// The slot of punt leaves that stand for a whole word: nothing but an exact prefix replaces them.
pub const fn sticky_slot() -> u32 {
    RESERVED - 1
}

/// Length that gives way to no prefix.
const NEVER: u8 = u8::MAX;

/// Octet offset of the word {length, family, state, flags, group} in an entry.
const STATE_WORD: usize = 16;
/// Octet offset of the word {origin AS, neighbour, generation, protocol}.
const PROVENANCE_WORD: usize = 40;

/// Slots: free ones, lengths, and those that wait.
pub struct Slots {
    /// What covers what.
    pub(super) tree: Tree,
    free: Vec<u32>,
    retired: Vec<u32>,
    waiting: Vec<u32>,
    /// For whoever adds up by prefix, where anybody does.
    readings: Option<Readings>,
    neighbours: Neighbours,
}

impl Slots {
    /// All slots free.
    pub fn new(tables: &Tables) -> Slots {
        let slots = tables.sizes.slots.min(SLOT_MAX + 1);
        let mut tree = Tree::new(slots);
        for length in 0..=128u8 {
            tree.set_length(punt_slot(length), length);
        }
        tree.set_length(sticky_slot(), NEVER);
        Slots {
            tree,
            free: (RESERVED..slots).rev().collect(),
            retired: Vec::new(),
            waiting: Vec::new(),
            readings: None,
            neighbours: Neighbours::adopt(tables),
        }
    }

    /// From now on readings of slots that come to stand for something else are left there.
    pub fn leave_readings(&mut self, readings: Readings) {
        self.readings = Some(readings);
    }

    /// Reads the directory: `each` gets every slot that belongs to a prefix, in order. Retired slots are free again: no
    /// program has seen them since before the earlier controller ended. Answers whether any slot was ever used.
    ///
    /// # Errors
    /// An entry that makes no sense.
    pub fn adopt(
        &mut self,
        tables: &Tables,
        mut each: impl FnMut(u32, IpNet, SlotEntry, State),
    ) -> Result<bool, String> {
        let mut used = false;
        self.free.clear();
        for slot in RESERVED..self.tree.len() as u32 {
            let word = tables
                .slot_directory
                .word(slot as usize, STATE_WORD)
                .load(Ordering::Acquire);
            used |= word != 0;
            let number = (word >> 16) as u8;
            let state = State::from_number(number)
                .ok_or_else(|| format!("slot {slot} of the directory has state {number}"))?;
            match state {
                State::Free => self.free.push(slot),
                State::Retired => self.retired.push(slot),
                State::Installing | State::Live | State::Removing => {
                    let entry = tables.slot_directory.get(slot as usize);
                    let prefix = prefix_of(entry.family, entry.address, entry.length)
                        .ok_or_else(|| format!("slot {slot} of the directory names no prefix"))?;
                    self.tree.set_length(slot, entry.length);
                    each(slot, prefix, entry, state);
                }
            }
        }
        // The lowest is given out first.
        self.free.reverse();
        Ok(used)
    }

    /// The leaf of a slot's prefix; none for slot 0.
    pub fn leaf(&self, tables: &Tables, slot: u32) -> Leaf {
        if slot == 0 {
            return Leaf::NONE;
        }
        leaf_for(tables, self.group(tables, slot), slot)
    }

    /// Whether a slot is in this state with this group.
    pub fn is(&self, tables: &Tables, slot: u32, state: State, group: u32) -> bool {
        let word = tables
            .slot_directory
            .word(slot as usize, STATE_WORD)
            .load(Ordering::Relaxed);
        (word >> 16) as u8 == state as u8 && (word >> 32) as u32 == group
    }

    /// State of a slot.
    pub fn state(&self, tables: &Tables, slot: u32) -> Option<State> {
        let word = tables
            .slot_directory
            .word(slot as usize, STATE_WORD)
            .load(Ordering::Relaxed);
        State::from_number((word >> 16) as u8)
    }

    /// Group of a slot.
    pub fn group(&self, tables: &Tables, slot: u32) -> u32 {
        (tables
            .slot_directory
            .word(slot as usize, STATE_WORD)
            .load(Ordering::Relaxed)
            >> 32) as u32
    }

    /// Slots in use, waiting ones included.
    pub fn used(&self) -> usize {
        self.tree.len() - RESERVED as usize - self.free.len()
    }

    /// Free slots.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// A free slot.
    pub fn allocate(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Writes the directory entry, before any leaf names the slot.
    pub fn installing<A: Address>(
        &mut self,
        tables: &Tables,
        slot: u32,
        (address, length): (A, u8),
        group: u32,
        provenance: Provenance,
    ) {
        let old = tables.slot_directory.get(slot as usize);
        let mut entry = SlotEntry {
            address: address.octets16(),
            length,
            family: A::FAMILY,
            state: State::Installing as u8,
            flags: old.flags,
            group,
            ..old
        };
        self.neighbours.write(tables, provenance, &mut entry);
        let replaced = matches!(
            State::from_number(old.state),
            Some(State::Live | State::Installing)
        );
        if replaced {
            self.leave_reading(tables, slot, old, &entry);
        } else {
            // A slot that was never used has counted nothing; reading its counters would only cost cache lines. A packet
            // of the prefix before that a CPU has yet to count is in the baseline: it changes places, not the sum.
            let reading = Reading::now(tables, slot, old);
            self.leave(reading);
            entry.baseline = reading.to;
            if tables.sizes.sources {
                tables.source_baselines.set(slot as usize, &reading.from);
            }
            // 0 is a slot that was never used.
            entry.generation = old.generation.wrapping_add(1).max(1);
            entry.flags = 0;
            self.tree.set_length(slot, length);
        }
        // The state word last.
        let directory = &tables.slot_directory;
        for offset in (0..size_of::<SlotEntry>())
            .step_by(8)
            .filter(|offset| *offset != STATE_WORD)
        {
            directory
                .word(slot as usize, offset)
                .store(word(&entry, offset), Ordering::Release);
        }
        directory
            .word(slot as usize, STATE_WORD)
            .store(word(&entry, STATE_WORD), Ordering::Release);
    }

    /// The route of a slot's prefix comes from there now.
    pub fn note(&mut self, tables: &Tables, slot: u32, provenance: Provenance) {
        let old = tables.slot_directory.get(slot as usize);
        let mut entry = old;
        self.neighbours.write(tables, provenance, &mut entry);
        if entry == old {
            return;
        }
        self.leave_reading(tables, slot, old, &entry);
        tables
            .slot_directory
            .word(slot as usize, PROVENANCE_WORD)
            .store(word(&entry, PROVENANCE_WORD), Ordering::Release);
    }

    /// Where a prefix is about to be of another network.
    fn leave_reading(&self, tables: &Tables, slot: u32, old: SlotEntry, new: &SlotEntry) {
        if self.readings.is_some() && (old.origin_as, old.neighbour) != (new.origin_as, new.neighbour) {
            self.leave(Reading::now(tables, slot, old));
        }
    }

    fn leave(&self, reading: Reading) {
        if let Some(readings) = &self.readings
            && reading.has_counted()
        {
            readings.leave(reading);
        }
    }

    fn set_state(tables: &Tables, slot: u32, state: State) {
        let word = tables.slot_directory.word(slot as usize, STATE_WORD);
        let old = word.load(Ordering::Relaxed);
        word.store(old & !(0xff << 16) | (state as u64) << 16, Ordering::Release);
    }

    /// All leaves are written.
    pub fn live(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Live);
        self.tree.set_laid(slot, true);
    }

    /// Leaves are about to go.
    pub fn removing(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Removing);
    }

    /// No leaf names it; it waits for the grace period.
    pub fn retire(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Retired);
        self.tree.set_laid(slot, false);
        self.retired.push(slot);
    }

    /// No leaf ever named it.
    pub fn abandon(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Free);
        self.tree.set_laid(slot, false);
        self.free.push(slot);
    }

    /// Whether any waits.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty() || !self.waiting.is_empty()
    }

    /// A grace period begins.
    pub fn grace_begins(&mut self) {
        self.waiting.append(&mut self.retired);
    }

    /// It is over.
    pub fn grace_over(&mut self, tables: &Tables) {
        for slot in self.waiting.drain(..) {
            Self::set_state(tables, slot, State::Free);
            self.free.push(slot);
        }
    }
}

/// [`COUNTING`] in the state word.
const COUNTING_BIT: u64 = (COUNTING as u64) << 24;

/// Whether a slot's prefix is a counting prefix.
pub fn is_counting(tables: &Tables, slot: u32) -> bool {
    let word = tables.slot_directory.word(slot as usize, STATE_WORD);
    word.load(Ordering::Relaxed) & COUNTING_BIT != 0
}

/// Says whether a slot's prefix is a counting prefix.
pub fn set_counting(tables: &Tables, slot: u32, counting: bool) {
    let word = tables.slot_directory.word(slot as usize, STATE_WORD);
    let old = word.load(Ordering::Relaxed);
    let new = if counting {
        old | COUNTING_BIT
    } else {
        old & !COUNTING_BIT
    };
    if new != old {
        word.store(new, Ordering::Release);
    }
}

/// Every slot whose prefix is laid, with its entry.
pub fn live(tables: &Tables) -> impl Iterator<Item = (u32, SlotEntry)> {
    known(tables).filter(|(_, entry)| entry.state == State::Live as u8)
}

/// Every slot that has a prefix, half laid or half gone ones included, with its entry.
pub fn known(tables: &Tables) -> impl Iterator<Item = (u32, SlotEntry)> {
    let count = tables.slot_directory.len() as u32;
    (RESERVED..count).filter_map(|slot| {
        let entry = tables.slot_directory.get(slot as usize);
        let known = matches!(
            State::from_number(entry.state),
            Some(State::Installing | State::Live | State::Removing)
        );
        known.then_some((slot, entry))
    })
}

/// One 8-octet word of an entry.
fn word(entry: &SlotEntry, offset: usize) -> u64 {
    let bytes: [u8; size_of::<SlotEntry>()] =
        // SAFETY: SlotEntry is Plain: integers without padding.
        unsafe { std::mem::transmute(*entry) };
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_ne_bytes(eight)
}
