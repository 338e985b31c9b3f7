//! A dump is what was configured.

use super::*;
use crate::netlink::command::{Commander, Rule, tables_asked};
use crate::netlink::dump::{Family, Scope, dump, dump_links, dump_nexthops, dump_routes};
use crate::netlink::ethtool;
use crate::source::event::{Address, Detail, Link, MacvlanMode, NexthopKind, NexthopObject};
use crate::source::kernel::sysctl;

#[test]
fn links_addresses_and_connected_routes() {
    in_namespace(|| {
        let (va, _) = two_links();
        ip("link add br0 type bridge");
        ip("link set vb master br0");
        ip("link set va mtu 1400 address 02:00:00:00:00:0a");
        let dump = dump(Scope::ALL).unwrap();
        let link = |name: &str| dump.links.iter().find(|link| link.name == name).unwrap();
        let expected = Link {
            ifindex: va,
            name: "va".into(),
            mac: [2, 0, 0, 0, 0, 10],
            ethernet: true,
            admin_up: true,
            carrier: true,
            running: true,
            mtu: 1400,
            mtu6: 1400,
            kind: "veth".into(),
            ..Link::default()
        };
        assert_eq!(*link("va"), expected);
        assert_eq!(link("vb").master, Some(link("br0").ifindex));
        assert!(!link("lo").ethernet);
        for address in ["192.0.2.1/24", "2001:db8:1::1/64"] {
            assert!(dump.addresses.contains(&Address {
                ifindex: va,
                address: address.parse().unwrap()
            }));
        }
        let connected = Hop {
            ifindex: va,
            gateway: None,
            weight: 1,
            dead: false,
            unsupported: false,
        };
        assert_eq!(action(&dump, "192.0.2.0/24"), Action::Hops(vec![connected]));
        assert_eq!(action(&dump, "2001:db8:1::/64"), Action::Hops(vec![connected]));
        for (prefix, expected) in [
            ("192.0.2.1/32", Action::Local),
            ("192.0.2.255/32", Action::Broadcast),
            ("2001:db8:1::1/128", Action::Local),
            ("127.0.0.0/8", Action::Local),
        ] {
            let found = dump
                .routes
                .iter()
                .find(|r| r.prefix == prefix.parse().unwrap() && r.table == 255);
            assert_eq!(found.map(|route| &route.action), Some(&expected), "{prefix}");
        }
    });
}

#[test]
fn macvlans_and_what_they_are_on() {
    in_namespace(|| {
        let (va, vc) = two_links();
        for mode in ["private", "vepa", "bridge", "source"] {
            ip(&format!("link add link va name {mode} type macvlan mode {mode}"));
        }
        ip("link add link vc name passthru type macvlan mode passthru");
        ip("link add vx type vxlan id 7 dev va dstport 4789");
        let peer = Peer::start();
        peer.take("source");
        let dump = dump(Scope::ALL).unwrap();
        let seen = |name: &str| {
            let link = dump.links.iter().find(|link| link.name == name);
            link.map(|link| (link.lower, link.detail, link.member))
        };
        for (name, lower, mode) in [
            ("private", va, MacvlanMode::Private),
            ("vepa", va, MacvlanMode::Vepa),
            ("bridge", va, MacvlanMode::Bridge),
            ("passthru", vc, MacvlanMode::Passthru),
        ] {
            assert_eq!(seen(name), Some((Some(lower), Detail::Macvlan(mode), None)));
        }
        // A veth names its peer, a VXLAN where it is bound to: frames do not leave there as they are.
        for name in ["va", "vb", "vx", "lo"] {
            assert_eq!(seen(name), Some((None, Detail::Plain, None)), "{name}");
        }
        assert_eq!(seen("source"), None);
        // One whose parent stayed in the other namespace has none here.
        peer.ip("link add ve type veth peer name vf");
        peer.ip("link add link ve name far type macvlan mode vepa");
        peer.give("far");
        let links = dump_links().unwrap();
        let far = links.iter().find(|link| link.name == "far").expect("it is here");
        assert_eq!(
            (far.lower, far.detail),
            (None, Detail::Macvlan(MacvlanMode::Vepa))
        );
    });
}

