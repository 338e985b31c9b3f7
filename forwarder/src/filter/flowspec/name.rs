//! A FlowSpec rule in words: `dst 203.0.113.5/32 proto udp src-port 123`.

use std::fmt::Write;

use super::super::names::{PROTOCOLS, TCP_FLAGS};
use super::super::ranges::Ranges;
use super::super::rule::{FRAGMENT_DF, FRAGMENT_FIRST, FRAGMENT_IS, FRAGMENT_LAST, Family};
use super::components::{Component, Kind, Value};
use super::conditions::numbers;
use super::operators::{Operators, each_bit};

/// A name at most, in characters: a rule may list a thousand ports.
const LONGEST: usize = 160;

/// As the configuration names them.
const FRAGMENTS: &[(&str, u32)] = &[
    ("dont-fragment", FRAGMENT_DF),
    ("later", FRAGMENT_IS),
    ("first", FRAGMENT_FIRST),
    ("last", FRAGMENT_LAST),
];

/// Names a rule by its components.
#[must_use]
pub fn name(family: Family, components: &[Component<'_>]) -> String {
    let mut name = String::new();
    for component in components {
        let space = if name.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(name, "{space}{} ", component.kind.word());
        match (component.value, component.kind) {
            (Value::Prefix(pattern), _) => {
                let _ = write!(name, "{pattern}");
            }
            (Value::List(list), Kind::TcpFlags) => name.push_str(&bits(list, 0xffff, TCP_FLAGS)),
            (Value::List(list), Kind::Fragment) => name.push_str(&bits(list, 15, FRAGMENTS)),
            (Value::List(list), kind) => name.push_str(&ranges(kind, &numbers(family, kind, list))),
        }
        if name.len() > LONGEST {
            break;
        }
    }
    shortened(name)
}

/// Names a rule that cannot be read by its octets.
#[must_use]
pub fn octets(nlri: &[u8]) -> String {
    let mut name = String::from("octets ");
    for octet in nlri.iter().take(LONGEST) {
        let _ = write!(name, "{octet:02x}");
    }
    shortened(name)
}

fn shortened(mut name: String) -> String {
    if name.len() > LONGEST {
        name.truncate(name.floor_char_boundary(LONGEST));
        name.push_str("...");
    }
    name
}

fn ranges(kind: Kind, ranges: &Ranges) -> String {
    if ranges.is_empty() {
        return "none".into();
    }
    let protocols: Option<Vec<String>> = (kind == Kind::Protocol)
        .then(|| {
            ranges
                .iter()
                .map(|range| (range.start() == range.end()).then(|| protocol(*range.start())))
        })
        .and_then(Iterator::collect);
    protocols.map_or_else(|| ranges.to_string(), |names| names.join(","))
}

fn protocol(number: u32) -> String {
    PROTOCOLS
        .name(number)
        .map_or_else(|| number.to_string(), str::to_owned)
}

/// `syn&!ack`, `first|later`: alternatives stand apart by commas; `+` is all of them, `|` any.
fn bits(list: Operators<'_>, kept: u64, names: &[(&str, u32)]) -> String {
    let mut text = String::new();
    for (index, operator) in list.iter().enumerate() {
        if text.len() > LONGEST {
            break;
        }
        if index > 0 {
            text.push(if operator.and() { '&' } else { ',' });
        }
        let value = operator.value & kept;
        let parts: Vec<String> = each_bit(value)
            .map(|bit| {
                let known = names.iter().find(|(_, known)| u64::from(*known) == 1 << bit);
                known.map_or_else(|| format!("{:#x}", 1u64 << bit), |(name, _)| (*name).to_owned())
            })
            .collect();
        let joined = match (parts.is_empty(), operator.all()) {
            (true, true) => "always".to_owned(),
            (true, false) => "never".to_owned(),
            (false, true) => parts.join("+"),
            (false, false) => parts.join("|"),
        };
        match (operator.not(), parts.len() > 1) {
            (false, _) => text.push_str(&joined),
            (true, false) => text.extend(["!", &joined]),
            (true, true) => text.extend(["!(", &joined, ")"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::components::components;
    use super::*;
    use crate::source::feed::FeedTable::{FlowSpec4, FlowSpec6};

    #[test]
    fn rules_of_the_daemons_and_of_the_rfc_have_readable_names() {
        for (table, nlri, expected) in [
            (
                FlowSpec4,
                &[1, 32, 203, 0, 113, 5, 3, 0x81, 17, 6, 0x81, 123][..],
                "dst 203.0.113.5/32 proto udp src-port 123",
            ),
            // As BIRD 2.0.12 sends it.
            (
                FlowSpec4,
                &[
                    1, 32, 203, 0, 113, 5, 2, 15, 0xc6, 0x12, 3, 0x81, 17, 5, 1, 0x35, 0x13, 3, 0xe8, 0xd5,
                    7, 0xd0, 9, 1, 2, 0xc2, 0x10, 10, 3, 0, 0x45, 100, 0x92, 5, 0x78, 11, 0x81, 10, 12, 0x81,
                    2,
                ],
                "dst 203.0.113.5/32 src 198.18.0.0/15 proto udp dst-port 53,1000-2000 tcp-flags syn&!ack \
                 length 0-100,1401-65535 dscp 10 fragment later",
            ),
            (
                FlowSpec4,
                &[1, 32, 192, 0, 2, 1, 0x0c, 0x80, 5],
                "dst 192.0.2.1/32 fragment dont-fragment|first",
            ),
            (
                FlowSpec6,
                &[
                    1, 32, 0, 0x20, 1, 0x0d, 0xb8, 2, 0x68, 0x40, 0x12, 0x34, 0x56, 0x78, 0x9a, 3, 0x81, 6,
                ],
                "dst 2001:db8::/32 src ::1234:5678:9a00:0/64-104 proto tcp",
            ),
            (
                FlowSpec6,
                &[3, 0x81, 58, 7, 0x81, 128],
                "proto icmpv6 icmp-type 128",
            ),
            (FlowSpec6, &[13, 0x81, 9], "flow-label 9"),
            (FlowSpec4, &[3, 0x85, 6], "proto 0-6"),
            (FlowSpec4, &[3, 1, 1, 0x81, 6], "proto icmp,tcp"),
            (FlowSpec4, &[5, 0x80, 6], "dst-port none"),
            (FlowSpec4, &[9, 0x93, 0x01, 0x12], "tcp-flags !(syn+ack+ae)"),
            (
                FlowSpec4,
                &[9, 0x11, 0x02, 0x00, 0x81, 0],
                "tcp-flags 0x200,always",
            ),
        ] {
            let parsed = components(table, nlri).unwrap();
            let family = super::super::components::family(table);
            assert_eq!(name(family, &parsed), expected);
        }
    }

    #[test]
    fn a_name_has_an_end() {
        let mut ports = vec![4];
        for port in 0..1000u16 {
            let [high, low] = (port * 3).to_be_bytes();
            ports.extend([if port == 999 { 0x91 } else { 0x11 }, high, low]);
        }
        let name = name(Family::V4, &components(FlowSpec4, &ports).unwrap());
        assert!(
            name.starts_with("port 0,3,6,9,12,") && name.ends_with("..."),
            "{name}"
        );
        assert_eq!(name.len(), LONGEST + 3);
        assert_eq!(octets(&[1, 0xab]), "octets 01ab");
        assert_eq!(octets(&[7; 4000]).len(), LONGEST + 3);
    }
}
