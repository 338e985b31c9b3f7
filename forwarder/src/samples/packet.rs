//! What the first octets of a frame say: as much as is there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// 802.1Q and 802.1ad.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// IPv6 extension headers that are looked behind, at most.
const EXTENSIONS: usize = 8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// An Ethernet frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Destination MAC.
    pub destination_mac: [u8; 6],
    /// Source MAC.
    pub source_mac: [u8; 6],
    /// VLAN of the outer tag; 0: none.
    pub vlan: u16,
    /// EtherType behind the tags.
    pub ether_type: u16,
    /// The IP packet in it; `None` for anything else, and where its header is not whole.
    pub ip: Option<Ip>,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Octets with its header, as it says itself.
    pub length: u32,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol behind all extension headers that are there.
    pub protocol: u8,
    /// Ports of TCP, UDP and SCTP; 0 elsewhere and in later fragments.
    pub ports: (u16, u16),
    /// Flags of TCP; 0 elsewhere.
    pub tcp_flags: u8,
    /// Type and code of ICMP, as one number; 0 elsewhere.
    pub icmp: u16,
}

impl Packet {
    /// Reads a frame's first octets. What is not there stays 0.
    #[must_use]
    pub fn read(frame: &[u8]) -> Packet {
        Packet::whole(frame).unwrap_or_default()
    }

    fn whole(frame: &[u8]) -> Option<Packet> {
        let mut packet = Packet {
            destination_mac: array(frame, 0)?,
            source_mac: array(frame, 6)?,
            vlan: 0,
            ether_type: u16_at(frame, 12)?,
            ip: None,
        };
        let mut at = 14;
        while TAGS.contains(&packet.ether_type) {
            let (Some(tag), Some(behind)) = (u16_at(frame, at), u16_at(frame, at + 2)) else {
                return Some(packet);
            };
            if at == 14 {
                packet.vlan = tag & 0xfff;
            }
            packet.ether_type = behind;
            at += 4;
        }
        let inner = frame.get(at..).unwrap_or_default();
        packet.ip = match packet.ether_type {
            IPV4 => ipv4(inner),
            IPV6 => ipv6(inner),
            _ => None,
        };
        Some(packet)
    }
}

fn ipv4(octets: &[u8]) -> Option<Ip> {
    let first = *octets.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let ip = Ip {
        source: IpAddr::V4(Ipv4Addr::from(array::<4>(octets, 12)?)),
        destination: IpAddr::V4(Ipv4Addr::from(array::<4>(octets, 16)?)),
        length: u16_at(octets, 2)?.into(),
        tos: *octets.get(1)?,
        ttl: *octets.get(8)?,
        protocol: *octets.get(9)?,
        ports: (0, 0),
        tcp_flags: 0,
        icmp: 0,
    };
    let first_fragment = u16_at(octets, 6)? & 0x1fff == 0;
    Some(if first_fragment {
        transport(ip, octets.get(header..).unwrap_or_default())
    } else {
        ip
    })
}

fn ipv6(octets: &[u8]) -> Option<Ip> {
    if octets.first()? >> 4 != 6 {
        return None;
    }
    let mut ip = Ip {
        source: IpAddr::V6(Ipv6Addr::from(array::<16>(octets, 8)?)),
        destination: IpAddr::V6(Ipv6Addr::from(array::<16>(octets, 24)?)),
        length: u32::from(u16_at(octets, 4)?) + 40,
        tos: (u16_at(octets, 0)? >> 4) as u8,
        ttl: *octets.get(7)?,
        protocol: *octets.get(6)?,
        ports: (0, 0),
        tcp_flags: 0,
        icmp: 0,
    };
    let mut at = 40;
    for _ in 0..EXTENSIONS {
        let Some(next) = octets.get(at).copied() else {
            return Some(ip);
        };
        let length = |units: usize| {
            octets
                .get(at + 1)
                .map(|length| (usize::from(*length) + units) * 4)
        };
        let behind = match ip.protocol {
            // Hop-by-hop, routing, destination: in units of eight octets, the first not counted.
            0 | 43 | 60 => octets.get(at + 1).map(|length| (usize::from(*length) + 1) * 8),
            // A later fragment has no more headers.
            44 if u16_at(octets, at + 2).is_none_or(|word| word & 0xfff8 != 0) => {
                ip.protocol = next;
                return Some(ip);
            }
            44 => Some(8),
            // Authentication: in units of four, two not counted.
            51 => length(2),
            _ => return Some(transport(ip, octets.get(at..).unwrap_or_default())),
        };
        let Some(behind) = behind else { return Some(ip) };
        ip.protocol = next;
        at += behind;
    }
    Some(ip)
}

