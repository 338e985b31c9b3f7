//! Records about frames: what is not IP, not for us, or not whole.

use forwarder_common::reason::Reason;
use forwarder_tests::{
    frame::{self, ethernet, pad, udp4, udp6, with},
    sandbox::{mac, neighbour_mac},
};

use super::house::{Expect, House, NIC4, NIC6, OUT4, OUT6, Record, leaves, record};

/// Records that need no more than the house as it was built.
pub fn records(house: &House) -> Vec<Record> {
    let p = house.ports;
    let macs = house.macs(p.inside);
    let v4 = || udp4(macs, [5, 1, 2, 3], 64, 20);
    let v6 = || udp6(macs, "2a05::1".parse().expect("address"), 64, 20);
    let mut all = vec![
        leaves(
            "an interface without configuration passes everything",
            p.unknown,
            v4(),
            Reason::Unconfigured,
        ),
        leaves(
            "a bare Ethernet header of IPv4 is truncated",
            p.inside,
            v4()[..14].to_vec(),
            Reason::Truncated,
        ),
        leaves(
            "an IPv4 header one octet short is truncated",
            p.inside,
            v4()[..33].to_vec(),
            Reason::Truncated,
        ),
        leaves(
            "an IPv6 header one octet short is truncated",
            p.inside,
            v6()[..53].to_vec(),
            Reason::Truncated,
        ),
        leaves(
            "ICMPv6 without a type is truncated",
            p.inside,
            with(v6(), 20, &[58])[..54].to_vec(),
            Reason::BadTotalLength,
        ),
        leaves(
            "ICMPv6 without a type that says so is truncated",
            p.inside,
            with(with(v6(), 20, &[58]), 18, &[0, 0])[..54].to_vec(),
            Reason::Truncated,
        ),
        leaves(
            "a frame to another station on the wire is not ours",
            p.inside,
            with(v4(), 0, &mac(p.out)),
            Reason::OtherMac,
        ),
        leaves(
            "one bit of the MAC is enough",
            p.inside,
            with(v6(), 5, &[mac(p.inside)[5] ^ 1]),
            Reason::OtherMac,
        ),
        leaves(
            "the all-zero address is nobody's",
            p.inside,
            with(v4(), 0, &[0; 6]),
            Reason::OtherMac,
        ),
        leaves(
            "a VRRP virtual MAC that is not configured is not ours",
            p.inside,
            with(v4(), 0, &[0, 0, 0x5e, 0, 1, 10]),
            Reason::OtherMac,
        ),
        leaves(
            "a broadcast frame passes",
            p.inside,
            with(v4(), 0, &[0xff; 6]),
            Reason::LinkMulticast,
        ),
        leaves(
            "an IPv4 multicast frame passes",
            p.inside,
            with(v4(), 0, &[1, 0, 0x5e, 0, 0, 5]),
            Reason::LinkMulticast,
        ),
        leaves(
            "an IPv6 multicast frame passes",
            p.inside,
            with(v6(), 0, &[0x33, 0x33, 0, 0, 0, 1]),
            Reason::LinkMulticast,
        ),
        leaves(
            "a 802.1Q tag passes",
            p.inside,
            with(v4(), 12, &[0x81, 0]),
            Reason::Tagged,
        ),
        leaves(
            "a 802.1ad tag passes",
            p.inside,
            [&v6()[..12], &[0x88, 0xa8, 0xe0, 5], &v6()[12..]].concat(),
            Reason::Tagged,
        ),
        leaves(
            "a priority tag does not hide what is wrong with a packet",
            p.inside,
            [&v4()[..12], &[0x81, 0, 0xe0, 0], &with(v4(), 14, &[0x44])[12..]].concat(),
            Reason::BadHeaderLength,
        ),
        leaves(
            "an ARP request passes",
            p.inside,
            pad(ethernet([0xff; 6], macs.1, 0x0806), 60),
            Reason::Arp,
        ),
        leaves(
            "an ARP reply passes",
            p.inside,
            pad(ethernet(macs.0, macs.1, 0x0806), 60),
            Reason::Arp,
        ),
        leaves(
            "LACP passes",
            p.inside,
            pad(ethernet([1, 0x80, 0xc2, 0, 0, 2], macs.1, 0x8809), 124),
            Reason::OtherProtocol,
        ),
        leaves(
            "LLDP passes",
            p.inside,
            pad(ethernet([1, 0x80, 0xc2, 0, 0, 14], macs.1, 0x88cc), 80),
            Reason::OtherProtocol,
        ),
        leaves(
            "MPLS passes",
            p.inside,
            pad(ethernet(macs.0, macs.1, 0x8847), 80),
            Reason::OtherProtocol,
        ),
        leaves(
            "an 802.3 length instead of a type passes",
            p.inside,
            pad(ethernet(macs.0, macs.1, 46), 60),
            Reason::OtherProtocol,
        ),
    ];
    all.extend(padding(house));
    all
}

