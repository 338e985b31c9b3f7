//! Counters: per port and reason for every packet; per prefix, next hop, egress port and pair of accounts for those forwarded.
//!
//! Each CPU writes its own entries, with plain additions: XDP does not nest on a CPU. The prefix is counted one packet
//! later, beside the next packet's lookup ([`Pending`]). `cpu` is that of [`maps::cpu`].

use forwarder_common::{
    account,
    counters::{Counter, Pending},
    interface::{COUNT_PAIRS, Interface, OUTSIDE},
    reason::Reason,
};

use crate::{maps, nexthop::Chosen, origin::Found};

#[inline(always)]
fn add(counter: &mut Counter, bytes: usize) {
    counter.packets = counter.packets.wrapping_add(1);
    counter.bytes = counter.bytes.wrapping_add(bytes as u64);
}

/// Counts the packet's exit.
#[inline(always)]
pub fn exit(cpu: u32, port: u32, reason: usize, bytes: usize) {
    if let Some(counters) = maps::REASON_COUNTERS.get_ptr_mut(cpu * maps::PORTS.length() + port) {
        // SAFETY: this CPU's entry; see above.
        add(unsafe { &mut (*counters)[reason & (Reason::SLOTS - 1)] }, bytes);
    }
}

/// Whether packets are only decided about, and all passed to the kernel.
#[inline(always)]
pub fn is_dry_run() -> bool {
    maps::SETTINGS.get().dry_run != 0
}

/// Counts what would have become of a packet that passes because of a dry run.
#[inline(always)]
pub fn presumed(cpu: u32, port: u32, reason: usize, bytes: usize) {
    if let Some(counters) = maps::PRESUMED_COUNTERS.get_ptr_mut(cpu * maps::PORTS.length() + port) {
        // SAFETY: this CPU's entry; see above.
        add(unsafe { &mut (*counters)[reason & (Reason::SLOTS - 1)] }, bytes);
    }
}

/// The verifier keeps one of the two ways.
#[inline(always)]
fn prefix(index: u32) -> Option<*mut Counter> {
    if maps::PREFIX_COUNTERS_DIRECT.length() != 0 {
        maps::PREFIX_COUNTERS_DIRECT.get_ptr_mut(index)
    } else {
        maps::PREFIX_COUNTERS.get_ptr_mut(index)
    }
}

/// Where the next packet forwarded is put down to be counted by prefix, and what stands there until then. Null where there is
/// no such place: an option would leave the rest undefined, and the compiler would keep that on the stack all the same, which
/// no verifier takes.
#[derive(Clone, Copy)]
pub struct Place {
    /// This CPU's entry.
    pub pending: *mut Pending,
    word: u64,
}

/// Whether packets are counted by their source; a number to the verifier, so what hangs on it is not there where they are not.
#[inline(always)]
fn counts_sources() -> bool {
    maps::SOURCE_COUNTERS_DIRECT.length() != 1
}

/// As [`prefix`].
#[inline(always)]
fn source(index: u32) -> Option<*mut Counter> {
    if maps::SOURCE_COUNTERS_DIRECT.length() != 0 {
        maps::SOURCE_COUNTERS_DIRECT.get_ptr_mut(index)
    } else {
        maps::SOURCE_COUNTERS.get_ptr_mut(index)
    }
}

/// Counts the packet that this CPU forwarded last by its prefix, and by its source's. Answers where the next is to be put down.
#[inline(always)]
pub fn settle(cpu: u32) -> Place {
    let Some(pending) = maps::PENDING.get_ptr_mut(cpu) else {
        return Place {
            pending: core::ptr::null_mut(),
            word: 0,
        };
    };
    let base = cpu * maps::SLOTS.length();
    // SAFETY: this CPU's entry.
    unsafe {
        if counts_sources() {
            settle_word(&raw mut (*pending).source, |slot| source(base + slot));
        }
        let word = settle_word(&raw mut (*pending).word, |slot| prefix(base + slot));
        Place { pending, word }
    }
}