fn transport(mut ip: Ip, octets: &[u8]) -> Ip {
    match ip.protocol {
        TCP | UDP | SCTP => {
            if let (Some(source), Some(destination)) = (u16_at(octets, 0), u16_at(octets, 2)) {
                ip.ports = (source, destination);
            }
            if ip.protocol == TCP {
                ip.tcp_flags = octets.get(13).copied().unwrap_or(0);
            }
        }
        ICMP | ICMPV6 => ip.icmp = u16_at(octets, 0).unwrap_or(0),
        _ => {}
    }
    ip
}

fn array<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..at + N)?.try_into().ok()
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    array(octets, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn frame(parts: &[&[u8]]) -> Vec<u8> {
        [&MACS[..], &parts.concat()].concat()
    }

    const HEAD4: [u8; 20] = [
        0x45, 0xb8, 0, 60, 0, 0, 0x40, 0, 63, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2,
    ];
    const TCP_HEAD: [u8; 14] = [0x01, 0xbb, 0xc0, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12];

    #[test]
    fn tcp_over_ipv4_behind_two_tags() {
        let read = Packet::read(&frame(&[
            &[0x88, 0xa8, 0x20, 0x64, 0x81, 0, 0, 7, 8, 0],
            &HEAD4,
            &TCP_HEAD,
        ]));
        assert_eq!((read.vlan, read.ether_type), (100, 0x0800));
        assert_eq!((read.destination_mac[5], read.source_mac[5]), (1, 2));
        let ip = read.ip.expect("an IP packet");
        assert_eq!(ip.source.to_string(), "192.0.2.1");
        assert_eq!(ip.destination.to_string(), "198.51.100.2");
        assert_eq!((ip.length, ip.tos, ip.ttl, ip.protocol), (60, 0xb8, 63, 6));
        assert_eq!((ip.ports, ip.tcp_flags), ((443, 0xc001), 0x12));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut head = HEAD4;
        head[6] = 0x20;
        let first = Packet::read(&frame(&[&[8, 0], &head, &TCP_HEAD]));
        assert_eq!(first.ip.expect("ip").ports, (443, 0xc001));
        head[7] = 1;
        let later = Packet::read(&frame(&[&[8, 0], &head, &TCP_HEAD]));
        assert_eq!(later.ip.expect("ip").ports, (0, 0));
    }

    #[test]
    fn icmp_behind_ipv6_extension_headers() {
        let mut head = vec![0x6a, 0xb0, 0, 0, 0, 24, 0, 64];
        head.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        head.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let hop_by_hop = [44, 0, 0, 0, 0, 0, 0, 0];
        let fragment = [58, 0, 0, 1, 0, 0, 0, 0];
        let read = Packet::read(&frame(&[&[0x86, 0xdd], &head, &hop_by_hop, &fragment, &[128, 3]]));
        let ip = read.ip.expect("ip");
        assert_eq!((ip.protocol, ip.icmp, ip.tos, ip.length), (58, 0x8003, 0xab, 64));
        let later = [58, 0, 0, 8, 0, 0, 0, 0];
        let read = Packet::read(&frame(&[&[0x86, 0xdd], &head, &hop_by_hop, &later, &[128, 3]]));
        let ip = read.ip.expect("ip");
        assert_eq!((ip.protocol, ip.icmp), (58, 0));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_read_as_far_as_it_goes() {
        let whole = frame(&[&[0x81, 0, 0, 5, 8, 0], &HEAD4, &TCP_HEAD]);
        for length in 0..whole.len() {
            let read = Packet::read(&whole[..length]);
            assert_eq!(read.ip.is_some(), length >= 18 + 20, "{length} octets");
        }
        let mut six = frame(&[&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 0, 64]]);
        six.extend([0; 32]);
        six.extend([0, 255, 0, 0]);
        for length in 0..six.len() {
            assert_eq!(Packet::read(&six[..length]).ip.is_some(), length >= 54);
        }
        assert!(Packet::read(&frame(&[&[8, 0], &[0x41; 20]])).ip.is_none());
    }
}
