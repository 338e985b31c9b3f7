//! Route messages made by hand.

use super::*;
use crate::netlink::constants::RTNH_F_LINKDOWN;
use crate::netlink::socket::push_attribute;

/// `struct rtmsg`, protocol static, and attributes.
pub(crate) fn message(family: u8, length: u8, table: u8, kind: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![family, length, 0, 0, table, 4, 0, kind, 0, 0, 0, 0];
    for (kind, value) in attributes {
        push_attribute(&mut body, *kind, value);
    }
    body
}

fn action(family: u8, kind: u8, attributes: &[(u16, &[u8])]) -> Action {
    parse(&message(family, 0, 254, kind, attributes))
        .unwrap()
        .unwrap()
        .action
}

/// `struct rtnexthop` with attributes.
fn hop(flags: u8, weight: u8, ifindex: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut tail = Vec::new();
    for (kind, value) in attributes {
        push_attribute(&mut tail, *kind, value);
    }
    let mut hop = u16::try_from(HOP_HEADER + tail.len())
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    hop.extend_from_slice(&[flags, weight - 1]);
    hop.extend_from_slice(&ifindex.to_ne_bytes());
    [hop, tail].concat()
}

fn via(ifindex: u32, gateway: &str, weight: u16) -> Hop {
    Hop {
        ifindex,
        gateway: Some(gateway.parse().unwrap()),
        weight,
        dead: false,
        unsupported: false,
    }
}

const OIF: (u16, &[u8]) = (RTA_OIF, &4u32.to_ne_bytes());
const GATEWAY: (u16, &[u8]) = (RTA_GATEWAY, &[192, 0, 2, 1]);

#[test]
fn a_route_with_everything() {
    let mut metrics = Vec::new();
    push_attribute(&mut metrics, 1, &4u32.to_ne_bytes()); // RTAX_LOCK
    push_attribute(&mut metrics, RTAX_MTU, &1400u32.to_ne_bytes());
    let body = message(
        AF_INET,
        24,
        254,
        RTN_UNICAST,
        &[
            (RTA_TABLE, &254u32.to_ne_bytes()),
            (RTA_DST, &[203, 0, 113, 0]),
            (RTA_PRIORITY, &20u32.to_ne_bytes()),
            (RTA_METRICS, &metrics),
            GATEWAY,
            OIF,
            (200, &[1, 2, 3]),
        ],
    );
    let expected = Route {
        prefix: "203.0.113.0/24".parse().unwrap(),
        table: 254,
        metric: 20,
        protocol: 4,
        tos: 0,
        mtu: Some(1400),
        action: Action::Hops(vec![via(4, "192.0.2.1", 1)]),
    };
    assert_eq!(parse(&body), Ok(Some(expected)));
}

#[test]
fn without_a_destination_it_is_the_default_route() {
    for (family, expected) in [(AF_INET, "0.0.0.0/0"), (AF_INET6, "::/0")] {
        let route = parse(&message(family, 0, 254, RTN_UNICAST, &[OIF]))
            .unwrap()
            .unwrap();
        assert_eq!(route.prefix, expected.parse().unwrap());
    }
}

#[test]
fn hops_have_weights_flags_and_gateways_of_either_family() {
    let via6 = [
        &10u16.to_ne_bytes()[..],
        &"fe80::1".parse::<Ipv6Addr>().unwrap().octets(),
    ]
    .concat();
    let hops = [
        hop(0, 3, 4, &[(RTA_GATEWAY, &[192, 0, 2, 1])]),
        hop(RTNH_F_LINKDOWN as u8, 1, 5, &[(RTA_VIA, &via6)]),
        hop(1, 255, 6, &[]),
        hop(0, 1, 7, &[(RTA_ENCAP_TYPE, &[1, 0]), (RTA_ENCAP, &[0; 4])]),
    ];
    let bare = Hop {
        ifindex: 7,
        gateway: None,
        weight: 1,
        dead: false,
        unsupported: true,
    };
    let expected = vec![
        via(4, "192.0.2.1", 3),
        Hop {
            dead: true,
            ..via(5, "fe80::1", 1)
        },
        Hop {
            ifindex: 6,
            weight: 255,
            dead: true,
            unsupported: false,
            ..bare
        },
        bare,
    ];
    assert_eq!(
        action(AF_INET, RTN_UNICAST, &[(RTA_MULTIPATH, &hops.concat())]),
        Action::Hops(expected)
    );
}

