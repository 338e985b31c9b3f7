//! Frames from a number: a sound packet to something the router knows, behind the tags that it knows, and most of the time damaged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder_common::nexthop::mac_bytes;
use forwarder_tests::{
    differential::{chance, generate::Case, mutate::mutate, octets, payload},
    frame,
    random::Random,
};
use ipnet::IpNet;

use super::world::{Way, World};

/// The shortest and the longest that the kernel's test run is given.
const SHORTEST: usize = 14;
const LONGEST: usize = 9_000;

/// A frame that comes in.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The device.
    pub ingress: u32,
    /// Octets of it in the first buffer.
    pub first: usize,
    /// All of its octets.
    pub octets: Vec<u8>,
}

/// What frames are made of.
pub struct Stock {
    ways: Vec<Way>,
    macs: Vec<[u8; 6]>,
    v4: Vec<IpNet>,
    v6: Vec<IpNet>,
    splits: bool,
}

impl Stock {
    /// What a router knows.
    pub fn of(world: &World) -> Stock {
        let mut macs: Vec<[u8; 6]> = Vec::new();
        for (_, entry) in &world.interfaces {
            macs.extend(entry.macs.iter().map(|mac| mac_bytes(*mac)));
        }
        macs.sort_unstable();
        macs.dedup();
        let (v4, v6) = world.prefixes.iter().partition(|prefix| prefix.addr().is_ipv4());
        Stock {
            ways: world.ways.clone(),
            macs,
            v4,
            v6,
            splits: world.splits,
        }
    }

    /// A frame, and what it was before it was damaged.
    pub fn draw(&self, r: &mut Random) -> (Frame, Vec<u8>) {
        let way = r.pick(&self.ways);
        let ingress = way.ingress;
        let tags = tags(r, way);
        let macs = (self.mac(r, way), [2, 0, 0, 0, 0, r.bits() as u8]);
        let mut packet = match r.below(100) {
            0..48 => self.ipv4(r, macs),
            48..96 => self.ipv6(r, macs),
            _ => other(r, macs),
        };
        if chance(r, 15) && packet.len() < 60 {
            packet.resize(60, 0);
        }
        let insert = |packet: &[u8]| {
            let mut packet = packet.to_vec();
            let at = packet.len().min(12);
            packet.splice(at..at, tags.iter().copied());
            packet
        };
        let sound = insert(&packet);
        let mut case = Case {
            index: 0,
            port: 0,
            frame: packet,
            story: String::new(),
            source: None,
            given: false,
        };
        if chance(r, 55) {
            mutate(r, &mut case);
        }
        let mut octets = insert(&case.frame);
        if chance(r, 8) && !octets.is_empty() {
            // Among them in the tags, which the other damage does not see.
            let at = r.below(octets.len().min(26));
            octets[at] = r.bits() as u8;
        }
        if chance(r, 5) {
            octets.truncate(SHORTEST + r.below(octets.len().max(SHORTEST + 1) - SHORTEST));
        }
        octets.truncate(LONGEST);
        octets.resize(octets.len().max(SHORTEST), 0);
        let mut first = octets.len();
        if self.splits && chance(r, 8) {
            let at = SHORTEST + r.below(octets.len() + 1 - SHORTEST);
            if may_end(&octets, at) {
                first = at;
            }
        }
        let frame = Frame {
            ingress,
            first,
            octets,
        };
        (frame, sound)
    }

    /// Mostly one of the router's, and mostly the right one.
    fn mac(&self, r: &mut Random, way: &Way) -> [u8; 6] {
        match r.below(100) {
            0..90 => way.mac,
            90..95 => *r.pick(&self.macs),
            95 => [0xff; 6],
            96 => [1, 0, 0x5e, 0, 0, 5],
            97 => [0x33, 0x33, 0, 0, 0, 1],
            98 => [0; 6],
            _ => [2, 9, 9, 9, 9, r.bits() as u8],
        }
    }

