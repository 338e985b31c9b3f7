//! Punt protection: one packet of each class goes up, the next one is too much.

use forwarder::{config::PuntConfig, punt::install};
use forwarder_common::{
    punt::Class,
    reason::Reason::{self, *},
};
use forwarder_tests::frame::{self, TCP, UDP, ethernet, ipv4, ipv6, udp, udp4, with};

use super::house::{House, Record, leaves};

const ICMP: u8 = 1;
const VRRP: u8 = 112;

/// Octets of a TCP header to a port.
pub fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0, 0, 0, 0, 0, 0]);
    segment
}

/// A packet of each class, with the reason that it is passed by.
fn packets(house: &House) -> Vec<(Class, Vec<u8>, Reason)> {
    let p = house.ports;
    let macs = house.macs(p.inside);
    let group = |last| ([1, 0, 0x5e, 0, 0, last], macs.1);
    let from = [192, 0, 2, 1].into();
    let me = [7, 1, 0, 1].into();
    let link_local = |last| std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last);
    let mut arp = ethernet([0xff; 6], macs.1, 0x0806);
    arp.extend([0; 28]);
    let mut broken = udp4(macs, [5, 1, 2, 3], 64, 20);
    broken[24] ^= 1;
    let options = [&[1, 1, 1, 0][..], &udp(1, 2, 0)].concat();
    let options = with(
        ipv4(macs, from, [5, 1, 2, 3].into(), UDP, 64, &options),
        14,
        &[0x46],
    );
    let solicitation = [&[135, 0, 0, 0][..], &[0; 20]].concat();
    vec![
        (Class::Arp, arp, Arp),
        (
            Class::Nd,
            ipv6(
                macs,
                link_local(1),
                link_local(2),
                frame::ICMP6,
                255,
                &solicitation,
            ),
            NeighbourDiscovery,
        ),
        (
            Class::LinkControl,
            ipv4(group(18), from, [224, 0, 0, 18].into(), VRRP, 255, &[0x21; 8]),
            LinkMulticast,
        ),
        (
            Class::Multicast,
            ipv4(
                group(251),
                from,
                [224, 0, 0, 251].into(),
                UDP,
                255,
                &udp(5353, 5353, 8),
            ),
            LinkMulticast,
        ),
        (Class::TtlExpired, udp4(macs, [5, 1, 2, 3], 1, 20), TtlExpired),
        (Class::Unresolved, udp4(macs, [7, 4, 0, 1], 64, 20), Unreachable),
        (Class::Options, options, Options),
        (Class::Malformed, broken, BadChecksum),
        (
            Class::LocalIcmp,
            ipv4(macs, from, me, ICMP, 64, &[8, 0, 0, 0, 0, 0, 0, 0]),
            Local,
        ),
        (
            Class::LocalControl,
            ipv4(macs, from, me, TCP, 64, &tcp(40_000, 179, 2)),
            Local,
        ),
        (Class::LocalOther, udp4(macs, [7, 1, 0, 1], 64, 20), Local),
    ]
}

/// The packets alone.
pub fn frames(house: &House) -> Vec<Vec<u8>> {
    packets(house).into_iter().map(|(_, packet, _)| packet).collect()
}

/// Goes through all of them. Answers every failure.
pub fn run(house: &mut House) -> Vec<String> {
    let tables = house.sandbox.engine.view();
    let one_a_second = PuntConfig {
        rates: [(1, 1); Class::ALL.len()],
        ..PuntConfig::default()
    };
    install(tables, &one_a_second, false);
    let inside = house.ports.inside;
    let mut records: Vec<Record> = Vec::new();
    for (class, packet, reason) in packets(house) {
        let sentence = |what| format!("{}: {what}", class.name());
        records.push(leaves(&sentence("one goes up"), inside, packet.clone(), reason));
        records.push(leaves(
            &sentence("the next is too much"),
            inside,
            packet,
            class.limited(),
        ));
    }
    // What the operator left to the kernel is not limited.
    let mut tagged = ethernet(house.macs(inside).0, [2; 6], 0x8100);
    tagged.extend([0, 1]);
    tagged.extend([0; 44]);
    for _ in 0..3 {
        records.push(leaves("tagged frames go up", inside, tagged.clone(), Tagged));
    }
    let mut failures = house.hold_all(&records);
    let off = PuntConfig {
        enabled: false,
        ..PuntConfig::default()
    };
    install(house.sandbox.engine.view(), &off, false);
    let all = packets(house).into_iter();
    let records: Vec<Record> = all
        .map(|(class, packet, reason)| leaves(&format!("{}: off", class.name()), inside, packet, reason))
        .collect();
    failures.extend(house.hold_all(&records));
    failures
}
