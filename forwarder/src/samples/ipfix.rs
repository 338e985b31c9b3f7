//! IPFIX (RFC 7011): a data record for each sample, in messages over UDP.
//!
//! A template says which fields a record has; collectors that have not heard it cannot read anything, and UDP loses messages, so
//! templates are said again every minute. How packets are chosen (RFC 5477) stands in an options record beside them, and as
//! samplingInterval in each record, too, for collectors that read no options.
//!
//! A message has records of one template: readers that look into dataLinkFrameSection (Wireshark is one) may have forgotten
//! behind it whose templates they need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder_common::{
    punt::is_rate_limit,
    reason::{Policy, Reason},
};

use super::{datagram::Datagram, fill::Flow};

/// Octets of a message at most, as in `sflow`.
const MOST: usize = 1400;
/// Octets of a message's head.
const HEAD: usize = 16;
const VERSION: u16 = 10;
const TEMPLATE_SET: u16 = 2;
const OPTIONS_TEMPLATE_SET: u16 = 3;
/// Number of the options template.
const SELECTOR: u16 = 260;
/// The length of a field that says its length itself.
const VARIABLE: u16 = 0xffff;
/// Our only selector.
const SELECTOR_ID: u64 = 1;

/// Which fields a record has: its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ipv4 = 256,
    Ipv6 = 257,
    /// IPv4 by an IPv6 next hop (RFC 8950).
    Ipv4ByIpv6 = 258,
    /// Anything else.
    Ethernet = 259,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Ipv4, Kind::Ipv6, Kind::Ipv4ByIpv6, Kind::Ethernet];

    const fn of(flow: &Flow) -> Kind {
        match (flow.packet.ip, flow.next_hop) {
            (None, _) => Kind::Ethernet,
            (Some(ip), next_hop) => match (ip.source, next_hop) {
                (IpAddr::V6(_), _) => Kind::Ipv6,
                (IpAddr::V4(_), Some(IpAddr::V6(_))) => Kind::Ipv4ByIpv6,
                (IpAddr::V4(_), _) => Kind::Ipv4,
            },
        }
    }

    const fn is_ip(self) -> bool {
        !matches!(self, Kind::Ethernet)
    }

    const fn is_ipv4(self) -> bool {
        matches!(self, Kind::Ipv4 | Kind::Ipv4ByIpv6)
    }

    const fn is_ipv6(self) -> bool {
        matches!(self, Kind::Ipv6)
    }
}

/// What stands in a field.
enum Value {
    /// A number in as many octets as the field has.
    Number(u64),
    /// These octets.
    Octets([u8; 16]),
    /// The sampled octets, with their length.
    Frame,
}

/// A field: information element (iana.org/assignments/ipfix), octets, which records have it, and what stands in it.
type Field = (u16, u16, fn(Kind) -> bool, fn(&Flow) -> Value);

const fn always(_: Kind) -> bool {
    true
}

const fn not_ip(kind: Kind) -> bool {
    !kind.is_ip()
}

const fn by_ipv4(kind: Kind) -> bool {
    matches!(kind, Kind::Ipv4)
}

const fn by_ipv6(kind: Kind) -> bool {
    matches!(kind, Kind::Ipv6 | Kind::Ipv4ByIpv6)
}

use Value::{Frame, Number, Octets};

