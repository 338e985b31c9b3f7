//! Which member of a bond a packet leaves by (`forwarder_common::lag`).

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use forwarder_common::{
    flow,
    lag::{BY_ADDRESSES, BY_MAC, BY_PORTS, SALT, bucket},
    nexthop::{AGGREGATED, MAC_MASK},
    reason::Reason,
};

use crate::{
    Inlet,
    direct::opaque,
    maps,
    nexthop::Chosen,
    packet::Packet,
    parse::{self, IPV4, IPV6},
};

/// The device that a packet to this next hop leaves by.
///
/// # Errors
/// [`Reason::NoDevice`] where the bond has no member now.
#[inline(always)]
pub fn device(ctx: &XdpContext, chosen: &Chosen, inlet: Inlet) -> Result<u32, Reason> {
    let device = chosen.hop.device as u32;
    if chosen.hop.flags & AGGREGATED == 0 {
        return Ok(device);
    }
    match lag_member(ctx.ctx, chosen.id, inlet.0) {
        0 => Err(Reason::NoDevice),
        member => Ok(member),
    }
}

/// ifindex of the member that takes this packet, 0 where there is none.
///
/// A function of its own to the verifier too: what leaves by no bond keeps no registers of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lag_member(ctx: *mut xdp_md, nexthop: u32, inlet: u32) -> u32 {
    let Some(hop) = maps::NEXTHOPS.get(nexthop) else {
        return 0;
    };
    let Some(lag) = maps::LAGS.get(hop.device as u32) else {
        return 0;
    };
    let policy = lag.policy;
    let index = if policy == 0 {
        0
    } else {
        let mut seed = maps::SETTINGS.get().hash_seed ^ SALT;
        if policy & BY_MAC != 0 {
            seed ^= flow::spread(hop.destination & MAC_MASK);
        }
        let ctx = XdpContext::new(ctx);
        // SAFETY: data and data_end of this packet.
        let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(Inlet(inlet).tags());
        let hash = if policy & BY_ADDRESSES == 0 {
            flow::spread(seed as u64)
        } else {
            hash(&packet, seed, policy & BY_PORTS != 0)
        };
        opaque(bucket(hash) as u64) as usize
    };
    lag.buckets.get(index).map_or(0, |member| *member as u32)
}

/// Hash of a packet's addresses, and with `ports` of its protocol and ports, where all of its fragments show them.
#[inline(always)]
fn hash(packet: &Packet, seed: u32, ports: bool) -> u32 {
    let Some(head) = packet.head::<IPV4>() else {
        return flow::spread(seed as u64);
    };
    if head.u8::<14>() >> 4 == 4 {
        let (source, destination) = (head.u32::<26>(), head.u32::<30>());
        let (protocol, ports) = if ports { parse::flow4(packet, head) } else { (0, 0) };
        return flow::hash(seed, source as u128, destination as u128, protocol, ports);
    }
    let Some(head) = packet.head::<IPV6>() else {
        return flow::spread(seed as u64);
    };
    let both = |high: u64, low: u64| (high as u128) << 64 | low as u128;
    let source = both(head.u64::<22>(), head.u64::<30>());
    let destination = both(head.u64::<38>(), head.u64::<46>());
    let (protocol, ports) = if ports { parse::flow6(packet, head) } else { (0, 0) };
    flow::hash(seed, source, destination, protocol, ports)
}
