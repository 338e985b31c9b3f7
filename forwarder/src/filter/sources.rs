//! The source filter: which class each source address is, compiled into the tree the program walks.
//!
//! Classes nest like prefixes: the longest one that covers an address says what it is. Three kinds go in: bogons, our own
//! prefixes, and the subnets connected to filtered interfaces themselves, whose hosts speak to us with addresses of that
//! subnet, whatever range it is from. An own prefix or such a subnet stands also where a bogon is inside it: a list is a
//! stranger's word, and must not cut off what is ours.

use std::{collections::BTreeMap, sync::Arc};

use forwarder_common::filter::{LEAVES, NODES, SourceClass};
use ipnet::IpNet;
use thiserror::Error;

pub use super::source_tree::{Compiled, install};
use super::source_tree::{Entry, tree};

/// Date of the IANA registries below: iana-ipv4-special-registry and iana-ipv6-special-registry (RFC 6890, RFC 8190), and
/// the IPv4 multicast and reserved space.
pub const BOGONS_DATE: &str = "2025-10-09";

/// IPv4 sources that must not appear on the Internet: "globally reachable" false in the registry, multicast, class E. The
/// rest of 192.88.99.0/24, where 6to4 relays were (RFC 7526), has no such word: it is deprecated, "N/A".
pub const BOGONS4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.2/32",
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
pub const BOGONS6: &[&str] = &["::/0", "2001::/23", "2001:db8::/32", "3fff::/20"];

/// IPv6 inside the ranges above that is globally reachable, or of which the registry does not say that it is not (Teredo).
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

/// Why the source filter cannot be compiled.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// More prefixes, too far apart, than there are tables.
    #[error(
        "the source filter has no room for so many prefixes so far apart ({NODES} nodes, {LEAVES} leaves)"
    )]
    Full,
}

/// What the classes are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Whether the built-in bogons are filtered.
    pub bogons: bool,
    /// Bogons of lists, in any order.
    pub listed: Arc<Vec<IpNet>>,
    /// Our own prefixes.
    pub own: Vec<IpNet>,
    /// Subnets connected to filtered interfaces: their hosts are neighbours.
    pub on_link: Vec<IpNet>,
}

/// Compiles the classes.
///
/// # Errors
/// [`FilterError::Full`].
pub fn compile(sources: &Sources) -> Result<Compiled, FilterError> {
    let classes = classes(sources);
    let half = |ipv6: bool| -> Vec<Entry> {
        let of = classes.iter().filter(|(net, _)| net.addr().is_ipv6() == ipv6);
        of.map(|(net, class)| Entry::new(*net, *class)).collect()
    };
    tree(&half(false), &half(true)).ok_or(FilterError::Full)
}

