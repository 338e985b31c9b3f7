//! A sample, filled from small tables and told both ways, octet by octet.

use std::{net::UdpSocket, time::Duration};

use forwarder_common::{
    directory::PortEntry,
    fib::Leaf,
    reason::Reason,
    sample::{HEADER, Sample},
};

use super::*;
use crate::{
    fib::slots::RESERVED,
    netlink::command::LinkStats,
    samples::{
        fill::{Flow, Network, fill},
        packet::Packet,
        sflow::Encoder as Sflow,
    },
    stats::sample::tables,
};

/// The frame of a UDP packet from 198.51.100.7 port 53 to 198.51.100.9 port 4000.
const FRAME: [u8; 46] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
    0x45, 0xc0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 198, 51, 100, 7, 198, 51, 100, 9, // IPv4
    0, 53, 0x0f, 0xa0, 0, 12, 0, 0, 1, 2, 3, 4, // UDP
];

/// It came in by interface 11, port 1, and went to next hop 3 by 12.
fn sample() -> Sample {
    let mut header = [0xee; HEADER];
    header[..FRAME.len()].copy_from_slice(&FRAME);
    Sample {
        time_ns: 1_500_000_000,
        ingress: 11,
        egress: 12,
        slot: RESERVED,
        nexthop: 3,
        length: 60,
        rate: 100,
        port: 1,
        reason: Reason::Forwarded.index() as u16,
        captured: FRAME.len() as u16,
        header,
    }
}

const EPOCH: Duration = Duration::from_secs(1_000_000);

fn flow() -> Flow {
    fill(&tables(), sample(), EPOCH)
}

const KNOWN: Network = Network {
    length: 24,
    origin_as: 64_510,
    neighbour_as: 64_501,
};

#[test]
fn a_sample_is_filled_with_what_the_directories_say() {
    let flow = flow();
    assert_eq!((flow.source, flow.destination), (KNOWN, KNOWN));
    assert_eq!(flow.next_hop, Some("192.0.2.9".parse().expect("address")));
    assert_eq!(flow.at, Duration::from_millis(1_000_001_500));
    assert_eq!(flow.header(), FRAME);
    assert_eq!(flow.reason, Reason::Forwarded);
}

#[test]
fn what_has_become_anothers_since_is_not_told_of_it() {
    let tables = tables();
    // The slot is now that of 2001:db8:5::/48: the table is asked what it has now.
    let elsewhere = Sample {
        slot: RESERVED + 1,
        ..sample()
    };
    assert_eq!(fill(&tables, elsewhere, EPOCH).destination, KNOWN);
    // Nor is a next hop that leads out by another interface.
    let moved = Sample {
        egress: 13,
        ..sample()
    };
    assert_eq!(fill(&tables, moved, EPOCH).next_hop, None);
    // Numbers that no table has.
    let wild = Sample {
        slot: u32::MAX,
        nexthop: u32::MAX,
        port: u32::MAX,
        reason: u16::MAX,
        captured: u16::MAX,
        ..sample()
    };
    let flow = fill(&tables, wild, EPOCH);
    assert_eq!((flow.reason, flow.next_hop), (Reason::Internal, None));
    assert_eq!((flow.destination, flow.header().len()), (KNOWN, HEADER));
    assert_eq!(pool(&tables, u32::MAX), Pool::default());
    // A leaf that names a slot which is free, or another prefix's.
    let leaf = Leaf::route(5, RESERVED + 2);
    let word = (198 << 16 | 51 << 8 | 100) * 4;
    tables.fib4_root.u32(word).store(leaf.0, Ordering::Release);
    assert_eq!(fill(&tables, sample(), EPOCH).source, Network::default());
}

