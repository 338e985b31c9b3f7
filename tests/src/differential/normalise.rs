//! What two kernels may do differently with the same packet, and nothing else.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::topology::{ECMP_MEMBERS, PORTS, mac};

/// A difference that is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freedom {
    /// Which member of an ECMP group.
    EcmpMember,
    /// How often redirects are sent.
    RedirectRate,
    /// How often routes that say no are answered with an error.
    ErrorRate,
    /// What routers say unasked.
    Chatter,
    /// IPv4 identification of packets that the router makes.
    Identification,
    /// Identification in IPv6 fragment headers that the router makes.
    FragmentIdentification,
    /// Times in ICMP timestamp replies and in the timestamp option.
    Clock,
    /// A path MTU below 552 that an ICMP error told the router.
    PathMtu,
    /// IPv4 sources inside a local route that is no single address.
    LocalPrefix,
}

/// Each with its reason, and what is compared all the same.
pub const FREEDOMS: &[(Freedom, &str)] = &[
    (
        Freedom::EcmpMember,
        "kernel and forwarder hash with seeds of their own: the packet must leave by a member, and be the same but for MACs",
    ),
    (
        Freedom::ErrorRate,
        "the kernel limits errors about routes that say no (unreachable, prohibit, none) per source by the clock, with what \
         redirects left (`ip_error`): the first to each source must be the same",
    ),
    (
        Freedom::RedirectRate,
        "the kernel limits redirects per source by the clock: the first redirect to each source must come, and be the same",
    ),
    (
        Freedom::Chatter,
        "ARP requests, neighbour and router solicitations, MLD and IGMP reports come by timers: left out",
    ),
    (
        Freedom::Identification,
        "the kernel draws it at random for packets of its own: left out, and the header checksum, which must be right",
    ),
    (
        Freedom::FragmentIdentification,
        "as above: left out in fragments from the router's own addresses",
    ),
    (
        Freedom::Clock,
        "the two routers look at the clock one after the other: times and the ICMP checksum over them are left out",
    ),
    (
        Freedom::PathMtu,
        "whoever sends the kernel an ICMP error about a packet of its own sets the MTU of forwarded ones too (`mtu lock 552` in \
         the route cache), and forwarder keeps to the route's: never provoked, such errors name 62.0.0.0/8, where nothing goes",
    ),
    (
        Freedom::LocalPrefix,
        "forwarder knows the router's addresses one by one, the kernel takes nothing from such a prefix: never sent",
    ),
];

/// What one router has said so far, where that matters.
#[derive(Default)]
pub struct Normaliser {
    redirected: HashSet<IpAddr>,
    refused: HashSet<Ipv4Addr>,
    /// Whether 42.0.0.0/24 and 2a42::/34 are the router's own too.
    pub local_routes: bool,
    /// How often each freedom was taken.
    pub taken: BTreeMap<Freedom, u64>,
}

impl Normaliser {
    /// The frame as it is compared, and the port's name; nothing where it is not compared.
    pub fn normal(&mut self, port: usize, mut frame: Vec<u8>) -> Option<(&'static str, Vec<u8>)> {
        if self.left_out(&frame) {
            return None;
        }
        match frame.get(12..14) {
            Some([8, 0]) => self.ipv4(&mut frame),
            Some([0x86, 0xdd]) => self.ipv6(&mut frame),
            _ => {}
        }
        let name = PORTS[port].name;
        if ECMP_MEMBERS
            .iter()
            .any(|host| frame[..6] == mac(PORTS[port].number, *host))
        {
            self.take(Freedom::EcmpMember);
            frame[..12].fill(0);
            return Some(("a member", frame));
        }
        Some((name, frame))
    }

    fn take(&mut self, freedom: Freedom) {
        *self.taken.entry(freedom).or_default() += 1;
    }

    fn own4(&self, frame: &[u8]) -> bool {
        address4(frame, 26).is_some_and(|address| {
            let [a, b, c, d] = address.octets();
            let ports = (a, b, d) == (20, 0, 1) && PORTS.iter().any(|port| port.number == c);
            ports || self.local_routes && (a, b, c) == (42, 0, 0)
        })
    }

    fn own6(&self, frame: &[u8]) -> bool {
        address6(frame, 22).is_some_and(|address| {
            let [a, b, c, d, e, f, g, h] = address.segments();
            address.is_unspecified()
                || (a, c, d, e, f, g, h) == (0x2a00, 0, 0, 0, 0, 0, 1) && (1..=5).contains(&b)
                || (a, b, c, d, e, f, g, h & 0xff) == (0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1)
                || self.local_routes && (a, b, c >> 14) == (0x2a42, 0, 0)
        })
    }