/// A frame may be longer than its packet: up to 60 octets it is Ethernet padding.
fn padding(house: &House) -> Vec<Record> {
    let p = house.ports;
    let macs = house.macs(p.inside);
    let source = [192, 0, 2, 1].into();
    // 14 + 20 + 4: shorter than Ethernet's least.
    let short4 = |to: [u8; 4]| frame::ipv4(macs, source, to.into(), 200, 64, &[1, 2, 3, 4]);
    let short6 = |to: &str| {
        let source = "2a00:ffff::1".parse().expect("address");
        frame::ipv6(macs, source, to.parse().expect("address"), 59, 64, &[])
    };
    let to_out4 = |length| Expect::Forwarded {
        prefix: "5.0.0.0/8",
        egress: p.out,
        neighbour: OUT4,
        length,
    };
    let to_nic4 = |length| Expect::Forwarded {
        prefix: "5.9.9.0/30",
        egress: p.nic,
        neighbour: NIC4,
        length,
    };
    let to_out6 = |length| Expect::Forwarded {
        prefix: "2a05::/32",
        egress: p.out,
        neighbour: OUT6,
        length,
    };
    let to_nic6 = |length| Expect::Forwarded {
        prefix: "2a05:0:9::/62",
        egress: p.nic,
        neighbour: NIC6,
        length,
    };
    let (far4, near4) = ([5, 1, 1, 1], [5, 9, 9, 1]);
    let (far6, near6) = ("2a05::1", "2a05:0:9::1");
    let nic_mac = neighbour_mac(NIC4.parse().expect("address"));
    assert_ne!(nic_mac, mac(p.nic));
    vec![
        record(
            "a short packet without padding goes as it is",
            p.inside,
            short4(far4),
            to_out4(38),
        ),
        record(
            "padding is cut off where a virtual device would carry it on",
            p.inside,
            pad(short4(far4), 60),
            to_out4(38),
        ),
        record(
            "more than Ethernet's padding is cut off there too",
            p.inside,
            pad(short4(far4), 200),
            to_out4(38),
        ),
        record(
            "padding stays where the wire would pad again",
            p.inside,
            pad(short4(near4), 60),
            to_nic4(60),
        ),
        record(
            "and so does less of it",
            p.inside,
            pad(short4(near4), 47),
            to_nic4(47),
        ),
        leaves(
            "a short packet in a frame of 61 octets is the kernel's on a physical egress",
            p.inside,
            pad(short4(near4), 61),
            Reason::TrailingBytes,
        ),
        record(
            "a packet longer than the least is cut to its length on a physical egress",
            p.inside,
            pad(udp4(macs, near4, 64, 30), 90),
            to_nic4(72),
        ),
        record(
            "one octet behind a packet of exactly the least goes",
            p.inside,
            pad(udp4(macs, near4, 64, 18), 61),
            to_nic4(60),
        ),
        record(
            "an IPv6 packet's padding is cut off",
            p.inside,
            pad(short6(far6), 60),
            to_out6(54),
        ),
        record(
            "an IPv6 packet's padding stays on a physical egress",
            p.inside,
            pad(short6(near6), 60),
            to_nic6(60),
        ),
        leaves(
            "61 octets for 54 of IPv6 are the kernel's on a physical egress",
            p.inside,
            pad(short6(near6), 61),
            Reason::TrailingBytes,
        ),
        record(
            "an IPv6 packet is cut to its length",
            p.inside,
            pad(udp6(macs, near6.parse().expect("address"), 64, 0), 100),
            to_nic6(62),
        ),
    ]
}
