//! Who is who for a node, by the names that the daemons' configurations use.

use crate::lab::topology::LINKS;

/// Our AS, from the range for documentation (RFC 5398), like the carriers'.
pub const OUR_AS: u32 = 64_500;

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

/// A carrier's own networks, IPv4 and IPv6.
pub fn own_networks(node: &str) -> [&'static str; 2] {
    side(node).own
}

/// Names and what they stand for, of a carrier.
pub fn carrier(node: &str) -> Vec<(String, String)> {
    let side = side(node);
    let mut names = numbers(&[("THIS_AS", side.carrier_as), ("PEER_AS", side.other_as)]);
    addresses(&mut names, node, "router0", "CUSTOMER");
    addresses(&mut names, node, "peer0", "PEER");
    names
}

/// Names and what they stand for, of one of our routers.
pub fn router(node: &str) -> Vec<(String, String)> {
    let mut names = numbers(&[("CARRIER_AS", side(node).carrier_as)]);
    addresses(&mut names, node, "transit0", "CARRIER");
    addresses(&mut names, node, "twin0", "TWIN");
    names
}

fn numbers(more: &[(&str, u32)]) -> Vec<(String, String)> {
    let all = [("OUR_AS", OUR_AS)].into_iter().chain(more.iter().copied());
    all.map(|(name, number)| (name.to_string(), number.to_string()))
        .collect()
}

/// `NAME4` and `NAME6` for the far end of a cable, `NAME4_HERE` and `NAME6_HERE` for the near one.
fn addresses(names: &mut Vec<(String, String)>, node: &str, ifname: &str, name: &str) {
    for link in LINKS {
        for (near, far) in [(&link.ends[0], &link.ends[1]), (&link.ends[1], &link.ends[0])] {
            if near.node == node && near.ifname == ifname {
                for (end, suffix) in [(near, "_HERE"), (far, "")] {
                    for address in end.addresses.iter().filter_map(|text| text.split('/').next()) {
                        let family = if address.contains(':') { 6 } else { 4 };
                        names.push((format!("{name}{family}{suffix}"), address.to_string()));
                    }
                }
            }
        }
    }
}
