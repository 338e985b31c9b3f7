//! What a packet is that goes up to the kernel: its class, and whose it is (`forwarder_common::punt`).
//!
//! Headers may be anything here: what is not there to be read makes a packet one of the rest.

use forwarder_common::punt::{Class, Kind, mapped};
use network_types::ip::IpProto;

use crate::{
    packet::Packet,
    parse::{ETHERNET, IPV4, IPV6},
};

/// IP protocols that tunnels and routing have and `IpProto` lacks or names otherwise.
const EIGRP: u8 = 88;
const OSPF: u8 = 89;
const PIM: u8 = 103;
const VRRP: u8 = 112;

/// Ports of BFD: single hop (RFC 5881 4), of link-aggregation members (RFC 7130 2.1), multihop (RFC 5883 5).
const BFD: u16 = 3784;
const BFD_ECHO: u16 = 3785;
const BFD_LAG: u16 = 6784;
const BFD_MULTIHOP: u16 = 4784;
/// LDP (RFC 5036 3.10): its hello is multicast.
const LDP: u16 = 646;
const BGP: u16 = 179;

/// A sorted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sorted {
    /// [`Class`] as a number.
    pub class: u32,
    /// Whose share it takes: an IPv4 address, an IPv6 /64 or a MAC address, as a number.
    pub source: u64,
    /// TTL or hop limit; 0 where the source is a MAC address.
    pub ttl: u8,
    /// It is for the router by unicast: protocol and ports are below.
    pub local: bool,
    /// IP protocol.
    pub protocol: u8,
    /// Ports of TCP and UDP; zero where they are not to be seen.
    pub ports: Ports,
}

impl Sorted {
    #[inline(always)]
    fn of(class: Class, source: u64, ttl: u8) -> Sorted {
        Sorted {
            class: class as u32,
            source,
            ttl,
            local: false,
            protocol: 0,
            ports: Ports::default(),
        }
    }

    /// All but class and source in a word (`forwarder_common::punt::PuntStates`).
    #[inline(always)]
    pub fn header(&self) -> u64 {
        let Ports {
            source,
            destination,
            flags,
        } = self.ports;
        source as u64
            | (destination as u64) << 16
            | (self.protocol as u64) << 32
            | (self.ttl as u64) << 40
            | (flags as u64) << 48
            | (self.local as u64) << 56
    }

    /// Back from there.
    #[inline(always)]
    pub fn read(class: u32, source: u64, header: u64) -> Sorted {
        Sorted {
            class,
            source,
            ttl: (header >> 40) as u8,
            local: header >> 56 != 0,
            protocol: (header >> 32) as u8,
            ports: Ports {
                source: header as u16,
                destination: (header >> 16) as u16,
                flags: (header >> 48) as u8,
            },
        }
    }

    /// It may be part of a TCP session.
    #[inline(always)]
    pub fn acknowledges(&self) -> bool {
        const ACK: u8 = 0x10;
        self.protocol == IpProto::Tcp as u8 && self.ports.flags & ACK != 0
    }
}

/// What matters of an IP header, either version's.
#[derive(Clone, Copy)]
struct Ip {
    protocol: u8,
    ttl: u8,
    source: u64,
    /// Multicast that no router sends on: 224.0.0.0/24, ff02::/16.
    link_scope: bool,
    multicast: bool,
    ports: Ports,
}

/// Of the first fragment of TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// TCP's flags.
    pub flags: u8,
}

