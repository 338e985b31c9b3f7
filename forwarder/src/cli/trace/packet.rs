//! A described packet as octets, every length and checksum right.

use std::{net::IpAddr, str::FromStr};

use anyhow::{Result, bail};

use crate::{
    cli::checksum::{folded, sum},
    filter::names,
};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    /// Any other, with an empty payload.
    Other(u8),
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(word: &str) -> Result<Protocol, String> {
        match word {
            "tcp" | "6" => Ok(Protocol::Tcp),
            "udp" | "17" => Ok(Protocol::Udp),
            "icmp" | "icmpv6" | "1" | "58" => Ok(Protocol::Icmp),
            other => match names::PROTOCOLS.named(other).map(u8::try_from) {
                Some(Ok(number)) => Ok(Protocol::Other(number)),
                _ => other.parse().map(Protocol::Other).map_err(|_| {
                    let known: Vec<&str> = names::PROTOCOLS.names.iter().map(|(name, _)| *name).collect();
                    format!(
                        "{other:?} is not a protocol: use a number up to 255, or {}",
                        known.join(", ")
                    )
                }),
            },
        }
    }
}

impl Protocol {
    fn number(self, v6: bool) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp if v6 => 58,
            Protocol::Icmp => 1,
            Protocol::Other(number) => number,
        }
    }

    fn header(self) -> usize {
        match self {
            Protocol::Tcp => 20,
            Protocol::Udp | Protocol::Icmp => 8,
            Protocol::Other(_) => 0,
        }
    }
}

/// A packet, described.
#[derive(Clone, Debug)]
pub struct Packet {
    /// MAC it is sent to.
    pub mac: [u8; 6],
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Octets of the IP packet; the shortest where none are given.
    pub length: Option<u16>,
    /// TCP flags as they stand in the header: octet 13, and the lowest bit of octet 12 above it.
    pub tcp_flags: u16,
    /// ICMP type and code.
    pub icmp: (u8, u8),
    /// DSCP.
    pub dscp: u8,
    /// IPv6 flow label.
    pub flow_label: u32,
    /// Which fragment it is.
    pub fragment: Fragment,
}

/// Whether a packet is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fragment {
    /// Whole, and don't-fragment is set (IPv4)
    #[default]
    #[value(name = "dont-fragment")]
    Whole,
    /// Whole, and don't-fragment is not set
    None,
    /// The first of several
    First,
    /// One in the middle
    Later,
    /// The last one
    Last,
}

impl Fragment {
    const fn is_fragment(self) -> bool {
        matches!(self, Fragment::First | Fragment::Later | Fragment::Last)
    }

    /// It begins with the transport header.
    const fn shows_ports(self) -> bool {
        !matches!(self, Fragment::Later | Fragment::Last)
    }

    const fn has_more(self) -> bool {
        matches!(self, Fragment::First | Fragment::Later)
    }

    /// In units of 8 octets: where a packet of 1500 octets would be cut.
    const fn offset(self) -> u16 {
        if self.shows_ports() { 0 } else { 185 }
    }
}

/// Octets of an IPv6 fragment header (RFC 8200 4.5).
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT_PROTOCOL: u8 = 44;

/// TCP's flag of a first packet.
pub const SYN: u16 = 2;
/// ICMP's type of an echo request.
pub const ECHO: u8 = 8;
/// ICMPv6's.
pub const ECHO_V6: u8 = 128;
/// Octets of an Ethernet header.
pub const ETHERNET: usize = 14;
/// MAC it comes from: locally administered, nobody's.
const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