    fn left_out(&mut self, frame: &[u8]) -> bool {
        let chatter = match frame.get(12..14) {
            Some([8, 6]) => frame.get(20..22) == Some(&[0, 1]),
            Some([8, 0]) => self.own4(frame) && frame.get(23) == Some(&2),
            Some([0x86, 0xdd]) => {
                // MLD has a hop-by-hop header in front, of eight octets.
                let kind = match frame.get(20) {
                    Some(0) if frame.get(54) == Some(&58) => frame.get(62),
                    Some(58) => frame.get(54),
                    _ => None,
                };
                self.own6(frame) && matches!(kind, Some(130..=133 | 135 | 143))
            }
            _ => false,
        };
        if chatter {
            self.take(Freedom::Chatter);
            return true;
        }
        let redirected = match frame.get(12..14) {
            Some([8, 0])
                if self.own4(frame) && frame.get(23) == Some(&1) && frame.get(icmp4(frame)) == Some(&5) =>
            {
                address4(frame, 30).map(IpAddr::from)
            }
            Some([0x86, 0xdd])
                if self.own6(frame) && frame.get(20) == Some(&58) && frame.get(54) == Some(&137) =>
            {
                address6(frame, 38).map(IpAddr::from)
            }
            _ => None,
        };
        if let Some(source) = redirected
            && !self.redirected.insert(source)
        {
            self.take(Freedom::RedirectRate);
            return true;
        }
        // Codes of EHOSTUNREACH, ENETUNREACH and EACCES (net/ipv4/route.c).
        let at = icmp4(frame);
        if frame.get(12..14) == Some(&[8, 0])
            && self.own4(frame)
            && frame.get(23) == Some(&1)
            && matches!(frame.get(at..at + 2), Some([3, 0 | 1 | 13]))
            && let Some(source) = address4(frame, 30)
            && !self.refused.insert(source)
        {
            self.take(Freedom::ErrorRate);
            return true;
        }
        false
    }

    fn ipv4(&mut self, frame: &mut [u8]) {
        let icmp = icmp4(frame);
        let own = self.own4(frame);
        let mut timed = clear_times(&mut frame[14..]);
        if own {
            self.take(Freedom::Identification);
            let right = super::payload::checksum(&frame[14..icmp.min(frame.len())], None) == 0 || timed;
            frame[18..20].fill(0);
            frame[24..26].fill(if right { 0 } else { 0xbd });
        }
        let whole = frame
            .get(20..22)
            .is_some_and(|word| word[0] & 0x3f == 0 && word[1] == 0);
        if own && frame[23] == 1 && whole && frame.len() >= icmp + 8 {
            let kind = frame[icmp];
            let mut message = false;
            if kind == 14 && frame.len() >= icmp + 20 {
                frame[icmp + 12..icmp + 20].fill(0);
                message = true;
            } else if matches!(kind, 3 | 4 | 5 | 11 | 12) {
                message = clear_times(&mut frame[icmp + 8..]);
            }
            if message {
                frame[icmp + 2..icmp + 4].fill(0);
                timed = true;
            }
        }
        if timed {
            self.take(Freedom::Clock);
        }
    }

    fn ipv6(&mut self, frame: &mut [u8]) {
        if self.own6(frame) && frame.get(20) == Some(&44) && frame.len() >= 62 {
            self.take(Freedom::FragmentIdentification);
            frame[58..62].fill(0);
        }
    }
}

/// Where the ICMP header starts.
fn icmp4(frame: &[u8]) -> usize {
    14 + (frame.get(14).copied().unwrap_or(0) & 15) as usize * 4
}

/// Clears the times in the timestamp option of an IPv4 packet, and its checksum; answers whether there were any.
fn clear_times(packet: &mut [u8]) -> bool {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return false;
    }
    let end = ((packet[0] & 15) as usize * 4).min(packet.len());
    let mut at = 20;
    while at + 1 < end {
        let length = match packet[at] {
            0 => return false,
            1 => 1,
            _ => packet[at + 1] as usize,
        };
        if packet[at] == 68 {
            // Pointer and overflow stay; the rest are addresses and times.
            packet[(at + 4).min(end)..(at + length).clamp((at + 4).min(end), end)].fill(0);
            packet[10..12].fill(0);
            return true;
        }
        if length == 0 {
            return false;
        }
        at += length;
    }
    false
}

fn address4(frame: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn address6(frame: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}
