//! The components of a FlowSpec NLRI, apart (RFC 8955 4.2.2, RFC 8956 3).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::rule::Family;
use super::operators::Operators;
use crate::source::bgp::flow;
use crate::source::feed::FeedTable;

/// The first so many bits of an IPv6 address can be left open: each doubles the prefixes that say the same.
pub const MOST_OPEN_BITS: u8 = 8;

/// Type of a component; the order is that of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// 1, destination prefix.
    Destination,
    /// 2, source prefix.
    Source,
    /// 3, IP protocol, or the upper-layer protocol of IPv6.
    Protocol,
    /// 4, source or destination port.
    Port,
    /// 5, destination port.
    DestinationPort,
    /// 6, source port.
    SourcePort,
    /// 7, ICMP type.
    IcmpType,
    /// 8, ICMP code.
    IcmpCode,
    /// 9, TCP flags.
    TcpFlags,
    /// 10, packet length.
    Length,
    /// 11, DSCP.
    Dscp,
    /// 12, fragment.
    Fragment,
    /// 13, flow label (IPv6).
    FlowLabel,
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Destination,
            2 => Kind::Source,
            3 => Kind::Protocol,
            4 => Kind::Port,
            5 => Kind::DestinationPort,
            6 => Kind::SourcePort,
            7 => Kind::IcmpType,
            8 => Kind::IcmpCode,
            9 => Kind::TcpFlags,
            10 => Kind::Length,
            11 => Kind::Dscp,
            12 => Kind::Fragment,
            13 => Kind::FlowLabel,
            _ => return None,
        })
    }

    /// As in a rule's name and in the configuration: "dst", "src-port".
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Destination => "dst",
            Kind::Source => "src",
            Kind::Protocol => "proto",
            Kind::Port => "port",
            Kind::DestinationPort => "dst-port",
            Kind::SourcePort => "src-port",
            Kind::IcmpType => "icmp-type",
            Kind::IcmpCode => "icmp-code",
            Kind::TcpFlags => "tcp-flags",
            Kind::Length => "length",
            Kind::Dscp => "dscp",
            Kind::Fragment => "fragment",
            Kind::FlowLabel => "flow-label",
        }
    }
}

/// What a component holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of types 1 and 2.
    Prefix(Pattern),
    /// Of the others, as it came.
    List(Operators<'a>),
}

/// A component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Its type.
    pub kind: Kind,
    /// What it holds.
    pub value: Value<'a>,
}

/// The family that the rules of a table are about.
#[must_use]
pub fn family(table: FeedTable) -> Family {
    match table {
        FeedTable::Ipv4 | FeedTable::FlowSpec4 => Family::V4,
        FeedTable::Ipv6 | FeedTable::FlowSpec6 => Family::V6,
    }
}

/// Takes an NLRI apart.
///
/// # Errors
/// What is wrong with it, as [`flow::check`] says.
pub fn components(table: FeedTable, nlri: &[u8]) -> Result<Vec<Component<'_>>, &'static str> {
    let family = family(table);
    let mut found = Vec::new();
    flow::each(table, nlri, |number, octets| {
        let Some(kind) = Kind::of(number) else {
            return;
        };
        let value = match kind {
            Kind::Destination | Kind::Source => Value::Prefix(Pattern::read(family, octets)),
            _ => Value::List(Operators(octets)),
        };
        found.push(Component { kind, value });
    })?;
    Ok(found)
}

/// A prefix, of which the first bits may be left open (RFC 8956 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Of which family.
    pub family: Family,
    /// The bit at which comparing stops.
    pub length: u8,
    /// The bit at which comparing starts; 0 for IPv4.
    pub offset: u8,
    /// The bits between them at their places, all others zero; an IPv4 address stands in the first 32.
    pub bits: u128,
}

impl Pattern {
    /// Reads what [`flow::each`] found whole. Bits behind the length are ignored, as the RFCs want it.
    fn read(family: Family, octets: &[u8]) -> Pattern {
        let (length, offset, octets) = match (family, octets) {
            (Family::V4, [length, rest @ ..]) => (*length, 0, rest),
            (Family::V6, [length, offset, rest @ ..]) => (*length, *offset, rest),
            _ => (0, 0, octets),
        };
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(octets) {
            *to = *from;
        }
        let compared = u128::MAX
            .checked_shl(128 - u32::from(length - offset))
            .unwrap_or_default();
        Pattern {
            family,
            length,
            offset,
            bits: (u128::from_be_bytes(address) & compared)
                .checked_shr(offset.into())
                .unwrap_or_default(),
        }
    }

