//! The network of the lab as data: nodes, links, addresses. Nothing here touches the system.
//!
//! ```text
//!   internet-a            internet-b        each answers for the whole Internet behind its carrier
//!       |                     |
//!   transit-a ---peering--- transit-b       AS 64496, AS 64497
//!       | eBGP                | eBGP        carrier B's link has the smaller MTU
//!   router-a ====iBGP===== router-b         AS 64500
//!       |                     |
//!    core-a ---- ring ---- core-b           bridges, one LAN
//!       |                     |
//!   server-1              server-2
//! ```
//!
//! The network's own prefixes are documentation ranges (RFC 5737, RFC 3849). Carriers and internet hosts use unicast
//! space that no bogon list holds (33.0.0.0/8, 2a1f::/16); it exists only inside the namespaces.

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A carrier's router: plain Linux forwarding and BIRD.
    Carrier,
    /// One of our edge routers: BIRD and forwarder.
    Router,
    /// A core switch: a Linux bridge over all its interfaces.
    Switch,
    /// A server behind the core.
    Server,
    /// A host behind a carrier; it answers for every address of the route table.
    Internet,
}

/// One network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The name `lab exec` takes.
    pub name: &'static str,
    /// What it does.
    pub role: Role,
    /// Default gateways, IPv4 and IPv6.
    pub gateways: &'static [&'static str],
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The node it is in.
    pub node: &'static str,
    /// Its name there.
    pub ifname: &'static str,
    /// Addresses with prefix length; empty on a switch.
    pub addresses: &'static [&'static str],
}

/// One cable.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// The two ends.
    pub ends: [End; 2],
    /// MTU of both ends, bytes.
    pub mtu: u32,
}

const fn node(name: &'static str, role: Role, gateways: &'static [&'static str]) -> Node {
    Node { name, role, gateways }
}

const fn end(node: &'static str, ifname: &'static str, addresses: &'static [&'static str]) -> End {
    End {
        node,
        ifname,
        addresses,
    }
}

const fn link(mtu: u32, a: End, b: End) -> Link {
    Link { ends: [a, b], mtu }
}

/// Every node of the lab.
pub const NODES: &[Node] = &[
    node("transit-a", Role::Carrier, &["33.10.1.10", "2a1f:a:0:1::10"]),
    node("transit-b", Role::Carrier, &["33.20.1.10", "2a1f:b:0:1::10"]),
    node("router-a", Role::Router, &[]),
    node("router-b", Role::Router, &[]),
    node("core-a", Role::Switch, &[]),
    node("core-b", Role::Switch, &[]),
    node("server-1", Role::Server, &["192.0.2.2", "2001:db8:1::2"]),
    node("server-2", Role::Server, &["192.0.2.3", "2001:db8:1::3"]),
    node("internet-a", Role::Internet, &["33.10.1.1", "2a1f:a:0:1::1"]),
    node("internet-b", Role::Internet, &["33.20.1.1", "2a1f:b:0:1::1"]),
];

/// MTU of carrier B's link, smaller than everybody else's: what path MTU discovery has to find.
pub const SMALL_MTU: u32 = 1_480;

/// Every cable of the lab.
pub const LINKS: &[Link] = &[
    link(
        1500,
        end("transit-a", "customer0", &["33.10.1.1/24", "2a1f:a:0:1::1/64"]),
        end("internet-a", "net0", &["33.10.1.10/24", "2a1f:a:0:1::10/64"]),
    ),
    link(
        1500,
        end("transit-b", "customer0", &["33.20.1.1/24", "2a1f:b:0:1::1/64"]),
        end("internet-b", "net0", &["33.20.1.10/24", "2a1f:b:0:1::10/64"]),
    ),
    link(
        1500,
        end("transit-a", "peer0", &["33.30.0.1/30", "2a1f:c::1/64"]),
        end("transit-b", "peer0", &["33.30.0.2/30", "2a1f:c::2/64"]),
    ),
    link(
        1500,
        end("transit-a", "router0", &["33.10.0.1/30", "2a1f:a::1/64"]),
        end("router-a", "transit0", &["33.10.0.2/30", "2a1f:a::2/64"]),
    ),
    link(
        SMALL_MTU,
        end("transit-b", "router0", &["33.20.0.1/30", "2a1f:b::1/64"]),
        end("router-b", "transit0", &["33.20.0.2/30", "2a1f:b::2/64"]),
    ),
    link(
        1500,
        end("router-a", "twin0", &["203.0.113.1/30", "2001:db8:ffff::1/64"]),
        end("router-b", "twin0", &["203.0.113.2/30", "2001:db8:ffff::2/64"]),
    ),
    link(
        1500,
        end("router-a", "core0", &["192.0.2.2/24", "2001:db8:1::2/64"]),
        end("core-a", "router0", &[]),
    ),
    link(
        1500,
        end("router-b", "core0", &["192.0.2.3/24", "2001:db8:1::3/64"]),
        end("core-b", "router0", &[]),
    ),
    link(1500, end("core-a", "ring0", &[]), end("core-b", "ring0", &[])),
    link(
        1500,
        end("server-1", "net0", &["192.0.2.11/24", "2001:db8:1::11/64"]),
        end("core-a", "server0", &[]),
    ),
    link(
        1500,
        end("server-2", "net0", &["192.0.2.12/24", "2001:db8:1::12/64"]),
        end("core-b", "server0", &[]),
    ),
];

/// The nodes that run forwarder.
pub const ROUTERS: [&str; 2] = ["router-a", "router-b"];

/// The network's own prefixes, as the routers announce and filter them.
pub const OWN_PREFIXES: [&str; 3] = ["192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"];

/// The node of that name.
pub fn find(name: &str) -> Option<&'static Node> {
    NODES.iter().find(|node| node.name == name)
}

/// The first address of a node in the wanted family, without its length.
pub fn address(node: &str, v6: bool) -> Option<std::net::IpAddr> {
    ends_of(node)
        .flat_map(|(_, end)| end.addresses)
        .filter_map(|text| text.split('/').next()?.parse().ok())
        .find(|address: &std::net::IpAddr| address.is_ipv6() == v6)
}

/// The interfaces of a node, each with the index of its link.
pub fn ends_of(node: &str) -> impl Iterator<Item = (usize, &'static End)> {
    LINKS
        .iter()
        .enumerate()
        .flat_map(|(index, link)| link.ends.iter().map(move |end| (index, end)))
        .filter(move |(_, end)| end.node == node)
}

/// The MAC address of one end: locally administered, link and side readable in a capture.
pub fn mac(link: usize, side: usize) -> [u8; 6] {
    [0x02, 0, 0, 0, link as u8 + 1, side as u8 + 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_at_a_known_node_and_names_are_unique_there() {
        let mut seen = std::collections::HashSet::new();
        for end in LINKS.iter().flat_map(|link| &link.ends) {
            assert!(find(end.node).is_some(), "{end:?}");
            assert!(seen.insert((end.node, end.ifname)), "{end:?}");
            assert!(end.ifname.len() < 16);
        }
    }

    #[test]
    fn every_host_has_an_address_in_both_families() {
        for host in NODES
            .iter()
            .filter(|n| matches!(n.role, Role::Server | Role::Internet))
        {
            assert!(address(host.name, false).is_some() && address(host.name, true).is_some());
            assert_eq!(host.gateways.len(), 2);
        }
    }
}
