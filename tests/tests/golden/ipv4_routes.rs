//! Records about IPv4 routes and MTUs.

use forwarder_common::reason::Reason;
use forwarder_tests::frame::{self, udp4, with};

use super::house::{Expect, House, MTU, OUT6, Record, leaves, record};
use super::ipv4::sent;

/// Records that need no more than the house as it was built.
pub fn records(house: &House) -> Vec<Record> {
    [routes(house), sizes(house)].concat()
}

fn routes(house: &House) -> Vec<Record> {
    let p = house.ports;
    let to = |ingress: u32, destination: [u8; 4]| udp4(house.macs(ingress), destination, 64, 20);
    let mut all: Vec<Record> = [
        ("no route", [4, 255, 255, 255], Reason::NoRoute),
        ("no route above", [6, 0, 0, 0], Reason::NoRoute),
        ("local", [7, 1, 0, 1], Reason::Local),
        ("a broadcast address", [7, 2, 255, 255], Reason::Broadcast),
        ("blackhole", [7, 3, 0, 1], Reason::Blackhole),
        ("unreachable", [7, 4, 0, 1], Reason::Unreachable),
        ("prohibit", [7, 5, 0, 1], Reason::Prohibit),
        (
            "a kind of route we do not know",
            [7, 6, 0, 1],
            Reason::UnsupportedRoute,
        ),
        ("a tunnel", [7, 7, 0, 1], Reason::UnsupportedRoute),
        (
            "a BGP gateway that nothing leads to",
            [7, 9, 0, 1],
            Reason::GatewayUnresolved,
        ),
        (
            "a next-hop object nobody announced",
            [7, 8, 0, 1],
            Reason::UnsupportedRoute,
        ),
        (
            "a host nobody resolved",
            [198, 18, 0, 6],
            Reason::NeighbourUnresolved,
        ),
        (
            "the last of a connected subnet",
            [198, 18, 0, 255],
            Reason::NeighbourUnresolved,
        ),
        (
            "a gateway nobody resolved",
            [6, 5, 0, 1],
            Reason::NextHopUnresolved,
        ),
        ("a link that is down", [6, 4, 0, 1], Reason::NextHopDown),
        (
            "an egress without our program",
            [6, 6, 0, 1],
            Reason::EgressWithoutXdp,
        ),
        (
            "an egress in generic mode",
            [6, 3, 0, 1],
            Reason::EgressWithoutXdp,
        ),
    ]
    .into_iter()
    .map(|(sentence, destination, reason)| leaves(sentence, p.inside, to(p.inside, destination), reason))
    .collect();
    let short = |mut packet: Vec<u8>| {
        packet = with(packet, 22, &[1]);
        packet
    };
    all.extend([
        record(
            "the first address of a prefix",
            p.inside,
            to(p.inside, [5, 0, 0, 0]),
            sent(house, "5.0.0.0/8", 62),
        ),
        record(
            "the last address of a prefix",
            p.inside,
            to(p.inside, [5, 255, 255, 255]),
            sent(house, "5.0.0.0/8", 62),
        ),
        record(
            "below a more specific prefix",
            p.inside,
            to(p.inside, [5, 9, 8, 255]),
            sent(house, "5.0.0.0/8", 62),
        ),
        record(
            "above a more specific prefix",
            p.inside,
            to(p.inside, [5, 9, 9, 4]),
            sent(house, "5.0.0.0/8", 62),
        ),
        record(
            "the route's MTU is the next hop's own",
            p.inside,
            to(p.inside, [5, 50, 0, 1]),
            Expect::Forwarded {
                prefix: "5.50.0.0/16",
                egress: p.out,
                neighbour: OUT6,
                length: 62,
            },
        ),
        record(
            "a resolved host of a connected subnet",
            p.inside,
            to(p.inside, [198, 18, 0, 5]),
            Expect::Forwarded {
                prefix: "198.18.0.5/32",
                egress: p.out,
                neighbour: "198.18.0.5",
                length: 62,
            },
        ),
        record(
            "back where it came from, where no redirect is owed",
            p.inside,
            to(p.inside, [6, 1, 0, 1]),
            Expect::Forwarded {
                prefix: "6.1.0.0/16",
                egress: p.inside,
                neighbour: "203.0.113.2",
                length: 62,
            },
        ),
        leaves(
            "back where it came from, where a redirect is owed",
            p.redirects,
            to(p.redirects, [6, 2, 0, 1]),
            Reason::SameInterface,
        ),
        record(
            "elsewhere from where redirects are owed",
            p.redirects,
            to(p.redirects, [5, 1, 0, 1]),
            sent(house, "5.0.0.0/8", 62),
        ),
        leaves(
            "forwarding is off",
            p.off,
            to(p.off, [5, 1, 0, 1]),
            Reason::ForwardingOff,
        ),
        leaves(
            "delivery does not ask for forwarding",
            p.off,
            to(p.off, [7, 1, 0, 1]),
            Reason::Local,
        ),
        leaves(
            "without a route there is nothing to forward",
            p.off,
            to(p.off, [4, 0, 0, 1]),
            Reason::NoRoute,
        ),
        leaves(
            "a TTL of 1 to ourselves is delivered",
            p.inside,
            short(to(p.inside, [7, 1, 0, 1])),
            Reason::Local,
        ),
        leaves(
            "a TTL of 1 into a blackhole is gone all the same",
            p.inside,
            short(to(p.inside, [7, 3, 0, 1])),
            Reason::Blackhole,
        ),
    ]);
    all
}

fn sizes(house: &House) -> Vec<Record> {
    let inside = house.ports.inside;
    let frame = |destination: [u8; 4], length: usize, df: bool| {
        let packet = udp4(house.macs(inside), destination, 64, length - 28);
        assert_eq!(packet.len(), 14 + length);
        if df { packet } else { with(packet, 20, &[0, 0]) }
    };
    let (plain, route) = ([5, 1, 2, 3], [6, 7, 0, 1]);
    vec![
        record(
            "exactly the MTU",
            inside,
            frame(plain, MTU, true),
            sent(house, "5.0.0.0/8", MTU + 14),
        ),
        leaves(
            "one more, with DF",
            inside,
            frame(plain, MTU + 1, true),
            Reason::TooBig,
        ),
        leaves(
            "one more, to be fragmented",
            inside,
            frame(plain, MTU + 1, false),
            Reason::TooBig,
        ),
        leaves(
            "one more than the route's MTU",
            inside,
            frame(route, 1401, true),
            Reason::TooBig,
        ),
        leaves(
            "a TTL of 1 speaks before the size",
            inside,
            with(frame(plain, MTU + 1, true), 22, &[1]),
            Reason::TtlExpired,
        ),
        record(
            "padding does not count as size",
            inside,
            frame::pad(frame(plain, MTU, true), MTU + 30),
            sent(house, "5.0.0.0/8", MTU + 14),
        ),
    ]
}