/// What a packet is that is about to be passed for a reason of this kind; `None`: not limited. `packet` is the frame behind its
/// tags; `control` says whether a port is a control port.
#[inline(always)]
pub fn sort(frame: &Packet, packet: &Packet, kind: Kind, control: impl Fn(u16) -> bool) -> Option<Sorted> {
    let ethernet = frame.head::<ETHERNET>()?;
    let mac = ethernet.u64::<6>() & 0xffff_ffff_ffff;
    let by_mac = |class| Some(Sorted::of(class, mac, 0));
    if let Kind::Always(class) = kind
        && matches!(class, Class::Arp | Class::Nd | Class::Malformed)
    {
        return by_mac(class);
    }
    let ip = match packet.head::<ETHERNET>()?.u16::<12>() {
        t if t == 0x0800u16.to_be() => ipv4(packet),
        t if t == 0x86ddu16.to_be() => ipv6(packet),
        _ => None,
    };
    let Some(ip) = ip else {
        // A broadcast of something that is no IP, or a header that is cut short.
        return match kind {
            Kind::Never => None,
            Kind::Always(class) => by_mac(class),
            Kind::Link => by_mac(Class::Multicast),
            Kind::Local | Kind::TooBig => by_mac(Class::Malformed),
        };
    };
    match kind {
        Kind::Never => None,
        Kind::Always(class) => Some(Sorted::of(class, ip.source, ip.ttl)),
        Kind::TooBig => {
            let class = if fragments(packet) {
                Class::Options
            } else {
                Class::Unresolved
            };
            Some(Sorted::of(class, ip.source, ip.ttl))
        }
        Kind::Link | Kind::Local => {
            if from_neighbour(&ip) {
                // Sessions have TTL 255, too.
                return Some(Sorted {
                    class: Class::LinkControl as u32,
                    source: mac,
                    ttl: 0,
                    ..local(&ip, control)
                });
            }
            if kind == Kind::Link && discovery(packet, &ip) {
                return by_mac(Class::Nd);
            }
            // A frame to everybody is no packet for us alone, whatever address is in it.
            if ip.multicast || ethernet.u8::<0>() & 1 != 0 {
                return by_mac(Class::Multicast);
            }
            Some(local(&ip, control))
        }
    }
}

/// Whether only a neighbour can have sent it, and it is what neighbours say to each other: nobody else's packet arrives with a
/// TTL of 255 (GTSM, RFC 5082), or to an address that no router sends on.
#[inline(always)]
fn from_neighbour(ip: &Ip) -> bool {
    let udp = ip.protocol == IpProto::Udp as u8;
    let tcp = ip.protocol == IpProto::Tcp as u8;
    let to = ip.ports.destination;
    if ip.ttl == 255 {
        return ip.protocol == VRRP
            || udp && (to == BFD || to == BFD_ECHO || to == BFD_LAG)
            || tcp && (to == BGP || ip.ports.source == BGP)
            || (udp || tcp) && to == LDP;
    }
    ip.link_scope && (matches!(ip.protocol, OSPF | EIGRP | PIM) || udp && to == LDP)
}

/// IPv6 neighbour discovery that came by multicast.
#[inline(always)]
fn discovery(packet: &Packet, ip: &Ip) -> bool {
    if ip.protocol != IpProto::Ipv6Icmp as u8 || ip.ttl != 255 {
        return false;
    }
    let Some(head) = packet.head::<{ IPV6 + 1 }>() else {
        return false;
    };
    matches!(head.u8::<IPV6>(), 133..=137)
}

/// IPv4 without DF: what is too big is cut and not answered.
#[inline(always)]
fn fragments(packet: &Packet) -> bool {
    let Some(head) = packet.head::<IPV4>() else {
        return false;
    };
    head.u8::<ETHERNET>() >> 4 == 4 && head.u8::<20>() & 0x40 == 0
}

/// For the router.
#[inline(always)]
fn local(ip: &Ip, control: impl Fn(u16) -> bool) -> Sorted {
    let Ports {
        source, destination, ..
    } = ip.ports;
    let tcp = ip.protocol == IpProto::Tcp as u8;
    let class = match ip.protocol {
        p if p == IpProto::Icmp as u8 || p == IpProto::Ipv6Icmp as u8 => Class::LocalIcmp,
        OSPF => Class::LocalControl,
        // Answers of a daemon at the far end come from its port.
        _ if tcp && (control(destination) || control(source)) => Class::LocalControl,
        p if p == IpProto::Udp as u8 && (destination == BFD_MULTIHOP || control(destination)) => {
            Class::LocalControl
        }
        _ => Class::LocalOther,
    };
    Sorted {
        local: true,
        protocol: ip.protocol,
        ports: ip.ports,
        ..Sorted::of(class, ip.source, ip.ttl)
    }
}

/// Remote and local address of an IP packet, as [`forwarder_common::punt::Flow`] has them.
#[inline(always)]
pub fn addresses(packet: &Packet) -> Option<[[u64; 2]; 2]> {
    let ethernet = packet.head::<ETHERNET>()?;
    if ethernet.u16::<12>() == 0x0800u16.to_be() {
        let head = packet.head::<IPV4>()?;
        return Some([mapped(head.u32::<26>()), mapped(head.u32::<30>())]);
    }
    let head = packet.head::<IPV6>()?;
    Some([
        [head.u64::<22>(), head.u64::<30>()],
        [head.u64::<38>(), head.u64::<46>()],
    ])
}

