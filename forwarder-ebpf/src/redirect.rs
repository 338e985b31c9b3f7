//! Asking for the redirect, before anything is written, and cutting Ethernet padding.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_redirect_map, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use forwarder_common::{
    nexthop::{EXACT_LENGTH, NextHop, SEVERAL_BUFFERS},
    reason::Reason,
};

use crate::{maps, parse::ETHERNET_MIN};

/// Octets behind the packet that must go before the frame is sent on.
///
/// Ethernet pads short frames to 60 octets. The kernel cuts that off, and a physical NIC pads again; so do we where the
/// egress carries frames as they are (`EXACT_LENGTH`), and leave it where the wire would bring it back.
///
/// # Errors
/// [`Reason::TrailingBytes`] where it is neither.
#[inline(always)]
pub fn padding(frame: usize, wanted: usize, hop: &NextHop) -> Result<usize, Reason> {
    if frame == wanted {
        Ok(0)
    } else if hop.flags & EXACT_LENGTH != 0 || wanted >= ETHERNET_MIN {
        Ok(frame - wanted)
    } else if frame <= ETHERNET_MIN {
        Ok(0)
    } else {
        Err(Reason::TrailingBytes)
    }
}

/// Whether a frame in several buffers may go there. What is behind the packet is not cut off: nobody pads a frame of that length.
///
/// # Errors
/// [`Reason::TrailingBytes`], or [`Reason::MultiBuffer`] where the kernel or the driver would drop it (`__xdp_enqueue`, kernel/bpf/devmap.c).
#[inline(always)]
pub fn several(frame: usize, wanted: usize, hop: &NextHop) -> Result<(), Reason> {
    if frame != wanted {
        Err(Reason::TrailingBytes)
    } else if hop.flags & SEVERAL_BUFFERS == 0 {
        Err(Reason::MultiBuffer)
    } else {
        Ok(())
    }
}

/// Asks the redirect map for the egress device of this ifindex.
///
/// # Errors
/// [`Reason::NoDevice`] where it has none.
#[inline(always)]
pub fn ask(device: u32) -> Result<(), Reason> {
    let devices = (&raw const maps::DEVICES).cast_mut().cast();
    // SAFETY: the map, and a key that the helper compares with its length.
    let said = unsafe { bpf_redirect_map(devices, device.into(), xdp_action::XDP_PASS.into()) };
    if said == xdp_action::XDP_REDIRECT.into() {
        Ok(())
    } else {
        Err(Reason::NoDevice)
    }
}

/// Cuts `octets` off the end.
///
/// # Errors
/// [`Reason::TrailingBytes`] where the driver refuses; the packet is as it was.
#[inline(always)]
pub fn cut(ctx: &XdpContext, octets: usize) -> Result<(), Reason> {
    // SAFETY: the context is the program's own; every packet pointer is taken anew afterwards.
    let refused = unsafe { bpf_xdp_adjust_tail(ctx.ctx, -(octets as i32)) };
    if refused == 0 {
        Ok(())
    } else {
        Err(Reason::TrailingBytes)
    }
}