impl Packet {
    /// The frame.
    ///
    /// # Errors
    /// Addresses of two families, or a length its headers do not fit in.
    pub fn frame(&self) -> Result<Vec<u8>> {
        let (fixed, v6) = match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (20, false),
            (IpAddr::V6(_), IpAddr::V6(_)) => (40, true),
            _ => bail!("--src and --dst are of different families: both must be IPv4 or both IPv6"),
        };
        let ip_header = if v6 && self.fragment.is_fragment() {
            fixed + FRAGMENT_HEADER
        } else {
            fixed
        };
        let mut shortest = ip_header;
        if self.fragment.shows_ports() {
            shortest += self.protocol.header();
        }
        // Fragments are cut at multiples of 8 octets, all but the last (RFC 791 3.2).
        if self.fragment.has_more() {
            shortest = ip_header + (shortest - ip_header).max(8).next_multiple_of(8);
        }
        let length = self.length.map_or(shortest, usize::from);
        if length < shortest {
            bail!("--length {length} is too short: its headers take {shortest} octets");
        }
        if self.fragment.has_more() && !(length - ip_header).is_multiple_of(8) {
            bail!(
                "--length {length}: a fragment that is not the last carries a multiple of 8 octets behind its header of \
                 {ip_header}"
            );
        }
        let mut frame = Vec::with_capacity(ETHERNET + length);
        frame.extend(self.mac);
        frame.extend(SENDER);
        frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        self.ip(&mut frame, length, v6);
        let start = frame.len();
        frame.resize(ETHERNET + length, 0);
        if self.fragment.shows_ports() {
            self.transport(&mut frame[start..], v6);
        }
        Ok(frame)
    }

    fn ip(&self, frame: &mut Vec<u8>, length: usize, v6: bool) {
        let number = self.protocol.number(v6);
        let more = u16::from(self.fragment.has_more());
        if v6 {
            let word = 6 << 28 | u32::from(self.dscp) << 22 | self.flow_label & 0xf_ffff;
            frame.extend(word.to_be_bytes());
            frame.extend(((length - 40) as u16).to_be_bytes());
            let next = if self.fragment.is_fragment() {
                FRAGMENT_PROTOCOL
            } else {
                number
            };
            frame.extend([next, self.ttl]);
            frame.extend(octets(self.source));
            frame.extend(octets(self.destination));
            if self.fragment.is_fragment() {
                frame.extend([number, 0]);
                frame.extend((self.fragment.offset() << 3 | more).to_be_bytes());
                frame.extend([0, 0, 0, 1]);
            }
            return;
        }
        let start = frame.len();
        frame.extend([0x45, self.dscp << 2]);
        frame.extend((length as u16).to_be_bytes());
        let whole = u16::from(self.fragment == Fragment::Whole);
        frame.extend([0, u8::from(self.fragment.is_fragment())]);
        frame.extend((whole << 14 | more << 13 | self.fragment.offset()).to_be_bytes());
        frame.extend([self.ttl, number, 0, 0]);
        frame.extend(octets(self.source));
        frame.extend(octets(self.destination));
        let sum = !folded(sum(&frame[start..]));
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }

    fn transport(&self, payload: &mut [u8], v6: bool) {
        let length = payload.len();
        let checksum = match self.protocol {
            Protocol::Other(_) => return,
            Protocol::Icmp => {
                payload[..2].copy_from_slice(&[self.icmp.0, self.icmp.1]);
                2
            }
            Protocol::Udp | Protocol::Tcp => {
                payload[..2].copy_from_slice(&self.source_port.to_be_bytes());
                payload[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
                if self.protocol == Protocol::Udp {
                    payload[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                    6
                } else {
                    payload[12..14].copy_from_slice(&(5 << 12 | self.tcp_flags & 0xfff).to_be_bytes());
                    payload[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
                    16
                }
            }
        };
        let mut total = sum(payload);
        // ICMP over IPv4 is the one without a pseudo-header (RFC 792).
        if v6 || self.protocol != Protocol::Icmp {
            total += sum(&octets(self.source)) + sum(&octets(self.destination));
            total += length as u64 + self.protocol.number(v6) as u64;
        }
        let value = match !folded(total) {
            // RFC 768: zero means "none".
            0 if self.protocol == Protocol::Udp => u16::MAX,
            value => value,
        };
        payload[checksum..checksum + 2].copy_from_slice(&value.to_be_bytes());
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn packet(source: &str, destination: &str, protocol: Protocol) -> Packet {
        Packet {
            mac: [2, 0, 0, 0, 0, 1],
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            source_port: 1000,
            destination_port: 53,
            ttl: 64,
            length: None,
            tcp_flags: SYN,
            icmp: (if destination.contains(':') { ECHO_V6 } else { ECHO }, 0),
            dscp: 0,
            flow_label: 0,
            fragment: Fragment::default(),
        }
    }

    /// The sum over a header with its right checksum is all ones.
    fn closes(octets: &[u8]) -> bool {
        folded(sum(octets)) == 0xffff
    }

    fn pseudo(packet: &Packet, payload: &[u8], number: u8) -> Vec<u8> {
        let mut all = octets(packet.source);
        all.extend(octets(packet.destination));
        all.extend((payload.len() as u32).to_be_bytes());
        all.extend([0, 0, 0, number]);
        all.extend(payload);
        all
    }

    #[test]
    fn lengths_and_checksums_are_right() {
        for length in [None, Some(61), Some(1500)] {
            for (protocol, number) in [(Protocol::Udp, 17), (Protocol::Tcp, 6)] {
                let described = Packet {
                    length,
                    ..packet("192.0.2.1", "198.51.100.2", protocol)
                };
                let frame = described.frame().unwrap();
                let total = length.map_or(20 + protocol.header(), usize::from);
                assert_eq!(frame.len(), 14 + total);
                assert_eq!(frame[16..18], (total as u16).to_be_bytes());
                assert!(closes(&frame[14..34]));
                assert!(closes(&pseudo(&described, &frame[34..], number)));
                let described = Packet {
                    length: length.map(|octets| octets + 20),
                    ..packet("2001:db8::1", "2001:db8::2", protocol)
                };
                let frame = described.frame().unwrap();
                assert_eq!(frame[12..14], [0x86, 0xdd]);
                assert!(closes(&pseudo(&described, &frame[54..], number)));
            }
        }
        let frame = packet("192.0.2.1", "198.51.100.2", Protocol::Icmp)
            .frame()
            .unwrap();
        assert!(frame[34] == 8 && closes(&frame[34..]));
        let described = packet("2001:db8::1", "2001:db8::2", Protocol::Icmp);
        let frame = described.frame().unwrap();
        assert!(frame[54] == 128 && closes(&pseudo(&described, &frame[54..], 58)));
    }

    #[test]
    fn what_cannot_be_built_is_said() {
        let mixed = packet("192.0.2.1", "2001:db8::2", Protocol::Udp)
            .frame()
            .unwrap_err();
        assert!(mixed.to_string().contains("different families"));
        let short = Packet {
            length: Some(27),
            ..packet("192.0.2.1", "192.0.2.2", Protocol::Udp)
        };
        assert!(short.frame().unwrap_err().to_string().contains("take 28 octets"));
        let ragged = Packet {
            length: Some(29 + 8),
            fragment: Fragment::First,
            ..packet("192.0.2.1", "192.0.2.2", Protocol::Udp)
        };
        let said = ragged.frame().unwrap_err().to_string();
        assert!(said.contains("carries a multiple of 8 octets"), "{said}");
        assert_eq!("47".parse(), Ok(Protocol::Other(47)));
        assert_eq!("gre".parse(), Ok(Protocol::Other(47)));
        let said = "tpc".parse::<Protocol>().unwrap_err();
        assert!(
            said.contains("\"tpc\" is not a protocol: use a number up to 255, or tcp, udp, icmp"),
            "{said}"
        );
        assert!("256".parse::<Protocol>().is_err());
    }

    #[test]
    fn what_filters_look_at_stands_where_it_should() {
        let described = Packet {
            tcp_flags: 0x112,
            dscp: 46,
            ..packet("192.0.2.1", "192.0.2.2", Protocol::Tcp)
        };
        let frame = described.frame().unwrap();
        assert_eq!(
            (frame[15], &frame[20..22], &frame[46..48]),
            (46 << 2, &[0x40, 0][..], &[0x51, 0x12][..])
        );
        assert!(closes(&frame[14..34]) && closes(&pseudo(&described, &frame[34..], 6)));
        let described = Packet {
            icmp: (1, 4),
            dscp: 46,
            flow_label: 0xabcde,
            ..packet("2001:db8::1", "2001:db8::2", Protocol::Icmp)
        };
        let frame = described.frame().unwrap();
        assert_eq!(frame[14..18], [0x6b, 0x8a, 0xbc, 0xde]);
        assert_eq!(frame[54..56], [1, 4]);
        assert!(closes(&pseudo(&described, &frame[54..], 58)));
    }

    #[test]
    fn fragments_have_their_offset_and_only_the_first_has_ports() {
        for (fragment, word, length, ports) in [
            (Fragment::None, 0, 28, true),
            (Fragment::First, 0x2000, 28, true),
            (Fragment::Later, 0x20b9, 28, false),
            (Fragment::Last, 0x00b9, 20, false),
        ] {
            let described = Packet {
                fragment,
                ..packet("192.0.2.1", "192.0.2.2", Protocol::Udp)
            };
            let frame = described.frame().unwrap();
            assert_eq!(frame[20..22], u16::to_be_bytes(word), "{fragment:?}");
            assert_eq!(frame.len(), ETHERNET + length, "{fragment:?}");
            assert_eq!(frame[34..].iter().any(|octet| *octet != 0), ports, "{fragment:?}");
            assert!(closes(&frame[14..34]));
        }
        for (fragment, word) in [
            (Fragment::First, 1),
            (Fragment::Later, 185 << 3 | 1),
            (Fragment::Last, 185 << 3),
        ] {
            let described = Packet {
                fragment,
                length: Some(40 + 8 + 32),
                ..packet("2001:db8::1", "2001:db8::2", Protocol::Tcp)
            };
            let frame = described.frame().unwrap();
            assert_eq!((frame[20], frame[54]), (44, 6));
            assert_eq!(frame[18..20], [0, 40]);
            assert_eq!(frame[56..58], u16::to_be_bytes(word));
            assert_eq!(frame[62..64] == [3, 232], fragment == Fragment::First);
        }
    }
}
