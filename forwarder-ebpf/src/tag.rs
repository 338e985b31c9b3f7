//! VLAN tags: which interface a tagged frame came in on, and how a frame gets the tags it leaves with
//! (`forwarder_common::vlan`).

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use forwarder_common::{
    interface::{INACTIVE, Interface},
    nexthop::{INNER_SERVICE, NextHop, OUTER_SERVICE},
    reason::Reason,
    vlan::{CUSTOMER, PRIORITY, SERVICE, TAG, VID, row},
};

use crate::{
    Exit,
    direct::opaque,
    maps,
    packet::Packet,
    parse::{ETHERNET, IPV4, IPV6},
    rewrite,
};

/// Where a frame really came in.
#[derive(Clone, Copy)]
pub struct Opened {
    /// The device, the bond it is a member of, or the VLAN.
    pub interface: &'static Interface,
    /// Octets between the MAC addresses and the EtherType of the packet: 0, 4 or 8.
    pub tags: usize,
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    kind == CUSTOMER.to_be() || kind == SERVICE.to_be()
}

/// Follows the tags of a frame to the interface it came in on.
///
/// # Errors
/// [`Reason::Tagged`] where that is none of ours.
#[inline(always)]
pub fn open(ctx: &XdpContext, frame: &Packet, device: &'static Interface) -> Result<Opened, Exit> {
    let ethernet = frame.head::<ETHERNET>().ok_or(Reason::Truncated)?;
    if !is_tag(ethernet.u16::<12>()) {
        return Ok(Opened {
            interface: device,
            // Zero, of which neither compiler nor verifier knows, or they would follow every packet twice from here.
            tags: device.nobody as usize & 0xc,
        });
    }
    let answer = tag_open(ctx.ctx);
    let (low, tags) = (answer as u32, (answer >> TAGS) as usize & 0xc);
    if tags == 0 {
        return Err(Exit(low as usize));
    }
    let interface = maps::INTERFACES.get(low).filter(|vlan| vlan.port != 0);
    let interface = interface.ok_or(Reason::Tagged)?;
    Ok(Opened { interface, tags })
}

/// Where in the answer of [`tag_open`] the octets of tags stand; below them the ifindex, or without tags the reason why not.
const TAGS: u32 = 32;

/// The interface that a tagged frame came in on.
///
/// A VLAN identifier of 0 says only how urgent a frame is: unless there is such a VLAN the frame is one of the link itself
/// (net/core/dev.c, `__netif_receive_skb_core`).
///
/// A function of its own to the verifier too, as those of [`crate::rules`] are.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tag_open(ctx: *mut xdp_md) -> u64 {
    let ctx = XdpContext::new(ctx);
    match follow(&ctx) {
        Ok((ifindex, tags)) => (tags as u64) << TAGS | ifindex as u64,
        Err(reason) => reason as u64,
    }
}

#[inline(always)]
fn follow(ctx: &XdpContext) -> Result<(u32, u32), Reason> {
    // SAFETY: data and data_end of this packet.
    let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let device = ctx.ingress_ifindex() as u32;
    let outer = frame.head::<{ ETHERNET + 4 }>().ok_or(Reason::Truncated)?;
    let first = step(device, outer.u16::<12>(), outer.u16::<14>())?;
    if !is_tag(outer.u16::<16>()) {
        return Ok((first, TAG));
    }
    let both = frame.head::<{ ETHERNET + 8 }>().ok_or(Reason::Truncated)?;
    Ok((step(first, both.u16::<16>(), both.u16::<18>())?, 2 * TAG))
}

