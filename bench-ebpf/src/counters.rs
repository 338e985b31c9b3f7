//! The arms of `counters`: our lookup, and a count of packets and octets in the slot it answers.

use forwarder_common::counters::Counter;
use forwarder_ebpf::maps::cpu;

use crate::{
    abi::{FRAME, NOTHING, SLOTS, shuffled},
    maps,
};

/// Where an answer of our lookup is counted.
pub trait Layout {
    /// Counts a packet.
    fn count(slot: u32);
}

/// `[cpu][slot]`, slots in the order of addresses.
pub enum ByAddress {}
/// `[cpu][slot]`, slots in no order.
pub enum Shuffled {}
/// `BPF_MAP_TYPE_PERCPU_ARRAY`.
pub enum PerCpu {}
/// `[cpu][slot]` in the order of addresses, but the packet before: the shipped program's way.
pub enum Deferred {}

#[inline(always)]
fn add(counter: Option<*mut Counter>) {
    if let Some(counter) = counter {
        // SAFETY: a map value; one program runs at a time.
        let counter = unsafe { &mut *counter };
        counter.packets = counter.packets.wrapping_add(1);
        counter.bytes = counter.bytes.wrapping_add(FRAME as u64);
    }
}

impl Layout for ByAddress {
    #[inline(always)]
    fn count(slot: u32) {
        add(maps::BY_CPU.get_ptr_mut(cpu() * SLOTS + slot));
    }
}

impl Layout for Shuffled {
    #[inline(always)]
    fn count(slot: u32) {
        ByAddress::count(shuffled(slot));
    }
}

impl Layout for PerCpu {
    #[inline(always)]
    fn count(slot: u32) {
        add(maps::PER_CPU.get_ptr_mut(slot));
    }
}

impl Layout for Deferred {
    #[inline(always)]
    fn count(slot: u32) {
        if let Some(last) = maps::LAST.get_ptr_mut(0) {
            // SAFETY: a map value; one program runs at a time.
            let before = unsafe { last.replace(slot) };
            ByAddress::count(before);
        }
    }
}

/// Counts what a lookup answered.
#[inline(always)]
pub fn counted<L: Layout>(answer: u64) -> u64 {
    if answer != NOTHING {
        L::count(answer as u32 & (SLOTS - 1));
    }
    answer
}
