//! Which packets: drawn from the table's prefixes, each run once before it counts, so that what is timed is what is forwarded.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, anyhow};
use forwarder_common::{
    harness::{Packet, TTL, UDP},
    interface::{CHECK_SOURCES, GENERIC_MODE},
    nexthop::{GENERIC, mac_bytes},
    origin::UNCHECKED,
    reason::Reason,
};
use ipnet::IpNet;

use super::ingress::Served;
use crate::{
    cli::checksum::{folded, sum},
    dataplane::{
        Tables,
        bencher::{Bencher, REDIRECT},
    },
    stats::prefixes,
};

/// Packets that come again and again: all they touch stays in the first caches.
pub const HOT: usize = 64;
/// The most packets of a course that touches the whole table: 500,000, each with lines of its own.
pub const COLD: usize = 1 << 19;
/// Octets of a frame, without its checksum.
const FRAME: usize = 64;
/// Draws that may come to nothing for a packet, on average.
const DRAWS: usize = 4;
/// Draws after which, if not one was forwarded, none will be.
const PATIENCE: usize = 4096;
/// Prefixes below which the table is in the caches whatever comes.
const FEW: usize = 100_000;

/// Packets of one family.
pub struct Course {
    /// IPv6.
    pub six: bool,
    /// The packets: a power of two of them.
    pub packets: Vec<Packet>,
    /// A frame for them.
    pub frame: Vec<u8>,
    /// Prefixes they were drawn from.
    pub prefixes: usize,
}

impl Course {
    /// What the reader of the figures must know of it.
    pub fn note(&self) -> Option<String> {
        (self.prefixes < FEW).then(|| {
            format!(
                "{}: {} prefixes to forward to, which the caches hold: a full table's cold packets cost more",
                family(self.six),
                self.prefixes
            )
        })
    }
}

/// The name of a family.
pub const fn family(six: bool) -> &'static str {
    if six { "IPv6" } else { "IPv4" }
}

/// Draws the packets of a family: destinations uniform over the prefixes that lead somewhere, sources over those that may come in
/// there.
///
/// # Errors
/// Why there is none, as a sentence.
pub fn draw(bencher: &Bencher, tables: &Tables, ingress: &Served, six: bool) -> Result<Course> {
    let name = family(six);
    if !ingress.forwards(six) {
        return Err(anyhow!("{name} is not forwarded on {}", ingress.name));
    }
    let [sources, destinations] = ends(tables, ingress, six);
    if destinations.is_empty() {
        return Err(anyhow!(
            "{name}: no prefix leads to a usable next hop other than by {}",
            ingress.name
        ));
    }
    if sources.is_empty() {
        return Err(anyhow!(
            "{name}: {} checks sources, and no prefix may come in there",
            ingress.name
        ));
    }
    let wanted = (destinations.len() * 4).next_power_of_two().clamp(HOT, COLD);
    let mut random = Random(u64::from(six));
    let before = bencher.exits();
    let mut packets = Vec::with_capacity(wanted);
    let mut frame = Vec::new();
    for draw in 0..wanted * DRAWS {
        if packets.len() == wanted || packets.is_empty() && draw == PATIENCE {
            break;
        }
        let source = random.inside_any(&sources);
        let destination = random.inside_any(&destinations);
        let (packet, octets) = made(six, mac_bytes(ingress.interface.macs[0]), source, destination);
        if bencher.once(ingress.ifindex, &octets)? == REDIRECT {
            packets.push(packet);
            frame = octets;
        }
    }
    if packets.is_empty() {
        let after = bencher.exits();
        let most = (0..Reason::SLOTS).max_by_key(|reason| after[*reason] - before[*reason]);
        let reason = most.and_then(Reason::from_index);
        return Err(anyhow!(
            "{name}: every packet to a prefix of the table leaves as {}",
            reason.map_or("nothing that is known".into(), |reason| {
                format!("\"{}\" ({})", reason.name(), reason.help())
            })
        ));
    }
    for at in 0..wanted - packets.len() {
        packets.push(packets[at]);
    }
    Ok(Course {
        six,
        packets,
        frame,
        prefixes: destinations.len(),
    })
}

/// The prefixes that packets may come from there, and those that they are forwarded to.
fn ends(tables: &Tables, ingress: &Served, six: bool) -> [Vec<IpNet>; 2] {
    let interface = &ingress.interface;
    let checked = interface.flags & CHECK_SOURCES != 0 && interface.origin != UNCHECKED;
    let mut groups: HashMap<u32, [bool; 2]> = HashMap::new();
    let mut ends = [Vec::new(), Vec::new()];
    for (_, prefix, entry) in prefixes::laid(tables) {
        if prefix.addr().is_ipv6() != six || entry.group >= tables.sizes.groups {
            continue;
        }
        let may = groups.entry(entry.group).or_insert_with(|| {
            let origin = tables.origins.get(entry.group as usize);
            [
                !checked || origin.has(interface.origin),
                leads_on(tables, ingress, entry.group),
            ]
        });
        for (end, may) in ends.iter_mut().zip(may) {
            if *may {
                end.push(prefix);
            }
        }
    }
    ends
}