/// From a link to its VLAN; `kind` and `tci` as they stand in the frame.
#[inline(always)]
fn step(link: u32, kind: u16, tci: u16) -> Result<u32, Reason> {
    let known = maps::INTERFACES.get(link).ok_or(Reason::Tagged)?;
    let vid = u16::from_be(tci) & VID;
    let row = row(known.port, kind == SERVICE.to_be());
    let found = match maps::TRUNKS.get(row) {
        Some(trunk) => trunk[opaque(vid as u64) as usize & VID as usize] as u32,
        None => 0,
    };
    if known.flags & INACTIVE != 0 {
        Err(Reason::MemberInactive)
    } else if found != 0 {
        Ok(found)
    } else if vid == 0 {
        Ok(link)
    } else {
        Err(Reason::Tagged)
    }
}

macro_rules! functions {
    ($($name:ident<$head:ident> = $rewrite:path;)+) => {
        $(
            /// Gives a frame the tags and the addresses of a next hop, and takes one off its TTL. Answers 0, or the reason for which
            /// it is as it was.
            ///
            /// A function of its own to the verifier too: what has no tags, here and there, keeps no registers of it.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(ctx: *mut xdp_md, id: u32, tags: u32) -> u32 {
                let Some(hop) = maps::NEXTHOPS.get(id) else {
                    return Reason::Internal as u32;
                };
                let ctx = XdpContext::new(ctx);
                let priorities = priorities(&ctx, tags);
                let Ok(packet) = make_room(&ctx, hop, tags) else {
                    return Reason::NoHeadroom as u32;
                };
                let behind = packet.from(opaque(hop.tags() as u64) as usize & 0xc);
                let Some(head) = behind.head::<$head>() else {
                    return Reason::Internal as u32;
                };
                $rewrite(head);
                // Last: behind it the ends of the packet are not known any more.
                write(&packet, hop, priorities);
                0
            }
        )+
    };
}

functions! {
    retag4<IPV4> = rewrite::ttl4;
    retag6<IPV6> = rewrite::ttl6;
}

/// The priority bits of a frame's outer tag and of its inner one, which are one where there is one.
#[inline(always)]
fn priorities(ctx: &XdpContext, tags: u32) -> (u16, u16) {
    // SAFETY: data and data_end of this packet.
    let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let Some(head) = frame.head::<{ ETHERNET + 8 }>().filter(|_| tags != 0) else {
        return (0, 0);
    };
    let outer = u16::from_be(head.u16::<14>()) & PRIORITY;
    if tags == TAG {
        return (outer, outer);
    }
    (outer, u16::from_be(head.u16::<18>()) & PRIORITY)
}

/// Moves the beginning of the frame to where it is with the next hop's tags.
#[inline(always)]
fn make_room(ctx: &XdpContext, hop: &NextHop, tags: u32) -> Result<Packet, ()> {
    let by = tags as i32 - hop.tags() as i32;
    if by != 0 {
        // SAFETY: the context is the program's own; every packet pointer is taken anew below.
        let refused = unsafe { bpf_xdp_adjust_head(ctx.ctx, by) };
        if refused != 0 {
            return Err(());
        }
    }
    // SAFETY: data and data_end after the head moved.
    Ok(unsafe { Packet::new(ctx.data(), ctx.data_end()) })
}

/// Addresses and tags. The EtherType of the packet stands where it stood.
#[inline(always)]
fn write(packet: &Packet, hop: &NextHop, (outer, inner): (u16, u16)) {
    let kind = |service: u16| {
        if hop.flags & service != 0 {
            SERVICE
        } else {
            CUSTOMER
        }
    };
    let tag =
        |kind: u16, vid: u16, priority: u16| ((kind as u32) << 16 | (vid & VID | priority) as u32).to_be();
    if let Some(head) = packet.head::<ETHERNET>() {
        rewrite::ethernet(head, hop);
    }
    if hop.tags() != 0
        && let Some(head) = packet.head::<{ ETHERNET + 4 }>()
    {
        head.set_u32::<12>(tag(kind(OUTER_SERVICE), hop.outer(), outer));
    }
    if hop.tags() > TAG
        && let Some(head) = packet.head::<{ ETHERNET + 8 }>()
    {
        head.set_u32::<16>(tag(kind(INNER_SERVICE), hop.inner, inner));
    }
}
