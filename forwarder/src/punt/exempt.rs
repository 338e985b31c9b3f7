//! Who is exempt: sessions of the router's, peers that it knows, tunnels that end here. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use forwarder_common::punt::{Flow, words};

use crate::{
    netlink::sockets::Connection,
    source::event::{Link, Neighbour},
};

/// Sessions at most; those with the lowest addresses, so that they are the same from second to second.
const SESSIONS: usize = 4_096;
/// Remote ends of sessions that are remembered at most.
const REMEMBERED: usize = 1_024;
/// How long they are, seconds.
const HOUR: u32 = 3_600;
/// Neighbours at most.
const NEIGHBOURS: usize = 2_048;

const TCP: u32 = 6;
const UDP: u32 = 17;

/// Protocols and UDP ports that links of a kind (`IFLA_INFO_KIND`) take apart: their own, where IANA or the kernel's default gives
/// them one.
const TUNNELS: &[(&str, &[u32], &[u16])] = &[
    ("ipip", &[4, 137], &[]),
    ("sit", &[4, 41, 137], &[]),
    ("ip6tnl", &[4, 41], &[]),
    ("gre", &[47], &[]),
    ("gretap", &[47], &[]),
    ("ip6gre", &[47], &[]),
    ("ip6gretap", &[47], &[]),
    ("erspan", &[47], &[]),
    ("ip6erspan", &[47], &[]),
    ("vti", &[4, 50, 51], &[4_500]),
    ("vti6", &[41, 50, 51], &[4_500]),
    ("xfrm", &[50, 51], &[4_500]),
    ("l2tpeth", &[115], &[1_701]),
    ("wireguard", &[], &[51_820]),
    ("vxlan", &[], &[4_789, 8_472]),
    ("geneve", &[], &[6_081]),
    ("bareudp", &[], &[6_635]),
    ("gtp", &[], &[2_152]),
];

/// What is known, and what is remembered of it.
#[derive(Default)]
pub struct Exempt {
    /// Remote ends of sessions, and when there was one last.
    remembered: BTreeMap<[u64; 2], u32>,
}

/// What the kernel says at a moment.
pub struct World<'a> {
    /// Established TCP connections.
    pub connections: &'a [Connection],
    /// Ports of control protocols.
    pub control_ports: &'a [u16],
    /// UDP ports of tunnels that are configured.
    pub tunnel_ports: &'a [u16],
    /// Seconds.
    pub now: u32,
}

/// The map's contents, and what is in it for people.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// All of them.
    pub flows: BTreeSet<Flow>,
    /// Sessions.
    pub sessions: u32,
    /// Peers.
    pub peers: u32,
}

impl Exempt {
    /// Who is exempt now.
    pub fn flows<'a>(
        &mut self,
        world: &World<'_>,
        neighbours: impl Iterator<Item = &'a Neighbour>,
        links: impl Iterator<Item = &'a Link>,
    ) -> Flows {
        let control = |port: u16| world.control_ports.contains(&port);
        let sessions: BTreeSet<Flow> = world
            .connections
            .iter()
            .filter(|c| control(c.local.port()) || control(c.remote.port()))
            // These do not come in from outside.
            .filter(|c| !c.remote.ip().to_canonical().is_loopback())
            .map(session)
            .collect();
        let sessions: BTreeSet<Flow> = sessions.into_iter().take(SESSIONS).collect();
        self.remember(&sessions, world.now);
        let resolved = neighbours
            .filter(|neighbour| neighbour.mac.is_some())
            .map(|neighbour| address(neighbour.address))
            .take(NEIGHBOURS);
        let peers: BTreeSet<[u64; 2]> = self.remembered.keys().copied().chain(resolved).collect();
        let mut flows: BTreeSet<Flow> = peers.iter().map(|peer| Flow::peer(*peer)).collect();
        for port in world.tunnel_ports {
            flows.insert(Flow::tunnel(UDP, *port));
        }
        // What a module makes by itself, for whatever comes, is down.
        for link in links.filter(|link| link.admin_up) {
            let known = TUNNELS.iter().filter(|(kind, ..)| *kind == link.kind);
            for (_, protocols, ports) in known {
                flows.extend(protocols.iter().map(|protocol| Flow::tunnel(*protocol, 0)));
                flows.extend(ports.iter().map(|port| Flow::tunnel(UDP, *port)));
            }
        }
        let (number, peers) = (sessions.len() as u32, peers.len() as u32);
        flows.extend(sessions);
        Flows {
            flows,
            sessions: number,
            peers,
        }
    }

    /// Who had a session may open another, for an hour.
    fn remember(&mut self, sessions: &BTreeSet<Flow>, now: u32) {
        for flow in sessions {
            self.remembered.insert(flow.remote, now);
        }
        self.remembered.retain(|_, seen| now.saturating_sub(*seen) < HOUR);
        while self.remembered.len() > REMEMBERED {
            let oldest = self.remembered.iter().min_by_key(|(_, seen)| **seen);
            let Some(remote) = oldest.map(|(remote, _)| *remote) else {
                break;
            };
            self.remembered.remove(&remote);
        }
    }
}

