//! BIRD's configurations: a file for carriers and one for routers, each after the few lines that tell which it is.

use std::fmt::Write as _;

use crate::lab::topology::LINKS;

const CARRIER: &str = include_str!("carrier.conf");
const ROUTER: &str = include_str!("router.conf");

/// Our AS, from the range for documentation (RFC 5398), like the carriers'.
const OUR_AS: u32 = 64_500;

/// Which of the two halves of the network a node is in, its AS numbers and the carrier's own networks.
struct Side {
    carrier_as: u32,
    other_as: u32,
    own: [&'static str; 2],
}

fn side(node: &str) -> Side {
    let a = Side {
        carrier_as: 64_496,
        other_as: 64_497,
        own: ["33.10.0.0/16", "2a1f:a::/32"],
    };
    let b = Side {
        carrier_as: 64_497,
        other_as: 64_496,
        own: ["33.20.0.0/16", "2a1f:b::/32"],
    };
    if node.ends_with("-a") { a } else { b }
}

/// The configuration of a carrier.
pub fn carrier(node: &str) -> String {
    let side = side(node);
    let mut text = head(node);
    define(&mut text, "THIS_AS", side.carrier_as);
    define(&mut text, "PEER_AS", side.other_as);
    addresses(&mut text, node, "router0", "CUSTOMER");
    addresses(&mut text, node, "peer0", "PEER");
    for (family, own) in ["4", "6"].into_iter().zip(side.own) {
        let _ = writeln!(
            text,
            "protocol static own{family} {{ ipv{family}; route {own} unreachable; }}"
        );
    }
    text + "\n" + CARRIER
}

/// The configuration of one of our routers.
pub fn router(node: &str) -> String {
    let mut text = head(node);
    define(&mut text, "CARRIER_AS", side(node).carrier_as);
    addresses(&mut text, node, "transit0", "CARRIER");
    addresses(&mut text, node, "twin0", "TWIN");
    text + "\n" + ROUTER
}

fn head(node: &str) -> String {
    format!("# {node}\ndefine OUR_AS = {OUR_AS};\n")
}

fn define(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "define {name} = {value};");
}

/// `NAME4` and `NAME6` for the far end of a cable, `NAME4_HERE` and `NAME6_HERE` for the near one.
fn addresses(text: &mut String, node: &str, ifname: &str, name: &str) {
    for link in LINKS {
        for (near, far) in [(&link.ends[0], &link.ends[1]), (&link.ends[1], &link.ends[0])] {
            if near.node == node && near.ifname == ifname {
                for (end, suffix) in [(near, "_HERE"), (far, "")] {
                    for address in end.addresses.iter().filter_map(|text| text.split('/').next()) {
                        let family = if address.contains(':') { 6 } else { 4 };
                        define(text, &format!("{name}{family}{suffix}"), address);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_a_configuration_uses_is_defined() {
        for text in [
            carrier("transit-a"),
            carrier("transit-b"),
            router("router-a"),
            router("router-b"),
        ] {
            let defined: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("define ")?.split(' ').next())
                .collect();
            let lines = text.lines().filter(|line| !line.starts_with(['#', 'd']));
            for word in lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')) {
                if ["CARRIER", "TWIN", "CUSTOMER", "PEER"]
                    .iter()
                    .any(|name| word.starts_with(name))
                    || word.ends_with("_AS")
                {
                    assert!(defined.contains(&word), "{word}");
                }
            }
        }
    }
}
