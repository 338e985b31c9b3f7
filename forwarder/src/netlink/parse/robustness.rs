//! Bad input: whatever the octets, an answer or an error, never a panic.

use proptest::prelude::*;

use super::route::tests::message as route;
use super::*;
use crate::netlink::command::Rule;
use crate::netlink::constants::*;
use crate::netlink::socket::push_attribute;
use crate::netlink::wire::Messages;

/// Everything that reads octets, on these octets.
fn read_everything(body: &[u8]) {
    for kind in 0..128 {
        for flags in [0, NLM_F_REPLACE] {
            let _ = notification(
                &Message {
                    kind,
                    flags,
                    sequence: 1,
                    body,
                },
                &mut Vec::new(),
            );
        }
    }
    let _ = route::parse_any(body, false).map(|_| ());
    let _: Result<Option<Rule>, _> = rule::parse(body);
    let _ = link::stats(body);
    let _ = link::xdp(body);
    Messages(body).for_each(|message| {
        let _ = message.map(|message| message.body.len());
    });
}

/// Messages of every kind, whole.
fn recorded() -> Vec<Vec<u8>> {
    let mut hops = vec![16, 0, 0, 2, 4, 0, 0, 0];
    push_attribute(&mut hops, RTA_GATEWAY, &[192, 0, 2, 1]);
    let mut metrics = Vec::new();
    push_attribute(&mut metrics, RTAX_MTU, &[0, 5, 0, 0]);
    let attributes: [(u16, &[u8]); 6] = [
        (RTA_DST, &[203, 0, 113, 0]),
        (RTA_TABLE, &[254, 0, 0, 0]),
        (RTA_MULTIPATH, &hops),
        (RTA_METRICS, &metrics),
        (RTA_VIA, &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (RTA_OIF, &[4, 0, 0, 0]),
    ];
    let mut link = vec![0, 0, 1, 0, 7, 0, 0, 0, 67, 0, 1, 0, 0, 0, 0, 0];
    let mut info = Vec::new();
    push_attribute(&mut info, IFLA_INFO_KIND, b"veth\0");
    let mut inet6 = Vec::new();
    push_attribute(&mut inet6, IFLA_INET6_CONF, &[1; 16]);
    let mut families = Vec::new();
    push_attribute(&mut families, u16::from(AF_INET6), &inet6);
    push_attribute(&mut link, IFLA_IFNAME, b"veth0\0");
    push_attribute(&mut link, IFLA_LINKINFO, &info);
    push_attribute(&mut link, IFLA_AF_SPEC, &families);
    push_attribute(&mut link, IFLA_STATS64, &[0; 200]);
    push_attribute(&mut link, IFLA_XDP, &{
        let mut xdp = Vec::new();
        push_attribute(&mut xdp, IFLA_XDP_ATTACHED, &[1]);
        push_attribute(&mut xdp, IFLA_XDP_PROG_ID, &[9, 0, 0, 0]);
        xdp
    });
    let mut neighbour = vec![2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0];
    push_attribute(&mut neighbour, NDA_DST, &[192, 0, 2, 1]);
    push_attribute(&mut neighbour, NDA_LLADDR, &[2, 0, 0, 0, 0, 1]);
    push_attribute(&mut neighbour, NDA_FLAGS_EXT, &[1, 0, 0, 0]);
    let mut nexthop = vec![2, 0, 0, 0, 0, 0, 0, 0];
    push_attribute(&mut nexthop, NHA_ID, &[9, 0, 0, 0]);
    push_attribute(&mut nexthop, NHA_GROUP, &[1, 0, 0, 0, 2, 0, 0, 0]);
    vec![
        route(AF_INET, 24, 254, RTN_UNICAST, &attributes),
        link,
        link_info::tests::vlan(),
        link_info::tests::bond(),
        link_info::tests::bonded(&[
            (IFLA_BOND_SLAVE_STATE, &[1]),
            (IFLA_BOND_SLAVE_MII_STATUS, &[0]),
            (IFLA_BOND_SLAVE_AD_AGGREGATOR_ID, &[1, 0]),
        ]),
        neighbour,
        nexthop,
    ]
}

#[test]
fn every_single_octet_may_be_anything_and_every_cut_is_survived() {
    for whole in recorded() {
        for end in 0..=whole.len() {
            read_everything(&whole[..end]);
        }
        for position in 0..whole.len() {
            for value in [0, 1, 3, 4, 5, 7, 8, 127, 128, 254, 255] {
                let mut mutated = whole.clone();
                mutated[position] = value;
                read_everything(&mutated);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_everything(&body);
    }

    #[test]
    fn several_lies_at_once_are_survived(
        which in 0..7_usize,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let mut body = recorded().swap_remove(which);
        for (position, value) in changes {
            let position = position % body.len();
            body[position] = value;
        }
        read_everything(&body);
    }
}

#[test]
fn a_set_of_ipv6_hops_replaces_and_the_order_of_others_is_unknown() {
    let hop = |ifindex: u8| [vec![28, 0, 0, 0, ifindex, 0, 0, 0, 20, 0, 5, 0], vec![0x20; 16]].concat();
    let set = [hop(1), hop(2)].concat();
    let read = |flags, attributes: &[(u16, &[u8])]| {
        let mut events = Vec::new();
        let body = route(AF_INET6, 0, 254, RTN_UNICAST, attributes);
        notification(
            &Message {
                kind: RTM_NEWROUTE,
                flags,
                sequence: 0,
                body: &body,
            },
            &mut events,
        )
        .unwrap();
        let resync = events.contains(&Event::Resync);
        let Event::Route { change, .. } = events.swap_remove(0) else {
            panic!("{events:?}")
        };
        (change, resync)
    };
    let create = 0x400;
    let (device, gateway) = ((RTA_OIF, &[4, 0, 0, 0][..]), (RTA_GATEWAY, &[0x20; 16][..]));
    assert_eq!(
        read(create | NLM_F_APPEND, &[(RTA_MULTIPATH, &set)]),
        (Change::Replace, false)
    );
    assert_eq!(read(create, &[(RTA_MULTIPATH, &set)]), (Change::Replace, false));
    assert_eq!(
        read(create | NLM_F_APPEND, &[device, gateway]),
        (Change::Append, false)
    );
    assert_eq!(read(create | NLM_F_EXCL, &[device]), (Change::Add, false));
    assert_eq!(read(create | NLM_F_APPEND, &[device]), (Change::Append, true));
    assert_eq!(read(NLM_F_REPLACE, &[device]), (Change::Replace, false));
}
