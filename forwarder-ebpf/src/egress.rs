//! What became of redirected frames: the kernel says so only in tracepoints (`include/trace/events/xdp.h`).
//!
//! They fire for every network namespace and pass `net_device` pointers, so each is read with offsets from BTF and
//! compared with our namespace first.

use aya_ebpf::{
    EbpfContext, bindings::bpf_raw_tracepoint_args, helpers::bpf_probe_read_kernel,
    programs::RawTracePointContext,
};
use forwarder_common::counters::{EgressCounters, EgressError};

use crate::maps;

#[inline(always)]
fn argument(ctx: &RawTracePointContext, index: usize) -> u64 {
    let args = ctx.as_ptr() as *const bpf_raw_tracepoint_args;
    // SAFETY: the tracepoints below have at least as many arguments as are read; the verifier bounds the context.
    unsafe { *(*args).args.as_ptr().add(index) }
}

#[inline(always)]
fn read<T>(base: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.ok()
}

/// The ifindex of a `net_device`, if it is in our namespace.
#[inline(always)]
fn our_ifindex(device: u64) -> Option<u32> {
    if device == 0 {
        return None;
    }
    let net: u64 = read(device, maps::OFFSET_NET.load())?;
    let inum: u32 = read(net, maps::OFFSET_INUM.load())?;
    if inum != maps::NETNS.load() {
        return None;
    }
    read(device, maps::OFFSET_IFINDEX.load())
}

#[inline(always)]
fn port_of(ifindex: u32) -> Option<u32> {
    let port = maps::INTERFACES.get(ifindex)?.device_port;
    if port == 0 { None } else { Some(port) }
}

#[inline(always)]
fn counters(port: u32) -> Option<&'static mut EgressCounters> {
    // SAFETY: this CPU's entry; the tracepoints fire in softirq, on the CPU that counted `forwarded`.
    maps::EGRESS_COUNTERS
        .get_ptr_mut(maps::cpu() * maps::PORTS.length() + port)
        .map(|entry| unsafe { &mut *entry })
}

/// `xdp_redirect_err(dev, prog, tgt, err, map_type, map_id, index)`: the frame never reached the egress queue.
#[inline(always)]
pub fn redirect_error(ctx: &RawTracePointContext) -> Option<()> {
    let ingress = our_ifindex(argument(ctx, 0))?;
    port_of(ingress)?;
    if argument(ctx, 5) as u32 != maps::DEVICES_ID.load() {
        return None;
    }
    let port = port_of(argument(ctx, 6) as u32)?;
    let error = EgressError::from_errno(argument(ctx, 3) as i32);
    bump(&mut counters(port)?.redirect_errors, error, 1);
    Some(())
}

/// `xdp_devmap_xmit(from_dev, to_dev, sent, drops, err)`: a batch was given to the egress driver.
#[inline(always)]
pub fn transmit(ctx: &RawTracePointContext) -> Option<()> {
    let ingress = our_ifindex(argument(ctx, 0))?;
    port_of(ingress)?;
    let port = port_of(our_ifindex(argument(ctx, 1))?)?;
    let sent = argument(ctx, 2) as i32;
    let drops = argument(ctx, 3) as i32;
    let entry = counters(port)?;
    if sent > 0 {
        entry.transmitted = entry.transmitted.wrapping_add(sent as u64);
    }
    if drops > 0 {
        let error = EgressError::from_errno(argument(ctx, 4) as i32);
        bump(&mut entry.transmit_errors, error, drops as u64);
    }
    Some(())
}

#[inline(always)]
fn bump(counts: &mut [u64; 6], error: EgressError, by: u64) {
    if let Some(count) = counts.get_mut(error as usize) {
        *count = count.wrapping_add(by);
    }
}