/// Counts what a word says in the counter of its slot. Answers the word that says that nothing is left to count.
///
/// # Safety
/// `word` is this CPU's.
#[inline(always)]
unsafe fn settle_word(word: *mut u64, counter: impl FnOnce(u32) -> Option<*mut Counter>) -> u64 {
    // SAFETY: this CPU's entries; volatile, because readers go by the order of these stores.
    unsafe {
        let before = word.read_volatile();
        let slot = Pending::slot(before);
        if slot == 0 {
            return before;
        }
        word.write_volatile(before | Pending::COUNTING);
        if let Some(counter) = counter(slot) {
            let (packets, bytes) = (&raw mut (*counter).packets, &raw mut (*counter).bytes);
            packets.write_volatile(packets.read_volatile().wrapping_add(1));
            bytes.write_volatile(bytes.read_volatile().wrapping_add(Pending::bytes(before)));
        }
        let none = Pending::none(before);
        word.write_volatile(none);
        none
    }
}

/// Counts a packet that a blackhole route throws away, by its next hop: each such route has one of its own as long as there
/// are enough. In a dry run it throws nothing away.
#[inline(always)]
pub fn discarded(cpu: u32, id: u32, bytes: usize) {
    if is_dry_run() {
        return;
    }
    if let Some(counter) = maps::NEXTHOP_COUNTERS.get_ptr_mut(cpu * maps::NEXTHOP_COUNT.length() + id) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut *counter }, bytes);
    }
}

/// The same of a packet from there.
#[inline(always)]
pub fn discarded_source(group: u32, bytes: usize) {
    if let Some(group) = maps::GROUPS.get(group) {
        discarded(maps::cpu(), group.buckets[0] as u32, bytes);
    }
}

/// Counts a forwarded packet by next hop and egress, and puts it down to be counted by prefix and by its source's: `pending` is
/// what [`settle`] answered.
#[inline(always)]
pub fn forwarded(cpu: u32, place: Place, slot: u32, from: Found, chosen: &Chosen, bytes: usize) {
    let Place { pending, word } = place;
    if !pending.is_null() {
        // SAFETY: this CPU's entry; `settle` has counted what was there.
        unsafe {
            (&raw mut (*pending).word).write_volatile(Pending::packet(word, slot, bytes));
            if counts_sources() && from.slot() != 0 {
                let source = &raw mut (*pending).source;
                source.write_volatile(Pending::packet(source.read_volatile(), from.slot(), bytes));
            }
        }
    }
    if let Some(counter) = maps::NEXTHOP_COUNTERS.get_ptr_mut(cpu * maps::NEXTHOP_COUNT.length() + chosen.id)
    {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut *counter }, bytes);
    }
    let port = chosen.hop.port as u32;
    if let Some(egress) = maps::EGRESS_COUNTERS.get_ptr_mut(cpu * maps::PORTS.length() + port) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut (*egress).forwarded }, bytes);
    }
}

/// Counts a forwarded packet by whose it is, where there are accounts. What comes in from outside is nobody's of ours, whatever
/// source it names.
#[inline(always)]
pub fn pair(cpu: u32, interface: &Interface, source: Found, chosen: &Chosen, bytes: usize) {
    let flags = interface.flags;
    if flags & COUNT_PAIRS == 0 {
        return;
    }
    let bit = OUTSIDE.trailing_zeros();
    let crossing = (flags | chosen.hop.flags as u32) >> bit;
    // All ones where it comes in from inside.
    let ours = (flags >> bit & 1).wrapping_sub(1);
    let cell = account::pair(crossing, source.account() & ours, chosen.account);
    if let Some(counter) = maps::PAIRS.get_ptr_mut(cpu * account::PAIRS as u32 + cell) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut *counter }, bytes);
    }
}
