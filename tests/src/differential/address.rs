//! Where packets come from and go to: every route of the [topology](super::topology), its edges, and what is no address.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::topology::{NEIGHBOURS, PORTS, Port};
use crate::random::Random;

/// IPv4 destinations: a name, an address, and how many of its last bits are random.
const DESTINATIONS4: &[(&str, [u8; 4], u32)] = &[
    ("default", [8, 0, 0, 0], 24),
    ("covering /8", [30, 2, 0, 0], 16),
    ("small MTU", [30, 1, 4, 0], 8),
    ("small MTU", [30, 1, 5, 0], 8),
    ("more-specific /24", [30, 1, 2, 0], 7),
    ("blackhole in it", [30, 1, 2, 128], 7),
    ("host route in that", [30, 1, 2, 200], 0),
    ("edges of it", [30, 1, 2, 127], 0),
    ("edges of it", [30, 1, 3, 0], 0),
    ("unreachable", [31, 0, 0, 0], 16),
    ("prohibit", [31, 1, 0, 0], 16),
    ("blackhole", [31, 2, 0, 0], 16),
    ("throw", [31, 3, 0, 0], 16),
    ("ECMP", [32, 0, 0, 0], 16),
    ("ECMP", [32, 0, 0, 0], 16),
    ("ECMP half served", [32, 1, 0, 0], 16),
    ("through in0", [33, 0, 0, 0], 16),
    ("unresolved gateway", [34, 0, 0, 0], 16),
    ("on-link, resolved", [35, 0, 0, 2], 0),
    ("on-link, not resolved", [35, 0, 1, 0], 8),
    ("route with MTU", [36, 0, 0, 0], 16),
    ("route with locked MTU", [36, 1, 0, 0], 16),
    ("IPv6 gateway", [37, 0, 0, 0], 16),
    ("next-hop object", [38, 0, 0, 0], 16),
    ("blackhole next hop", [38, 1, 0, 0], 16),
    ("not served", [39, 0, 0, 0], 16),
    ("TOS route", [40, 0, 0, 0], 16),
    ("two metrics", [41, 0, 0, 0], 16),
    ("behind in0", [50, 0, 0, 0], 24),
    ("behind in1", [51, 0, 0, 0], 24),
    ("class E", [240, 1, 0, 0], 16),
    ("local subnet or default", [42, 0, 0, 0], 9),
    ("class E default", [250, 1, 0, 0], 16),
    ("multicast", [224, 0, 0, 0], 8),
    ("multicast", [239, 1, 2, 3], 0),
    ("limited broadcast", [255, 255, 255, 255], 0),
    ("zero net", [0, 0, 0, 0], 8),
    ("loopback", [127, 0, 0, 1], 0),
    ("link-local", [169, 254, 1, 1], 8),
];

/// IPv6 destinations, as above; the first three groups.
const DESTINATIONS6: &[(&str, [u16; 3], u16)] = &[
    ("default", [0x2b00, 0, 0], 0),
    ("covering /16", [0x2a30, 0, 0], 0),
    ("small MTU", [0x2a30, 1, 0], 0),
    ("small MTU", [0x2a30, 1, 1], 0),
    ("more-specific /48", [0x2a30, 1, 2], 0),
    ("blackhole in it", [0x2a30, 1, 2], 0x8000),
    ("unreachable", [0x2a31, 0, 0], 0),
    ("prohibit", [0x2a31, 1, 0], 0),
    ("blackhole", [0x2a31, 2, 0], 0),
    ("throw", [0x2a31, 3, 0], 0),
    ("ECMP", [0x2a32, 0, 0], 0),
    ("ECMP", [0x2a32, 0, 0], 0),
    ("ECMP half served", [0x2a32, 1, 0], 0),
    ("through in0", [0x2a33, 0, 0], 0),
    ("unresolved gateway", [0x2a34, 0, 0], 0),
    ("on-link, not resolved", [0x2a35, 0, 0], 0),
    ("route with MTU", [0x2a36, 0, 0], 0),
    ("route with locked MTU", [0x2a36, 1, 0], 0),
    ("next-hop object", [0x2a38, 0, 0], 0),
    ("not served", [0x2a39, 0, 0], 0),
    ("two metrics", [0x2a41, 0, 0], 0),
    ("behind in0", [0x2a50, 0, 0], 0),
    ("behind in1", [0x2a51, 0, 0], 0),
    ("local subnet or default", [0x2a42, 0, 0], 0),
    ("site-local", [0xfec0, 0, 0], 0),
    ("unique local", [0xfd00, 1, 0], 0),
    ("IPv4-mapped", [0, 0, 0], 0),
    ("NAT64", [0x64, 0xff9b, 0], 0),
];