#[inline(always)]
fn ipv4(packet: &Packet) -> Option<Ip> {
    let head = packet.head::<IPV4>()?;
    let (source, destination) = (head.u32::<26>(), head.u32::<30>());
    let to = u32::from_be(destination);
    // Options end a packet's way before anybody asks for its ports, but for multicast, where nobody does.
    let plain = head.u8::<ETHERNET>() == 0x45 && u16::from_be(head.u16::<20>()) & 0x1fff == 0;
    let protocol = head.u8::<23>();
    Some(Ip {
        protocol,
        ttl: head.u8::<22>(),
        source: source as u64,
        link_scope: to >> 8 == 0xe0_0000,
        multicast: to >> 28 == 0xe,
        ports: if plain {
            ports::<IPV4, { IPV4 + 4 }, { IPV4 + 13 }, { IPV4 + 14 }>(packet, protocol)
        } else {
            Ports::default()
        },
    })
}

#[inline(always)]
fn ipv6(packet: &Packet) -> Option<Ip> {
    let head = packet.head::<IPV6>()?;
    let source = (head.u64::<22>(), head.u64::<30>());
    // fe80::/10, where every host of a link is in one /64.
    let link_local = u64::from_be(source.0) >> 54 == 0xfe80 >> 6;
    let first = u64::from_be(head.u64::<38>()) >> 48;
    let protocol = head.u8::<20>();
    Some(Ip {
        protocol,
        ttl: head.u8::<21>(),
        source: if link_local { source.1 } else { source.0 },
        link_scope: first & 0xff0f == 0xff02,
        multicast: first >> 8 == 0xff,
        ports: ports::<IPV6, { IPV6 + 4 }, { IPV6 + 13 }, { IPV6 + 14 }>(packet, protocol),
    })
}

