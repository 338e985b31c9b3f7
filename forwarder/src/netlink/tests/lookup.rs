//! The kernel's own answers.

use super::*;
use crate::netlink::lookup::{Refusal, RouteAnswer, RouteFound, RouteQuery, route_get, route_get_many};

fn matching(destination: &str) -> RouteAnswer {
    route_get(RouteQuery::matching(address(destination))).unwrap()
}

fn found(destination: &str) -> RouteFound {
    match matching(destination) {
        RouteAnswer::Route(found) => found,
        refused => panic!("{destination}: {refused:?}"),
    }
}

#[test]
fn the_route_that_matches_with_all_its_hops() {
    in_namespace(|| {
        let (va, vc) = two_links();
        ip("route add 203.0.113.0/24 metric 9 nexthop via 192.0.2.2 weight 3 nexthop via 198.51.100.2");
        ip("-6 route add 2001:db8:f::/48 nexthop via 2001:db8:1::2 nexthop via 2001:db8:2::2 weight 5");
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip("nexthop add id 2 via 198.51.100.2 dev vc");
        ip("nexthop add id 10 group 1,3/2,5");
        ip("route add 203.0.114.0/24 nhid 10");
        let route = found("203.0.113.77");
        let hops = vec![hop(va, "192.0.2.2", 3), hop(vc, "198.51.100.2", 1)];
        assert_eq!(
            (route.prefix, route.table, route.metric),
            ("203.0.113.0/24".parse().unwrap(), 254, 9)
        );
        assert_eq!((route.action, route.hops), (Action::Hops(hops.clone()), hops));
        let route = found("2001:db8:f::1");
        assert_eq!(route.prefix, "2001:db8:f::/48".parse().unwrap());
        let mut hops = route.hops;
        hops.sort_unstable();
        assert_eq!(hops, [hop(va, "2001:db8:1::2", 1), hop(vc, "2001:db8:2::2", 5)]);
        let route = found("203.0.114.1");
        assert_eq!(route.action, Action::Nexthop(10));
        assert_eq!(route.hops, [hop(va, "192.0.2.2", 3), hop(vc, "198.51.100.2", 5)]);
        assert_eq!(found("192.0.2.1").action, Action::Local);
    });
}

#[test]
fn the_way_one_packet_takes() {
    in_namespace(|| {
        let (va, vc) = two_links();
        run(
            "sysctl",
            "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
        );
        ip("route add 203.0.113.0/24 via 192.0.2.2");
        ip("-6 route add 2001:db8:f::/48 via 2001:db8:1::2");
        for (destination, source, gateway) in [
            ("203.0.113.1", "198.51.100.7", "192.0.2.2"),
            ("2001:db8:f::1", "2001:db8:2::7", "2001:db8:1::2"),
        ] {
            let query = RouteQuery {
                destination: address(destination),
                source: Some(address(source)),
                iif: Some(vc),
                fibmatch: false,
            };
            let RouteAnswer::Route(route) = route_get(query).unwrap() else {
                panic!("{destination}")
            };
            assert_eq!(route.hops, [hop(va, gateway, 1)]);
            assert_eq!(route.prefix.prefix_len(), route.prefix.max_prefix_len());
        }
    });
}

#[test]
fn no_way_and_why() {
    in_namespace(|| {
        two_links();
        for (kind, third) in [("blackhole", 1), ("unreachable", 2), ("prohibit", 3)] {
            ip(&format!("route add {kind} 203.0.{third}.0/24"));
            ip(&format!("-6 route add {kind} 2001:db8:{third}00::/48"));
        }
        for (destination, refusal) in [
            ("203.0.1.1", Refusal::Blackhole),
            ("203.0.2.1", Refusal::Unreachable),
            ("203.0.3.1", Refusal::Prohibit),
            ("203.0.4.1", Refusal::NoRoute),
            ("2001:db8:100::1", Refusal::Blackhole),
            ("2001:db8:200::1", Refusal::Unreachable),
            ("2001:db8:300::1", Refusal::Prohibit),
            ("2001:db8:400::1", Refusal::NoRoute),
        ] {
            assert_eq!(
                matching(destination),
                RouteAnswer::Refused(refusal),
                "{destination}"
            );
        }
        let wrong = RouteQuery {
            iif: Some(9999),
            ..RouteQuery::matching(address("203.0.1.1"))
        };
        assert_eq!(
            route_get(wrong).unwrap(),
            RouteAnswer::Refused(Refusal::Other(libc::ENODEV))
        );
    });
}

#[test]
fn many_answers_come_in_the_order_of_the_questions() {
    in_namespace(|| {
        two_links();
        for third in 0..10 {
            ip(&format!("route add 203.0.{third}.0/24 via 192.0.2.{}", third + 2));
        }
        let query = |n: u32| RouteQuery::matching(IpAddr::from([203, 0, (n % 12) as u8, (n % 251) as u8]));
        let mut count = 0;
        for (n, answer) in (0..20_000).zip(route_get_many((0..20_000).map(query)).unwrap()) {
            let (asked, answer) = answer.unwrap();
            assert_eq!(asked, query(n));
            match answer {
                RouteAnswer::Refused(refusal) => {
                    assert_eq!((n % 12 >= 10, refusal), (true, Refusal::NoRoute))
                }
                RouteAnswer::Route(route) => {
                    assert_eq!(
                        route.hops[0].gateway,
                        Some(IpAddr::from([192, 0, 2, (n % 12) as u8 + 2]))
                    );
                }
            }
            count += 1;
        }
        assert_eq!(count, 20_000);
        assert!(route_get_many([]).unwrap().next().is_none());
    });
}
