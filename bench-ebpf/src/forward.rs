//! The arms of `forward`: a harness that makes the frame what it was when it came in, with the next destination, and calls
//! a candidate; and the candidate that `bpf_fib_lookup` would be used in.

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_redirect, programs::XdpContext};
use forwarder_ebpf::{
    packet::{Head, Packet},
    parse::{ETHERNET, IPV4, IPV6},
    rewrite::decrease_ttl,
};

use crate::{
    abi::{INGRESS_MAC, SENDER_MAC, TTL, UDP},
    maps, params,
};

/// EtherTypes as they are read from the wire.
const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// Makes an IPv4 frame to the next destination of what the last candidate left. The rest of the frame no candidate
/// writes to.
#[inline(always)]
pub fn restore4(ctx: &XdpContext) -> Option<()> {
    let entry = maps::DESTINATIONS4.get(0)?[maps::position()?];
    maps::advance(1);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let head = packet.head::<IPV4>()?;
    arrived(head);
    // TTL, protocol and checksum as one word, which is how they are read.
    head.set_u32::<22>(TTL as u32 | (UDP as u32) << 8 | ((entry >> 32) as u32) << 16);
    head.set_u32::<30>(entry as u32);
    Some(())
}

/// As [`restore4`], but what the trace has is the source; the destination stays.
#[inline(always)]
pub fn spoof4(ctx: &XdpContext) -> Option<()> {
    let entry = maps::DESTINATIONS4.get(0)?[maps::position()?];
    maps::advance(1);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let head = packet.head::<IPV4>()?;
    arrived(head);
    head.set_u32::<22>(TTL as u32 | (UDP as u32) << 8 | ((entry >> 32) as u32) << 16);
    head.set_u32::<26>(entry as u32);
    Some(())
}

/// As [`restore4`], IPv6.
#[inline(always)]
pub fn restore6(ctx: &XdpContext) -> Option<()> {
    let destination = maps::DESTINATIONS6.get(0)?[maps::position()?];
    maps::advance(1);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let head = packet.head::<IPV6>()?;
    arrived(head);
    head.set_u8::<21>(TTL);
    head.set_u64::<38>(destination[0]);
    head.set_u64::<46>(destination[1]);
    Some(())
}

/// The addresses that the frame came in with.
///
/// A load that spans two stores which are still on their way to the cache has to wait for both. No frame from a NIC is in
/// that state; so what candidates read as one word is written as one.
#[inline(always)]
fn arrived<const N: usize>(head: Head<N>) {
    let (to, from) = (INGRESS_MAC, SENDER_MAC);
    head.set_u64::<0>(u64::from_ne_bytes([
        to[0], to[1], to[2], to[3], to[4], to[5], from[0], from[1],
    ]));
    head.set_u32::<8>(u32::from_ne_bytes([from[2], from[3], from[4], from[5]]));
}

/// Destination and source address, in three stores.
#[inline(always)]
fn addresses<const N: usize>(head: Head<N>, to: [u8; 6], from: [u8; 6]) {
    head.set_u32::<0>(u32::from_ne_bytes([to[0], to[1], to[2], to[3]]));
    head.set_u32::<4>(u32::from_ne_bytes([to[4], to[5], from[0], from[1]]));
    head.set_u32::<8>(u32::from_ne_bytes([from[2], from[3], from[4], from[5]]));
}

/// Calls the candidate; comes back only where there is none.
#[inline(always)]
pub fn call(ctx: &XdpContext) {
    // SAFETY: nothing here is left to drop.
    unsafe { maps::CANDIDATE.tail_call(ctx, 0) }
}

/// The minimal forwarder: what samples/bpf/xdp_fwd_kern.c does, without filters or counters. Everything it does not
/// forward passes.
#[inline(always)]
pub fn kernel_fib(ctx: &XdpContext) -> u32 {
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let forwarded = match packet.head::<ETHERNET>().map(|head| head.u16::<12>()) {
        Some(ETHERTYPE_IPV4) => forward4(ctx, &packet),
        Some(ETHERTYPE_IPV6) => forward6(ctx, &packet),
        _ => None,
    };
    forwarded.unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn forward4(ctx: &XdpContext, packet: &Packet) -> Option<u32> {
    let head = packet.head::<IPV4>()?;
    let ttl = head.u8::<22>();
    if head.u8::<14>() != 0x45 || ttl <= 1 {
        return None;
    }
    let length = u16::from_be(head.u16::<16>());
    let mut params = params::ipv4(ctx, head.u32::<26>(), head.u32::<30>(), length);
    if !params::ask(ctx, &mut params) {
        return None;
    }
    head.set_u8::<22>(ttl - 1);
    head.set_u16::<24>(decrease_ttl(head.u16::<24>()));
    addresses(head, params.dmac, params.smac);
    Some(redirect(params.ifindex))
}

#[inline(always)]
fn forward6(ctx: &XdpContext, packet: &Packet) -> Option<u32> {
    let head = packet.head::<IPV6>()?;
    let limit = head.u8::<21>();
    if limit <= 1 {
        return None;
    }
    let length = u16::from_be(head.u16::<18>()) + 40;
    let source = [
        head.u32::<22>(),
        head.u32::<26>(),
        head.u32::<30>(),
        head.u32::<34>(),
    ];
    let destination = [
        head.u32::<38>(),
        head.u32::<42>(),
        head.u32::<46>(),
        head.u32::<50>(),
    ];
    let mut params = params::ipv6(ctx, source, destination, length);
    if !params::ask(ctx, &mut params) {
        return None;
    }
    head.set_u8::<21>(limit - 1);
    addresses(head, params.dmac, params.smac);
    Some(redirect(params.ifindex))
}

#[inline(always)]
fn redirect(ifindex: u32) -> u32 {
    // SAFETY: two numbers.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}