#[inline(always)]
fn ports<const AT: usize, const PORTS: usize, const FLAGS: usize, const END: usize>(
    packet: &Packet,
    protocol: u8,
) -> Ports {
    let of = |both: u32, flags| Ports {
        source: (u32::from_be(both) >> 16) as u16,
        destination: u32::from_be(both) as u16,
        flags,
    };
    if protocol == IpProto::Tcp as u8
        && let Some(head) = packet.head::<END>()
    {
        return of(head.u32::<AT>(), head.u8::<FLAGS>());
    }
    if protocol == IpProto::Udp as u8
        && let Some(head) = packet.head::<PORTS>()
    {
        return of(head.u32::<AT>(), 0);
    }
    Ports::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forwarder_common::punt::words;
    use std::{vec, vec::Vec};

    const MAC: u64 = u64::from_le_bytes([2, 0, 0, 0, 0, 9, 0, 0]);

    fn sorted(mut frame: Vec<u8>, kind: Kind) -> Option<Sorted> {
        let start = frame.as_mut_ptr() as usize;
        // SAFETY: the range is the vector, which lives until the end.
        let packet = unsafe { Packet::new(start, start + frame.len()) };
        sort(&packet, &packet, kind, |port| matches!(port, 22 | 179))
    }

    fn class(frame: Vec<u8>, kind: Kind) -> Option<Class> {
        sorted(frame, kind).map(|sorted| Class::ALL[sorted.class as usize])
    }

    fn ethernet(to: u8, ether_type: u16) -> Vec<u8> {
        let mut frame = vec![to, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        frame.extend(ether_type.to_be_bytes());
        frame
    }

    fn v4(to: [u8; 4], protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = ethernet(if to[0] >= 224 { 1 } else { 2 }, 0x0800);
        frame.extend([0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0, 192, 0, 2, 1]);
        frame.extend(to);
        frame.extend(payload);
        frame
    }

    fn v6(from: [u8; 2], to: [u8; 2], protocol: u8, limit: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = ethernet(if to[0] == 0xff { 0x33 } else { 2 }, 0x86dd);
        frame.extend([0x60, 0, 0, 0, 0, 0, protocol, limit]);
        for (ends, last) in [(from, 7), (to, 8)] {
            frame.extend(ends);
            frame.extend([0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        frame.extend(payload);
        frame
    }

    fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
        let mut segment = from.to_be_bytes().to_vec();
        segment.extend(to.to_be_bytes());
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        segment
    }

    fn udp(to: u16) -> Vec<u8> {
        let mut datagram = vec![0x13, 0x88];
        datagram.extend(to.to_be_bytes());
        datagram.extend([0, 8, 0, 0]);
        datagram
    }

    const ME: [u8; 4] = [203, 0, 113, 1];

    #[test]
    fn what_is_for_the_router_is_told_apart_by_protocol_and_port() {
        let class = |protocol, payload: &[u8]| class(v4(ME, protocol, 64, payload), Kind::Local);
        assert_eq!(class(1, &[8, 0, 0, 0]), Some(Class::LocalIcmp));
        assert_eq!(class(6, &tcp(40_000, 179, 2)), Some(Class::LocalControl));
        assert_eq!(class(6, &tcp(179, 40_000, 0x12)), Some(Class::LocalControl));
        assert_eq!(class(6, &tcp(40_000, 80, 2)), Some(Class::LocalOther));
        assert_eq!(class(17, &udp(4784)), Some(Class::LocalControl));
        assert_eq!(class(17, &udp(53)), Some(Class::LocalOther));
        assert_eq!(
            class(17, &udp(3784)),
            Some(Class::LocalOther),
            "BFD with a TTL that it never has"
        );
        assert_eq!(class(89, &[]), Some(Class::LocalControl));
        assert_eq!(class(47, &[]), Some(Class::LocalOther));
        assert_eq!(class(6, &[0, 179]), Some(Class::LocalOther), "cut short");
        let mut fragment = v4(ME, 6, 64, &tcp(40_000, 179, 2));
        fragment[21] = 9;
        assert_eq!(
            super::tests::class(fragment, Kind::Local),
            Some(Class::LocalOther)
        );
    }

    #[test]
    fn what_only_a_neighbour_can_have_sent_has_a_class_of_its_own() {
        let all = [224, 0, 0, 18];
        for (frame, kind) in [
            (v4(all, 112, 255, &[]), Kind::Link),
            (v6([0xfe, 0x80], [0xff, 2], 112, 255, &[]), Kind::Link),
            (v4(ME, 17, 255, &udp(3784)), Kind::Local),
            (v4(ME, 17, 255, &udp(6784)), Kind::Local),
            (v4(ME, 6, 255, &tcp(179, 40_000, 0x10)), Kind::Local),
            (
                v6([0xfe, 0x80], [0xfe, 0x80], 6, 255, &tcp(40_000, 179, 2)),
                Kind::Link,
            ),
            (v4([224, 0, 0, 5], 89, 1, &[]), Kind::Link),
            (v6([0xfe, 0x80], [0xff, 2], 89, 1, &[]), Kind::Link),
            (v4([224, 0, 0, 2], 17, 1, &udp(646)), Kind::Link),
        ] {
            let sorted = sorted(frame, kind).unwrap();
            assert_eq!((sorted.class, sorted.source), (Class::LinkControl as u32, MAC));
        }
        assert_eq!(class(v4(all, 112, 254, &[]), Kind::Link), Some(Class::Multicast));
        assert_eq!(
            class(v4([239, 1, 1, 1], 89, 1, &[]), Kind::Link),
            Some(Class::Multicast)
        );
        assert_eq!(
            class(v4(ME, 6, 255, &tcp(40_000, 22, 2)), Kind::Local),
            Some(Class::LocalControl)
        );
    }

    #[test]
    fn what_is_on_the_link_is_told_apart() {
        let solicits = v6([0xfe, 0x80], [0xff, 2], 58, 255, &[135, 0]);
        assert_eq!(class(solicits, Kind::Link), Some(Class::Nd));
        let report = v6([0xfe, 0x80], [0xff, 2], 58, 1, &[143, 0]);
        assert_eq!(class(report, Kind::Link), Some(Class::Multicast));
        assert_eq!(
            class(v6([0xfe, 0x80], [0xff, 2], 58, 255, &[]), Kind::Link),
            Some(Class::Multicast)
        );
        assert_eq!(class(ethernet(0xff, 0x88cc), Kind::Link), Some(Class::Multicast));
        assert_eq!(class(ethernet(0xff, 0x0800), Kind::Link), Some(Class::Multicast));
        // A ping and a session between link-local addresses.
        let echo = sorted(v6([0xfe, 0x80], [0xfe, 0x80], 58, 64, &[128, 0]), Kind::Link).unwrap();
        assert_eq!((echo.class, echo.source), (Class::LocalIcmp as u32, 7u64.to_be()));
        let session = sorted(
            v6([0xfe, 0x80], [0xfe, 0x80], 6, 1, &tcp(179, 5, 0x10)),
            Kind::Link,
        )
        .unwrap();
        assert!(session.acknowledges() && session.local && session.class == Class::LocalControl as u32);
        // A unicast address in a frame to everybody.
        let mut everybody = v4(ME, 1, 64, &[8, 0]);
        everybody[0] = 0xff;
        assert_eq!(class(everybody, Kind::Link), Some(Class::Multicast));
    }

    #[test]
    fn a_session_is_named_as_sockets_name_it() {
        let mut frame = v4(ME, 6, 64, &tcp(40_000, 179, 0x10));
        let sorted = sorted(frame.clone(), Kind::Local).unwrap();
        assert!(sorted.acknowledges() && sorted.local);
        assert_eq!(
            (sorted.ports.source, sorted.ports.destination, sorted.protocol),
            (40_000, 179, 6)
        );
        assert_eq!(Sorted::read(sorted.class, sorted.source, sorted.header()), sorted);
        let between = |frame: &mut Vec<u8>| {
            let start = frame.as_mut_ptr() as usize;
            // SAFETY: the range is the vector.
            addresses(&unsafe { Packet::new(start, start + frame.len()) })
        };
        let four = |octets: [u8; 4]| words(std::net::Ipv4Addr::from(octets).to_ipv6_mapped().octets());
        assert_eq!(between(&mut frame), Some([four([192, 0, 2, 1]), four(ME)]));
        let mut frame = v6([0x20, 1], [0x20, 2], 6, 64, &tcp(179, 9, 0x10));
        let six = |second, last| words([0x20, second, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, last]);
        assert_eq!(between(&mut frame), Some([six(1, 7), six(2, 8)]));
        assert!(
            !super::tests::sorted(v4(ME, 6, 64, &tcp(1, 179, 2)), Kind::Local)
                .unwrap()
                .acknowledges()
        );
    }

    #[test]
    fn a_source_is_an_ipv4_address_an_ipv6_64_or_a_mac_address() {
        let source = |frame, kind| sorted(frame, kind).unwrap().source;
        let always = Kind::Always;
        assert_eq!(
            source(v4(ME, 17, 1, &[]), always(Class::TtlExpired)),
            u64::from(u32::from_le_bytes([192, 0, 2, 1]))
        );
        let net = u64::from_le_bytes([0x20, 1, 0, 0, 0, 0, 0, 5]);
        assert_eq!(
            source(v6([0x20, 1], [0x20, 2], 17, 1, &[]), always(Class::TtlExpired)),
            net
        );
        assert_eq!(source(ethernet(0xff, 0x0806), always(Class::Arp)), MAC);
        assert_eq!(source(v4(ME, 1, 1, &[]), always(Class::Malformed)), MAC);
    }

    #[test]
    fn what_is_too_big_is_cut_or_answered() {
        let mut frame = v4(ME, 17, 64, &[]);
        assert_eq!(class(frame.clone(), Kind::TooBig), Some(Class::Options));
        frame[20] = 0x40;
        assert_eq!(class(frame, Kind::TooBig), Some(Class::Unresolved));
        assert_eq!(
            class(v6([0x20, 1], [0x20, 2], 17, 64, &[]), Kind::TooBig),
            Some(Class::Unresolved)
        );
    }

    #[test]
    fn no_length_reads_beyond_the_end() {
        for whole in [
            v4(ME, 6, 255, &tcp(1, 179, 0x10)),
            v6([0xfe, 0x80], [0xff, 2], 58, 255, &[135, 0, 0, 0]),
            v6([0x20, 1], [0x20, 2], 17, 64, &udp(53)),
        ] {
            for length in 0..whole.len() {
                for kind in [
                    Kind::Link,
                    Kind::Local,
                    Kind::TooBig,
                    Kind::Always(Class::Options),
                ] {
                    // A vector of the exact length, so that a read beyond it is a read beyond the allocation.
                    let short = sorted(whole[..length].to_vec(), kind);
                    assert_eq!(short.is_some(), length >= ETHERNET, "{length} {kind:?}");
                }
            }
        }
        assert_eq!(sorted(v4(ME, 1, 64, &[]), Kind::Never), None);
    }
}