fn words(octets: &[u8]) -> Vec<u32> {
    let (words, rest) = octets.as_chunks::<4>();
    assert!(rest.is_empty());
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

const AT: Origin = Origin {
    agent: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    uptime: 7_000,
};

#[test]
fn a_flow_sample_of_sflow_has_every_word_in_its_place() {
    let mut encoder = Sflow::new(5, 64_500);
    let pool = Pool {
        packets: 1 << 32 | 42,
        lost: 6,
    };
    assert_eq!(encoder.flow(&flow(), pool, AT), None);
    let datagram = encoder.finish(AT).expect("a datagram");
    assert_eq!(datagram.samples, 1);
    let mut expected = vec![5, 1, 0xc000_0201, 5, 1, 7_000, 1];
    // flow_sample, its octets, sequence, source, rate, pool, drops, input, output, records
    expected.extend([1, 180, 1, 11, 100, 42, 6, 11, 12, 3]);
    // sampled_header: Ethernet, length with FCS, stripped, octets
    expected.extend([1, 64, 1, 64, 4, 46]);
    let mut padded = FRAME.to_vec();
    padded.extend([0, 0]);
    expected.extend(words(&padded));
    // extended_router: IPv4, next hop, lengths
    expected.extend([1002, 16, 1, 0xc000_0209, 24, 24]);
    // extended_gateway: no next hop; AS; source, its peer; one segment, a sequence, of two; no communities; preference
    expected.extend([1003, 44, 0, 64_500, 64_510, 64_501, 1, 2, 2, 64_501, 64_510, 0, 0]);
    assert_eq!(words(&datagram.octets), expected);
    assert_eq!(encoder.finish(AT), None);
}

#[test]
fn sflow_says_what_became_of_packets_that_were_not_sent_on() {
    for (reason, output) in [
        (Reason::Forwarded, 12),
        (Reason::Local, 0x3fff_ffff),
        (Reason::NoRoute, 0),
        (Reason::Arp, 0),
        (Reason::BogonSource, 0x4000_0000 | 258),
        (Reason::Blackhole, 0x4000_0000 | 258),
        (Reason::RateLimited, 0x4000_0000 | 261),
        (Reason::ArpLimited, 0x4000_0000 | 261),
    ] {
        let mut encoder = Sflow::new(0, 0);
        let flow = Flow { reason, ..flow() };
        assert_eq!(encoder.flow(&flow, Pool::default(), AT), None);
        let said = words(&encoder.finish(AT).expect("a datagram").octets)[15];
        assert_eq!(said, output, "{}", reason.name());
    }
}

#[test]
fn a_counter_sample_has_what_the_driver_says() {
    let mut encoder = Sflow::new(0, 0);
    let interface = Interface {
        ifindex: 11,
        speed: Some(10_000_000_000),
        counts: LinkStats {
            rx_packets: 1,
            rx_bytes: 1 << 32 | 2,
            rx_dropped: 3,
            rx_errors: 4,
            tx_packets: 5,
            tx_bytes: 6,
            tx_dropped: 7,
            tx_errors: 8,
            flags: (libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_PROMISC) as u32,
        },
    };
    for number in 1..=2 {
        assert_eq!(encoder.counters(&interface, AT), None);
        let said = words(&encoder.finish(AT).expect("a datagram").octets);
        let mut expected = vec![2, 108, number, 11, 1, 1, 88, 11, 6, 2, 0x540b_e400, 1, 3];
        let no = u32::MAX;
        expected.extend([1, 2, 1, no, no, 3, 4, no, 0, 6, 5, no, no, 7, 8, 1]);
        assert_eq!(said[7..], expected);
    }
}

#[test]
fn a_datagram_is_sent_when_the_next_sample_would_not_fit() {
    let full = Sample {
        captured: HEADER as u16,
        ..sample()
    };
    let flow = fill(&tables(), full, EPOCH);
    let (mut sflow, mut ipfix) = (Sflow::new(0, 0), ipfix::Encoder::new(0, 100));
    let (mut datagrams, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        datagrams.extend(sflow.flow(&flow, Pool::default(), AT));
        messages.extend(ipfix.flow(&flow, 9));
    }
    datagrams.extend(sflow.finish(AT));
    messages.extend(ipfix.finish(9));
    for (name, list) in [("sflow", &datagrams), ("ipfix", &messages)] {
        let samples: u32 = list.iter().map(|one| one.samples).sum();
        assert_eq!(samples, 100, "{name}");
        let lengths: Vec<usize> = list.iter().map(|one| one.octets.len()).collect();
        assert!(lengths.iter().all(|length| *length <= 1400), "{name} {lengths:?}");
        let (_, but_last) = lengths.split_last().expect("some");
        assert!(but_last.iter().all(|length| *length > 1000), "{name} {lengths:?}");
    }
    // Sequences: of datagrams, of data records.
    let sequences: Vec<u32> = datagrams.iter().map(|one| words(&one.octets)[4]).collect();
    assert_eq!(sequences, (1..=datagrams.len() as u32).collect::<Vec<_>>());
    let mut told = 0;
    for message in &messages {
        let sequence = u32::from_be_bytes(message.octets[8..12].try_into().expect("four"));
        assert_eq!(sequence, told);
        told += message.samples;
    }
}

#[test]
fn a_message_of_ipfix_has_records_of_one_template() {
    let mut encoder = ipfix::Encoder::new(0, 100);
    let four = flow();
    let mut other = sample();
    other.header[12] = 9;
    let other = fill(&tables(), other, EPOCH);
    for flow in [&four, &other, &four, &other, &four] {
        assert_eq!(encoder.flow(flow, 9), None);
    }
    let messages: Vec<Datagram> = encoder.finish(9).collect();
    let told: Vec<_> = messages
        .iter()
        .map(|message| {
            let half = |at: usize| u16::from_be_bytes([message.octets[at], message.octets[at + 1]]);
            let whole = usize::from(half(18)) + 16 == message.octets.len();
            (half(16), message.samples, message.octets[11], whole)
        })
        .collect();
    assert_eq!(told, [(256, 3, 0, true), (259, 2, 3, true)]);
    assert_eq!(encoder.finish(9).count(), 0);
}

/// Fields and their values of the first record in a message, by the templates of another.
fn record(templates: &[u8], message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let half = |octets: &[u8], at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    assert_eq!(usize::from(half(message, 2)), message.len());
    let wanted = half(message, 16);
    let mut at = 20;
    loop {
        let (id, fields) = (half(templates, at), usize::from(half(templates, at + 2)));
        if id == wanted {
            break;
        }
        at += 4 + fields * 4;
    }
    let fields = usize::from(half(templates, at + 2));
    let mut value = 20;
    let mut record = Vec::new();
    for field in 0..fields {
        let (element, length) = (
            half(templates, at + 4 + field * 4),
            half(templates, at + 6 + field * 4),
        );
        let mut length = usize::from(length);
        if length == 0xffff {
            length = usize::from(message[value]);
            value += 1;
        }
        record.push((element, message[value..value + length].to_vec()));
        value += length;
    }
    assert_eq!(value, message.len(), "the record is as long as its fields");
    assert_eq!(usize::from(half(message, 18)), message.len() - 16);
    record
}

#[test]
fn a_record_of_ipfix_is_what_its_template_says() {
    let mut encoder = ipfix::Encoder::new(7, 100);
    let templates = encoder.templates(8);
    assert_eq!(
        templates.octets[..20],
        [
            &[0, 10][..],
            &(templates.octets.len() as u16).to_be_bytes(),
            &[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2],
            &templates.octets[18..20],
        ]
        .concat()
    );
    assert!(templates.octets.len() <= 1400);
    // The options record is the last set: selector 1, random, one in 100, and so for older readers.
    let (_, options) = templates.octets.split_at(templates.octets.len() - 27);
    assert_eq!(options[..4], [1, 4, 0, 27]);
    assert_eq!(
        options[4..],
        [
            0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 1, 0, 0, 0, 100, 2, 0, 0, 0, 100
        ]
    );
    assert_eq!(encoder.flow(&flow(), 9), None);
    let message = encoder.finish(9).next().expect("a message");
    assert_eq!(message.octets[4..16], [0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 7]);
    let number = |value: u64, octets: usize| value.to_be_bytes()[8 - octets..].to_vec();
    let milliseconds = number(1_000_001_500, 8);
    let expected: Vec<(u16, Vec<u8>)> = vec![
        (152, milliseconds.clone()),
        (153, milliseconds),
        (1, number(32, 8)),
        (2, number(1, 8)),
        (302, number(1, 8)),
        (34, number(100, 4)),
        (10, number(11, 4)),
        (14, number(12, 4)),
        (61, vec![0]),
        (89, vec![64]),
        (56, vec![2, 0, 0, 0, 0, 2]),
        (80, vec![2, 0, 0, 0, 0, 1]),
        (256, vec![8, 0]),
        (58, vec![0, 0]),
        (8, vec![198, 51, 100, 7]),
        (12, vec![198, 51, 100, 9]),
        (4, vec![17]),
        (5, vec![0xc0]),
        (192, vec![64]),
        (7, number(53, 2)),
        (11, number(4000, 2)),
        (6, vec![0, 0]),
        (32, vec![0, 0]),
        (15, vec![192, 0, 2, 9]),
        (9, vec![24]),
        (13, vec![24]),
        (16, number(64_510, 4)),
        (17, number(64_510, 4)),
        (129, number(64_501, 4)),
        (128, number(64_501, 4)),
        (312, number(60, 2)),
        (315, FRAME.to_vec()),
    ];
    assert_eq!(record(&templates.octets, &message.octets), expected);
}

#[test]
fn ipfix_tells_ipv6_and_what_is_not_ip_by_other_templates() {
    let mut encoder = ipfix::Encoder::new(0, 1);
    let templates = encoder.templates(8).octets;
    let mut told = |flow: &Flow| {
        assert_eq!(encoder.flow(flow, 9), None);
        record(&templates, &encoder.finish(9).next().expect("a message").octets)
    };
    let value = |record: &[(u16, Vec<u8>)], element| {
        let mut found = record.iter().filter(|(known, _)| *known == element);
        found.next().map(|(_, value)| value.clone())
    };
    let gateway: IpAddr = "fe80::9".parse().expect("address");
    let by_ipv6 = told(&Flow {
        next_hop: Some(gateway),
        ..flow()
    });
    assert_eq!(value(&by_ipv6, 62).map(|v| (v[0], v[15])), Some((0xfe, 9)));
    assert_eq!((value(&by_ipv6, 15), value(&by_ipv6, 8).is_some()), (None, true));
    let mut six = flow();
    if let Some(ip) = &mut six.packet.ip {
        (ip.source, ip.destination) = (gateway, gateway);
        (ip.protocol, ip.icmp) = (58, 0x8000);
    }
    six.next_hop = None;
    let six = told(&six);
    assert_eq!(
        (value(&six, 62), value(&six, 27).map(|v| v[15])),
        (Some(vec![0; 16]), Some(9))
    );
    assert_eq!(
        (value(&six, 139), value(&six, 30)),
        (Some(vec![128, 0]), Some(vec![24]))
    );
    let mut arp = sample();
    arp.header[12..14].copy_from_slice(&[8, 6]);
    arp.reason = Reason::Arp.index() as u16;
    (arp.egress, arp.nexthop, arp.slot) = (0, 0, 0);
    let flow = fill(&tables(), arp, EPOCH);
    assert_eq!((flow.packet.ip, flow.source), (None, Network::default()));
    let arp = told(&flow);
    assert_eq!(
        (value(&arp, 1), value(&arp, 352)),
        (None, Some(vec![0, 0, 0, 0, 0, 0, 0, 60]))
    );
    assert_eq!(
        (value(&arp, 256), value(&arp, 89)),
        (Some(vec![8, 6]), Some(vec![192]))
    );
}

#[test]
fn an_exporter_tells_each_collector_in_its_own_words() {
    let receive = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (sflow, ipfix) = (receive(), receive());
    let config = SamplesConfig {
        sflow: vec![sflow.local_addr().expect("address")],
        ipfix: vec![ipfix.local_addr().expect("address")],
        ..SamplesConfig::default()
    };
    let mut exporter = Exporter::new(tables(), config, 0, 1_000);
    exporter.connect(2_000);
    exporter.sample(sample(), EPOCH, 2_000);
    exporter.flush(2_000);
    let mut octets = [0; 2048];
    let length = sflow.recv(&mut octets).expect("a datagram");
    let said = words(&octets[..length]);
    // The agent's address is the one it sends from; uptime; one sample; its pool is all that port 1 received.
    assert_eq!(said[..7], [5, 1, 0x7f00_0001, 0, 1, 1_000, 1]);
    assert_eq!((said[12], said[13]), (42, 0));
    ipfix.recv(&mut octets).expect("templates");
    assert_eq!(octets[16..18], [0, 2]);
    ipfix.recv(&mut octets).expect("a message");
    assert_eq!(octets[16..18], [1, 0]);
    // Templates come again when a minute is over, and not before.
    exporter.connect(61_999);
    exporter.connect(62_000);
    ipfix.recv(&mut octets).expect("templates");
    assert_eq!(octets[16..18], [0, 2]);
    let state = exporter.state();
    let sent: Vec<_> = state
        .collectors
        .iter()
        .map(|to| (to.protocol.name(), to.datagrams, to.samples, to.errors))
        .collect();
    assert_eq!(sent, [("sflow", 1, 1, 0), ("ipfix", 3, 1, 0)]);
}

#[test]
fn ports_that_are_no_longer_served_have_no_counters_to_tell() {
    let tables = tables();
    let gone = PortEntry {
        state: ports::DETACHED,
        ..tables.port_directory.get(2)
    };
    tables.port_directory.set(2, &gone);
    let served = ports::used(&tables)
        .filter(|(_, entry)| matches!(entry.state, ports::NATIVE | ports::GENERIC))
        .count();
    assert_eq!(served, 1);
    assert_eq!(Packet::read(&[]), Packet::default());
}
