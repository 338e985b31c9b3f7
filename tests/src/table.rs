//! Route tables for tests: generated with the real table's prefix lengths, or read from a file, and an independent model
//! of the longest match.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::random::Random;

/// Prefixes of each length out of a thousand, of the IPv4 table of 2022 in round numbers, and some of those lengths that
/// only an IGP has.
const LENGTHS4: &[(u8, u32)] = &[
    (8, 1),
    (12, 1),
    (14, 2),
    (16, 15),
    (17, 9),
    (18, 15),
    (19, 26),
    (20, 45),
    (21, 55),
    (22, 117),
    (23, 106),
    (24, 568),
    (25, 8),
    (27, 8),
    (29, 8),
    (31, 6),
    (32, 10),
];

/// As above, IPv6.
const LENGTHS6: &[(u8, u32)] = &[
    (20, 1),
    (28, 2),
    (29, 25),
    (30, 5),
    (32, 125),
    (33, 21),
    (34, 20),
    (36, 40),
    (38, 12),
    (40, 77),
    (42, 16),
    (44, 95),
    (46, 25),
    (47, 20),
    (48, 470),
    (56, 15),
    (64, 15),
    (127, 6),
    (128, 10),
];

/// The IPv4 table: the file named by `FORWARDER_TABLE_V4` (lines `prefix origin-as`), or `count` generated prefixes.
///
/// # Errors
/// The file cannot be read, or has a line that is no IPv4 prefix.
pub fn v4(count: usize) -> Result<Vec<IpNet>> {
    table("FORWARDER_TABLE_V4", true, || generate(count, LENGTHS4, true))
}

/// The IPv6 table, by `FORWARDER_TABLE_V6`.
///
/// # Errors
/// As [`v4`].
pub fn v6(count: usize) -> Result<Vec<IpNet>> {
    table("FORWARDER_TABLE_V6", false, || generate(count, LENGTHS6, false))
}

fn table(variable: &str, v4: bool, generate: impl Fn() -> Vec<IpNet>) -> Result<Vec<IpNet>> {
    let Some(path) = std::env::var_os(variable) else {
        return Ok(generate());
    };
    let path = std::path::PathBuf::from(path);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{variable}: cannot read {}", path.display()))?;
    let mut prefixes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{}:{}: {line:?}", path.display(), number + 1);
        let Some(word) = line.split_whitespace().next() else {
            continue;
        };
        let prefix: IpNet = word.parse().with_context(place)?;
        if prefix.addr().is_ipv4() != v4 {
            bail!("{}: of the other family", place());
        }
        prefixes.push(prefix.trunc());
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok(prefixes)
}

/// Different prefixes, uniform over unicast space, so that they nest as on the Internet.
fn generate(count: usize, lengths: &[(u8, u32)], v4: bool) -> Vec<IpNet> {
    let mut random = Random::new(if v4 { 4 } else { 6 });
    let total: u32 = lengths.iter().map(|(_, share)| share).sum();
    let mut seen = HashSet::new();
    let mut prefixes = Vec::new();
    while prefixes.len() < count {
        let mut at = random.below(total as usize) as u32;
        let mut length = 0;
        for (candidate, share) in lengths {
            length = *candidate;
            if at < *share {
                break;
            }
            at -= share;
        }
        let address = if v4 {
            unicast4(&mut random).into()
        } else {
            unicast6(&mut random).into()
        };
        let Ok(prefix) = IpNet::new(address, length) else {
            continue;
        };
        let prefix = prefix.trunc();
        if forwardable(prefix.addr()) && seen.insert(prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// A random address of 1.0.0.0 to 223.255.255.255.
pub fn unicast4(random: &mut Random) -> Ipv4Addr {
    let first = 1 + random.below(223) as u32;
    Ipv4Addr::from(first << 24 | random.bits() as u32 >> 8)
}

/// A random address of 2000::/3; half of the time from a /20 of it, where prefixes then stand closer.
pub fn unicast6(random: &mut Random) -> Ipv6Addr {
    let wide = random.wide() >> 3 | 1 << 125;
    if random.below(2) == 0 {
        return wide.into();
    }
    Ipv6Addr::from(wide & (u128::MAX >> 20) | 0x2a000 << 108)
}

/// Whether a packet there gets as far as the table: neither multicast nor link-local nor a martian.
pub fn forwardable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let special = v4.is_multicast() || v4.is_link_local() || v4.is_loopback() || v4.is_broadcast();
            !special && v4.octets()[0] != 0
        }
        IpAddr::V6(v6) => {
            let special = v6.is_multicast() || v6.is_unicast_link_local() || v6.is_loopback();
            !special && !v6.is_unspecified()
        }
    }
}

/// First and last address of a prefix, the one below and the one above.
pub fn edges(prefix: IpNet) -> [IpAddr; 4] {
    match prefix {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|a| Ipv4Addr::from(a).into())
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|a| Ipv6Addr::from(a).into())
        }
    }
}

/// A random address inside a prefix.
pub fn inside(random: &mut Random, prefix: IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = random.bits() as u32 & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.network()) | host).into()
        }
        IpNet::V6(net) => {
            let host = random.wide() & u128::from(net.hostmask());
            Ipv6Addr::from(u128::from(net.network()) | host).into()
        }
    }
}

/// The longest match by asking every length in turn: slow, and with nothing in common with a stride table.
pub struct Model<V> {
    v4: Vec<HashMap<u32, V>>,
    v6: Vec<HashMap<u128, V>>,
}

impl<V: Copy> Default for Model<V> {
    fn default() -> Self {
        Model {
            v4: (0..=32).map(|_| HashMap::new()).collect(),
            v6: (0..=128).map(|_| HashMap::new()).collect(),
        }
    }
}

impl<V: Copy> Model<V> {
    /// Adds a prefix.
    pub fn insert(&mut self, prefix: IpNet, value: V) {
        let length = prefix.prefix_len() as usize;
        match prefix.trunc() {
            IpNet::V4(net) => self.v4[length].insert(net.network().into(), value),
            IpNet::V6(net) => self.v6[length].insert(net.network().into(), value),
        };
    }

    /// The longest prefix that covers an address, and its value.
    pub fn lookup(&self, address: IpAddr) -> Option<(u8, V)> {
        match address {
            IpAddr::V4(v4) => (0..=32u32).rev().find_map(|length| {
                let network = u32::from(v4) & u32::MAX.checked_shl(32 - length).unwrap_or(0);
                let level = &self.v4[length as usize];
                Some((length as u8, *level.get(&network).filter(|_| !level.is_empty())?))
            }),
            IpAddr::V6(v6) => (0..=128u32).rev().find_map(|length| {
                let level = &self.v6[length as usize];
                if level.is_empty() {
                    return None;
                }
                let network = u128::from(v6) & u128::MAX.checked_shl(128 - length).unwrap_or(0);
                Some((length as u8, *level.get(&network)?))
            }),
        }
    }
}
