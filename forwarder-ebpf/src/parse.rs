//! Ethernet and IP headers: is this a packet a router may forward, and what does the rest need to know of it?
//!
//! RFC 1812 5.2.2 (IPv4 validation), RFC 8200 3 (IPv6 header), RFC 4861 (neighbour discovery is never forwarded). What does
//! not pass here is left to the kernel, which counts and answers as it always did.

use forwarder_common::{interface::Interface, nexthop::MAC_MASK, reason::Reason};
use network_types::ip::IpProto;

use crate::packet::{Head, Packet};

/// Octets of an Ethernet header without tag.
pub const ETHERNET: usize = 14;
/// Octets up to the end of an IPv4 header without options.
pub const IPV4: usize = ETHERNET + 20;
/// Octets up to the end of an IPv6 header.
pub const IPV6: usize = ETHERNET + 40;
/// Shortest Ethernet frame without FCS: shorter packets arrive padded to this.
pub const ETHERNET_MIN: usize = 60;

/// EtherTypes, as numbers in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
enum EtherType {
    Ipv4 = 0x0800,
    Arp = 0x0806,
    Vlan = 0x8100,
    Ipv6 = 0x86dd,
    QinQ = 0x88a8,
}

/// An IPv4 packet whose header is sound.
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Frame up to the end of the IP header.
    pub head: Head<IPV4>,
    /// Source, host order.
    pub source: u32,
    /// Destination, host order.
    pub destination: u32,
    /// Length of the packet, octets.
    pub length: u32,
}

/// An IPv6 packet whose header is sound.
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Frame up to the end of the IP header.
    pub head: Head<IPV6>,
    /// Source, octets in wire order.
    pub source: [u8; 16],
    /// Destination, octets in wire order.
    pub destination: [u8; 16],
    /// Length of the packet, header included, octets.
    pub length: u32,
}

/// A packet that got through [`headers`].
#[derive(Clone, Copy)]
pub enum Headers {
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6),
}

/// Reads and validates the headers.
///
/// # Errors
/// The reason for which the packet is none of ours.
#[inline(always)]
pub fn headers(packet: &Packet, interface: &Interface) -> Result<Headers, Reason> {
    let ethernet = packet.head::<ETHERNET>().ok_or(Reason::Truncated)?;
    let ether_type = u16::from_be(ethernet.u16::<12>());
    let v4 = match ether_type {
        t if t == EtherType::Ipv4 as u16 => true,
        t if t == EtherType::Ipv6 as u16 => false,
        t if t == EtherType::Vlan as u16 || t == EtherType::QinQ as u16 => return Err(Reason::Tagged),
        t if t == EtherType::Arp as u16 => return Err(Reason::Arp),
        _ => return Err(Reason::OtherProtocol),
    };
    let destination = ethernet.u64::<0>() & MAC_MASK;
    if destination & 1 != 0 {
        return Err(Reason::LinkMulticast);
    }
    let macs = &interface.macs;
    if destination != macs[0] && destination != macs[1] && destination != macs[2] && destination != macs[3] {
        return Err(Reason::OtherMac);
    }
    if v4 {
        ipv4(packet).map(Headers::V4)
    } else {
        ipv6(packet).map(Headers::V6)
    }
}

/// RFC 1812 5.2.2, in its order.
#[inline(always)]
fn ipv4(packet: &Packet) -> Result<Ipv4, Reason> {
    let head = packet.head::<IPV4>().ok_or(Reason::Truncated)?;
    let version_length = head.u8::<14>();
    if version_length >> 4 != 4 {
        return Err(Reason::BadVersion);
    }
    if version_length & 0x0f < 5 {
        return Err(Reason::BadHeaderLength);
    }
    let length = u16::from_be(head.u16::<16>()) as u32;
    let available = (packet.length() - ETHERNET) as u32;
    if length < (version_length & 0x0f) as u32 * 4 || length > available {
        return Err(Reason::BadTotalLength);
    }
    // The checksum of a header with options covers them; the kernel computes it.
    if version_length != 0x45 {
        return Err(Reason::Options);
    }
    let (source, destination) = (head.u32::<26>(), head.u32::<30>());
    let mut sum = head.u32::<14>() as u64 + head.u32::<18>() as u64 + head.u32::<22>() as u64;
    sum += source as u64 + destination as u64;
    if fold(sum) != 0xffff {
        return Err(Reason::BadChecksum);
    }
    Ok(Ipv4 {
        head,
        source: u32::from_be(source),
        destination: u32::from_be(destination),
        length,
    })
}

