//! What `forwarder bench` shares with its harness: a program of its own that makes each test run's frame what it would be if
//! another packet had come in, and calls the program that is measured. `BPF_PROG_TEST_RUN` repeats with the frame that the run
//! before has left: addressed to the next hop, its TTL one less.

use crate::plain;

/// The courses' packets, one course behind the other.
pub const PACKETS: &str = "PACKETS";
/// One element: the [`Course`].
pub const COURSE: &str = "COURSE";
/// One element: the program that is called.
pub const CALLED: &str = "CALLED";

/// The harness for IPv4 packets.
pub const HARNESS4: &str = "harness4";
/// The harness for IPv6 packets.
pub const HARNESS6: &str = "harness6";
/// A program that does nothing: with it the harness alone is measured.
pub const IDLE: &str = "idle";

/// TTL or hop limit of every packet.
pub const TTL: u8 = 64;
/// Protocol of every packet.
pub const UDP: u8 = 17;

/// What differs from packet to packet, octets in wire order. IPv4: the word of TTL, protocol and checksum, the source, the
/// destination. IPv6: source and destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Packet {
    /// As they are stored in the frame, one behind the other.
    pub words: [u64; 4],
}
plain!(Packet, 32);

impl Packet {
    /// An IPv4 packet: TTL, protocol and header checksum as they stand in the frame; addresses.
    pub const fn v4(ttl: [u8; 4], source: [u8; 4], destination: [u8; 4]) -> Packet {
        Packet {
            words: [
                u32::from_ne_bytes(ttl) as u64 | (u32::from_ne_bytes(source) as u64) << 32,
                u32::from_ne_bytes(destination) as u64,
                0,
                0,
            ],
        }
    }

    /// An IPv6 packet.
    pub fn v6(source: [u8; 16], destination: [u8; 16]) -> Packet {
        let halves = |address: [u8; 16]| {
            let bits = u128::from_ne_bytes(address);
            [bits as u64, (bits >> 64) as u64]
        };
        let ([a, b], [c, d]) = (halves(source), halves(destination));
        Packet { words: [a, b, c, d] }
    }
}

/// Which packets come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Course {
    /// How many have come.
    pub come: u64,
    /// The first packet of this course.
    pub first: u64,
    /// Their number, a power of two, less one.
    pub mask: u64,
    /// The first eight octets of every frame: where to, and a quarter of where from.
    pub to: u64,
    /// The next four.
    pub from: u64,
    /// Room up to a cache line.
    pub reserved: [u64; 3],
}
plain!(Course, 64);
