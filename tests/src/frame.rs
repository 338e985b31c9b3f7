//! Frames for tests, built field by field, with checksums that are right unless a test breaks them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMPv6.
pub const ICMP6: u8 = 58;

/// An Ethernet header.
pub fn ethernet(destination: [u8; 6], source: [u8; 6], ether_type: u16) -> Vec<u8> {
    [&destination[..], &source[..], &ether_type.to_be_bytes()].concat()
}

/// An IPv4 packet in a frame, with `payload` octets behind the header.
pub fn ipv4(
    macs: ([u8; 6], [u8; 6]),
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = ethernet(macs.0, macs.1, 0x0800);
    let length = (20 + payload.len()) as u16;
    frame.extend([0x45, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, ttl, protocol, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    fix_checksum(&mut frame);
    frame
}

/// Sets the IPv4 header checksum right, whatever the header length says.
pub fn fix_checksum(frame: &mut [u8]) {
    let end = 14 + ((frame[14] & 0x0f) as usize * 4).max(20).min(frame.len() - 14);
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..end]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// Whether the IPv4 header checksum is right.
pub fn checksum_holds(frame: &[u8]) -> bool {
    sum(&frame[14..14 + (frame[14] & 0x0f) as usize * 4]) == 0xffff
}

fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) as u32)
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An IPv6 packet in a frame.
pub fn ipv6(
    macs: ([u8; 6], [u8; 6]),
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = ethernet(macs.0, macs.1, 0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next_header, hop_limit]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    frame
}

/// A UDP header and `length` octets of data.
pub fn udp(source: u16, destination: u16, length: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(((8 + length) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.resize(8 + length, 0x5a);
    packet
}

/// UDP over IPv4 from 192.0.2.1.
pub fn udp4(macs: ([u8; 6], [u8; 6]), destination: [u8; 4], ttl: u8, data: usize) -> Vec<u8> {
    let payload = udp(1024, 53, data);
    ipv4(
        macs,
        [192, 0, 2, 1].into(),
        destination.into(),
        UDP,
        ttl,
        &payload,
    )
}

/// UDP over IPv6 from 2a00:ffff::1.
pub fn udp6(macs: ([u8; 6], [u8; 6]), destination: Ipv6Addr, hop_limit: u8, data: usize) -> Vec<u8> {
    let payload = udp(1024, 53, data);
    let source = Ipv6Addr::new(0x2a00, 0xffff, 0, 0, 0, 0, 0, 1);
    ipv6(macs, source, destination, UDP, hop_limit, &payload)
}

/// The frame with octets of Ethernet padding behind it, up to `length` in all.
pub fn pad(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    frame.resize(length.max(frame.len()), 0);
    frame
}

/// The frame with octets of it changed, and the IPv4 header checksum right again.
pub fn with(mut frame: Vec<u8>, at: usize, octets: &[u8]) -> Vec<u8> {
    frame[at..at + octets.len()].copy_from_slice(octets);
    if frame[12..14] == [8, 0] {
        fix_checksum(&mut frame);
    }
    frame
}

/// The frame as a router sends it on, said again from scratch: new MACs, TTL or hop limit one less, checksum computed
/// over the whole header, cut after `length` octets.
pub fn routed(frame: &[u8], destination: [u8; 6], source: [u8; 6], length: usize) -> Vec<u8> {
    let mut out = frame[..length].to_vec();
    out[..6].copy_from_slice(&destination);
    out[6..12].copy_from_slice(&source);
    if out[12..14] == [8, 0] {
        out[22] -= 1;
        fix_checksum(&mut out);
    } else {
        out[21] -= 1;
    }
    out
}

/// The checksum after the TTL went down by one, as the kernel computes it: include/net/ip.h, `ip_decrease_ttl`.
pub fn ip_decrease_ttl(checksum: u16) -> u16 {
    let check = u32::from(checksum) + 0x0100;
    (check + u32::from(check >= 0xffff)) as u16
}
