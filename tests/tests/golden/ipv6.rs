//! Records about IPv6.

use std::net::Ipv6Addr;

use forwarder_common::reason::Reason;
use forwarder_tests::frame::{self, ICMP6, udp6, with};

use super::house::{Expect, House, MTU, OUT6, Record, leaves, record};

/// Records that need no more than the house as it was built.
pub fn records(house: &House) -> Vec<Record> {
    [
        header(house),
        icmp(house),
        addresses(house),
        routes(house),
        sizes(house),
    ]
    .concat()
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn sent(house: &House, prefix: &'static str, length: usize) -> Expect {
    Expect::Forwarded {
        prefix,
        egress: house.ports.out,
        neighbour: OUT6,
        length,
    }
}

fn header(house: &House) -> Vec<Record> {
    let inside = house.ports.inside;
    let macs = house.macs(inside);
    let frame = || udp6(macs, address("2a05::1"), 64, 20);
    let length = frame().len();
    let good = || sent(house, "2a05::/32", length);
    let reason = |sentence: &str, packet, reason| leaves(sentence, inside, packet, reason);
    let mut all = vec![
        record("UDP is forwarded", inside, frame(), good()),
        record("TCP is forwarded", inside, with(frame(), 20, &[6]), good()),
        record("ESP is forwarded", inside, with(frame(), 20, &[50]), good()),
        record(
            "no next header is forwarded",
            inside,
            with(frame(), 20, &[59]),
            good(),
        ),
        record(
            "traffic class and flow label travel along",
            inside,
            with(frame(), 14, &[0x6b, 0xbf, 0xff, 0xff]),
            good(),
        ),
        record(
            "a hop limit of 2 leaves as 1",
            inside,
            with(frame(), 21, &[2]),
            good(),
        ),
        record(
            "a hop limit of 255 leaves as 254",
            inside,
            with(frame(), 21, &[255]),
            good(),
        ),
        reason("a hop limit of 1", with(frame(), 21, &[1]), Reason::TtlExpired),
        reason("a hop limit of 0", with(frame(), 21, &[0]), Reason::TtlExpired),
        reason(
            "version 4 in an IPv6 frame",
            with(frame(), 14, &[0x45]),
            Reason::BadVersion,
        ),
        reason(
            "a payload one octet longer than came",
            with(frame(), 18, &[0, 29]),
            Reason::BadTotalLength,
        ),
        reason(
            "a payload of 65535",
            with(frame(), 18, &[0xff, 0xff]),
            Reason::BadTotalLength,
        ),
        record(
            "no payload: the rest is padding",
            inside,
            with(frame(), 18, &[0, 0]),
            sent(house, "2a05::/32", 54),
        ),
    ];
    for (number, name) in [
        (0, "hop-by-hop"),
        (43, "routing"),
        (44, "fragment"),
        (51, "authentication"),
        (60, "destination options"),
        (135, "mobility"),
        (139, "HIP"),
        (140, "shim6"),
        (253, "experiment 253"),
        (254, "experiment 254"),
    ] {
        all.push(reason(
            &format!("extension header {name}"),
            with(frame(), 20, &[number]),
            Reason::ExtensionHeader,
        ));
    }
    all
}

fn icmp(house: &House) -> Vec<Record> {
    let inside = house.ports.inside;
    let frame = |kind: u8, hops: u8| {
        let (source, destination) = (address("2a00:ffff::1"), address("2a05::1"));
        frame::ipv6(
            house.macs(inside),
            source,
            destination,
            ICMP6,
            hops,
            &[kind, 0, 0, 0, 0, 0, 0, 0],
        )
    };
    let mut all = Vec::new();
    for kind in [1, 2, 3, 4, 128, 129, 130, 132, 138, 143, 255] {
        all.push(record(
            &format!("ICMPv6 type {kind} is forwarded"),
            inside,
            frame(kind, 64),
            sent(house, "2a05::/32", 62),
        ));
    }
    for kind in 133..=137 {
        for hops in [1, 64, 255] {
            all.push(leaves(
                &format!("neighbour discovery, type {kind}, hop limit {hops}"),
                inside,
                frame(kind, hops),
                Reason::NeighbourDiscovery,
            ));
        }
    }
    all
}

fn addresses(house: &House) -> Vec<Record> {
    let p = house.ports;
    let from = |ingress: u32, source: &str| {
        with(
            udp6(house.macs(ingress), address("2a05::1"), 64, 20),
            22,
            &address(source).octets(),
        )
    };
    let to = |destination: &str| udp6(house.macs(p.inside), address(destination), 64, 20);
    let good = || sent(house, "2a05::/32", 82);
    let mut all = Vec::new();
    for (special, reason) in [
        ("ff02::1", Reason::Multicast),
        ("ff0e::1234", Reason::Multicast),
        ("fe80::1", Reason::LinkLocal),
        ("febf:ffff::1", Reason::LinkLocal),
        ("::", Reason::MartianAddress),
        ("::1", Reason::MartianAddress),
    ] {
        all.push(leaves(&format!("to {special}"), p.inside, to(special), reason));
        all.push(leaves(
            &format!("from {special}"),
            p.inside,
            from(p.inside, special),
            reason,
        ));
    }
    for beside in ["fe7f:ffff::1", "fec0::1", "feff::1", "::2", "1::", "fd00::1"] {
        all.push(record(
            &format!("from {beside}, beside a special range"),
            p.inside,
            from(p.inside, beside),
            good(),
        ));
    }
    for (source, reason) in [
        ("fd00::1", Reason::BogonSource),
        ("2001:db8::1", Reason::BogonSource),
        ("3fff::1", Reason::BogonSource),
        ("4000::1", Reason::BogonSource),
        ("::1", Reason::BogonSource),
        ("2a0a::", Reason::SpoofedSource),
        ("2a0a:0:ffff:ffff:ffff:ffff:ffff:ffff", Reason::SpoofedSource),
    ] {
        all.push(leaves(
            &format!("from {source}, filtered"),
            p.edge,
            from(p.edge, source),
            reason,
        ));
    }
    for source in ["2600::1", "2a0a:1::", "2a09:ffff::1", "64:ff9b::808:808"] {
        all.push(record(
            &format!("from {source}, not filtered"),
            p.edge,
            from(p.edge, source),
            good(),
        ));
    }
    all.push(leaves(
        "from a link-local address where sources are filtered",
        p.edge,
        from(p.edge, "fe80::5"),
        Reason::LinkLocal,
    ));
    all
}

fn routes(house: &House) -> Vec<Record> {
    let p = house.ports;
    let to = |ingress: u32, destination: &str| udp6(house.macs(ingress), address(destination), 64, 20);
    let mut all: Vec<Record> = [
        ("no route", "2a04:ffff::1", Reason::NoRoute),
        ("no route above", "2a05:1::", Reason::NoRoute),
        ("local", "2a07:1::1", Reason::Local),
        ("a subnet's anycast address", "2a07:2::", Reason::Broadcast),
        ("blackhole", "2a07:3::1", Reason::Blackhole),
        ("unreachable", "2a07:4::1", Reason::Unreachable),
        ("prohibit", "2a07:5::1", Reason::Prohibit),
        (
            "a kind of route we do not know",
            "2a07:6::1",
            Reason::UnsupportedRoute,
        ),
        ("a tunnel", "2a07:7::1", Reason::UnsupportedRoute),
        (
            "a BGP gateway that nothing leads to",
            "2a07:9::1",
            Reason::GatewayUnresolved,
        ),
        (
            "a next-hop object nobody announced",
            "2a07:8::1",
            Reason::UnsupportedRoute,
        ),
        (
            "a host nobody resolved",
            "2a00:18::6",
            Reason::NeighbourUnresolved,
        ),
        (
            "a gateway nobody resolved",
            "2a06:5::1",
            Reason::NextHopUnresolved,
        ),
        ("a link that is down", "2a06:4::1", Reason::NextHopDown),
        (
            "an egress without our program",
            "2a06:6::1",
            Reason::EgressWithoutXdp,
        ),
        ("an egress in generic mode", "2a06:3::1", Reason::EgressWithoutXdp),
        (
            "back where it came from: a redirect is owed",
            "2a06:1::1",
            Reason::SameInterface,
        ),
    ]
    .into_iter()
    .map(|(sentence, destination, reason)| leaves(sentence, p.inside, to(p.inside, destination), reason))
    .collect();
    all.extend([
        record(
            "the first address of a prefix",
            p.inside,
            to(p.inside, "2a05::"),
            sent(house, "2a05::/32", 82),
        ),
        record(
            "the last address of a prefix",
            p.inside,
            to(p.inside, "2a05:0:ffff:ffff:ffff:ffff:ffff:ffff"),
            sent(house, "2a05::/32", 82),
        ),
        record(
            "above a more specific prefix",
            p.inside,
            to(p.inside, "2a05:0:9:4::"),
            sent(house, "2a05::/32", 82),
        ),
        record(
            "a resolved host of a connected subnet",
            p.inside,
            to(p.inside, "2a00:18::5"),
            Expect::Forwarded {
                prefix: "2a00:18::5/128",
                egress: p.out,
                neighbour: "2a00:18::5",
                length: 82,
            },
        ),
        leaves(
            "back where it came from, whatever IPv4 redirects are",
            p.redirects,
            to(p.redirects, "2a06:2::1"),
            Reason::SameInterface,
        ),
        leaves(
            "forwarding is off",
            p.off,
            to(p.off, "2a05::1"),
            Reason::ForwardingOff,
        ),
        leaves(
            "delivery does not ask for forwarding",
            p.off,
            to(p.off, "2a07:1::1"),
            Reason::Local,
        ),
    ]);
    all
}

fn sizes(house: &House) -> Vec<Record> {
    let inside = house.ports.inside;
    let frame = |destination: &str, length: usize| {
        let packet = udp6(house.macs(inside), address(destination), 64, length - 48);
        assert_eq!(packet.len(), 14 + length);
        packet
    };
    vec![
        record(
            "exactly the MTU",
            inside,
            frame("2a05::1", MTU),
            sent(house, "2a05::/32", MTU + 14),
        ),
        leaves(
            "one more than the MTU",
            inside,
            frame("2a05::1", MTU + 1),
            Reason::TooBig,
        ),
        leaves(
            "one more than the route's MTU",
            inside,
            frame("2a06:7::1", 1401),
            Reason::TooBig,
        ),
        leaves(
            "a hop limit of 1 speaks before the size",
            inside,
            with(frame("2a05::1", MTU + 1), 21, &[1]),
            Reason::TtlExpired,
        ),
    ]
}