    fn ipv4(&self, r: &mut Random, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
        let destination = address4(r, &self.v4);
        let source = address4(r, &self.v4);
        let options: Vec<u8> = if chance(r, 10) {
            let length = 4 + 4 * r.below(10);
            octets(r, length)
        } else {
            Vec::new()
        };
        let room = room(r);
        let payload = payload::any(r, source.into(), destination.into(), room);
        let inside = [&options[..], &payload.octets].concat();
        let ttl = hop_limit(r);
        let mut packet = frame::ipv4(macs, source, destination, payload.protocol, ttl, &inside);
        packet[14] += (options.len() / 4) as u8;
        packet[15] = *r.pick(&[0, 0, 0xb8, 0xff, 3]);
        packet[18..20].copy_from_slice(&(r.bits() as u16).to_be_bytes());
        let random = r.bits() as u16;
        let fragment: u16 = *r.pick(&[0x4000, 0x4000, 0, 0x2000, 0x2001, 0x0100, 0x1fff, 0x8000, random]);
        packet[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame::fix_checksum(&mut packet);
        packet
    }

    fn ipv6(&self, r: &mut Random, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
        let destination = address6(r, &self.v6);
        let source = address6(r, &self.v6);
        let room = room(r);
        let payload = payload::any(r, source.into(), destination.into(), room);
        let (mut next, mut inside) = (payload.protocol, payload.octets);
        let headers = if chance(r, 20) { 1 + r.below(10) } else { 0 };
        for _ in 0..headers {
            let kind = *r.pick(&[0u8, 43, 44, 51, 60, 135, 139, 140, 253]);
            // In units of eight octets beyond the first; of the authentication header in fours.
            let length = r.below(4) as u8;
            let mut header = vec![next, length];
            let octets_of_it = match kind {
                44 => 8,
                51 => (usize::from(length) + 2) * 4,
                _ => 8 + usize::from(length) * 8,
            };
            header.extend(octets(r, octets_of_it - 2));
            header.extend(&inside);
            (next, inside) = (kind, header);
        }
        let limit = hop_limit(r);
        let mut packet = frame::ipv6(macs, source, destination, next, limit, &inside);
        if chance(r, 40) {
            let word = 0x6000_0000 | r.bits() as u32 & 0x0fff_ffff;
            packet[14..18].copy_from_slice(&word.to_be_bytes());
        }
        packet
    }
}

/// Octets behind the IP header: short, about an MTU, or in several buffers.
fn room(r: &mut Random) -> usize {
    match r.below(20) {
        0..10 => r.below(64),
        10..14 => r.below(1480),
        14..19 => 1440 + r.below(48),
        _ => r.below(8_900),
    }
}

fn hop_limit(r: &mut Random) -> u8 {
    match r.below(10) {
        0..7 => 64,
        7 => *r.pick(&[0, 1, 2, 255]),
        _ => r.bits() as u8,
    }
}

fn address4(r: &mut Random, prefixes: &[IpNet]) -> Ipv4Addr {
    let random = r.bits() as u32;
    match r.below(100) {
        0..88 => match r.pick(prefixes) {
            IpNet::V4(prefix) => (u32::from(prefix.network()) | random & u32::from(prefix.hostmask())).into(),
            IpNet::V6(_) => random.into(),
        },
        88..97 => {
            let last = random as u8;
            *r.pick(&[
                [127, 0, 0, last].into(),
                [0, 0, 0, last].into(),
                [224, 0, 0, last].into(),
                [255; 4].into(),
                [169, 254, 1, last].into(),
                [240, 0, 0, last].into(),
                [10, 9, 8, last].into(),
                [198, 51, 100, last].into(),
                [203, 0, 113, 254].into(),
            ])
        }
        _ => random.into(),
    }
}

fn address6(r: &mut Random, prefixes: &[IpNet]) -> Ipv6Addr {
    let random = r.wide();
    match r.below(100) {
        0..88 => match r.pick(prefixes) {
            IpNet::V6(prefix) => {
                (u128::from(prefix.network()) | random & u128::from(prefix.hostmask())).into()
            }
            IpNet::V4(_) => random.into(),
        },
        88..97 => {
            let last = random as u16;
            *r.pick(&[
                Ipv6Addr::UNSPECIFIED,
                Ipv6Addr::LOCALHOST,
                [0xfe80, 0, 0, 0, 0, 0, 0, last].into(),
                [0xff02, 0, 0, 0, 0, 0, 0, last].into(),
                [0xff02, 0, 0, 0, 0, 1, 0xff00, last].into(),
                [0, 0, 0, 0, 0, 0xffff, 0x0808, last].into(),
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into(),
                [0xfc00, 0, 0, 0, 0, 0, 0, last].into(),
            ])
        }
        _ => random.into(),
    }
}

/// Octets of the tags of a way, or of others, up to three.
fn tags(r: &mut Random, way: &Way) -> Vec<u8> {
    let mut tags = way.tags.clone();
    if chance(r, 8) {
        let random = r.bits() as u16 & 0xfff;
        let other = (
            *r.pick(&[0x8100, 0x8100, 0x88a8, 0x9100]),
            *r.pick(&[0, 10, 20, 30, 7, random]),
        );
        match tags.pop() {
            Some(last) if chance(r, 50) => tags.extend([last, other]),
            _ => tags.push(other),
        }
    }
    let mut octets = Vec::new();
    for (kind, id) in tags {
        let priority = r.bits() as u16 & 0xf000;
        octets.extend(kind.to_be_bytes());
        octets.extend((id | priority).to_be_bytes());
    }
    octets
}

/// Whether a driver's first buffer may end there, by `forwarder-ebpf/src/buffers.rs`: it is full, or the packet by its own length goes
/// on behind it.
fn may_end(frame: &[u8], first: usize) -> bool {
    const FULL: usize = 1024;
    if first >= FULL {
        return true;
    }
    let mut at = 12;
    while frame
        .get(at..at + 2)
        .is_some_and(|kind| kind == [0x81, 0] || kind == [0x88, 0xa8])
        && at < 20
    {
        at += 4;
    }
    let (kind, ip) = (frame.get(at..at + 2), at + 2);
    let length = |at: usize| {
        Some(usize::from(u16::from_be_bytes(
            frame.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    let end = match kind {
        Some([8, 0]) => length(ip + 2).map(|length| ip + length),
        Some([0x86, 0xdd]) => length(ip + 4).map(|length| ip + 40 + length),
        _ => None,
    };
    end.is_none_or(|end| end > first)
}

/// Neither IPv4 nor IPv6, or hidden behind something.
fn other(r: &mut Random, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
    let random = r.bits() as u16;
    let kind = *r.pick(&[
        0x0806, 0x0806, 0x0800, 0x86dd, 0x8847, 0x8864, 0x8809, 0x88cc, 0x0026, random,
    ]);
    let mut packet = frame::ethernet(macs.0, macs.1, kind);
    let length = r.below(120);
    packet.extend(octets(r, length));
    packet
}

/// The destination of a packet that begins there, if it has one.
pub fn destination(packet: &[u8], v4: bool) -> Option<IpAddr> {
    if v4 {
        let octets: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        Some(octets.into())
    } else {
        let octets: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        Some(octets.into())
    }
}