/// One's-complement sum of 32-bit words, folded to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

#[inline(always)]
fn ipv6(packet: &Packet) -> Result<Ipv6, Reason> {
    let head = packet.head::<IPV6>().ok_or(Reason::Truncated)?;
    if head.u8::<14>() >> 4 != 6 {
        return Err(Reason::BadVersion);
    }
    let length = u16::from_be(head.u16::<18>()) as u32 + 40;
    let available = (packet.length() - ETHERNET) as u32;
    if length > available {
        return Err(Reason::BadTotalLength);
    }
    if head.u8::<20>() == IpProto::Ipv6Icmp as u8 {
        // Router and neighbour solicitation and advertisement, redirect: types 133 to 137.
        let Some(icmp) = packet.head::<{ IPV6 + 1 }>() else {
            return Err(Reason::Truncated);
        };
        if length > 40 && matches!(icmp.u8::<IPV6>(), 133..=137) {
            return Err(Reason::NeighbourDiscovery);
        }
    }
    let source = octets(head.u64::<22>(), head.u64::<30>());
    let destination = octets(head.u64::<38>(), head.u64::<46>());
    Ok(Ipv6 {
        head,
        source,
        destination,
        length,
    })
}

#[inline(always)]
const fn octets(first: u64, second: u64) -> [u8; 16] {
    (first as u128 | (second as u128) << 64).to_le_bytes()
}

/// Whether the addresses and protocol are ones a router may forward by destination alone.
///
/// # Errors
/// The reason for which the kernel must look at it.
#[inline(always)]
pub fn forwardable4(packet: &Ipv4) -> Result<(), Reason> {
    let (source, destination) = (packet.source, packet.destination);
    if source >> 28 == 0xe || destination >> 28 == 0xe {
        return Err(Reason::Multicast);
    }
    if source >> 16 == 0xa9fe || destination >> 16 == 0xa9fe {
        return Err(Reason::LinkLocal);
    }
    // net/ipv4/route.c ip_route_input_slow: zeronet, loopback, limited broadcast.
    let odd = |address: u32| address >> 24 == 0 || address >> 24 == 127 || address == u32::MAX;
    if odd(source) || odd(destination) {
        return Err(Reason::MartianAddress);
    }
    Ok(())
}

/// As [`forwardable4`]; extension headers are the kernel's business too.
///
/// # Errors
/// The reason for which the kernel must look at it.
#[inline(always)]
pub fn forwardable6(packet: &Ipv6) -> Result<(), Reason> {
    let (source, destination) = (&packet.source, &packet.destination);
    if source[0] == 0xff || destination[0] == 0xff {
        return Err(Reason::Multicast);
    }
    let link_local = |address: &[u8; 16]| address[0] == 0xfe && address[1] & 0xc0 == 0x80;
    if link_local(source) || link_local(destination) {
        return Err(Reason::LinkLocal);
    }
    // ::/96 holds the unspecified and the loopback address.
    let odd = |address: &[u8; 16]| {
        let words = u128::from_be_bytes(*address);
        words >> 1 == 0
    };
    if odd(source) || odd(destination) {
        return Err(Reason::MartianAddress);
    }
    match packet.head.u8::<20>() {
        // Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6, experiments.
        0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 | 253 | 254 => Err(Reason::ExtensionHeader),
        _ => Ok(()),
    }
}

/// Source and destination port as one word for the flow hash; 0 where there are none to see.
#[inline(always)]
pub fn ports<const AT: usize, const END: usize>(packet: &Packet, protocol: u8) -> u32 {
    let with_ports = protocol == IpProto::Tcp as u8
        || protocol == IpProto::Udp as u8
        || protocol == IpProto::Sctp as u8
        || protocol == IpProto::Dccp as u8
        || protocol == IpProto::UdpLite as u8;
    if !with_ports {
        return 0;
    }
    packet.head::<END>().map_or(0, |head| head.u32::<AT>())
}

