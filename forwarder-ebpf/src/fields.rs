//! What filter rules ask of a packet: addresses, and numbers of its headers ([`Key`]).
//!
//! The header is sound when this is asked ([`crate::parse`]), but may have options or extension headers, and what follows may
//! be a fragment or cut short. What a packet does not show is never equal to anything (RFC 8955 4.2.2): a port exists in
//! the first fragment of TCP and UDP, ICMP's type and code likewise, and TCP's flags where their octets are there.

use forwarder_common::rules::{Key, NO_FLAGS, NO_ICMP, NO_PORT, NO_PROTOCOL};
use network_types::ip::IpProto;

use crate::{
    packet::{Head, Packet},
    parse::{ETHERNET, IPV4, IPV6},
};

/// IPv6 extension headers that are walked over, in a packet; behind them the protocol cannot be found.
const HEADERS: usize = 6;
/// Octets of a frame in which the protocol is looked for: what the verifier lets a program add to a packet's start.
const REACH: usize = 0x3fff;

/// Bits of an offset, of which both versions have as many.
const OFFSET: u32 = 0x1fff;

/// Fragment bits (RFC 8955 4.2.2.12): 1 where it must not be one, 2 where it is one and not the first, 4 where it is the
/// first, 8 where it is the last. `dont` and `more` are 0 or 1. Without branches, or the verifier goes eight ways from here.
#[inline(always)]
fn fragment(dont: u32, offset: u32, more: u32) -> u32 {
    let later = (offset + OFFSET) / (OFFSET + 1);
    dont | later << 1 | (more & !later) << 2 | (later & !more) << 3
}

/// The fields of an IPv4 packet.
#[inline(always)]
pub fn ipv4(packet: &Packet, head: Head<IPV4>, interface: u32) -> Key {
    let header = (head.u8::<14>() & 0x0f) as usize * 4;
    let length = u16::from_be(head.u16::<16>()) as usize;
    let place = u16::from_be(head.u16::<20>()) as u32;
    let offset = place & OFFSET;
    let protocol = head.u8::<23>();
    let mut key = Key {
        protocol: protocol as u32,
        length: length as u32,
        dscp: head.u8::<15>() as u32 >> 2,
        fragment: fragment(place >> 14 & 1, offset, place >> 13 & 1),
        interface,
        ..nothing()
    };
    if offset == 0 && length > header {
        let icmp = protocol == IpProto::Icmp as u8;
        transport(
            packet,
            ETHERNET + header,
            length - header,
            protocol,
            icmp,
            &mut key,
        );
    }
    key
}

/// How far the search for an IPv6 packet's protocol has come, in a word.
#[derive(Clone, Copy)]
pub struct Walk(pub u64);

/// Where in a [`Walk`] stands: the number of the next header, in 8 bits;
const NEXT: u32 = 0;
/// its place in the frame, in as many as [`REACH`] has;
const AT: u32 = 8;
/// the fragment bits, in 4;
const FRAGMENT: u32 = 24;
/// whether this is a later fragment;
const LATER: u64 = 1 << 32;
/// whether that place is beyond [`REACH`]: a bit, and no comparison where the place is used, because the verifier of Linux 6.1
/// does not see that both are about one number;
const FAR: u64 = 1 << 35;
/// whether what is next is no extension header;
const FOUND: u64 = 1 << 33;
/// whether what is next cannot be found.
const LOST: u64 = 1 << 34;

impl Walk {
    #[inline(always)]
    fn start(next: u8) -> Walk {
        Walk((next as u64) << NEXT | (IPV6 as u64) << AT)
    }

    #[inline(always)]
    fn next(self) -> u8 {
        (self.0 >> NEXT) as u8
    }

    #[inline(always)]
    fn at(self) -> usize {
        (self.0 >> AT) as usize & REACH
    }