const FIELDS: [Field; 39] = [
    // flowStartMilliseconds, flowEndMilliseconds: a record is of one packet.
    (152, 8, always, |flow| Number(flow.at.as_millis() as u64)),
    (153, 8, always, |flow| Number(flow.at.as_millis() as u64)),
    // octetDeltaCount: of the IP packet; layer2OctetDeltaCount: of the frame.
    (1, 8, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.length.into()))
    }),
    (352, 8, not_ip, |flow| Number(flow.sample.length.into())),
    // packetDeltaCount
    (2, 8, always, |_| Number(1)),
    // selectorId, samplingInterval
    (302, 8, always, |_| Number(SELECTOR_ID)),
    (34, 4, always, |flow| Number(flow.sample.rate.into())),
    // ingressInterface, egressInterface, flowDirection (ingress)
    (10, 4, always, |flow| Number(flow.sample.ingress.into())),
    (14, 4, always, |flow| Number(flow.sample.egress.into())),
    (61, 1, always, |_| Number(0)),
    // forwardingStatus
    (89, 1, always, |flow| Number(status(flow.reason).into())),
    // sourceMacAddress, destinationMacAddress, ethernetType, vlanId
    (56, 6, always, |flow| octets(&flow.packet.source_mac)),
    (80, 6, always, |flow| octets(&flow.packet.destination_mac)),
    (256, 2, always, |flow| Number(flow.packet.ether_type.into())),
    (58, 2, always, |flow| Number(flow.packet.vlan.into())),
    // sourceIPv4Address, destinationIPv4Address, sourceIPv6Address, destinationIPv6Address
    (8, 4, Kind::is_ipv4, |flow| {
        address(flow.packet.ip.map(|ip| ip.source))
    }),
    (12, 4, Kind::is_ipv4, |flow| {
        address(flow.packet.ip.map(|ip| ip.destination))
    }),
    (27, 16, Kind::is_ipv6, |flow| {
        address(flow.packet.ip.map(|ip| ip.source))
    }),
    (28, 16, Kind::is_ipv6, |flow| {
        address(flow.packet.ip.map(|ip| ip.destination))
    }),
    // protocolIdentifier, ipClassOfService, ipTTL
    (4, 1, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.protocol.into()))
    }),
    (5, 1, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.tos.into()))
    }),
    (192, 1, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.ttl.into()))
    }),
    // sourceTransportPort, destinationTransportPort, tcpControlBits
    (7, 2, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.ports.0.into()))
    }),
    (11, 2, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.ports.1.into()))
    }),
    (6, 2, Kind::is_ip, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.tcp_flags.into()))
    }),
    // icmpTypeCodeIPv4, icmpTypeCodeIPv6
    (32, 2, Kind::is_ipv4, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.icmp.into()))
    }),
    (139, 2, Kind::is_ipv6, |flow| {
        Number(flow.packet.ip.map_or(0, |ip| ip.icmp.into()))
    }),
    // ipNextHopIPv4Address, ipNextHopIPv6Address
    (15, 4, by_ipv4, |flow| address(flow.next_hop)),
    (62, 16, by_ipv6, |flow| address(flow.next_hop)),
    // sourceIPv4PrefixLength, destinationIPv4PrefixLength, sourceIPv6PrefixLength, destinationIPv6PrefixLength
    (9, 1, Kind::is_ipv4, |flow| Number(flow.source.length.into())),
    (13, 1, Kind::is_ipv4, |flow| {
        Number(flow.destination.length.into())
    }),
    (29, 1, Kind::is_ipv6, |flow| Number(flow.source.length.into())),
    (30, 1, Kind::is_ipv6, |flow| {
        Number(flow.destination.length.into())
    }),
    // bgpSourceAsNumber, bgpDestinationAsNumber, bgpPrevAdjacentAsNumber, bgpNextAdjacentAsNumber
    (16, 4, Kind::is_ip, |flow| Number(flow.source.origin_as.into())),
    (17, 4, Kind::is_ip, |flow| {
        Number(flow.destination.origin_as.into())
    }),
    (129, 4, Kind::is_ip, |flow| {
        Number(flow.source.neighbour_as.into())
    }),
    (128, 4, Kind::is_ip, |flow| {
        Number(flow.destination.neighbour_as.into())
    }),
    // dataLinkFrameSize, dataLinkFrameSection
    (312, 2, always, |flow| Number(flow.sample.length.into())),
    (315, VARIABLE, always, |_| Frame),
];

/// How packets are chosen: scope selectorId; selectorAlgorithm, samplingSize, samplingPopulation, and for collectors that are
/// older than those samplingAlgorithm and samplingInterval.
const SELECTION: [(u16, u16); 6] = [(302, 8), (304, 2), (309, 4), (310, 4), (35, 1), (34, 4)];
/// Random n-out-of-N sampling.
const RANDOM: u16 = 3;
/// samplingAlgorithm: random.
const OLD_RANDOM: u8 = 2;

/// Makes messages.
pub struct Encoder {
    domain: u32,
    rate: u32,
    /// Data records told.
    sequence: u32,
    /// Records of each kind, and their number.
    waiting: [(Vec<u8>, u32); Kind::ALL.len()],
}

impl Encoder {
    /// For an observation domain where one packet in `rate` is sampled.
    #[must_use]
    pub fn new(domain: u32, rate: u32) -> Encoder {
        Encoder {
            domain,
            rate,
            sequence: 0,
            waiting: Default::default(),
        }
    }

    /// A message with all templates, and with how packets are chosen. `now`: seconds since 1970.
    pub fn templates(&mut self, now: u32) -> Datagram {
        let mut templates = Vec::new();
        for kind in Kind::ALL {
            let fields: Vec<&Field> = fields(kind).collect();
            halves(&mut templates, &[kind as u16, fields.len() as u16]);
            for (element, length, ..) in fields {
                halves(&mut templates, &[*element, *length]);
            }
        }
        let mut options = Vec::new();
        halves(&mut options, &[SELECTOR, SELECTION.len() as u16, 1]);
        for (element, length) in SELECTION {
            halves(&mut options, &[element, length]);
        }
        let mut record = Vec::new();
        record.extend(SELECTOR_ID.to_be_bytes());
        halves(&mut record, &[RANDOM]);
        record.extend(1u32.to_be_bytes());
        record.extend(self.rate.to_be_bytes());
        record.push(OLD_RANDOM);
        record.extend(self.rate.to_be_bytes());
        let mut sets = Vec::new();
        set(&mut sets, TEMPLATE_SET, &templates);
        set(&mut sets, OPTIONS_TEMPLATE_SET, &options);
        set(&mut sets, SELECTOR, &record);
        let octets = self.message(&sets, now);
        self.sequence = self.sequence.wrapping_add(1);
        Datagram { octets, samples: 0 }
    }