/// Whether it is a fragment, of which only the first would have ports: all of them must take the same way.
#[inline(always)]
pub fn is_fragment(packet: &Ipv4) -> bool {
    u16::from_be(packet.head.u16::<20>()) & 0x3fff != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn interface() -> Interface {
        let mac = forwarder_common::nexthop::mac_bits([2, 0, 0, 0, 0, 1]);
        Interface {
            port: 1,
            macs: [mac; 4],
            ..Interface::default()
        }
    }

    fn frame4() -> Vec<u8> {
        let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
        let ip = [
            0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 3, 4,
        ];
        frame.extend(ip);
        checksum(&mut frame);
        frame
    }

    fn checksum(frame: &mut [u8]) {
        frame[24..26].fill(0);
        let sum: u64 = frame[14..34]
            .chunks(2)
            .map(|c| u16::from_be_bytes([c[0], c[1]]) as u64)
            .sum();
        let value = !(fold(sum) as u16);
        frame[24..26].copy_from_slice(&value.to_be_bytes());
    }

    fn parse(frame: &mut [u8]) -> Result<Headers, Reason> {
        let start = frame.as_mut_ptr() as usize;
        // SAFETY: the range is the slice.
        headers(&unsafe { Packet::new(start, start + frame.len()) }, &interface())
    }

    #[test]
    fn a_sound_packet_is_read() {
        let Ok(Headers::V4(ip)) = parse(&mut frame4()) else {
            panic!("refused")
        };
        assert_eq!(
            (ip.source, ip.destination, ip.length),
            (0xc000_0201, 0xc633_6402, 24)
        );
        assert_eq!(forwardable4(&ip), Ok(()));
    }

    #[test]
    fn every_truncation_has_a_reason_and_none_reads_beyond_the_end() {
        let whole = frame4();
        for length in 0..whole.len() {
            // A boxed slice of the exact length, so that a read beyond it is a read beyond the allocation.
            let mut short = whole[..length].to_vec().into_boxed_slice();
            let expected = if length < 34 {
                Reason::Truncated
            } else {
                Reason::BadTotalLength
            };
            assert_eq!(parse(&mut short).err(), Some(expected), "length {length}");
        }
    }

    #[test]
    fn each_broken_field_is_named() {
        let with = |change: &dyn Fn(&mut Vec<u8>), fix: bool| {
            let mut frame = frame4();
            change(&mut frame);
            if fix {
                checksum(&mut frame);
            }
            parse(&mut frame).err()
        };
        assert_eq!(with(&|f| f[14] = 0x55, true), Some(Reason::BadVersion));
        assert_eq!(with(&|f| f[14] = 0x44, true), Some(Reason::BadHeaderLength));
        assert_eq!(with(&|f| f[14] = 0x46, true), Some(Reason::Options));
        assert_eq!(with(&|f| f[17] = 19, true), Some(Reason::BadTotalLength));
        assert_eq!(with(&|f| f[24] ^= 1, false), Some(Reason::BadChecksum));
        assert_eq!(with(&|f| f[0] = 0xff, false), Some(Reason::LinkMulticast));
        assert_eq!(with(&|f| f[5] = 7, false), Some(Reason::OtherMac));
        assert_eq!(with(&|f| f[13] = 6, false), Some(Reason::Arp));
        assert_eq!(with(&|f| f[12] = 0x81, false), Some(Reason::Tagged));
        assert_eq!(
            with(&|f| f[12..14].copy_from_slice(&[0x88, 0x09]), false),
            Some(Reason::OtherProtocol)
        );
    }

    #[test]
    fn a_frame_to_the_zero_address_is_not_ours() {
        let mut frame = frame4();
        frame[..6].fill(0);
        assert_eq!(parse(&mut frame).err(), Some(Reason::OtherMac));
    }
}
