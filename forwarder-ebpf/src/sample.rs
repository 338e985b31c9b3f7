//! Samples: one in so many packets, with what was decided about it (`forwarder_common::sample`).
//!
//! Asked behind every decision, and before anything is written to the packet. No packet goes another way because it is sampled,
//! or because its sample found no room.

use aya_ebpf::{
    bindings::{BPF_RB_NO_WAKEUP, xdp_md},
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use forwarder_common::{
    counters::Pending,
    reason::Reason,
    sample::{HEADER, Sample, draw, leaves_out},
};

use crate::{buffers, direct::opaque, maps};

/// Counts this packet down to the CPU's next sample, and takes that when it is there. `slot` and `nexthop` are 0 for a packet
/// that is not forwarded; `bytes` are the octets of the frame as it came in.
#[inline(always)]
pub fn consider(
    ctx: *mut xdp_md,
    pending: *mut Pending,
    exit: usize,
    (slot, nexthop): (u32, u32),
    bytes: usize,
) {
    let rate = maps::SETTINGS.get().sample_rate;
    if rate == 0 || pending.is_null() {
        return;
    }
    // SAFETY: this CPU's entry.
    let skip = unsafe { (*pending).skip };
    if leaves_out(skip, rate) {
        // SAFETY: as above.
        unsafe { (*pending).skip = skip - 1 };
        return;
    }
    sample(ctx, exit as u32, slot, nexthop, bytes as u32);
}

/// A function of its own to the verifier too: what is rare keeps no registers of what is not. Answers 0, because such a function
/// answers something.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn sample(ctx: *mut xdp_md, reason: u32, slot: u32, nexthop: u32, bytes: u32) -> u32 {
    let settings = maps::SETTINGS.get();
    let rate = settings.sample_rate;
    let Some(pending) = maps::PENDING.get_ptr_mut(maps::cpu()) else {
        return 0;
    };
    if rate == 0 {
        return 0;
    }
    // SAFETY: this CPU's entry.
    let mut skip = unsafe { (*pending).skip };
    if skip != 1 {
        skip = next(rate);
    }
    let due = skip == 1;
    // SAFETY: as above.
    unsafe { (*pending).skip = if due { next(rate) } else { skip - 1 } };
    if due {
        // SAFETY: the program's own context.
        let ingress = unsafe { (*ctx).ingress_ifindex };
        let taken = take(ctx, ingress, reason, (slot, nexthop), bytes);
        count(ingress, taken);
    }
    0
}

#[inline(always)]
fn next(rate: u32) -> u64 {
    // SAFETY: no arguments, no side effects.
    draw(unsafe { bpf_get_prandom_u32() }, rate)
}

/// Puts a sample in the ring buffer. Answers whether there was room.
#[inline(always)]
fn take(ctx: *mut xdp_md, ingress: u32, reason: u32, (slot, nexthop): (u32, u32), bytes: u32) -> bool {
    let settings = maps::SETTINGS.get();
    let (rate, wanted) = (settings.sample_rate, settings.sample_octets);
    let Some(mut entry) = maps::SAMPLES.reserve::<Sample>(0) else {
        return false;
    };
    let egress = match maps::NEXTHOPS.get(nexthop) {
        Some(hop) if reason == Reason::Forwarded as u32 => hop.ifindex,
        _ => 0,
    };
    // What is copied may begin in one buffer and go on in the next.
    let present = buffers::all(&XdpContext::new(ctx)) as u32;
    let octets = if wanted < present { wanted } else { present };
    // 1 to 128, as the verifier can see: no frame is shorter than its Ethernet header.
    let captured = (opaque(octets as u64).wrapping_sub(1) & (HEADER as u64 - 1)) + 1;
    let at = entry.as_mut_ptr();
    // SAFETY: a record of the ring buffer, ours until it is submitted. Each field is written; of `header` as much as `captured`
    // says.
    let copied = unsafe {
        (&raw mut (*at).time_ns).write(bpf_ktime_get_ns());
        (&raw mut (*at).ingress).write(ingress);
        (&raw mut (*at).egress).write(egress);
        (&raw mut (*at).slot).write(slot);
        (&raw mut (*at).nexthop).write(nexthop);
        (&raw mut (*at).length).write(bytes);
        (&raw mut (*at).rate).write(rate);
        (&raw mut (*at).port).write(
            maps::INTERFACES
                .get(ingress)
                .map_or(0, |interface| interface.port),
        );
        (&raw mut (*at).reason).write(reason as u16);
        (&raw mut (*at).captured).write(captured as u16);
        bpf_xdp_load_bytes(ctx, 0, (&raw mut (*at).header).cast(), captured as u32)
    };
    if copied != 0 {
        entry.discard(0);
        return false;
    }
    // Whoever reads them looks by itself every few milliseconds: to be woken costs more than all the rest.
    entry.submit(BPF_RB_NO_WAKEUP.into());
    true
}

#[inline(always)]
fn count(ingress: u32, taken: bool) {
    let Some(interface) = maps::INTERFACES.get(ingress) else {
        return;
    };
    let index = maps::cpu() * maps::PORTS.length() + interface.port;
    if let Some(counter) = maps::SAMPLE_COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's entry.
        let counter = unsafe { &mut *counter };
        if taken {
            counter.taken = counter.taken.wrapping_add(1);
        } else {
            counter.lost = counter.lost.wrapping_add(1);
        }
    }
}
