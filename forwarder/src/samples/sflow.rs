//! sFlow version 5 (sflow.org/sflow_version_5.txt): XDR, in datagrams that carry flow samples and counter samples.

use std::{collections::HashMap, net::IpAddr};

use forwarder_common::{
    punt::is_rate_limit,
    reason::{Policy, Reason},
};

use super::{datagram::Datagram, fill::Flow};
use crate::netlink::command::LinkStats;

/// Octets of a datagram at most: what crosses any Ethernet beneath an IPv6 header and a tunnel.
const MOST: usize = 1400;

/// `flow_sample`, `counters_sample`.
const FLOW_SAMPLE: u32 = 1;
const COUNTERS_SAMPLE: u32 = 2;
/// `sampled_header`, `extended_router`, `extended_gateway`.
const SAMPLED_HEADER: u32 = 1;
const EXTENDED_ROUTER: u32 = 1002;
const EXTENDED_GATEWAY: u32 = 1003;
/// `if_counters`.
const IF_COUNTERS: u32 = 1;
/// `header_protocol` Ethernet.
const ETHERNET: u32 = 1;
/// `as_path_type` AS_SEQUENCE.
const AS_SEQUENCE: u32 = 2;
/// Octets of the FCS, which a frame's length has in sFlow, and its sampled header has not.
const FCS: u32 = 4;
/// ifType ethernetCsmacd (RFC 2863).
const ETHERNET_CSMACD: u32 = 6;
/// A counter that nobody knows.
const UNKNOWN: u32 = u32::MAX;
/// An output that says what became of a packet that was not sent on.
const DISCARDED: u32 = 1 << 30;
/// "No output interface": for the router itself.
const INTERNAL: u32 = 0x3fff_ffff;

/// What an interface has of samples, when one of its packets is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Packets that could have been sampled, since the tables were made.
    pub packets: u64,
    /// Samples that found no room.
    pub lost: u64,
}

/// An interface, as counter samples tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub ifindex: u32,
    /// Bits each second that it carries; `None` where the driver does not tell, as while it is down.
    pub speed: Option<u64>,
    /// What its driver and the stack count, and whether it is up.
    pub counts: LinkStats,
}

/// Makes datagrams.
pub struct Encoder {
    sub_agent: u32,
    /// Our own AS; 0: unknown.
    own_as: u32,
    /// Datagrams made.
    sequence: u32,
    /// Flow samples told, by interface.
    flows: HashMap<u32, u32>,
    /// Counter samples told, by interface.
    counters: HashMap<u32, u32>,
    /// Samples of the next datagram.
    waiting: Vec<u8>,
    samples: u32,
}

impl Encoder {
    /// `sub_agent` tells exporters at one address apart.
    #[must_use]
    pub fn new(sub_agent: u32, own_as: u32) -> Encoder {
        Encoder {
            sub_agent,
            own_as,
            sequence: 0,
            flows: HashMap::new(),
            counters: HashMap::new(),
            waiting: Vec::new(),
            samples: 0,
        }
    }

    /// Takes a sample. Answers a datagram where it would not fit any more.
    pub fn flow(&mut self, flow: &Flow, pool: Pool, at: Origin) -> Option<Datagram> {
        let sequence = next(&mut self.flows, flow.sample.ingress);
        let mut body = Vec::with_capacity(256);
        words(
            &mut body,
            &[
                sequence,
                flow.sample.ingress,
                flow.sample.rate,
                pool.packets as u32,
                pool.lost as u32,
                flow.sample.ingress,
                output(flow),
                3,
            ],
        );
        record(&mut body, SAMPLED_HEADER, &header(flow));
        record(&mut body, EXTENDED_ROUTER, &router(flow));
        record(&mut body, EXTENDED_GATEWAY, &self.gateway(flow));
        self.add(FLOW_SAMPLE, &body, at)
    }

    /// Takes what an interface has counted.
    pub fn counters(&mut self, interface: &Interface, at: Origin) -> Option<Datagram> {
        let sequence = next(&mut self.counters, interface.ifindex);
        let mut body = Vec::with_capacity(128);
        words(&mut body, &[sequence, interface.ifindex, 1]);
        record(&mut body, IF_COUNTERS, &generic(interface));
        self.add(COUNTERS_SAMPLE, &body, at)
    }

    fn add(&mut self, format: u32, body: &[u8], at: Origin) -> Option<Datagram> {
        // Format and length in front of each; the datagram's own head is the largest it can be.
        let full = 40 + self.waiting.len() + 8 + body.len() > MOST;
        let ready = if full { self.finish(at) } else { None };
        record(&mut self.waiting, format, body);
        self.samples += 1;
        ready
    }