#[test]
fn multipath_with_weights_metrics_and_mtu_in_both_families() {
    in_namespace(|| {
        let (va, vc) = two_links();
        ip(
            "route add 203.0.113.0/24 metric 7 mtu 1300 nexthop via 192.0.2.2 weight 3 nexthop via 198.51.100.2 weight 256",
        );
        ip(
            "-6 route add 2001:db8:f::/48 nexthop via 2001:db8:1::2 weight 3 nexthop via 2001:db8:2::2 weight 5",
        );
        ip("route add 203.0.114.0/24 via inet6 2001:db8:1::2 dev va");
        ip("route add 203.0.115.0/24 via 192.0.2.2 table 100");
        let dump = dump(Scope::ALL).unwrap();
        let route = routes(&dump, "203.0.113.0/24")[0];
        assert_eq!((route.metric, route.mtu, route.protocol), (7, Some(1300), 3));
        assert_eq!(
            route.action,
            Action::Hops(vec![hop(va, "192.0.2.2", 3), hop(vc, "198.51.100.2", 256)])
        );
        let route = routes(&dump, "2001:db8:f::/48")[0];
        assert_eq!(route.metric, 1024);
        assert_eq!(
            route.action,
            Action::Hops(vec![hop(va, "2001:db8:1::2", 3), hop(vc, "2001:db8:2::2", 5)])
        );
        assert_eq!(
            action(&dump, "203.0.114.0/24"),
            Action::Hops(vec![hop(va, "2001:db8:1::2", 1)])
        );
        assert!(routes(&dump, "203.0.115.0/24").is_empty());
    });
}

#[test]
fn blackhole_unreachable_prohibit_and_throw() {
    in_namespace(|| {
        two_links();
        for (prefix, family) in [("203.0.113.0/24", ""), ("2001:db8:f::/48", "-6")] {
            for (kind, expected) in [
                ("blackhole", Action::Blackhole),
                ("unreachable", Action::Unreachable),
                ("prohibit", Action::Prohibit),
                ("throw", Action::Unsupported),
            ] {
                ip(&format!("{family} route add {kind} {prefix}"));
                assert_eq!(
                    action(&dump(Scope::ALL).unwrap(), prefix),
                    expected,
                    "{kind} {prefix}"
                );
                ip(&format!("{family} route del {kind} {prefix}"));
            }
        }
        ip("-6 route add 2001:db8:f::/48 from 2001:db8:e::/48 via 2001:db8:1::2");
        assert_eq!(
            action(&dump(Scope::ALL).unwrap(), "2001:db8:f::/48"),
            Action::Unsupported
        );
        ip("route add 203.0.116.0/24 encap ip6 dst 2001:db8:1::9 dev va");
        let encapsulated = action(&dump(Scope::ALL).unwrap(), "203.0.116.0/24");
        assert!(matches!(encapsulated, Action::Hops(hops) if hops[0].unsupported));
    });
}