#[test]
fn a_nexthop_object_wins_over_the_hops_beside_it() {
    let id = (RTA_NH_ID, &7u32.to_ne_bytes()[..]);
    assert_eq!(
        action(AF_INET, RTN_UNICAST, &[id, GATEWAY, OIF]),
        Action::Nexthop(7)
    );
    let hops = hop(0, 1, 4, &[GATEWAY]);
    let body = message(AF_INET, 0, 254, RTN_UNICAST, &[(RTA_MULTIPATH, &hops), id]);
    let parsed = parse_any(&body, false).unwrap().unwrap();
    assert_eq!(
        (parsed.route.action, parsed.resolved),
        (Action::Nexthop(7), vec![via(4, "192.0.2.1", 1)])
    );
}

#[test]
fn types_that_do_not_forward() {
    for (kind, expected) in [
        (RTN_LOCAL, Action::Local),
        (RTN_BROADCAST, Action::Broadcast),
        (RTN_ANYCAST, Action::Broadcast),
        (RTN_BLACKHOLE, Action::Blackhole),
        (RTN_UNREACHABLE, Action::Unreachable),
        (RTN_PROHIBIT, Action::Prohibit),
        (9, Action::Unsupported),   // RTN_THROW: the next rule decides
        (200, Action::Unsupported), // from a kernel to come
    ] {
        assert_eq!(action(AF_INET6, kind, &[OIF]), expected);
    }
}

#[test]
fn what_only_the_kernel_can_do_is_unsupported() {
    assert_eq!(action(AF_INET, RTN_UNICAST, &[]), Action::Unsupported);
    let encap = Hop {
        unsupported: true,
        ..via(4, "192.0.2.1", 1)
    };
    for attribute in [(RTA_ENCAP_TYPE, &[1, 0][..]), (RTA_VIA, &[28, 0, 1, 2, 3])] {
        assert_eq!(
            action(AF_INET, RTN_UNICAST, &[OIF, GATEWAY, attribute]),
            Action::Hops(vec![encap])
        );
    }
    let mut body = message(AF_INET6, 0, 254, RTN_UNICAST, &[(2 /* RTA_SRC */, &[0; 16]), OIF]);
    body[2] = 48;
    assert_eq!(parse(&body).unwrap().unwrap().action, Action::Unsupported);
    let answer = parse_any(&body, true).unwrap().unwrap();
    assert!(matches!(answer.route.action, Action::Hops(_)));
}

#[test]
fn clones_multicast_and_other_families_are_skipped() {
    assert_eq!(parse(&message(AF_INET6, 8, 255, RTN_MULTICAST, &[OIF])), Ok(None));
    assert_eq!(parse(&message(28, 20, 254, RTN_UNICAST, &[OIF])), Ok(None)); // AF_MPLS
    let mut clone = message(AF_INET6, 128, 254, RTN_UNICAST, &[OIF]);
    clone[8..12].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
    assert_eq!(parse(&clone), Ok(None));
}

#[test]
fn what_cannot_be_is_refused() {
    for (length, attribute) in [
        (33, (RTA_DST, &[0; 4][..])),
        (24, (RTA_DST, &[0; 16])),
        (24, (RTA_DST, &[0; 3])),
    ] {
        assert!(parse(&message(AF_INET, length, 254, RTN_UNICAST, &[attribute, OIF])).is_err());
    }
    for hops in [
        &[7, 0, 0, 0, 4, 0, 0, 0][..],
        &[9, 0, 0, 0, 4, 0, 0, 0],
        &[8, 0, 0],
    ] {
        assert!(parse(&message(AF_INET, 0, 254, RTN_UNICAST, &[(RTA_MULTIPATH, hops)])).is_err());
    }
}
