//! The source filter: which class each source address is, compiled into the table the program walks.
//!
//! Classes nest like prefixes: the longest one that covers an address says what it is. Three kinds go in: bogons, our own
//! prefixes (which take precedence over a bogon that covers or equals them), and the subnets connected to filtered
//! interfaces themselves, whose hosts speak to us with addresses of that subnet, whatever range it is from.

use std::{collections::BTreeMap, net::IpAddr, sync::atomic::Ordering};

use forwarder_common::{
    fib::{BLOCK_LEN, Leaf},
    filter::{BLOCKS, SourceClass, WORDS},
};
use ipnet::IpNet;
use thiserror::Error;

use crate::dataplane::Tables;

/// Date of the IANA registries below: iana-ipv4-special-registry and iana-ipv6-special-registry (RFC 6890), and the
/// IPv4 multicast and reserved space.
pub const BOGONS_DATE: &str = "2025-10-09";

/// IPv4 sources that must not appear on the Internet: "globally reachable" false in the registry, multicast, class E.
pub const BOGONS4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// IPv4 inside the ranges above that is globally reachable: PCP and TURN anycast (RFC 7723, RFC 8155).
pub const EXCEPTIONS4: &[&str] = &["192.0.0.9/32", "192.0.0.10/32"];

/// IPv6 sources that must not appear on the Internet: everything but global unicast (2000::/3), the NAT64 well-known
/// prefix and link-local, and what the registry takes out of it. Link-local sources never get as far as a route.
pub const BOGONS6: &[&str] = &["::/0", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16"];

/// IPv6 inside the ranges above that is globally reachable.
pub const EXCEPTIONS6: &[&str] = &[
    "2000::/3",
    "64:ff9b::/96",
    "fe80::/10",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
];

/// Why a source table cannot be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// More nested prefixes than blocks.
    #[error(
        "the source filter has room for {BLOCKS} blocks per family, and {prefix} needs more: name fewer or shorter own prefixes"
    )]
    Full {
        /// The prefix that did not fit.
        prefix: IpNet,
    },
}

/// What the classes are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Whether bogons are filtered.
    pub bogons: bool,
    /// Our own prefixes.
    pub own: Vec<IpNet>,
    /// Subnets connected to filtered interfaces: their hosts are neighbours.
    pub on_link: Vec<IpNet>,
}

/// Words of both families.
pub struct Compiled {
    /// IPv4.
    pub v4: Vec<u32>,
    /// IPv6.
    pub v6: Vec<u32>,
}

/// Compiles the classes.
///
/// # Errors
/// [`FilterError::Full`].
pub fn compile(sources: &Sources) -> Result<Compiled, FilterError> {
    let mut classes: BTreeMap<(u8, IpNet), SourceClass> = BTreeMap::new();
    let mut add = |prefix: IpNet, class| {
        classes.insert((prefix.prefix_len(), prefix.trunc()), class);
    };
    if sources.bogons {
        let parse = |list: &[&str]| {
            list.iter()
                .filter_map(|text| text.parse().ok())
                .collect::<Vec<IpNet>>()
        };
        [BOGONS4, BOGONS6]
            .iter()
            .flat_map(|list| parse(list))
            .for_each(|p| add(p, SourceClass::Bogon));
        [EXCEPTIONS4, EXCEPTIONS6]
            .iter()
            .flat_map(|list| parse(list))
            .for_each(|p| add(p, SourceClass::Ordinary));
    }
    sources
        .own
        .iter()
        .for_each(|prefix| add(*prefix, SourceClass::Own));
    // A bogon more specific than an own prefix that covers it is own space all the same.
    let shadowed: Vec<_> = classes
        .iter()
        .filter(|((_, prefix), class)| {
            **class != SourceClass::Own && sources.own.iter().any(|own| own.contains(prefix))
        })
        .map(|(key, _)| *key)
        .collect();
    for key in shadowed {
        classes.remove(&key);
    }
    for prefix in &sources.on_link {
        classes.insert((prefix.prefix_len(), prefix.trunc()), SourceClass::Ordinary);
    }
    let (mut v4, mut v6) = (Words::new(), Words::new());
    // Shortest first: a longer prefix overwrites its part.
    for ((length, prefix), class) in &classes {
        let fitted = match prefix.addr() {
            IpAddr::V4(address) => v4.lay(&address.octets(), *length, *class as u32),
            IpAddr::V6(address) => v6.lay(&address.octets(), *length, *class as u32),
        };
        fitted.ok_or(FilterError::Full { prefix: *prefix })?;
    }
    Ok(Compiled {
        v4: v4.words,
        v6: v6.words,
    })
}

