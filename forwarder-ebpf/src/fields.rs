//! What filter rules ask of a packet: addresses, and numbers of its headers ([`Key`]).
//!
//! The header is sound when this is asked ([`crate::parse`]), but may have options or extension headers, and what follows may
//! be a fragment or cut short. What a packet does not show is never equal to anything (RFC 8955 4.2.2): a port exists in
//! the first fragment of TCP and UDP, ICMP's type and code likewise, and TCP's flags where their octets are there.

use forwarder_common::rules::{Key, NO_FLAGS, NO_ICMP, NO_PORT, NO_PROTOCOL};
use network_types::ip::IpProto;

use crate::{
    packet::Packet,
    parse::{ETHERNET, IPV4, IPV6},
};

/// IPv6 extension headers that are walked over, in a packet; behind them the protocol cannot be found.
const HEADERS: usize = 6;
/// Octets of a frame in which the protocol is looked for: what the verifier lets a program add to a packet's start.
const REACH: usize = 0x3fff;

const DF: u32 = 1;
const IS: u32 = 2;
const FIRST: u32 = 4;
const LAST: u32 = 8;

/// Fragment bits (RFC 8955 4.2.2.12).
#[inline(always)]
fn fragment(dont: bool, offset: u16, more: bool) -> u32 {
    let place = match (offset != 0, more) {
        (true, true) => IS,
        (true, false) => IS | LAST,
        (false, true) => FIRST,
        (false, false) => 0,
    };
    place | if dont { DF } else { 0 }
}

/// The fields of an IPv4 packet.
#[inline(always)]
pub fn ipv4(packet: &Packet, interface: u32) -> Option<Key> {
    let head = packet.head::<IPV4>()?;
    let header = (head.u8::<14>() & 0x0f) as usize * 4;
    let length = u16::from_be(head.u16::<16>()) as usize;
    let place = u16::from_be(head.u16::<20>());
    let offset = place & 0x1fff;
    let protocol = head.u8::<23>();
    let mut key = Key {
        protocol: protocol as u32,
        length: length as u32,
        dscp: head.u8::<15>() as u32 >> 2,
        fragment: fragment(place & 0x4000 != 0, offset, place & 0x2000 != 0),
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
    Some(key)
}

/// The fields of an IPv6 packet.
#[inline(always)]
pub fn ipv6(packet: &Packet, interface: u32) -> Option<Key> {
    let head = packet.head::<IPV6>()?;
    let first = u32::from_be(head.u32::<14>());
    let length = u16::from_be(head.u16::<18>()) as usize + (IPV6 - ETHERNET);
    let mut key = Key {
        length: length as u32,
        dscp: first >> 22 & 63,
        label: first & 0xf_ffff,
        interface,
        ..nothing()
    };
    let end = ETHERNET + length;
    let mut next = head.u8::<20>();
    let mut at = IPV6;
    let mut later = false;
    for _ in 0..HEADERS {
        // net/ipv6/exthdrs_core.c, ipv6_ext_hdr.
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        // Of a later fragment's headers only the first one's number is known.
        if later || at > REACH || at + 4 > end {
            return Some(key);
        }
        let Some(header) = packet.from(at).head::<4>() else {
            return Some(key);
        };
        if next == 44 {
            let place = u16::from_be(header.u16::<2>());
            key.fragment = fragment(false, place >> 3, place & 1 != 0);
            later = place >> 3 != 0;
        }
        at += octets(next, header.u8::<1>());
        next = header.u8::<0>();
        if at > end {
            return Some(key);
        }
    }
    if matches!(next, 0 | 43 | 44 | 51 | 60) {
        return Some(key);
    }
    key.protocol = next as u32;
    if !later && at < end && at <= REACH {
        let icmp = next == IpProto::Ipv6Icmp as u8;
        transport(packet, at, end - at, next, icmp, &mut key);
    }
    Some(key)
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