    /// The datagram with what waits, if anything does.
    pub fn finish(&mut self, at: Origin) -> Option<Datagram> {
        if self.samples == 0 {
            return None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mut octets = Vec::with_capacity(MOST);
        word(&mut octets, 5);
        address(&mut octets, Some(at.agent));
        words(
            &mut octets,
            &[self.sub_agent, self.sequence, at.uptime, self.samples],
        );
        octets.append(&mut self.waiting);
        let samples = std::mem::take(&mut self.samples);
        Some(Datagram { octets, samples })
    }

    /// What BGP says: our AS, those of the source, and the way to the destination. Of that the directory keeps both ends, the AS
    /// it is heard from and the one it comes from, and so does this.
    fn gateway(&self, flow: &Flow) -> Vec<u8> {
        let mut octets = Vec::new();
        address(&mut octets, None);
        let (from, to) = (flow.source, flow.destination);
        words(&mut octets, &[self.own_as, from.origin_as, from.neighbour_as]);
        let mut path: Vec<u32> = [to.neighbour_as, to.origin_as]
            .into_iter()
            .filter(|number| *number != 0)
            .collect();
        path.dedup();
        if path.is_empty() {
            word(&mut octets, 0);
        } else {
            words(&mut octets, &[1, AS_SEQUENCE, path.len() as u32]);
            words(&mut octets, &path);
        }
        // No communities; local preference unknown.
        words(&mut octets, &[0, 0]);
        octets
    }
}

/// Who tells, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Address by which collectors know the router.
    pub agent: IpAddr,
    /// Milliseconds since it began.
    pub uptime: u32,
}

/// The next number for an interface.
fn next(numbers: &mut HashMap<u32, u32>, ifindex: u32) -> u32 {
    let number = numbers.entry(ifindex).or_default();
    *number = number.wrapping_add(1);
    *number
}

/// Where it went, or what became of it.
fn output(flow: &Flow) -> u32 {
    match flow.reason {
        Reason::Forwarded => flow.sample.egress,
        Reason::Local => INTERNAL,
        reason if reason.policy() == Policy::Drop => DISCARDED | discarded(reason),
        // The kernel's to decide.
        _ => 0,
    }
}

/// Why it was dropped: "traffic shaping/rate limiting" or "ACL".
fn discarded(reason: Reason) -> u32 {
    const ACL: u32 = 258;
    const LIMITED: u32 = 261;
    if is_rate_limit(reason) { LIMITED } else { ACL }
}

fn header(flow: &Flow) -> Vec<u8> {
    let mut octets = Vec::with_capacity(160);
    words(
        &mut octets,
        &[ETHERNET, flow.sample.length.wrapping_add(FCS), FCS],
    );
    opaque(&mut octets, flow.header());
    octets
}

fn router(flow: &Flow) -> Vec<u8> {
    let mut octets = Vec::new();
    address(&mut octets, flow.next_hop);
    let lengths = [flow.source.length.into(), flow.destination.length.into()];
    words(&mut octets, &lengths);
    octets
}

fn generic(interface: &Interface) -> Vec<u8> {
    const FULL_DUPLEX: u32 = 1;
    let counts = interface.counts;
    let set = |flag: i32| u32::from(counts.flags & flag as u32 != 0);
    let mut octets = Vec::with_capacity(88);
    words(&mut octets, &[interface.ifindex, ETHERNET_CSMACD]);
    octets.extend(interface.speed.unwrap_or(0).to_be_bytes());
    let status = set(libc::IFF_UP) | set(libc::IFF_RUNNING) << 1;
    words(&mut octets, &[FULL_DUPLEX, status]);
    octets.extend(counts.rx_bytes.to_be_bytes());
    // Drivers tell one number for unicast, multicast and broadcast.
    let packets = |all: u64, dropped: u64, errors: u64| {
        [
            all as u32,
            UNKNOWN,
            UNKNOWN,
            dropped as u32,
            errors as u32,
            UNKNOWN,
        ]
    };
    words(
        &mut octets,
        &packets(counts.rx_packets, counts.rx_dropped, counts.rx_errors),
    );
    octets.extend(counts.tx_bytes.to_be_bytes());
    let sent = packets(counts.tx_packets, counts.tx_dropped, counts.tx_errors);
    words(&mut octets, &sent[..5]);
    word(&mut octets, set(libc::IFF_PROMISC));
    octets
}

fn word(octets: &mut Vec<u8>, word: u32) {
    octets.extend(word.to_be_bytes());
}

fn words(octets: &mut Vec<u8>, words: &[u32]) {
    octets.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

fn record(octets: &mut Vec<u8>, format: u32, body: &[u8]) {
    word(octets, format);
    opaque(octets, body);
}

fn opaque(octets: &mut Vec<u8>, body: &[u8]) {
    word(octets, body.len() as u32);
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(4), 0);
}

fn address(octets: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => word(octets, 0),
        Some(IpAddr::V4(address)) => {
            word(octets, 1);
            octets.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            word(octets, 2);
            octets.extend(address.octets());
        }
    }
}
