//! Ethernet and IP headers: is this a packet a router may forward, and what does the rest need to know of it?
//!
//! RFC 1812 5.2.2 (IPv4 validation), RFC 8200 3 (IPv6 header), RFC 4861 (neighbour discovery is never forwarded). What does
//! not pass here is left to the kernel, which counts and answers as it always did.

use forwarder_common::{
    interface::{INACTIVE, Interface},
    nexthop::MAC_MASK,
    reason::Reason,
};
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

impl EtherType {
    /// As it stands in a frame.
    const fn wire(self) -> u16 {
        (self as u16).to_be()
    }
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

/// The version of IP in a frame that is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a frame carries, if it was sent to us. `packet` is the frame behind its tags: as if those were the first octets of its
/// addresses.
///
/// # Errors
/// The reason for which the packet is none of ours.
#[inline(always)]
pub fn network(frame: &Packet, packet: &Packet, interface: &Interface) -> Result<Network, Reason> {
    let ethernet = frame.head::<ETHERNET>().ok_or(Reason::Truncated)?;
    let network = match packet.head::<ETHERNET>().ok_or(Reason::Truncated)?.u16::<12>() {
        t if t == EtherType::Ipv4.wire() => Network::V4,
        t if t == EtherType::Ipv6.wire() => Network::V6,
        t if t == EtherType::Vlan.wire() || t == EtherType::QinQ.wire() => return Err(Reason::Tagged),
        t if t == EtherType::Arp.wire() => return Err(Reason::Arp),
        _ => return Err(Reason::OtherProtocol),
    };
    let destination = ethernet.u64::<0>() & MAC_MASK;
    let macs = &interface.macs;
    // The first is the interface's own, which nearly every frame is for; none of them is a multicast address.
    if destination == macs[0] {
        return Ok(network);
    }
    if destination & 1 != 0 {
        return Err(Reason::LinkMulticast);
    }
    if destination != macs[1] && destination != macs[2] && destination != macs[3] {
        // Which no frame is for, so that this is asked of no other.
        if interface.flags & INACTIVE != 0 {
            return Err(Reason::MemberInactive);
        }
        return Err(Reason::OtherMac);
    }
    Ok(network)
}

/// Reads and validates the header: RFC 1812 5.2.2, in its order. One with options is let through here, because filters are
/// for it too; [`forwardable4`] leaves it to the kernel. `frame` is the length of the frame, without tags, in all of its buffers.
///
/// # Errors
/// What is wrong with it.
#[inline(always)]
pub fn ipv4(packet: &Packet, frame: usize) -> Result<Ipv4, Reason> {
    let head = packet.head::<IPV4>().ok_or(Reason::Truncated)?;
    let version_length = head.u8::<14>();
    let length = u16::from_be(head.u16::<16>()) as u32;
    let available = (frame - ETHERNET) as u32;
    let (source, destination) = (head.u32::<26>(), head.u32::<30>());
    let ip = Ipv4 {
        head,
        source: u32::from_be(source),
        destination: u32::from_be(destination),
        length,
    };
    if version_length != PLAIN4 {
        return match unusual4(version_length, length, available) {
            // The checksum of a header with options covers them; the kernel computes it.
            Reason::Options => Ok(ip),
            reason => Err(reason),
        };
    }
    // 20 to `available`, which is no less than 20, in one comparison.
    if length.wrapping_sub(20) > available - 20 {
        return Err(Reason::BadTotalLength);
    }
    let mut sum = head.u32::<14>() as u64 + head.u32::<18>() as u64 + head.u32::<22>() as u64;
    sum += source as u64 + destination as u64;
    if !sums_to_ones(sum) {
        return Err(Reason::BadChecksum);
    }
    Ok(ip)
}

/// Why an IPv4 header that is not 20 octets long is none of ours.
#[inline(always)]
fn unusual4(version_length: u8, length: u32, available: u32) -> Reason {
    let header = (version_length & 0x0f) as u32 * 4;
    if version_length >> 4 != 4 {
        Reason::BadVersion
    } else if header < 20 {
        Reason::BadHeaderLength
    } else if length < header || length > available {
        Reason::BadTotalLength
    } else {
        Reason::Options
    }
}

/// Whether the one's-complement sum of words, of which one is not zero, is all ones in 16 bits: whether `sum` is a multiple
/// of 0xffff. It is one exactly if its product with the inverse of 0xffff modulo 2^64 is the quotient, and so no larger than
/// the largest quotient there is.
#[inline(always)]
pub const fn sums_to_ones(sum: u64) -> bool {
    const INVERSE: u64 = 0x0001_0001_0001_0001u64.wrapping_neg();
    const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// One's-complement sum of 32-bit words, folded to 16 bits.
#[cfg(test)]
pub const fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// Reads and validates the header (RFC 8200 3). `frame` as for [`ipv4`].
///
/// # Errors
/// What is wrong with it.
#[inline(always)]
pub fn ipv6(packet: &Packet, frame: usize) -> Result<Ipv6, Reason> {
    let head = packet.head::<IPV6>().ok_or(Reason::Truncated)?;
    if head.u8::<14>() >> 4 != 6 {
        return Err(Reason::BadVersion);
    }
    let length = u16::from_be(head.u16::<18>()) as u32 + 40;
    let available = (frame - ETHERNET) as u32;
    if length > available {
        return Err(Reason::BadTotalLength);
    }
    // Sent on the link: no router has touched it (RFC 4861 7.1), and no filter may.
    if head.u8::<21>() == 255 {
        neighbour_discovery(packet, head.u8::<20>(), length)?;
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

/// Router and neighbour solicitation and advertisement, redirect: types 133 to 137.
#[inline(always)]
fn neighbour_discovery(packet: &Packet, protocol: u8, length: u32) -> Result<(), Reason> {
    if protocol != IpProto::Ipv6Icmp as u8 {
        return Ok(());
    }
    let Some(icmp) = packet.head::<{ IPV6 + 1 }>() else {
        return Err(Reason::Truncated);
    };
    if length > 40 && matches!(icmp.u8::<IPV6>(), 133..=137) {
        return Err(Reason::NeighbourDiscovery);
    }
    Ok(())
}

#[inline(always)]
const fn octets(first: u64, second: u64) -> [u8; 16] {
    (first as u128 | (second as u128) << 64).to_le_bytes()
}

/// The /6s with addresses in them that [`forwardable4`] refuses: those of 0/8, 127/8, 169.254/16 and all from 224/4 up.
const ODD4: u64 = 1 | 1 << (127 >> 2) | 1 << (169 >> 2) | 0xff << (224 >> 2);

/// First octet of an IPv4 header without options.
const PLAIN4: u8 = 0x45;

/// Whether there are no options, and the addresses are ones a router may forward by destination alone.
///
/// # Errors
/// The reason for which the kernel must look at it.
#[inline(always)]
pub fn forwardable4(packet: &Ipv4) -> Result<(), Reason> {
    let (source, destination) = (packet.source, packet.destination);
    if packet.head.u8::<14>() != PLAIN4 {
        return Err(Reason::Options);
    }
    if (ODD4 >> (source >> 26) | ODD4 >> (destination >> 26)) & 1 == 0 {
        return Ok(());
    }
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
pub fn forwardable6(packet: &Packet, ip: &Ipv6) -> Result<(), Reason> {
    let (source, destination) = (&ip.source, &ip.destination);
    neighbour_discovery(packet, ip.head.u8::<20>(), ip.length)?;
    // Nothing in 2000::/3 is refused for its address.
    if source[0] >> 5 == 1 && destination[0] >> 5 == 1 {
        return extension6(ip);
    }
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
    extension6(ip)
}

#[inline(always)]
fn extension6(packet: &Ipv6) -> Result<(), Reason> {
    match packet.head.u8::<20>() {
        // Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, shim6, experiments.
        0 | 43 | 44 | 51 | 60 | 135 | 139 | 140 | 253 | 254 => Err(Reason::ExtensionHeader),
        _ => Ok(()),
    }
}

/// Source and destination port as one word for the flow hash; 0 where there are none to see.
#[inline(always)]
fn ports<const AT: usize, const END: usize>(packet: &Packet, protocol: u8) -> u32 {
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

/// Protocol and ports of an IPv4 packet, for the flow hash. Of fragments only the first would have ports: all of them must take
/// the same way.
#[inline(always)]
pub fn flow4(packet: &Packet, head: Head<IPV4>) -> (u8, u32) {
    let protocol = head.u8::<23>();
    let is_fragment = u16::from_be(head.u16::<20>()) & 0x3fff != 0;
    let ports = if is_fragment {
        0
    } else {
        ports::<IPV4, { IPV4 + 4 }>(packet, protocol)
    };
    (protocol, ports)
}

/// Protocol and ports of an IPv6 packet, for the flow hash. What has no ports, such as a tunnel, tells its flows apart by their
/// label (RFC 6437, RFC 6438). What has some is not asked for it: Linux gives a TCP flow another label when it believes its path to
/// be dead, and a flow that changes its way may meet another server there.
#[inline(always)]
pub fn flow6(packet: &Packet, head: Head<IPV6>) -> (u8, u32) {
    let protocol = head.u8::<20>();
    match ports::<IPV6, { IPV6 + 4 }>(packet, protocol) {
        0 => (protocol, u32::from_be(head.u32::<14>()) & 0x000f_ffff),
        ports => (protocol, ports),
    }
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

    fn parse(frame: &mut [u8]) -> Result<Ipv4, Reason> {
        let start = frame.as_mut_ptr() as usize;
        // SAFETY: the range is the slice.
        let packet = unsafe { Packet::new(start, start + frame.len()) };
        assert_eq!(network(&packet, &packet, &interface())?, Network::V4);
        ipv4(&packet, frame.len())
    }

    #[test]
    fn a_sound_packet_is_read() {
        // Kept: what is read of it later points there.
        let mut frame = frame4();
        let Ok(ip) = parse(&mut frame) else {
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
            // Options are nothing wrong in a header; they are the kernel's business.
            parse(&mut frame).and_then(|ip| forwardable4(&ip)).err()
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
    fn a_sum_is_right_exactly_when_it_folds_to_ones() {
        for base in [0x45u64, 0xffff, 0x1_0000, 0xffff_fffe, 0x4_ffff_fffa] {
            for sum in base..base + 0x3_0000 {
                assert_eq!(sums_to_ones(sum), fold(sum) == 0xffff, "{sum:#x}");
            }
        }
    }

    #[test]
    fn what_the_short_way_lets_through_the_long_way_does_too() {
        for address in (0..=u32::MAX).step_by(0xffff) {
            let refused = address >> 28 == 0xe
                || address >> 16 == 0xa9fe
                || address >> 24 == 0
                || address >> 24 == 127
                || address == u32::MAX;
            assert!(!refused || ODD4 >> (address >> 26) & 1 == 1, "{address:#x}");
        }
    }

    #[test]
    fn a_frame_to_the_zero_address_is_not_ours() {
        let mut frame = frame4();
        frame[..6].fill(0);
        assert_eq!(parse(&mut frame).err(), Some(Reason::OtherMac));
    }
}
