//! Counters: per port and reason for every packet; per prefix, next hop and egress port for those forwarded.
//!
//! Each CPU writes its own entries, with plain additions: XDP does not nest on a CPU.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use forwarder_common::{counters::Counter, reason::Reason};

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

/// Counts a forwarded packet by prefix, next hop and egress.
#[inline(always)]
pub fn forwarded(slot: u32, chosen: &Chosen, bytes: usize) {
    let cpu = cpu();
    if let Some(counter) = maps::PREFIX_COUNTERS.get_ptr_mut(cpu * maps::SLOTS.load() + slot) {
        // SAFETY: this CPU's entry.
        add(unsafe { &mut *counter }, bytes);
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