/// Whether all of a group's next hops send packets on, and none of them back.
fn leads_on(tables: &Tables, ingress: &Served, group: u32) -> bool {
    let group = tables.groups.get(group as usize);
    let used = if group.width <= 1 { 1 } else { group.buckets.len() };
    group.buckets[..used].iter().all(|id| {
        let hop = tables
            .nexthops
            .get(usize::from(*id).min(tables.nexthops.len() - 1));
        hop.state() == Reason::Forwarded.index()
            && hop.ifindex != 0
            && ![ingress.ifindex, ingress.interface.ifindex].contains(&hop.ifindex)
            && (hop.flags & GENERIC == 0 || ingress.interface.flags & GENERIC_MODE != 0)
    })
}

/// A packet, and as a whole frame.
fn made(six: bool, to: [u8; 6], source: u128, destination: u128) -> (Packet, Vec<u8>) {
    let mut frame = vec![0; FRAME];
    frame[..6].copy_from_slice(&to);
    // Locally administered; nobody looks at it.
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    let (packet, transport) = if six {
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, (FRAME - 54) as u8, UDP, TTL]);
        let (source, destination) = (
            Ipv6Addr::from(source).octets(),
            Ipv6Addr::from(destination).octets(),
        );
        frame[22..38].copy_from_slice(&source);
        frame[38..54].copy_from_slice(&destination);
        (Packet::v6(source, destination), 54)
    } else {
        frame[12..14].copy_from_slice(&[8, 0]);
        let length = (FRAME - 14) as u8;
        frame[14..24].copy_from_slice(&[0x45, 0, 0, length, 0, 0, 0x40, 0, TTL, UDP]);
        let (source, destination) = (
            Ipv4Addr::from((source >> 96) as u32).octets(),
            Ipv4Addr::from((destination >> 96) as u32).octets(),
        );
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&destination);
        let checksum = (!folded(sum(&frame[14..34]))).to_be_bytes();
        frame[24..26].copy_from_slice(&checksum);
        let ttl = [TTL, UDP, checksum[0], checksum[1]];
        (Packet::v4(ttl, source, destination), 34)
    };
    // Ports, and the length; the checksum is not there, and no router asks for it.
    frame[transport..transport + 6].copy_from_slice(&[0xc3, 0x50, 0x01, 0xbb, 0, (FRAME - transport) as u8]);
    (packet, frame)
}

/// Numbers that are as good as random, the same in each run: splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// An address inside one of these, of which there is one at least.
    fn inside_any(&mut self, prefixes: &[IpNet]) -> u128 {
        let prefix = prefixes[(self.bits() % prefixes.len() as u64) as usize];
        self.inside(prefix)
    }

    /// An address inside, its bits at the top.
    fn inside(&mut self, prefix: IpNet) -> u128 {
        let wide = u128::from(self.bits()) << 64 | u128::from(self.bits());
        let network = match prefix {
            IpNet::V4(prefix) => u128::from(u32::from(prefix.network())) << 96,
            IpNet::V6(prefix) => u128::from(prefix.network()),
        };
        network | wide.checked_shr(u32::from(prefix.prefix_len())).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_inside_and_headers_sum_to_ones() {
        let mut random = Random(7);
        for text in ["198.18.0.0/15", "203.0.113.7/32", "2001:db8::/32", "::/0"] {
            let prefix: IpNet = text.parse().unwrap();
            let address = random.inside(prefix);
            let address: std::net::IpAddr = match prefix {
                IpNet::V4(_) => Ipv4Addr::from((address >> 96) as u32).into(),
                IpNet::V6(_) => Ipv6Addr::from(address).into(),
            };
            assert!(prefix.contains(&address), "{address} is not in {prefix}");
        }
        let bits = u128::from(u32::from(Ipv4Addr::new(192, 0, 2, 1))) << 96;
        let (packet, frame) = made(false, [2; 6], bits, bits);
        let sum: u32 = frame[14..34]
            .chunks_exact(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(packet.words[0].to_ne_bytes(), frame[22..30]);
        assert_eq!(packet.words[1].to_ne_bytes()[..4], frame[30..34]);
        let (packet, frame) = made(true, [2; 6], 5, 9);
        let words = packet.words.iter().flat_map(|word| word.to_ne_bytes());
        assert!(words.eq(frame[22..54].iter().copied()));
    }
}
