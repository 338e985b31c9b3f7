//! BGP attributes as people read them.

use std::net::Ipv4Addr;

use crate::source::feed::{Attributes, Segment};
use crate::source::octets::hex;

/// `64501 64510 {64511,64512}`, a set in braces.
pub fn as_path(attributes: &Attributes) -> String {
    let numbers = |path: &[u32], between: &str| {
        let path: Vec<String> = path.iter().map(u32::to_string).collect();
        path.join(between)
    };
    let segments = attributes.as_path.iter().map(|segment| match segment {
        Segment::Sequence(path) => numbers(path, " "),
        Segment::Set(set) => format!("{{{}}}", numbers(set, ",")),
    });
    segments.collect::<Vec<_>>().join(" ")
}

/// As in `birdc show route all`, in small letters.
pub fn origin(origin: u8) -> &'static str {
    match origin {
        0 => "igp",
        1 => "egp",
        _ => "incomplete",
    }
}

/// `64501:7 64501:8`.
pub fn communities(attributes: &Attributes) -> String {
    let each = attributes.communities.iter();
    words(each.map(|c| format!("{}:{}", c >> 16, c & 0xffff)))
}

/// `64501:1:2` (RFC 8092).
pub fn large_communities(attributes: &Attributes) -> String {
    let each = attributes.large.iter();
    words(each.map(|[a, b, c]| format!("{a}:{b}:{c}")))
}

/// `rt:64501:7`, and those without a name in hexadecimal; the IPv6 ones (RFC 5701) last.
pub fn extended_communities(attributes: &Attributes) -> String {
    let each = attributes.extended.iter().map(extended);
    words(each.chain(attributes.extended6.iter().map(|octets| number(octets))))
}

fn words(each: impl Iterator<Item = String>) -> String {
    each.collect::<Vec<_>>().join(" ")
}

/// An extended community (RFC 4360, RFC 5668): route targets and origins by name, others as they are.
fn extended(octets: &[u8; 8]) -> String {
    let [kind, sub, a, b, c, d, e, f] = *octets;
    let name = match sub {
        2 => "rt",
        3 => "ro",
        _ => return number(octets),
    };
    let short = u16::from_be_bytes([e, f]);
    match kind & 0x3f {
        0 => format!(
            "{name}:{}:{}",
            u16::from_be_bytes([a, b]),
            u32::from_be_bytes([c, d, e, f])
        ),
        1 => format!("{name}:{}:{short}", Ipv4Addr::from([a, b, c, d])),
        2 => format!("{name}:{}:{short}", u32::from_be_bytes([a, b, c, d])),
        _ => number(octets),
    }
}

fn number(octets: &[u8]) -> String {
    format!("0x{}", hex(octets))
}