/// Writes a compiled table into the half not in force and puts it in force with one store. The half it replaces must
/// have been out of force for a grace period.
pub fn install(tables: &Tables, compiled: &Compiled) {
    let settings = tables.settings.word(0, 16);
    let old = settings.load(Ordering::Acquire);
    let next = (old as u32 & 1) ^ 1;
    let base = next as usize * WORDS * 8;
    for (family, words) in [&compiled.v4, &compiled.v6].into_iter().enumerate() {
        for (index, word) in words.iter().enumerate() {
            tables
                .sources
                .u32(base + (family * WORDS + index) * 4)
                .store(*word, Ordering::Release);
        }
    }
    settings.store(old & !0xffff_ffff | next as u64, Ordering::Release);
}

struct Words {
    words: Vec<u32>,
    blocks: usize,
}

impl Words {
    fn new() -> Words {
        Words {
            words: vec![0; WORDS],
            blocks: 1,
        }
    }

    fn lay(&mut self, octets: &[u8], length: u8, class: u32) -> Option<()> {
        let mut block = 0;
        let last = (length.max(1).div_ceil(8) - 1) as usize;
        for octet in &octets[..last] {
            let at = block * BLOCK_LEN + *octet as usize;
            block = match Leaf(self.words[at]).block() {
                Some(next) => next as usize,
                None => {
                    let next = self.blocks;
                    if next == BLOCKS {
                        return None;
                    }
                    self.blocks += 1;
                    let inherited = self.words[at];
                    self.words[next * BLOCK_LEN..][..BLOCK_LEN].fill(inherited);
                    self.words[at] = Leaf::child(next as u32).0;
                    next
                }
            };
        }
        let span = 1usize << (8 * (last + 1) - length as usize);
        let first = block * BLOCK_LEN + (octets[last] as usize & !(span - 1));
        self.words[first..first + span].fill(class);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Sizes;
    use forwarder_common::filter::classify;

    fn class(compiled: &Compiled, address: &str) -> u32 {
        let words = |words: &Vec<u32>| -> Box<[u32; WORDS]> { words.clone().try_into().expect("length") };
        match address.parse().expect("address") {
            IpAddr::V4(a) => classify(&words(&compiled.v4), &a.octets()),
            IpAddr::V6(a) => classify(&words(&compiled.v6), &a.octets()),
        }
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().expect("prefix")).collect()
    }

    #[test]
    fn an_own_prefix_takes_precedence_over_a_bogon_and_a_link_over_both() {
        let compiled = compile(&Sources {
            bogons: true,
            own: nets(&["192.0.2.0/24", "2001:db8::/32", "5.10.0.0/16"]),
            on_link: nets(&["10.9.8.0/30", "5.10.255.0/31", "fd00:1::/64"]),
        })
        .expect("fits");
        let (ordinary, bogon, own) = (
            SourceClass::Ordinary as u32,
            SourceClass::Bogon as u32,
            SourceClass::Own as u32,
        );
        for (address, expected) in [
            ("10.0.0.1", bogon),
            ("10.9.8.1", ordinary),
            ("10.9.8.4", bogon),
            ("192.0.2.55", own),
            ("192.0.0.9", ordinary),
            ("192.0.0.8", bogon),
            ("198.51.100.1", bogon),
            ("8.8.8.8", ordinary),
            ("5.10.1.1", own),
            ("5.10.255.1", ordinary),
            ("255.255.255.255", bogon),
            ("0.0.0.0", bogon),
            ("100.127.255.255", bogon),
            ("100.128.0.0", ordinary),
            ("2001:db8::1", own),
            ("2001:db9::1", ordinary),
            ("2001:2::1", bogon),
            ("2001::1", ordinary),
            ("3fff:fff::1", bogon),
            ("3fff:1000::1", ordinary),
            ("fd00:1::5", ordinary),
            ("fd00:2::5", bogon),
            ("fe80::1", ordinary),
            ("::1", bogon),
            ("4000::1", bogon),
        ] {
            assert_eq!(class(&compiled, address), expected, "{address}");
        }
    }

    #[test]
    fn too_many_prefixes_are_refused_with_the_one_that_did_not_fit() {
        let own =
            (0..200u32).map(|i| IpNet::new(IpAddr::V4((0x0500_0000 + (i << 16)).into()), 25).expect("net"));
        let error = compile(&Sources {
            own: own.collect(),
            ..Sources::default()
        })
        .map(|_| ());
        assert!(matches!(error, Err(FilterError::Full { .. })), "{error:?}");
    }

    #[test]
    fn a_new_table_takes_effect_by_the_other_half() {
        let tables = Tables::heap(Sizes::SMALL);
        let first = compile(&Sources {
            bogons: true,
            ..Sources::default()
        })
        .expect("fits");
        install(&tables, &first);
        assert_eq!(tables.settings.get(0).active_filter, 1);
        assert_eq!(
            tables.sources.u32(WORDS * 8 + 10 * 4).load(Ordering::Acquire),
            SourceClass::Bogon as u32
        );
        install(&tables, &compile(&Sources::default()).expect("fits"));
        assert_eq!(tables.settings.get(0).active_filter, 0);
    }
}