/// IPv6 addresses that stand for themselves.
const SPECIAL6: &[&str] = &[
    "::",
    "::1",
    "::2",
    "::ffff:20.0.1.2",
    "::ffff:127.0.0.1",
    "::20.0.1.2",
    "fe80::2",
    "fe80::1234",
    "febf::1",
    "fec0::1",
    "ff00::1",
    "ff01::1",
    "ff02::1",
    "ff02::2",
    "ff02::1:ff00:1",
    "ff05::2",
    "ff0e::1",
    "2a30:1:2:8000::c8",
    "2a30:1:2:8000::c7",
    "2a35::2",
    "2002:7f00:1::1",
    "100::1",
];

/// A destination for a packet, and its name.
pub fn destination4(r: &mut Random) -> (&'static str, Ipv4Addr) {
    if r.below(100) < 20 {
        return near4(r);
    }
    let (name, address, bits) = *r.pick(DESTINATIONS4);
    let random = r.bits() as u32 & 1u32.checked_shl(bits).map_or(u32::MAX, |bit| bit - 1);
    (name, Ipv4Addr::from(u32::from_be_bytes(address) | random))
}

/// An address on one of the router's own subnets.
fn near4(r: &mut Random) -> (&'static str, Ipv4Addr) {
    let Port { number, .. } = *r.pick(&PORTS);
    let (name, host) = match r.below(8) {
        0..3 => ("own address", 1),
        3 => ("subnet broadcast", 255),
        4 => ("network address", 0),
        5 => ("unresolved neighbour", 100 + r.below(100) as u8),
        _ => ("neighbour", *r.pick(&NEIGHBOURS)),
    };
    (name, [20, 0, number, host].into())
}

/// A source for a packet that comes in at a port.
pub fn source4(r: &mut Random, ingress: Port, destination: Ipv4Addr) -> Ipv4Addr {
    let random = r.bits() as u32;
    match r.below(100) {
        0..55 => Ipv4Addr::from(50 << 24 | random >> 8),
        55..65 => [20, 0, ingress.number, *r.pick(&NEIGHBOURS)].into(),
        65..75 => Ipv4Addr::from(51 << 24 | random >> 8),
        75..80 => Ipv4Addr::from(random),
        80..84 => destination,
        _ => destination4(r).1,
    }
}

/// A destination for a packet, and its name.
pub fn destination6(r: &mut Random) -> (&'static str, Ipv6Addr) {
    match r.below(100) {
        0..20 => return near6(r),
        20..32 => {
            let address = r.pick(SPECIAL6).parse();
            return ("special", address.unwrap_or(Ipv6Addr::LOCALHOST));
        }
        _ => {}
    }
    let (name, [a, b, c], d) = *r.pick(DESTINATIONS6);
    let mut low = r.bits() >> 16;
    if name == "IPv4-mapped" {
        low = 0xffff << 32 | low & 0xffff_ffff;
    }
    let d = d | ((r.bits() as u16 & 0x7fff) * u16::from(c != 0));
    let high = u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d);
    (name, Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)))
}

fn near6(r: &mut Random) -> (&'static str, Ipv6Addr) {
    let Port { number, .. } = *r.pick(&PORTS);
    let (name, host) = match r.below(8) {
        0..3 => ("own address", 1),
        3 => ("subnet-router anycast", 0),
        4 => ("own link-local", 0),
        5 => ("unresolved neighbour", 0x100 + r.below(0x100) as u16),
        _ => {
            let host = u16::from(*r.pick(&NEIGHBOURS));
            ("neighbour", if host > 9 { host + 6 } else { host })
        }
    };
    let address = if name == "own link-local" {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, u16::from(number) << 8 | 1)
    } else {
        Ipv6Addr::new(0x2a00, u16::from(number), 0, 0, 0, 0, 0, host)
    };
    (name, address)
}

/// A source for a packet that comes in at a port.
pub fn source6(r: &mut Random, ingress: Port, destination: Ipv6Addr) -> Ipv6Addr {
    let behind = |first: u16, random: u128| Ipv6Addr::from(u128::from(first) << 112 | random >> 16);
    let random = r.wide();
    match r.below(100) {
        0..55 => behind(0x2a50, random),
        55..65 => {
            let host = *r.pick(&[2, 3, 5, 9]);
            Ipv6Addr::new(0x2a00, u16::from(ingress.number), 0, 0, 0, 0, 0, host)
        }
        65..75 => behind(0x2a51, random),
        75..78 => Ipv6Addr::from(random),
        78..82 => destination,
        86..88 => Ipv6Addr::from(0xffff << 32 | random >> 96),
        82..86 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, *r.pick(&[2, 3, 0x1234])),
        _ => destination6(r).1,
    }
}
