//! Counters: per port and reason for every packet; per prefix, next hop and egress port for those forwarded.
//!
//! Each CPU writes its own entries, with plain additions: XDP does not nest on a CPU. The prefix is counted one packet
//! later, beside the next packet's lookup ([`Pending`]).

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use forwarder_common::{
    counters::{Counter, Pending},
    reason::Reason,
};

use crate::{maps, nexthop::Chosen};

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: no arguments, no side effects.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn add(counter: &mut Counter, bytes: usize) {
    counter.packets = counter.packets.wrapping_add(1);
    counter.bytes = counter.bytes.wrapping_add(bytes as u64);
}

/// Counts the packet's exit.
#[inline(always)]
pub fn exit(port: u32, reason: usize, bytes: usize) {
    if let Some(counters) = maps::REASON_COUNTERS.get_ptr_mut(cpu() * maps::PORTS.load() + port) {
        // SAFETY: this CPU's entry; see above.
        add(unsafe { &mut (*counters)[reason & (Reason::SLOTS - 1)] }, bytes);
    }
}

/// Counts the packet that this CPU forwarded last by its prefix.
#[inline(always)]
pub fn settle() {
    let cpu = cpu();
    let Some(pending) = maps::PENDING.get_ptr_mut(cpu) else {
        return;
    };
    // SAFETY: this CPU's entry; volatile, because readers go by the order of these stores.
    unsafe {
        let word = &raw mut (*pending).word;
        let before = word.read_volatile();
        let slot = Pending::slot(before);
        if slot == 0 {
            return;
        }
        word.write_volatile(before | Pending::COUNTING);
        if let Some(counter) = maps::PREFIX_COUNTERS.get_ptr_mut(cpu * maps::SLOTS.load() + slot) {
            let (packets, bytes) = (&raw mut (*counter).packets, &raw mut (*counter).bytes);
            packets.write_volatile(packets.read_volatile().wrapping_add(1));
            bytes.write_volatile(bytes.read_volatile().wrapping_add(Pending::bytes(before)));
        }
        word.write_volatile(Pending::none(before));
    }
}

/// Counts a forwarded packet by next hop and egress, and puts it down to be counted by prefix.
#[inline(always)]
pub fn forwarded(slot: u32, chosen: &Chosen, bytes: usize) {
    let cpu = cpu();
    if let Some(pending) = maps::PENDING.get_ptr_mut(cpu) {
        // SAFETY: this CPU's entry; `settle` has counted what was there.
        unsafe {
            let word = &raw mut (*pending).word;
            word.write_volatile(Pending::packet(word.read_volatile(), slot, bytes));
        }
    }
    if let Some(counter) = maps::NEXTHOP_COUNTERS.get_ptr_mut(cpu * maps::NEXTHOP_COUNT.load() + chosen.id) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut *counter }, bytes);
    }
    let port = chosen.hop.port as u32;
    if let Some(egress) = maps::EGRESS_COUNTERS.get_ptr_mut(cpu * maps::PORTS.load() + port) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut (*egress).forwarded }, bytes);
    }
}