    #[inline(always)]
    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// Where an IPv6 packet ends in its frame.
#[inline(always)]
fn end6(head: Head<IPV6>) -> usize {
    IPV6 + u16::from_be(head.u16::<18>()) as usize
}

/// Of those that may be walked over (net/ipv6/exthdrs_core.c, ipv6_ext_hdr).
#[inline(always)]
fn is_extension(header: u8) -> bool {
    matches!(header, 0 | 43 | 44 | 51 | 60)
}

/// A step of the search: over one extension header, where the next one is such.
#[inline(always)]
pub fn step(packet: &Packet, walk: Walk) -> Walk {
    let lost = Walk(walk.0 | LOST);
    let (next, at) = (walk.next(), walk.at());
    if !is_extension(next) {
        return Walk(walk.0 | FOUND);
    }
    let Some(head) = packet.head::<IPV6>() else {
        return lost;
    };
    let end = end6(head);
    // Of a later fragment's headers only the first one's number is known.
    if walk.has(LATER | FAR) || at + 4 > end {
        return lost;
    }
    let Some(header) = packet.from(at).head::<4>() else {
        return lost;
    };
    let mut walked = walk.0 & 0xf << FRAGMENT;
    if next == 44 {
        let place = u16::from_be(header.u16::<2>()) as u32;
        let offset = place >> 3;
        walked = (fragment(0, offset, place & 1) as u64) << FRAGMENT;
        if offset != 0 {
            walked |= LATER;
        }
    }
    let at = at + octets(next, header.u8::<1>());
    if at > end {
        walked |= LOST;
    }
    if at > REACH {
        walked |= FAR;
    }
    Walk(walked | (header.u8::<0>() as u64) << NEXT | ((at & REACH) as u64) << AT)
}

/// The fields of an IPv6 packet. `step` is [`step`], called as it suits the verifier.
#[inline(always)]
pub fn ipv6(packet: &Packet, head: Head<IPV6>, interface: u32, step: impl Fn(Walk) -> Walk) -> Key {
    let first = u32::from_be(head.u32::<14>());
    let end = end6(head);
    let mut walk = Walk::start(head.u8::<20>());
    for _ in 0..HEADERS {
        if walk.has(FOUND | LOST) {
            break;
        }
        walk = step(walk);
    }
    let mut key = Key {
        length: (end - ETHERNET) as u32,
        dscp: first >> 22 & 63,
        label: first & 0xf_ffff,
        fragment: (walk.0 >> FRAGMENT) as u32 & 0xf,
        interface,
        ..nothing()
    };
    let (protocol, at) = (walk.next(), walk.at());
    if walk.has(LOST) || is_extension(protocol) {
        return key;
    }
    key.protocol = protocol as u32;
    if !walk.has(LATER | FAR) && at < end {
        let icmp = protocol == IpProto::Ipv6Icmp as u8;
        transport(packet, at, end - at, protocol, icmp, &mut key);
    }
    key
}

#[inline(always)]
fn nothing() -> Key {
    Key {
        protocol: NO_PROTOCOL,
        source_port: NO_PORT,
        destination_port: NO_PORT,
        icmp_type: NO_ICMP,
        icmp_code: NO_ICMP,
        tcp_flags: NO_FLAGS,
        ..Key::default()
    }
}

/// What stands `at` that place, of which `length` octets belong to the packet.
#[inline(always)]
fn transport(packet: &Packet, at: usize, length: usize, protocol: u8, icmp: bool, key: &mut Key) {
    let packet = packet.from(at);
    let tcp = protocol == IpProto::Tcp as u8;
    if (tcp || protocol == IpProto::Udp as u8)
        && length >= 4
        && let Some(head) = packet.head::<4>()
    {
        key.source_port = u16::from_be(head.u16::<0>()) as u32;
        key.destination_port = u16::from_be(head.u16::<2>()) as u32;
    }
    if tcp
        && length >= 14
        && let Some(head) = packet.head::<14>()
    {
        key.tcp_flags = (head.u8::<12>() as u32 & 0x0f) << 8 | head.u8::<13>() as u32;
    }
    if icmp
        && length >= 2
        && let Some(head) = packet.head::<2>()
    {
        key.icmp_type = head.u8::<0>() as u32;
        key.icmp_code = head.u8::<1>() as u32;
    }
}

/// Octets of an extension header by its number and its length field: in units of eight beyond the first, or of four
/// beyond the second in an authentication header; a fragment header has no such field. One expression, because each branch
/// would be gone through anew for every header before it.
#[inline(always)]
fn octets(header: u8, length: u8) -> usize {
    let is = |number: u8| ((header ^ number) as usize).wrapping_sub(1) >> (usize::BITS - 1);
    let (fragment, authentication) = (is(44), is(51));
    let units = length as usize & fragment.wrapping_sub(1);
    8 + (units << (3 - authentication))
}
