//! What rules mean: one after the other, each condition as it is written. Slow, and plainly right; the program and the
//! compiler are compared with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    ranges::Ranges,
    rule::{Action, FRAGMENT_DF, FRAGMENT_FIRST, FRAGMENT_IS, FRAGMENT_LAST, Family, Match, Rule},
};

/// A packet as rules see it. What it does not show is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Protocol, where it can be found.
    pub protocol: Option<u8>,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// TCP flags.
    pub tcp_flags: Option<u16>,
    /// Octets of the packet.
    pub length: u32,
    /// DSCP.
    pub dscp: u8,
    /// Fragment bits.
    pub fragment: u32,
    /// IPv6 flow label.
    pub flow_label: u32,
}

/// IPv6 extension headers that are walked over; and how far into a frame.
const HEADERS: usize = 6;
const REACH: usize = 0x3fff;
const ETHERNET: usize = 14;

/// Reads a frame whose IP header is sound: no shorter than it says, and of that version.
#[must_use]
pub fn fields(frame: &[u8]) -> Option<Fields> {
    match frame.get(12..14)? {
        [0x08, 0x00] => fields4(frame.get(ETHERNET..)?),
        [0x86, 0xdd] => fields6(frame.get(ETHERNET..)?),
        _ => None,
    }
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn fields4(packet: &[u8]) -> Option<Fields> {
    let header = usize::from(packet.first()? & 15) * 4;
    let length = word(packet, 2)?;
    let packet = packet.get(..usize::from(length))?;
    let place = word(packet, 6)?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let mut fields = Fields {
        source: address(12)?.into(),
        destination: address(16)?.into(),
        protocol: Some(packet[9]),
        ports: None,
        icmp: None,
        tcp_flags: None,
        length: length.into(),
        dscp: packet[1] >> 2,
        fragment: fragment(place & 0x1fff, place & 0x2000 != 0)
            | (u32::from(place & 0x4000 != 0) * FRAGMENT_DF),
        flow_label: 0,
    };
    if place & 0x1fff == 0 {
        transport(&mut fields, packet.get(header..)?, 1);
    }
    Some(fields)
}

fn fields6(packet: &[u8]) -> Option<Fields> {
    let length = usize::from(word(packet, 4)?) + 40;
    let packet = packet.get(..length)?;
    let first = u32::from_be_bytes(packet[..4].try_into().ok()?);
    let address = |at: usize| {
        Some(Ipv6Addr::from(
            <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
        ))
    };
    let mut fields = Fields {
        source: address(8)?.into(),
        destination: address(24)?.into(),
        protocol: None,
        ports: None,
        icmp: None,
        tcp_flags: None,
        length: length as u32,
        dscp: (first >> 22 & 63) as u8,
        fragment: 0,
        flow_label: first & 0xf_ffff,
    };
    let (mut next, mut at, mut walked, mut later) = (packet[6], 40, 0, false);
    while matches!(next, 0 | 43 | 44 | 51 | 60) {
        let Some(header) = packet.get(at..at + 4) else {
            return Some(fields);
        };
        if later || walked == HEADERS || at + ETHERNET > REACH {
            return Some(fields);
        }
        let units = usize::from(header[1]);
        at += match next {
            44 => {
                let place = u16::from_be_bytes([header[2], header[3]]);
                fields.fragment = fragment(place >> 3, place & 1 != 0);
                later = place >> 3 != 0;
                8
            }
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        next = header[0];
        walked += 1;
        if at > length {
            return Some(fields);
        }
    }
    fields.protocol = Some(next);
    if !later && at + ETHERNET <= REACH {
        transport(&mut fields, &packet[at..], 58);
    }
    Some(fields)
}

fn fragment(offset: u16, more: bool) -> u32 {
    match (offset, more) {
        (0, false) => 0,
        (0, true) => FRAGMENT_FIRST,
        (_, true) => FRAGMENT_IS,
        (_, false) => FRAGMENT_IS | FRAGMENT_LAST,
    }
}

fn transport(fields: &mut Fields, payload: &[u8], icmp: u8) {
    let protocol = fields.protocol;
    if matches!(protocol, Some(6 | 17)) {
        fields.ports = word(payload, 0).zip(word(payload, 2));
    }
    if protocol == Some(6) && payload.len() >= 14 {
        fields.tcp_flags = word(payload, 12).map(|word| word & 0xfff);
    }
    if protocol == Some(icmp) {
        fields.icmp = payload.first().copied().zip(payload.get(1).copied());
    }
}

impl Match {
    /// Whether a packet that came in on `interface` is like that.
    #[must_use]
    pub fn holds(&self, packet: &Fields, interface: &str) -> bool {
        let family = if packet.destination.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        };
        let among = |condition: &Option<Ranges>, number: Option<u32>| match condition {
            None => true,
            Some(ranges) => number.is_some_and(|number| ranges.contains(number)),
        };
        let inside = |condition: &Option<Vec<ipnet::IpNet>>, address: IpAddr| match condition {
            None => true,
            Some(prefixes) => prefixes.iter().any(|prefix| prefix.contains(&address)),
        };
        let (source_port, destination_port) = packet.ports.map(|(s, d)| (s.into(), d.into())).unzip();
        let (icmp_type, icmp_code) = packet.icmp.map(|(t, c)| (t.into(), c.into())).unzip();
        self.family.is_none_or(|wanted| wanted == family)
            && inside(&self.destination, packet.destination)
            && inside(&self.source, packet.source)
            && self
                .interfaces
                .as_ref()
                .is_none_or(|names| names.iter().any(|name| name == interface))
            && among(&self.protocol, packet.protocol.map(u32::from))
            && (among(&self.port, source_port) || among(&self.port, destination_port))
            && among(&self.source_port, source_port)
            && among(&self.destination_port, destination_port)
            && among(&self.icmp_type, icmp_type)
            && among(&self.icmp_code, icmp_code)
            && among(&self.tcp_flags, packet.tcp_flags.map(u32::from))
            && among(&self.length, Some(packet.length))
            && among(&self.dscp, Some(packet.dscp.into()))
            && among(&self.fragment, Some(packet.fragment))
            && (self.flow_label.is_none() || family == Family::V6)
            && among(&self.flow_label, Some(packet.flow_label))
    }
}

/// What rules did with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rules that matched and counted it, in order.
    pub met: Vec<usize>,
    /// Whether the last of them drops it.
    pub dropped: bool,
    /// DSCP that it is given.
    pub mark: Option<u8>,
}

/// Asks one rule after the other. A limited one is taken to be within its rate.
#[must_use]
pub fn ask(rules: &[Rule], packet: &Fields, interface: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for (index, rule) in rules.iter().enumerate() {
        if !rule.when.holds(packet, interface) {
            continue;
        }
        outcome.met.push(index);
        if rule.action == Action::Drop {
            outcome.dropped = true;
            outcome.mark = None;
            break;
        }
        outcome.mark = rule.mark.or(outcome.mark);
        if !rule.proceed {
            break;
        }
    }
    outcome
}
