//! What stands behind an IP header: UDP, TCP, ICMP of both kinds and others, with checksums that are mostly right.

use std::net::IpAddr;

use super::{chance, octets};
use crate::random::Random;

/// Something to put behind an IP header.
pub struct Payload {
    /// Protocol or next header.
    pub protocol: u8,
    /// Its octets.
    pub octets: Vec<u8>,
    /// What it is.
    pub name: &'static str,
}

/// A payload of about `length` octets, for a packet between two addresses.
pub fn any(r: &mut Random, source: IpAddr, destination: IpAddr, length: usize) -> Payload {
    let v4 = source.is_ipv4();
    let (protocol, name, at, mut octets) = match r.below(100) {
        0..45 => udp(r, length),
        45..65 => tcp(r, length),
        65..80 => {
            let reply = r.below(4) == 0;
            let kind = match (v4, reply) {
                (true, false) => 8,
                (true, true) => 0,
                (false, false) => 128,
                (false, true) => 129,
            };
            let name = if reply { "echo reply" } else { "echo" };
            (icmp_number(v4), name, 2, icmp(r, kind, 0, length))
        }
        80..93 => {
            let kinds: &[u8] = if v4 {
                &[3, 4, 5, 9, 10, 11, 12, 13, 15, 17, 30, 40, 42, 255]
            } else {
                &[
                    1, 2, 3, 4, 100, 127, 130, 131, 132, 133, 134, 135, 136, 137, 139, 143, 144, 160, 200,
                ]
            };
            let (kind, code) = (*r.pick(kinds), r.below(6) as u8);
            let mut message = icmp(r, kind, code, length.max(8));
            if matches!(kind, 1..=5 | 11 | 12) {
                message.truncate(8);
                message.extend(quoted(r, destination, v4));
            }
            if matches!(kind, 135 | 136) && !v4 {
                message.truncate(8);
                message.extend(neighbour_target(r, destination));
            }
            (icmp_number(v4), "other ICMP", 2, message)
        }
        93..95 => (132, "SCTP", 0, octets(r, length.max(12))),
        95..96 => (47, "GRE", 0, [&[0, 0, 8, 0][..], &octets(r, length)].concat()),
        96..97 => (if v4 { 2 } else { 59 }, "IGMP or none", 0, octets(r, length)),
        _ => (r.bits() as u8, "random protocol", 0, octets(r, length)),
    };
    if at != 0 && octets.len() >= at + 2 {
        octets[at..at + 2].fill(0);
        let pseudo = !v4 || protocol != 1;
        let mut sum = checksum(&octets, pseudo.then_some((source, destination, protocol)));
        if protocol == 17 && sum == 0 {
            sum = 0xffff;
        }
        if protocol == 17 && v4 && chance(r, 20) {
            sum = 0;
        } else if chance(r, 8) {
            sum ^= 1 << r.below(16);
        }
        octets[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    Payload {
        protocol,
        octets,
        name,
    }
}

const fn icmp_number(v4: bool) -> u8 {
    if v4 { 1 } else { 58 }
}

fn udp(r: &mut Random, length: usize) -> (u8, &'static str, usize, Vec<u8>) {
    let mut packet = octets(r, length.max(8));
    let said = packet.len() as u16;
    packet[4..6].copy_from_slice(&said.to_be_bytes());
    (17, "UDP", 6, packet)
}

fn tcp(r: &mut Random, length: usize) -> (u8, &'static str, usize, Vec<u8>) {
    let mut packet = octets(r, length.max(20));
    packet[12] = *r.pick(&[0x50, 0x50, 0x50, 0x60, 0x80, 0xf0, 0x40]);
    packet[13] = *r.pick(&[0x02, 0x10, 0x18, 0x11, 0x04, 0x12, 0x00, 0x3f, 0xc2]);
    (6, "TCP", 16, packet)
}

fn icmp(r: &mut Random, kind: u8, code: u8, length: usize) -> Vec<u8> {
    let mut packet = octets(r, length.max(8));
    packet[0] = kind;
    packet[1] = code;
    packet
}

/// The packet that an ICMP error is about: from the destination of the error to 62.0.0.0/8 or 2a62::/16, where nothing
/// else goes, because the kernel may remember a path MTU for it.
fn quoted(r: &mut Random, from: IpAddr, v4: bool) -> Vec<u8> {
    let mut inner = octets(r, 48 + 8);
    let protocol = *r.pick(&[1, 6, 17, 58]);
    match from {
        IpAddr::V4(from) if v4 => {
            inner.truncate(28);
            inner[0] = 0x45;
            inner[2..4].copy_from_slice(&[0, 28]);
            inner[6..8].fill(0);
            inner[9] = protocol;
            inner[10..12].fill(0);
            inner[12..16].copy_from_slice(&from.octets());
            inner[16] = 62;
            let sum = checksum(&inner[..20], None);
            inner[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        IpAddr::V6(from) => {
            inner[0] = 0x60;
            inner[4..6].copy_from_slice(&[0, 16]);
            inner[6] = protocol;
            inner[8..24].copy_from_slice(&from.octets());
            inner[24..26].copy_from_slice(&[0x2a, 0x62]);
        }
        IpAddr::V4(_) => {}
    }
    inner
}

/// Target and link-layer address option of a neighbour message about the destination.
fn neighbour_target(r: &mut Random, destination: IpAddr) -> Vec<u8> {
    let mut octets = match destination {
        IpAddr::V6(address) => address.octets().to_vec(),
        IpAddr::V4(_) => vec![0; 16],
    };
    octets.extend([*r.pick(&[1, 2]), 1, 2, 0, 0, 0, 9, 9]);
    octets
}

/// The Internet checksum (RFC 1071), over a pseudo-header where there is one.
pub fn checksum(octets: &[u8], pseudo: Option<(IpAddr, IpAddr, u8)>) -> u16 {
    let mut sum = 0u64;
    let mut add = |octets: &[u8]| {
        for pair in octets.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    };
    if let Some((source, destination, protocol)) = pseudo {
        for address in [source, destination] {
            match address {
                IpAddr::V4(address) => add(&address.octets()),
                IpAddr::V6(address) => add(&address.octets()),
            }
        }
        add(&(octets.len() as u32).to_be_bytes());
        add(&[0, protocol]);
    }
    add(octets);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
