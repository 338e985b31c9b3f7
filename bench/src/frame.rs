//! The frames of `forward`, before and after: UDP, 64 octets.

use forwarder_bench_ebpf::abi::{FRAME, INGRESS_MAC, SENDER_MAC, SOURCE4, SOURCE6, TTL, UDP, entry4};

use crate::router::Way;
use crate::table::Family;

const ETHERNET: usize = 14;
/// Source and destination port.
const PORTS: [u8; 4] = [0xc3, 0x50, 0x01, 0xbb];

/// A frame as it comes in, to a destination.
pub fn incoming(family: Family, destination: u128) -> [u8; FRAME] {
    frame(family, destination, INGRESS_MAC, SENDER_MAC, TTL)
}

/// The same frame as it must go out.
pub fn outgoing(family: Family, destination: u128, way: &Way) -> [u8; FRAME] {
    frame(family, destination, way.destination, way.source, TTL - 1)
}

/// The checksum of the IPv4 header of an incoming frame, as the host reads it from the wire.
pub fn checksum(destination: u128) -> u16 {
    let frame = incoming(Family::V4, destination);
    u16::from_ne_bytes([frame[24], frame[25]])
}

/// A word of the trace for `flood`: a source, and the header checksum of its frames to a destination.
pub fn entry_from(source: [u8; 4], destination: u128) -> u64 {
    let mut frame = incoming(Family::V4, destination);
    frame[26..30].copy_from_slice(&source);
    frame[24..26].fill(0);
    let checksum = header_checksum(&frame);
    entry4(source, u16::from_ne_bytes(checksum))
}

/// The checksum of an IPv4 header in which none stands, in wire order.
fn header_checksum(frame: &[u8; FRAME]) -> [u8; 2] {
    let words = frame[ETHERNET..ETHERNET + 20].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

fn frame(family: Family, destination: u128, to: [u8; 6], from: [u8; 6], ttl: u8) -> [u8; FRAME] {
    let mut frame = [0u8; FRAME];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    let destination = destination.to_be_bytes();
    let transport = match family {
        Family::V4 => {
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            let length = (FRAME - ETHERNET) as u8;
            frame[14..26].copy_from_slice(&[0x45, 0, 0, length, 0, 0, 0x40, 0, ttl, UDP, 0, 0]);
            frame[26..30].copy_from_slice(&SOURCE4);
            frame[30..34].copy_from_slice(&destination[..4]);
            let checksum = header_checksum(&frame);
            frame[24..26].copy_from_slice(&checksum);
            ETHERNET + 20
        }
        Family::V6 => {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            let length = (FRAME - ETHERNET - 40) as u8;
            frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, length, UDP, ttl]);
            frame[22..38].copy_from_slice(&SOURCE6);
            frame[38..54].copy_from_slice(&destination);
            ETHERNET + 40
        }
    };
    let length = (FRAME - transport) as u8;
    frame[transport..transport + 4].copy_from_slice(&PORTS);
    frame[transport + 5] = length;
    frame
}