/// The class that begins with each prefix, where it is not the class around it by precedence.
fn classes(sources: &Sources) -> BTreeMap<IpNet, SourceClass> {
    let mut classes: BTreeMap<IpNet, SourceClass> = BTreeMap::new();
    if sources.bogons {
        let built_in = |list: &'static [&str]| list.iter().filter_map(|text| text.parse::<IpNet>().ok());
        let bogons = built_in(BOGONS4).chain(built_in(BOGONS6));
        classes.extend(bogons.map(|net| (net, SourceClass::Bogon)));
        let exceptions = built_in(EXCEPTIONS4).chain(built_in(EXCEPTIONS6));
        classes.extend(exceptions.map(|net| (net, SourceClass::Ordinary)));
    }
    classes.extend(sources.listed.iter().map(|net| (net.trunc(), SourceClass::Bogon)));
    let ours = [&sources.own, &sources.on_link];
    classes.retain(|net, _| !ours.iter().any(|list| list.iter().any(|our| our.contains(net))));
    classes.extend(sources.own.iter().map(|net| (net.trunc(), SourceClass::Own)));
    classes.extend(
        sources
            .on_link
            .iter()
            .map(|net| (net.trunc(), SourceClass::Ordinary)),
    );
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::source_tree::tests::Seen;

    const ORDINARY: SourceClass = SourceClass::Ordinary;
    const BOGON: SourceClass = SourceClass::Bogon;
    const OWN: SourceClass = SourceClass::Own;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().expect("prefix")).collect()
    }

    fn hold(sources: &Sources, expected: &[(&str, SourceClass)]) {
        let seen = Seen::new(&compile(sources).expect("fits"));
        for (address, class) in expected {
            let found = seen.class(address.parse().expect("address"));
            assert_eq!(found, *class as u32, "{address} is not {class:?}");
        }
    }

    #[test]
    fn an_own_prefix_takes_precedence_over_a_bogon_and_a_link_over_both() {
        let sources = Sources {
            bogons: true,
            own: nets(&["192.0.2.0/24", "2001:db8::/32", "5.10.0.0/16"]),
            on_link: nets(&["10.9.8.0/30", "5.10.255.0/31", "fd00:1::/64"]),
            ..Sources::default()
        };
        let expected = [
            ("10.0.0.1", BOGON),
            ("10.9.8.1", ORDINARY),
            ("10.9.8.4", BOGON),
            ("192.0.2.55", OWN),
            ("192.0.0.9", ORDINARY),
            ("192.0.0.8", BOGON),
            ("192.88.99.1", ORDINARY),
            ("192.88.99.2", BOGON),
            ("198.51.100.1", BOGON),
            ("8.8.8.8", ORDINARY),
            ("5.10.1.1", OWN),
            ("5.10.255.1", ORDINARY),
            ("255.255.255.255", BOGON),
            ("0.0.0.0", BOGON),
            ("100.127.255.255", BOGON),
            ("100.128.0.0", ORDINARY),
            ("2001:db8::1", OWN),
            ("2001:db9::1", ORDINARY),
            ("2001:2::1", BOGON),
            ("2001:10::1", BOGON),
            ("2001:20::1", ORDINARY),
            ("2001::1", ORDINARY),
            ("2002::1", ORDINARY),
            ("3fff:fff::1", BOGON),
            ("3fff:1000::1", ORDINARY),
            ("5f00::1", BOGON),
            ("64:ff9b::1", ORDINARY),
            ("64:ff9b:1::1", BOGON),
            ("100::1", BOGON),
            ("::ffff:192.0.2.1", BOGON),
            ("fd00:1::5", ORDINARY),
            ("fd00:2::5", BOGON),
            ("fec0::1", BOGON),
            ("ff02::1", BOGON),
            ("fe80::1", ORDINARY),
            ("::1", BOGON),
            ("4000::1", BOGON),
        ];
        hold(&sources, &expected);
    }

    #[test]
    fn a_listed_bogon_is_one_but_where_own_prefixes_links_and_longer_exceptions_are() {
        let sources = Sources {
            bogons: true,
            listed: Arc::new(nets(&[
                "5.0.0.0/8",
                "6.1.2.0/24",
                "6.1.2.128/25",
                "7.7.0.0/24",
                "8.8.8.8/32",
                "192.0.0.0/16",
                "2001::/32",
                "2a00::/12",
                "2a0f::/32",
            ])),
            own: nets(&["5.10.0.0/16", "7.0.0.0/8", "2a00:1::/32"]),
            on_link: nets(&["5.20.0.0/30", "6.1.2.0/24"]),
        };
        let expected = [
            ("5.0.0.1", BOGON),
            ("5.10.0.1", OWN),
            ("5.20.0.1", ORDINARY),
            ("5.20.0.4", BOGON),
            // Inside of what is ours.
            ("6.1.2.1", ORDINARY),
            ("6.1.2.129", ORDINARY),
            ("7.7.0.1", OWN),
            ("8.8.8.8", BOGON),
            ("8.8.8.9", ORDINARY),
            ("192.0.0.9", ORDINARY),
            ("192.0.77.1", BOGON),
            // Longer than, or as long as what is built in.
            ("2001::1", BOGON),
            ("2a00::1", BOGON),
            ("2a00:1::1", OWN),
            ("2a0f::1", BOGON),
            ("2a10::1", ORDINARY),
        ];
        hold(&sources, &expected);
        let listed_alone = Sources {
            bogons: false,
            ..sources
        };
        hold(&listed_alone, &[("10.0.0.1", ORDINARY), ("5.0.0.1", BOGON)]);
    }

    #[test]
    fn too_many_prefixes_are_refused_with_what_there_is_room_for() {
        let many = (0..40_000u32)
            .map(|i| std::net::Ipv4Addr::from(0x0100_0000 + (i << 8)))
            .map(|address| IpNet::new(address.into(), 25).expect("net"));
        let error = compile(&Sources {
            listed: Arc::new(many.collect()),
            ..Sources::default()
        })
        .map(|_| ());
        let said = error.map_err(|why| why.to_string());
        assert!(
            said.clone().is_err_and(|text| text.contains("4096 leaves")),
            "{said:?}"
        );
    }

    #[test]
    fn every_built_in_prefix_can_be_read() {
        for text in [BOGONS4, EXCEPTIONS4, BOGONS6, EXCEPTIONS6].concat() {
            let net: IpNet = text.parse().expect(text);
            assert_eq!(net.trunc(), net);
        }
    }
}
