//! The two ends of `pipeline`: frames into the router, one for each destination of the trace, and out of the world again.

use aya_ebpf::programs::XdpContext;
use forwarder_ebpf::{
    packet::Packet,
    parse::{ETHERNET, IPV4, IPV6},
};

use crate::{
    abi::{self, BENCH_MAC},
    forward, maps,
};

const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// Makes a frame to the next IPv4 destination, with its position in the trace where the ports stand.
#[inline(always)]
pub fn source4(ctx: &XdpContext) -> Option<()> {
    let at = maps::position()?;
    forward::restore4(ctx)?;
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    packet.head::<{ IPV4 + 4 }>()?.set_u32::<IPV4>(at as u32);
    Some(())
}

/// As [`source4`], IPv6.
#[inline(always)]
pub fn source6(ctx: &XdpContext) -> Option<()> {
    let at = maps::position()?;
    forward::restore6(ctx)?;
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    packet.head::<{ IPV6 + 4 }>()?.set_u32::<IPV6>(at as u32);
    Some(())
}

/// Counts a frame, whatever it is.
#[inline(always)]
pub fn count() {
    if let Some(sunk) = maps::SUNK.get_ptr_mut(0) {
        // SAFETY: a map value of two words; the frames of a bench all come by one CPU.
        unsafe { (*sunk)[0] += 1 };
    }
}

/// Counts a frame of the bench's; where asked to, notes what became of it.
#[inline(always)]
pub fn sink(ctx: &XdpContext) -> Option<()> {
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let head = packet.head::<ETHERNET>()?;
    if head.u32::<0>() != u32::from_ne_bytes(BENCH_MAC) {
        return None;
    }
    let sunk = maps::SUNK.get_ptr_mut(0)?;
    // SAFETY: a map value of two words; the frames of a bench all come by one CPU.
    let note = unsafe {
        (*sunk)[0] += 1;
        (*sunk)[1]
    };
    if note == 0 {
        return None;
    }
    let (at, ttl) = if head.u16::<12>() == ETHERTYPE_IPV6 {
        let head = packet.head::<{ IPV6 + 4 }>()?;
        (head.u32::<IPV6>(), head.u8::<21>())
    } else {
        let head = packet.head::<{ IPV4 + 4 }>()?;
        (head.u32::<IPV4>(), head.u8::<22>())
    };
    maps::answer(
        at as usize,
        abi::sunk_answer(head.u16::<4>(), head.u16::<10>(), ttl),
    );
    None
}
