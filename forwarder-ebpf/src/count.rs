//! Counters: per port and reason for every packet; per prefix, next hop and egress port for those forwarded.
//!
//! Each CPU writes its own entries, with plain additions: XDP does not nest on a CPU. The prefix is counted one packet
//! later, beside the next packet's lookup ([`Pending`]). `cpu` is that of [`maps::cpu`].

use forwarder_common::{
    counters::{Counter, Pending},
    reason::Reason,
};

use crate::{maps, nexthop::Chosen};

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
    pending: *mut Pending,
    word: u64,
}

/// Counts the packet that this CPU forwarded last by its prefix. Answers where the next is to be put down.
#[inline(always)]
pub fn settle(cpu: u32) -> Place {
    let Some(pending) = maps::PENDING.get_ptr_mut(cpu) else {
        return Place {
            pending: core::ptr::null_mut(),
            word: 0,
        };
    };
    // SAFETY: this CPU's entry; volatile, because readers go by the order of these stores.
    unsafe {
        let word = &raw mut (*pending).word;
        let before = word.read_volatile();
        let slot = Pending::slot(before);
        if slot == 0 {
            return Place {
                pending,
                word: before,
            };
        }
        word.write_volatile(before | Pending::COUNTING);
        if let Some(counter) = prefix(cpu * maps::SLOTS.length() + slot) {
            let (packets, bytes) = (&raw mut (*counter).packets, &raw mut (*counter).bytes);
            packets.write_volatile(packets.read_volatile().wrapping_add(1));
            bytes.write_volatile(bytes.read_volatile().wrapping_add(Pending::bytes(before)));
        }
        let none = Pending::none(before);
        word.write_volatile(none);
        Place { pending, word: none }
    }
}

/// Counts a packet that a blackhole route throws away, by its next hop: each such route has one of its own as long as there
/// are enough.
#[inline(always)]
pub fn discarded(cpu: u32, id: u32, bytes: usize) {
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

/// Counts a forwarded packet by next hop and egress, and puts it down to be counted by prefix: `pending` is
/// what [`settle`] answered.
#[inline(always)]
pub fn forwarded(cpu: u32, place: Place, slot: u32, chosen: &Chosen, bytes: usize) {
    let Place { pending, word } = place;
    if !pending.is_null() {
        // SAFETY: this CPU's entry; `settle` has counted what was there.
        unsafe {
            (&raw mut (*pending).word).write_volatile(Pending::packet(word, slot, bytes));
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