    /// Whether every address is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.length == 0
    }

    /// The prefix, where no bits are left open.
    #[must_use]
    pub fn prefix(&self) -> Option<IpNet> {
        (self.offset == 0).then(|| self.with(0)).flatten()
    }

    /// The prefixes that say the same; `None` where more than [`MOST_OPEN_BITS`] bits are open.
    #[must_use]
    pub fn prefixes(&self) -> Option<Vec<IpNet>> {
        if self.offset > MOST_OPEN_BITS {
            return None;
        }
        let open = 0..1u128 << self.offset;
        open.map(|open| self.with(open.checked_shl(128 - u32::from(self.offset)).unwrap_or_default()))
            .collect()
    }

    /// The prefix with these bits where it is open.
    fn with(&self, open: u128) -> Option<IpNet> {
        let bits = self.bits | open;
        match self.family {
            Family::V4 => {
                let address = Ipv4Addr::from((bits >> 96) as u32);
                Ipv4Net::new(address, self.length).ok().map(IpNet::V4)
            }
            Family::V6 => Ipv6Net::new(Ipv6Addr::from(bits), self.length)
                .ok()
                .map(IpNet::V6),
        }
    }
}

impl fmt::Display for Pattern {
    /// `192.0.2.0/24`, and `::1234:5678:9a00:0/64-104` where the first 64 bits are open (RFC 8956 3.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::V4 => write!(f, "{}/{}", Ipv4Addr::from((self.bits >> 96) as u32), self.length),
            Family::V6 if self.offset == 0 => write!(f, "{}/{}", Ipv6Addr::from(self.bits), self.length),
            Family::V6 => {
                let address = Ipv6Addr::from(self.bits);
                write!(f, "{address}/{}-{}", self.offset, self.length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(table: FeedTable, nlri: &[u8]) -> Pattern {
        match components(table, nlri).unwrap()[0].value {
            Value::Prefix(pattern) => pattern,
            Value::List(_) => panic!("no prefix"),
        }
    }

    #[test]
    fn prefixes_are_read_without_their_padding() {
        let v4 = pattern(FeedTable::FlowSpec4, &[1, 20, 192, 0, 0x2f]);
        assert_eq!(v4.to_string(), "192.0.32.0/20");
        assert_eq!(v4.prefix(), Some("192.0.32.0/20".parse().unwrap()));
        assert_eq!(v4.prefixes(), Some(vec!["192.0.32.0/20".parse().unwrap()]));
        assert!(pattern(FeedTable::FlowSpec4, &[2, 0]).is_all());
        assert!(pattern(FeedTable::FlowSpec6, &[2, 0, 0]).is_all());
        let v6 = pattern(FeedTable::FlowSpec6, &[1, 33, 0, 0x20, 1, 0x0d, 0xb8, 0xff]);
        assert_eq!(v6.to_string(), "2001:db8:8000::/33");
        let host = pattern(FeedTable::FlowSpec6, &[&[1, 128, 0][..], &[0xff; 16]].concat());
        assert_eq!(host.bits, u128::MAX);
    }

    /// RFC 8956 3.8.1 and 3.8.2: the same address behind 64 and behind 65 open bits.
    #[test]
    fn patterns_of_the_rfc_stand_behind_their_open_bits() {
        let even = pattern(
            FeedTable::FlowSpec6,
            &[2, 0x68, 0x40, 0x12, 0x34, 0x56, 0x78, 0x9a],
        );
        assert_eq!(even.to_string(), "::1234:5678:9a00:0/64-104");
        let odd = pattern(
            FeedTable::FlowSpec6,
            &[2, 0x68, 0x41, 0x24, 0x68, 0xac, 0xf1, 0x35],
        );
        assert_eq!(odd.to_string(), "::1234:5678:9a00:0/65-104");
        assert_eq!(even.bits, odd.bits);
        assert_eq!((even.prefix(), even.prefixes()), (None, None));
    }

    #[test]
    fn a_few_open_bits_are_as_many_prefixes_as_they_can_be() {
        let pattern = pattern(FeedTable::FlowSpec6, &[1, 12, 8, 0xdf]);
        assert_eq!(
            (pattern.to_string(), pattern.prefix()),
            ("d0::/8-12".into(), None)
        );
        let prefixes = pattern.prefixes().unwrap();
        assert_eq!(prefixes.len(), 256);
        for address in ["d5::", "ffd1::1", "20df::9"] {
            let address: std::net::IpAddr = address.parse().unwrap();
            assert_eq!(prefixes.iter().filter(|net| net.contains(&address)).count(), 1);
        }
        for address in ["c5::", "ffe1::1", "d::"] {
            let address: std::net::IpAddr = address.parse().unwrap();
            assert!(!prefixes.iter().any(|net| net.contains(&address)), "{address}");
        }
        assert_eq!(
            super::tests::pattern(FeedTable::FlowSpec6, &[1, 12, 9, 0xd0]).prefixes(),
            None
        );
    }
}
