//! Counter slots and the pinned directory that says which prefix each belongs to.

use std::sync::atomic::Ordering;

use forwarder_common::{
    counters::Counter,
    directory::{SlotEntry, State},
    fib::SLOT_MAX,
};
use ipnet::IpNet;

use crate::{dataplane::Tables, fib::family::prefix_of};

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

/// Octet offset of the word {length, family, state, reserved, group} in an entry.
const STATE_WORD: usize = 16;

/// Slots: free ones, lengths, and those that wait.
pub struct Slots {
    /// Prefix length by slot, one octet each: an announcement looks at many.
    lengths: Vec<u8>,
    laid: Vec<bool>,
    free: Vec<u32>,
    retired: Vec<u32>,
    waiting: Vec<u32>,
}

impl Slots {
    /// All slots free.
    pub fn new(tables: &Tables) -> Slots {
        let slots = tables.sizes.slots.min(SLOT_MAX + 1);
        let mut lengths = vec![0; slots as usize];
        for length in 0..=128u8 {
            lengths[punt_slot(length) as usize] = length;
        }
        lengths[sticky_slot() as usize] = NEVER;
        Slots {
            lengths,
            laid: vec![false; slots as usize],
            free: (RESERVED..slots).rev().collect(),
            retired: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Reads the directory: every slot that belongs to a prefix. Retired slots are free again: no program has seen them
    /// since before the earlier controller ended.
    ///
    /// # Errors
    /// An entry that makes no sense.
    pub fn adopt(&mut self, tables: &Tables) -> Result<Vec<(u32, IpNet, SlotEntry, State)>, String> {
        let mut found = Vec::new();
        self.free.clear();
        for slot in (RESERVED..self.lengths.len() as u32).rev() {
            let entry = tables.slot_directory.get(slot as usize);
            let state = State::from_number(entry.state)
                .ok_or_else(|| format!("slot {slot} of the directory has state {}", entry.state))?;
            match state {
                State::Free => self.free.push(slot),
                State::Retired => self.retired.push(slot),
                State::Installing | State::Live | State::Removing => {
                    let prefix = prefix_of(entry.family, entry.address, entry.length);
                    let prefix =
                        prefix.ok_or_else(|| format!("slot {slot} of the directory names no prefix"))?;
                    self.lengths[slot as usize] = entry.length;
                    found.push((slot, prefix, entry, state));
                }
            }
        }
        Ok(found)
    }

    /// Prefix length of a slot.
    pub fn length(&self, slot: u32) -> u8 {
        self.lengths[slot as usize]
    }

    /// Whether blocks count the slot's prefix as a member.
    pub fn is_laid(&self, slot: u32) -> bool {
        self.laid[slot as usize]
    }

    /// Says whether blocks count the slot's prefix, as an adoption found.
    pub fn set_laid(&mut self, slot: u32, laid: bool) {
        self.laid[slot as usize] = laid;
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
        self.lengths.len() - RESERVED as usize - self.free.len()
    }

    /// A free slot.
    pub fn allocate(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Writes the directory entry, before any leaf names the slot.
    #[allow(clippy::too_many_arguments, reason = "the fields of one entry")]
    pub fn installing(
        &mut self,
        tables: &Tables,
        slot: u32,
        address: [u8; 16],
        length: u8,
        family: u8,
        group: u32,
        protocol: u8,
    ) {
        let old = tables.slot_directory.get(slot as usize);
        let mut entry = SlotEntry {
            address,
            length,
            family,
            state: State::Installing as u8,
            reserved: 0,
            group,
            protocol: protocol as u32,
            ..old
        };
        let replaced = matches!(
            State::from_number(old.state),
            Some(State::Live | State::Installing)
        );
        if !replaced {
            // A slot that was never used has counted nothing; reading its counters would only cost cache lines.
            entry.baseline = if old.generation == 0 {
                Counter::default()
            } else {
                tables.slot_counter(slot)
            };
            entry.generation = old.generation.wrapping_add(1);
            self.lengths[slot as usize] = length;
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

    fn set_state(tables: &Tables, slot: u32, state: State) {
        let word = tables.slot_directory.word(slot as usize, STATE_WORD);
        let old = word.load(Ordering::Relaxed);
        word.store(old & !(0xff << 16) | (state as u64) << 16, Ordering::Release);
    }

    /// All leaves are written.
    pub fn live(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Live);
        self.laid[slot as usize] = true;
    }

    /// Leaves are about to go.
    pub fn removing(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Removing);
    }

    /// No leaf names it; it waits for the grace period.
    pub fn retire(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Retired);
        self.laid[slot as usize] = false;
        self.retired.push(slot);
    }

    /// No leaf ever named it.
    pub fn abandon(&mut self, tables: &Tables, slot: u32) {
        Self::set_state(tables, slot, State::Free);
        self.laid[slot as usize] = false;
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

/// One 8-octet word of an entry.
fn word(entry: &SlotEntry, offset: usize) -> u64 {
    let bytes: [u8; size_of::<SlotEntry>()] =
        // SAFETY: SlotEntry is Plain: integers without padding.
        unsafe { std::mem::transmute(*entry) };
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_ne_bytes(eight)
}