#[test]
fn nexthop_objects_and_groups() {
    in_namespace(|| {
        let (va, vc) = two_links();
        ip("nexthop add id 1 via 192.0.2.2 dev va");
        ip("nexthop add id 2 via 2001:db8:2::2 dev vc");
        ip("nexthop add id 3 blackhole");
        ip("nexthop add id 4 via 192.0.2.3 dev va");
        ip("nexthop add id 10 group 1,3/4,5");
        ip("nexthop add id 11 group 1,2/4 type resilient buckets 8");
        ip("route add 203.0.113.0/24 nhid 10");
        ip("-6 route add 2001:db8:f::/48 nhid 2");
        let object = |id, kind| NexthopObject { id, kind };
        let expected = [
            object(1, NexthopKind::Hop(hop(va, "192.0.2.2", 1))),
            object(2, NexthopKind::Hop(hop(vc, "2001:db8:2::2", 1))),
            object(3, NexthopKind::Blackhole),
            object(4, NexthopKind::Hop(hop(va, "192.0.2.3", 1))),
            object(10, NexthopKind::Group(vec![(1, 3), (4, 5)])),
            object(11, NexthopKind::Group(vec![(1, 2), (4, 1)])),
        ];
        assert_eq!(dump_nexthops().unwrap(), expected);
        let dump = dump(Scope::ALL).unwrap();
        assert_eq!(action(&dump, "203.0.113.0/24"), Action::Nexthop(10));
        assert_eq!(action(&dump, "2001:db8:f::/48"), Action::Nexthop(2));
    });
}

#[test]
fn without_ipv6_and_without_tables_a_dump_is_empty_and_no_error() {
    in_namespace(|| {
        run("sysctl", "-qw net.ipv6.conf.all.disable_ipv6=1");
        for (family, tables) in [
            (Family::V4, &[253, 254, 100][..]),
            (Family::V6, &[253, 254, 255, 100]),
        ] {
            for table in tables {
                dump_routes(family, *table, &mut |route| panic!("{route:?}")).unwrap();
            }
        }
        assert!(dump(Scope::WITHOUT_ROUTES).unwrap().routes.is_empty());
    });
}

#[test]
fn rules_counters_and_programs() {
    in_namespace(|| {
        let (va, _) = two_links();
        let mut commander = Commander::open().unwrap();
        let rules = commander.rules().unwrap();
        for ipv6 in [false, true] {
            assert_eq!(tables_asked(&rules, ipv6), Some(vec![255, 254]), "{rules:?}");
        }
        ip("-6 rule add from 2001:db8::/32 table 100");
        ip("rule add table 100 priority 1000");
        ip("rule del table default");
        let rules = commander.rules().unwrap();
        assert_eq!(tables_asked(&rules, true), None);
        assert_eq!(tables_asked(&rules, false), Some(vec![255, 100, 254]));
        let extra: Vec<_> = rules.iter().filter(|rule| !rule.plain).collect();
        assert_eq!(
            extra,
            [&Rule {
                ipv6: true,
                priority: 32765,
                table: 100,
                plain: false
            }]
        );
        assert!(commander.link_stats(va).unwrap().tx_packets > 0);
        assert_eq!(commander.xdp_attached(va).unwrap(), None);
        // What a veth says of itself, while both ends are up.
        assert_eq!(ethtool::speed(va), Some(10_000_000_000));
        assert_eq!(ethtool::speed(9999), None);
        let error = commander.link_stats(9999).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
    });
}

#[test]
fn sysctls_are_those_of_the_namespace() {
    in_namespace(|| {
        two_links();
        ip("link add va.100 type veth peer name vz");
        for (on, value) in [(false, 0), (true, 1)] {
            run("sysctl", &format!("-qw net.ipv4.ip_forward={value}"));
            run("sysctl", &format!("-qw net.ipv6.conf.all.forwarding={value}"));
            assert_eq!(sysctl::forwarding4("va.100").unwrap(), on);
            assert_eq!(sysctl::forwarding6().unwrap(), on);
        }
        run("sysctl", "-qw net.ipv4.conf.all.send_redirects=0");
        run("sysctl", "-qw net.ipv4.conf.va.send_redirects=1");
        run("sysctl", "-qw net.ipv4.conf.vc.send_redirects=0");
        assert!(sysctl::send_redirects4("va").unwrap());
        assert!(!sysctl::send_redirects4("vc").unwrap());
        run("sysctl", "-qw net.ipv4.conf.all.send_redirects=1");
        assert!(sysctl::send_redirects4("vc").unwrap());
    });
}