fn address(address: IpAddr) -> [u64; 2] {
    words(match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}

fn session(connection: &Connection) -> Flow {
    Flow {
        remote: address(connection.remote.ip()),
        local: address(connection.local.ip()),
        remote_port: connection.remote.port(),
        local_port: connection.local.port(),
        protocol: TCP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(local: &str, remote: &str) -> Connection {
        Connection {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    fn world(connections: &[Connection], now: u32) -> World<'_> {
        World {
            connections,
            control_ports: &[22, 179],
            tunnel_ports: &[],
            now,
        }
    }

    fn exempt(known: &mut Exempt, connections: &[Connection], now: u32) -> Flows {
        known.flows(&world(connections, now), [].iter(), [].iter())
    }

    fn link(kind: &str, admin_up: bool) -> Link {
        Link {
            ifindex: 5,
            name: "t".into(),
            mac: [0; 6],
            ethernet: false,
            admin_up,
            carrier: true,
            running: true,
            mtu: 1_400,
            mtu6: 1_400,
            kind: kind.into(),
            ..Link::default()
        }
    }

    #[test]
    fn sessions_on_control_ports_of_either_side_are_exempt() {
        let connections = [
            connection("192.0.2.1:179", "192.0.2.9:40000"),
            connection("[2001:db8::1]:40001", "[2001:db8::9]:179"),
            connection("[::ffff:192.0.2.1]:22", "[::ffff:198.51.100.7]:5000"),
            connection("192.0.2.1:443", "192.0.2.9:40000"),
            connection("127.0.0.1:179", "127.0.0.2:40000"),
            connection("[::ffff:127.0.0.1]:179", "[::ffff:127.0.0.2]:40000"),
        ];
        let found = exempt(&mut Exempt::default(), &connections, 0);
        assert_eq!((found.sessions, found.peers), (3, 3));
        assert!(found.flows.contains(&Flow {
            remote: address("198.51.100.7".parse().unwrap()),
            local: address("192.0.2.1".parse().unwrap()),
            remote_port: 5_000,
            local_port: 22,
            protocol: TCP,
        }));
        assert!(
            found
                .flows
                .contains(&Flow::peer(address("2001:db8::9".parse().unwrap())))
        );
    }

    #[test]
    fn who_had_a_session_is_remembered_for_an_hour() {
        let mut known = Exempt::default();
        let connections = [connection("192.0.2.1:179", "192.0.2.9:40000")];
        assert_eq!(exempt(&mut known, &connections, 10).flows.len(), 2);
        let later = exempt(&mut known, &[], 3_609);
        assert_eq!((later.sessions, later.peers), (0, 1));
        assert_eq!(exempt(&mut known, &[], 3_610), Flows::default());
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut known = Exempt::default();
        for round in 0..3u32 {
            let connections: Vec<Connection> = (0..5_000u32)
                .map(|n| {
                    connection(
                        "192.0.2.1:179",
                        &format!("10.{round}.{}.{}:5000", n >> 8, n & 255),
                    )
                })
                .collect();
            let found = exempt(&mut known, &connections, round);
            assert_eq!(
                (found.sessions as usize, found.peers as usize),
                (SESSIONS, REMEMBERED)
            );
        }
        assert!(SESSIONS + REMEMBERED + NEIGHBOURS + 128 < forwarder_common::punt::FLOWS as usize);
    }

    #[test]
    fn neighbours_that_are_resolved_are_peers() {
        let neighbour = |address: &str, mac| Neighbour {
            ifindex: 1,
            address: address.parse().unwrap(),
            mac,
            failed: false,
            stale: false,
            managed: false,
        };
        let neighbours = [neighbour("192.0.2.9", Some([2; 6])), neighbour("192.0.2.8", None)];
        let found = Exempt::default().flows(&world(&[], 0), neighbours.iter(), [].iter());
        assert_eq!((found.flows.len(), found.peers), (1, 1));
    }

    #[test]
    fn tunnels_that_are_up_are_exempt_and_what_a_module_made_is_not() {
        let links = [
            link("wireguard", true),
            link("sit", true),
            link("gre", false),
            link("veth", true),
        ];
        let mut at = world(&[], 0);
        at.tunnel_ports = &[5_555];
        let found = Exempt::default().flows(&at, [].iter(), links.iter());
        let expected = [(UDP, 51_820), (UDP, 5_555), (4, 0), (41, 0), (137, 0)];
        let expected = expected.map(|(protocol, port)| Flow::tunnel(protocol, port));
        assert_eq!(found.flows, expected.into());
    }
}