    /// Takes a sample. Answers a message where it would not fit any more.
    pub fn flow(&mut self, flow: &Flow, now: u32) -> Option<Datagram> {
        let kind = Kind::of(flow);
        let mut body = Vec::with_capacity(320);
        for (_, length, _, value) in fields(kind) {
            match value(flow) {
                Number(number) => {
                    let octets = number.to_be_bytes();
                    body.extend(&octets[octets.len() - usize::from(*length).min(octets.len())..]);
                }
                Octets(octets) => body.extend(&octets[..usize::from(*length).min(octets.len())]),
                Frame => {
                    // 128 at most: one octet says so (RFC 7011 section 7).
                    let frame = flow.header();
                    body.push(frame.len() as u8);
                    body.extend(frame);
                }
            }
        }
        let (waiting, _) = self.waiting_of(kind);
        let full = HEAD + 4 + waiting.len() + body.len() > MOST;
        let ready = if full { self.emit(kind, now) } else { None };
        let (waiting, number) = self.waiting_of(kind);
        waiting.extend(body);
        *number += 1;
        ready
    }

    /// Messages with what waits.
    pub fn finish(&mut self, now: u32) -> impl Iterator<Item = Datagram> {
        Kind::ALL.into_iter().filter_map(move |kind| self.emit(kind, now))
    }

    const fn waiting_of(&mut self, kind: Kind) -> &mut (Vec<u8>, u32) {
        &mut self.waiting[kind as usize - Kind::ALL[0] as usize]
    }

    fn emit(&mut self, kind: Kind, now: u32) -> Option<Datagram> {
        let (records, samples) = std::mem::take(self.waiting_of(kind));
        if samples == 0 {
            return None;
        }
        let mut sets = Vec::with_capacity(4 + records.len());
        set(&mut sets, kind as u16, &records);
        let octets = self.message(&sets, now);
        self.sequence = self.sequence.wrapping_add(samples);
        Some(Datagram { octets, samples })
    }

    fn message(&self, sets: &[u8], now: u32) -> Vec<u8> {
        let mut octets = Vec::with_capacity(HEAD + sets.len());
        halves(&mut octets, &[VERSION, (HEAD + sets.len()) as u16]);
        for word in [now, self.sequence, self.domain] {
            octets.extend(word.to_be_bytes());
        }
        octets.extend(sets);
        octets
    }
}

fn fields(kind: Kind) -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(move |(_, _, has, _)| has(kind))
}

/// A set of records. Not padded: the next set's head is read as octets.
fn set(octets: &mut Vec<u8>, id: u16, body: &[u8]) {
    halves(octets, &[id, (4 + body.len()) as u16]);
    octets.extend(body);
}

fn halves(octets: &mut Vec<u8>, halves: &[u16]) {
    octets.extend(halves.iter().flat_map(|half| half.to_be_bytes()));
}

fn octets(octets: &[u8; 6]) -> Value {
    let mut all = [0; 16];
    all[..6].copy_from_slice(octets);
    Octets(all)
}

/// An address; zeros where there is none.
fn address(address: Option<IpAddr>) -> Value {
    let mut all = [0; 16];
    match address {
        Some(IpAddr::V4(address)) => all[..4].copy_from_slice(&Ipv4Addr::octets(&address)),
        Some(IpAddr::V6(address)) => all = Ipv6Addr::octets(&address),
        None => {}
    }
    Octets(all)
}

/// forwardingStatus (RFC 7270 section 4.12): what became of the packet, and why.
fn status(reason: Reason) -> u8 {
    const FORWARDED: u8 = 64;
    const DROPPED_ACL: u8 = 129;
    const DROPPED_UNROUTABLE: u8 = 131;
    const DROPPED_POLICER: u8 = 138;
    const DROPPED_RPF: u8 = 140;
    const CONSUMED: u8 = 192;
    const CONSUMED_INCOMPLETE_ADJACENCY: u8 = 194;
    const CONSUMED_FOR_US: u8 = 195;
    match reason {
        Reason::Forwarded => FORWARDED,
        Reason::Local => CONSUMED_FOR_US,
        Reason::NeighbourUnresolved | Reason::NextHopUnresolved => CONSUMED_INCOMPLETE_ADJACENCY,
        Reason::Blackhole => DROPPED_UNROUTABLE,
        Reason::SourceNoRoute | Reason::SourceInterface | Reason::BlackholeSource => DROPPED_RPF,
        reason if is_rate_limit(reason) => DROPPED_POLICER,
        reason => match reason.policy() {
            Policy::Drop => DROPPED_ACL,
            Policy::Pass | Policy::Forward => CONSUMED,
        },
    }
}
