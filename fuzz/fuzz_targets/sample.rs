//! A sampled frame, as it came from a wire: its length on that, what became of it, and its first octets. What is told of it fits a
//! datagram, and every octet of it that is read stands in it.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use forwarder::samples::{
    fill::{Flow, Network},
    ipfix,
    packet::Packet,
    sflow::{self, Origin, Pool},
};
use forwarder_common::{
    reason::Reason,
    sample::{HEADER, Sample},
};
use libfuzzer_sys::fuzz_target;

/// What goes through any Ethernet, and so the most that a datagram may have.
const MOST: usize = 1400;

fuzz_target!(|data: &[u8]| {
    let [length, reason, way, frame @ ..] = data else {
        return;
    };
    let frame = &frame[..frame.len().min(HEADER)];
    let packet = Packet::read(frame);
    let mut header = [0; HEADER];
    header[..frame.len()].copy_from_slice(frame);
    let reason = usize::from(*reason) % Reason::ALL.len();
    let network = Network {
        length: *way,
        origin_as: u32::MAX,
        neighbour_as: 1,
    };
    let flow = Flow {
        sample: Sample {
            time_ns: 0,
            ingress: 1,
            egress: 2,
            slot: 3,
            nexthop: 4,
            length: u32::from(*length) * 64,
            rate: 1,
            port: 1,
            reason: reason as u16,
            captured: frame.len() as u16,
            header,
        },
        reason: Reason::ALL[reason],
        at: Duration::ZERO,
        packet,
        next_hop: match way & 3 {
            0 => None,
            1 => Some(Ipv4Addr::LOCALHOST.into()),
            _ => Some(IpAddr::from([
                0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            ])),
        },
        source: network,
        destination: network,
    };
    if let Some(ip) = packet.ip {
        assert_eq!(ip.source.is_ipv4(), ip.destination.is_ipv4());
    }
    let (mut sflow, mut ipfix) = (sflow::Encoder::new(0, 0), ipfix::Encoder::new(0, 1));
    let origin = Origin {
        agent: Ipv4Addr::LOCALHOST.into(),
        uptime: 0,
    };
    // So many that a datagram is full.
    let mut told = Vec::new();
    for _ in 0..8 {
        told.extend(sflow.flow(&flow, Pool::default(), origin));
        told.extend(ipfix.flow(&flow, 0));
    }
    told.extend(sflow.finish(origin));
    told.extend(ipfix.finish(0));
    assert_eq!(told.iter().map(|datagram| datagram.samples).sum::<u32>(), 16);
    assert!(told.iter().all(|datagram| datagram.octets.len() <= MOST));
});
