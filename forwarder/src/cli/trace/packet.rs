//! A described packet as octets, every length and checksum right.

use std::{net::IpAddr, str::FromStr};

use anyhow::{Result, bail};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP, a SYN.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6, an echo request.
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
            other => other.parse().map(Protocol::Other).map_err(|_| {
                format!("{other:?} is not a protocol: use tcp, udp, icmp, or a number up to 255")
            }),
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
}

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
        let (ip_header, v6) = match (self.source, self.destination) {
            (IpAddr::V4(_), IpAddr::V4(_)) => (20, false),
            (IpAddr::V6(_), IpAddr::V6(_)) => (40, true),
            _ => bail!("--src and --dst are of different families: both must be IPv4 or both IPv6"),
        };
        let shortest = ip_header + self.protocol.header();
        let length = self.length.map_or(shortest, usize::from);
        if length < shortest {
            bail!("--length {length} is too short: its headers take {shortest} octets");
        }
        let mut frame = Vec::with_capacity(ETHERNET + length);
        frame.extend(self.mac);
        frame.extend(SENDER);
        frame.extend(if v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        self.ip(&mut frame, length, v6);
        let start = frame.len();
        frame.resize(ETHERNET + length, 0);
        self.transport(&mut frame[start..], v6);
        Ok(frame)
    }

    fn ip(&self, frame: &mut Vec<u8>, length: usize, v6: bool) {
        let number = self.protocol.number(v6);
        if v6 {
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(((length - 40) as u16).to_be_bytes());
            frame.extend([number, self.ttl]);
            frame.extend(octets(self.source));
            frame.extend(octets(self.destination));
            return;
        }
        let start = frame.len();
        frame.extend([0x45, 0]);
        frame.extend((length as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, self.ttl, number, 0, 0]);
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
                payload[0] = if v6 { 128 } else { 8 };
                2
            }
            Protocol::Udp | Protocol::Tcp => {
                payload[..2].copy_from_slice(&self.source_port.to_be_bytes());
                payload[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
                if self.protocol == Protocol::Udp {
                    payload[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                    6
                } else {
                    payload[12] = 5 << 4;
                    payload[13] = 2;
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

/// Sum of 16-bit words, the last padded with a zero octet (RFC 1071).
fn sum(octets: &[u8]) -> u64 {
    octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
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
        assert_eq!("47".parse(), Ok(Protocol::Other(47)));
        assert!(
            "gre"
                .parse::<Protocol>()
                .unwrap_err()
                .contains("is not a protocol")
        );
    }
}
