use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{MpReach, PathAttributeValue};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;

use super::*;
use crate::source::bgp::testing::{LIMITS, attribute, hex, plain, read, read_with, terms, update};
use crate::source::bgp::wire;
use crate::source::feed::Segment;

/// 198.51.100.0/24 and 203.0.113.0/24.
const TWO: [u8; 8] = [24, 198, 51, 100, 24, 203, 0, 113];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn gone(prefix: &str) -> FeedEvent {
    FeedEvent::RouteGone {
        prefix: net(prefix),
        path_id: 0,
    }
}

/// The only route of an answer.
fn route(events: &[FeedEvent]) -> (IpNet, u32, &FeedRoute) {
    match events {
        [
            FeedEvent::Route {
                prefix,
                path_id,
                route,
            },
        ] => (*prefix, *path_id, route),
        other => panic!("{other:?}"),
    }
}

fn gateway(route: &FeedRoute) -> Gateway {
    match route.target {
        Target::Gateway(gateway) => gateway,
        ref other => panic!("{other:?}"),
    }
}

/// Attributes with more of them, and one prefix.
fn with(more: &[Vec<u8>]) -> Vec<u8> {
    update(&[], &[plain(), more.to_vec()].concat(), &[24, 198, 51, 100])
}

#[test]
fn a_plain_update_is_routes_that_share_their_attributes() {
    let (events, outcome) = read(&update(&[], &plain(), &TWO)).unwrap();
    assert_eq!((outcome.updates, outcome.errors), (2, 0));
    assert_eq!(outcome.heard, [true, false, false, false]);
    let [
        FeedEvent::Route {
            prefix, route: one, ..
        },
        FeedEvent::Route { route: other, .. },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(*prefix, net("198.51.100.0/24"));
    assert_eq!(gateway(one).address, IpAddr::from([192, 0, 2, 1]));
    assert!(Arc::ptr_eq(&one.attributes, &other.attributes));
    let attributes = &one.attributes;
    assert_eq!(attributes.as_path, [Segment::Sequence(vec![65_000])]);
    assert_eq!(
        (attributes.local_pref, attributes.protocol, attributes.external),
        (100, 186, false)
    );
    assert_eq!(attributes.originator, u32::from(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn the_same_attributes_in_two_updates_are_the_same_memory() {
    let mut decoder = Decoder::new(Arc::new(terms()), None, &LIMITS);
    let mut events = Vec::new();
    for prefix in [1, 2] {
        decoder
            .read(&update(&[], &plain(), &[8, prefix]), &mut events)
            .unwrap();
    }
    let [
        FeedEvent::Route { route: one, .. },
        FeedEvent::Route { route: other, .. },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert!(Arc::ptr_eq(&one.attributes, &other.attributes));
}

#[test]
fn every_attribute_that_we_keep_is_read() {
    let (events, outcome) = read(&with(&[
        attribute(0x80, 4, &[0, 0, 0, 10]),
        attribute(0x40, 5, &[0, 0, 0, 200]),
        attribute(0x40, 6, &[]),
        attribute(0xc0, 7, &hex("0000fde8 c0000201")),
        attribute(0xc0, 8, &hex("fde8029a ffffff01")),
        attribute(0x80, 9, &[10, 9, 9, 9]),
        attribute(0x80, 10, &[0; 12]),
        attribute(0xc0, 16, &hex("0002fde800000064 8006000000000000")),
        attribute(0xc0, 25, &[5; 20]),
        attribute(0xe0, 32, &hex("0000fde80000000100000002")),
        attribute(0xc0, 99, &[1, 2, 3]),
    ]))
    .unwrap();
    assert_eq!((outcome.errors, outcome.note), (0, None));
    let attributes = &route(&events).2.attributes;
    assert_eq!((attributes.med, attributes.local_pref), (Some(10), 200));
    assert_eq!(attributes.communities, [0xfde8_029a, 0xffff_ff01]);
    assert_eq!(
        attributes.extended,
        [[0, 2, 0xfd, 0xe8, 0, 0, 0, 0x64], [0x80, 6, 0, 0, 0, 0, 0, 0]]
    );
    assert_eq!(attributes.extended6, [[5; 20]]);
    assert_eq!(attributes.large, [[65_000, 1, 2]]);
    assert_eq!((attributes.cluster_list, attributes.originator), (3, 0x0a09_0909));
}

#[test]
fn withdrawals_and_announcements_in_one_message_come_in_this_order() {
    let (events, _) = read(&update(&[8, 10], &plain(), &[8, 11])).unwrap();
    assert_eq!(events[0], gone("10.0.0.0/8"));
    assert!(matches!(events[1], FeedEvent::Route { .. }));
}

#[test]
fn end_of_rib_is_told_from_nothing_by_its_table() {
    assert_eq!(read(&[0; 4]).unwrap().1.end_of_rib, Some(FeedTable::Ipv4));
    for (attribute, table) in [
        (hex("80 0f 03 0002 01"), FeedTable::Ipv6),
        (hex("90 0f 0003 0002 01"), FeedTable::Ipv6),
        (hex("90 0f 0003 0001 85"), FeedTable::FlowSpec4),
        (hex("80 0f 03 0002 85"), FeedTable::FlowSpec6),
        (hex("80 0f 03 0001 01"), FeedTable::Ipv4),
    ] {
        let (events, outcome) = read(&update(&[], &[attribute], &[])).unwrap();
        assert_eq!((outcome.end_of_rib, events.len()), (Some(table), 0));
    }
    // A family that nobody agreed on, and one beside routes.
    assert_eq!(
        read(&update(&[], &[hex("80 0f 03 0001 80")], &[]))
            .unwrap()
            .1
            .end_of_rib,
        None
    );
    let (_, outcome) = read(&update(&[8, 10], &[hex("80 0f 03 0002 01")], &[])).unwrap();
    assert_eq!(outcome.end_of_rib, None);
}

/// UPDATEs as captured from the daemons.
#[test]
fn ipv6_with_and_without_a_link_local_next_hop() {
    let reach = |value: &str| {
        let value = hex(value);
        let mut long = vec![0x90, 14];
        long.extend((value.len() as u16).to_be_bytes());
        long.extend(value);
        update(&[], &[plain()[0].clone(), plain()[1].clone(), long], &[])
    };
    // BIRD: global and link-local.
    let body = reach(
        "0002 01 20 20010db8000100000000000000000001 fe80000000000000841521fffeaea548 00 30 20010db8ffff",
    );
    let (events, _) = read(&body).unwrap();
    let (prefix, _, found) = route(&events);
    assert_eq!(prefix, net("2001:db8:ffff::/48"));
    let expected = Gateway {
        address: "2001:db8:1::1".parse().unwrap(),
        link_local: Some("fe80::8415:21ff:feae:a548".parse().unwrap()),
        interface: Some(7),
    };
    assert_eq!(gateway(found), expected);
    // ExaBGP: global alone.
    let (events, _) = read(&reach("0002 01 10 20010db8000100000000000000000001 00 00")).unwrap();
    assert_eq!(gateway(route(&events).2).link_local, None);
    assert_eq!(route(&events).0, net("::/0"));
    // Link-local alone, in three ways.
    for value in [
        "0002 01 10 fe800000000000000000000000000001 00 00",
        "0002 01 20 00000000000000000000000000000000 fe800000000000000000000000000001 00 00",
        "0002 01 20 fe800000000000000000000000000001 fe800000000000000000000000000001 00 00",
    ] {
        let (events, _) = read(&reach(value)).unwrap();
        let expected = Gateway {
            address: "fe80::1".parse().unwrap(),
            link_local: None,
            interface: Some(7),
        };
        assert_eq!(gateway(route(&events).2), expected, "{value}");
    }
    // RFC 8950: IPv4 behind IPv6.
    let (events, _) = read(&reach("0001 01 10 20010db8000100000000000000000001 00 18 c63364")).unwrap();
    assert_eq!(route(&events).0, net("198.51.100.0/24"));
    assert!(gateway(route(&events).2).address.is_ipv6());
    // A next hop that no packet can be sent to.
    let (events, outcome) = read(&reach("0002 01 10 ff020000000000000000000000000001 00 10 2001")).unwrap();
    assert_eq!((events, outcome.errors), (vec![gone("2001::/16")], 1));
    // A length that no next hop has leaves open where the routes begin.
    for value in [
        "0002 01 0f 20010db80001000000000000000000 00 00",
        "0002 01 04 c0000201 00 00",
        "0001 01 05 c000020101 00 00",
    ] {
        let fault = read(&reach(value)).unwrap_err();
        assert_eq!((fault.code, fault.subcode), (3, 9), "{value}");
    }
}

#[test]
fn add_path_is_read_where_it_was_agreed_on() {
    let paths = Terms {
        add_path: [true, false, false, false],
        ..terms()
    };
    let nlri = hex("00000002 18 c63364 00000003 18 c63364");
    let body = update(&hex("00000001 18 c63364"), &plain(), &nlri);
    let (events, _) = read_with(paths, &body).unwrap();
    let ids: Vec<u32> = events
        .iter()
        .map(|event| match event {
            FeedEvent::Route { path_id, .. } | FeedEvent::RouteGone { path_id, .. } => *path_id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(
        read(&body).is_err() || read(&body).unwrap().0 != events,
        "without it these are other prefixes"
    );
}

#[test]
fn a_path_of_two_octets_is_merged_with_the_one_of_four() {
    let old = || Terms {
        four_octets: false,
        ..terms()
    };
    let path = |as_path: &str, as4_path: &str, aggregator: Option<&str>| {
        let mut attributes = vec![
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &hex(as_path)),
            plain()[2].clone(),
        ];
        attributes.extend(aggregator.map(|value| attribute(0xc0, 7, &hex(value))));
        if !as4_path.is_empty() {
            attributes.push(attribute(0xc0, 17, &hex(as4_path)));
        }
        let (events, outcome) = read_with(old(), &update(&[], &attributes, &[8, 10])).unwrap();
        (route(&events).2.attributes.as_path.clone(), outcome.errors)
    };
    let sequence = |numbers: &[u32]| Segment::Sequence(numbers.to_vec());
    // 64501 speaks two octets, behind it are 4200000001 and 4200000002.
    assert_eq!(
        path("02 03 fbf5 5ba0 5ba0", "02 02 fa56ea01 fa56ea02", None),
        (vec![sequence(&[64_501, 4_200_000_001, 4_200_000_002])], 0)
    );
    // Longer than the path: it is of another way (RFC 6793 4.2.3).
    assert_eq!(
        path("02 01 fbf5", "02 02 fa56ea01 fa56ea02", None),
        (vec![sequence(&[64_501])], 0)
    );
    // Aggregated by somebody of two octets, or of four.
    assert_eq!(
        path("02 02 fbf5 5ba0", "02 01 fa56ea01", Some("fbf6 c0000201")).0,
        vec![sequence(&[64_501, 23_456])]
    );
    assert_eq!(
        path("02 02 fbf5 5ba0", "02 01 fa56ea01", Some("5ba0 c0000201")).0,
        vec![sequence(&[64_501, 4_200_000_001])]
    );
    // A set counts as one.
    assert_eq!(
        path("02 01 fbf5 01 02 5ba0 fbf7", "01 02 fa56ea01 0000fbf7", None).0,
        vec![sequence(&[64_501]), Segment::Set(vec![4_200_000_001, 64_503])]
    );
    // A broken one is left out and counted.
    assert_eq!(
        path("02 01 fbf5", "02 02 fa56ea01", None),
        (vec![sequence(&[64_501])], 1)
    );
    // Where both speak four octets it has no business.
    let (events, outcome) = read(&with(&[attribute(0xc0, 17, &hex("02 01 fa56ea01"))])).unwrap();
    assert_eq!(
        (route(&events).2.attributes.as_path.clone(), outcome.errors),
        (vec![sequence(&[65_000])], 1)
    );
}

#[test]
fn a_confederations_segments_are_no_part_of_the_way() {
    let body = update(
        &[],
        &[
            attribute(0x40, 1, &[0]),
            attribute(0x40, 2, &hex("03 01 0000fe01 02 01 0000fde8")),
            plain()[2].clone(),
        ],
        &[8, 10],
    );
    let (events, _) = read(&body).unwrap();
    assert_eq!(
        route(&events).2.attributes.as_path,
        [Segment::Sequence(vec![65_000])]
    );
    let outside = Terms {
        peer_as: 65_000,
        ..terms()
    };
    let (events, outcome) = read_with(outside, &body).unwrap();
    assert_eq!((events, outcome.errors), (vec![gone("10.0.0.0/8")], 1));
}

#[test]
fn from_outside_what_is_internal_is_left_out() {
    let outside = Terms {
        peer_as: 65_000,
        ..terms()
    };
    let body = with(&[
        attribute(0x40, 5, &[0, 0, 0, 200]),
        attribute(0x80, 9, &[1]),
        attribute(0x80, 10, &[1]),
    ]);
    let (events, outcome) = read_with(outside, &body).unwrap();
    let attributes = &route(&events).2.attributes;
    assert_eq!(
        (attributes.local_pref, attributes.external, outcome.errors),
        (100, true, 3)
    );
}

/// RFC 4271 9.1.2.
#[test]
fn from_outside_routes_that_have_been_here_are_left_out_and_from_inside_they_are_taken() {
    let paths = [
        ("02 02 0000fde8 0000fbf4", true),
        ("02 01 0000fde8 01 02 0000fbf5 0000fbf4", true),
        ("02 02 0000fde8 0000fbf5", false),
    ];
    for (path, here) in paths {
        for external in [true, false] {
            let terms = Terms {
                peer_as: if external { 65_000 } else { 64_500 },
                ..terms()
            };
            let classic = update(
                &[],
                &[
                    attribute(0x40, 1, &[0]),
                    attribute(0x40, 2, &hex(path)),
                    attribute(0x40, 3, &[192, 0, 2, 1]),
                ],
                &[8, 10, 8, 11],
            );
            let (events, outcome) = read_with(terms.clone(), &classic).unwrap();
            let looped = here && external;
            assert_eq!(outcome.looped, if looped { 2 } else { 0 }, "{path} {external}");
            // What a route replaces goes with it, and nothing was wrong.
            let all = |event: &FeedEvent| matches!(event, FeedEvent::RouteGone { .. }) == looped;
            assert!(events.len() == 2 && events.iter().all(all), "{events:?}");
            assert_eq!((outcome.errors, outcome.note), (0, None));
            let reach = update(
                &[],
                &[
                    attribute(0x40, 1, &[0]),
                    attribute(0x40, 2, &hex(path)),
                    hex("80 0e 1a 0002 01 10 20010db8000000000000000000000001 00 20 20010db8"),
                ],
                &[],
            );
            let (events, outcome) = read_with(terms, &reach).unwrap();
            assert_eq!((events.len(), outcome.looped), (1, u64::from(looped)));
            assert!(events.iter().all(all), "{events:?}");
        }
    }
}

/// RFC 7606: attributes in a state that makes their routes count as withdrawn.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("ORIGIN of 2 octets", attribute(0x40, 1, &[0, 0])),
        ("ORIGIN 3", attribute(0x40, 1, &[3])),
        ("ORIGIN optional", attribute(0xc0, 1, &[0])),
        ("AS_PATH too short", attribute(0x40, 2, &hex("02 02 0000fde8"))),
        ("AS_PATH too long", attribute(0x40, 2, &hex("02 01 0000fde8 00"))),
        ("AS_PATH with an empty segment", attribute(0x40, 2, &hex("02 00"))),
        (
            "AS_PATH of an unknown type",
            attribute(0x40, 2, &hex("09 01 0000fde8")),
        ),
        ("AS_PATH with AS 0", attribute(0x40, 2, &hex("02 01 00000000"))),
        ("NEXT_HOP of 3 octets", attribute(0x40, 3, &[192, 0, 2])),
        ("NEXT_HOP 0.0.0.0", attribute(0x40, 3, &[0; 4])),
        ("NEXT_HOP 224.0.0.1", attribute(0x40, 3, &[224, 0, 0, 1])),
        ("NEXT_HOP not transitive", attribute(0x00, 3, &[192, 0, 2, 1])),
        ("MED of 3 octets", attribute(0x80, 4, &[0; 3])),
        ("MED transitive", attribute(0xc0, 4, &[0; 4])),
        ("LOCAL_PREF of 5 octets", attribute(0x40, 5, &[0; 5])),
        ("ATOMIC_AGGREGATE optional", attribute(0xc0, 6, &[])),
        ("empty COMMUNITIES", attribute(0xc0, 8, &[])),
        ("COMMUNITIES of 6 octets", attribute(0xc0, 8, &[0; 6])),
        ("ORIGINATOR_ID of 5 octets", attribute(0x80, 9, &[0; 5])),
        ("empty CLUSTER_LIST", attribute(0x80, 10, &[])),
        ("CLUSTER_LIST of 5 octets", attribute(0x80, 10, &[0; 5])),
        ("EXTENDED COMMUNITIES of 12 octets", attribute(0xc0, 16, &[0; 12])),
        (
            "IPv6 EXTENDED COMMUNITIES of 8 octets",
            attribute(0xc0, 25, &[0; 8]),
        ),
        ("LARGE_COMMUNITIES of 8 octets", attribute(0xc0, 32, &[0; 8])),
        ("empty LARGE_COMMUNITIES", attribute(0xc0, 32, &[])),
    ]
}

#[test]
fn one_broken_attribute_withdraws_the_routes_and_nothing_else() {
    for (what, bad) in broken() {
        let mut attributes = plain();
        attributes.retain(|known| known[1] != bad[1]);
        attributes.push(bad);
        let (events, outcome) = read(&update(&[8, 10], &attributes, &TWO)).unwrap();
        let expected = [
            gone("10.0.0.0/8"),
            gone("198.51.100.0/24"),
            gone("203.0.113.0/24"),
        ];
        assert_eq!(events, expected, "{what}");
        assert_eq!(outcome.errors, 1, "{what}");
        assert!(outcome.note.unwrap().contains("count as withdrawn"), "{what}");
    }
}

#[test]
fn a_missing_attribute_withdraws_the_routes() {
    for missing in [1, 2, 3] {
        let mut attributes = plain();
        attributes.retain(|known| known[1] != missing);
        let (events, outcome) = read(&update(&[], &attributes, &[8, 10])).unwrap();
        assert_eq!(
            (events, outcome.errors),
            (vec![gone("10.0.0.0/8")], 1),
            "{missing}"
        );
    }
}

#[test]
fn what_nobody_needs_is_left_out_and_the_routes_stay() {
    for (what, bad) in [
        ("ATOMIC_AGGREGATE with a value", attribute(0x40, 6, &[1])),
        ("AGGREGATOR of 6 octets", attribute(0xc0, 7, &[0; 6])),
        ("ORIGIN twice", attribute(0x40, 1, &[9, 9])),
    ] {
        let (events, outcome) = read(&with(&[bad])).unwrap();
        route(&events);
        assert_eq!(outcome.errors, 1, "{what}");
    }
}

#[test]
fn an_attribute_that_runs_past_the_end_withdraws_the_routes() {
    for cut in [vec![0xc0], vec![0xc0, 8], vec![0xc0, 8, 9, 0], vec![0xd0, 8, 0]] {
        let (events, outcome) = read(&with(std::slice::from_ref(&cut))).unwrap();
        assert_eq!(
            (events, outcome.errors),
            (vec![gone("198.51.100.0/24")], 1),
            "{cut:?}"
        );
    }
}

#[test]
fn a_broken_attribute_in_a_message_that_announces_nothing_ends_the_session() {
    for attributes in [
        vec![attribute(0x40, 1, &[7])],
        vec![vec![0xc0]],
        vec![attribute(0x40, 1, &[7]), hex("80 0f 05 0002 01 08 20")],
    ] {
        let fault = read(&update(&[], &attributes, &[])).unwrap_err();
        assert_eq!((fault.code, fault.subcode), (3, 1), "{attributes:?}");
    }
}

#[test]
fn what_cannot_be_told_apart_ends_the_session_and_says_nothing_to_the_rib() {
    let mut decoder = Decoder::new(Arc::new(terms()), None, &LIMITS);
    for (what, body, subcode) in [
        ("no lengths", vec![0, 0, 0], 1),
        ("withdrawn beyond the end", hex("0005 08 0a 0000"), 1),
        ("attributes beyond the end", hex("0000 0009 40"), 1),
        (
            "a withdrawn prefix of 33 bits",
            update(&[33, 1, 2, 3, 4, 5], &[], &[]),
            10,
        ),
        (
            "a prefix of 33 bits",
            update(&[8, 10], &plain(), &[8, 11, 33, 1, 2, 3, 4, 5]),
            10,
        ),
        ("a prefix cut off", update(&[], &plain(), &[24, 1]), 10),
        (
            "an IPv6 prefix of 129 bits",
            update(&[], &[hex("80 0f 04 0002 01 81")], &[]),
            9,
        ),
        (
            "NLRI twice",
            update(&[], &[hex("80 0f 03 0002 01"), hex("80 0f 03 0002 01")], &[]),
            1,
        ),
        ("no family", update(&[], &[hex("80 0f 02 0002")], &[]), 9),
        (
            "an unknown well-known attribute",
            with(&[attribute(0x40, 77, &[])]),
            2,
        ),
        (
            "a cut FlowSpec rule",
            update(&[], &[hex("80 0f 05 0001 85 05 01")], &[]),
            9,
        ),
    ] {
        let mut events = Vec::new();
        let fault = decoder.read(&body, &mut events).unwrap_err();
        assert_eq!((fault.code, fault.subcode), (3, subcode), "{what}");
        assert!(events.is_empty(), "{what}");
    }
}

#[test]
fn routes_of_a_family_that_was_not_agreed_on_are_counted_and_dropped() {
    let only6 = Terms {
        tables: [false, true, false, false],
        ..terms()
    };
    let (events, outcome) = read_with(only6.clone(), &update(&[8, 10], &plain(), &TWO)).unwrap();
    assert_eq!((events.len(), outcome.errors), (0, 2));
    let (events, outcome) = read(&update(&[], &[hex("80 0f 06 0001 80 01 02 03")], &[])).unwrap();
    assert_eq!((events.len(), outcome.errors), (0, 1));
    assert_eq!(read_with(only6, &[0; 4]).unwrap().1.end_of_rib, None);
}

#[test]
fn flowspec_rules_come_with_their_actions_and_malformed_ones_are_counted() {
    let rules = |list: &str| {
        let mut value = hex("0001 85 00 00");
        value.extend(hex(list));
        update(
            &[],
            &[
                plain()[0].clone(),
                plain()[1].clone(),
                attribute(0xc0, 16, &hex("8006000000000000")),
                attribute(0x80, 14, &value),
            ],
            &[],
        )
    };
    let (events, outcome) = read(&rules(
        "08 0118cb0071038106 0f 010000000018cb0071038106098102 03 038111",
    ))
    .unwrap();
    assert_eq!((outcome.updates, outcome.errors), (3, 1));
    assert!(outcome.note.unwrap().contains("malformed FlowSpec"));
    let [FeedEvent::Flow(first), FeedEvent::Flow(second)] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(
        (first.table, &first.nlri),
        (FeedTable::FlowSpec4, &hex("0118cb0071038106"))
    );
    assert_eq!(first.attributes.extended, [[0x80, 6, 0, 0, 0, 0, 0, 0]]);
    assert_eq!(second.nlri, hex("038111"));
    let (events, _) = read(&update(&[], &[hex("80 0f 07 0001 85 03 038111")], &[])).unwrap();
    assert_eq!(events, [FeedEvent::FlowGone(FeedTable::FlowSpec4, hex("038111"))]);
    // A broken attribute beside a rule withdraws the rule.
    let body = update(
        &[],
        &[
            attribute(0x40, 1, &[7]),
            plain()[1].clone(),
            hex("80 0e 09 0001 85 00 00 03 038111"),
        ],
        &[],
    );
    assert_eq!(read(&body).unwrap().0, events);
}

#[test]
fn beyond_the_limit_routes_are_refused_and_counted_and_those_there_may_change() {
    let limits = Limits {
        most: [2, 2, 1, 1],
        disconnect: false,
    };
    let mut decoder = Decoder::new(Arc::new(terms()), None, &limits);
    let mut events = Vec::new();
    let outcome = decoder
        .read(&update(&[], &plain(), &[8, 1, 8, 2, 8, 3]), &mut events)
        .unwrap();
    assert_eq!((events.len(), outcome.over_limit, outcome.errors), (2, 1, 0));
    assert_eq!(outcome.note.unwrap(), "more than 2 routes in IPv4");
    assert_eq!(decoder.over(), None);
    events.clear();
    decoder
        .read(&update(&[8, 1], &plain(), &[8, 2, 8, 3]), &mut events)
        .unwrap();
    assert_eq!(events.len(), 3, "one went, one changed, one found room");
    assert_eq!(decoder.limit(FeedTable::Ipv4).count(), 2);
}

#[test]
fn where_that_is_asked_for_the_limit_ends_the_session() {
    let limits = Limits {
        most: [1, 9, 9, 9],
        disconnect: true,
    };
    let mut decoder = Decoder::new(Arc::new(terms()), None, &limits);
    decoder
        .read(&update(&[], &plain(), &[8, 1, 8, 2]), &mut Vec::new())
        .unwrap();
    let fault = decoder.over().unwrap();
    assert_eq!(
        (fault.code, fault.subcode, fault.data),
        (6, 1, hex("0001 01 00000001"))
    );
}

#[test]
fn a_million_withdrawals_of_unknown_routes_leave_nothing_behind() {
    let mut decoder = Decoder::new(Arc::new(terms()), None, &LIMITS);
    let mut events = Vec::new();
    for high in 0..1_000_u16 {
        let [a, b] = high.to_be_bytes();
        let list: Vec<u8> = (0..1_000_u16)
            .flat_map(|low| [32, 10 + a, b, (low >> 8) as u8, low as u8])
            .collect();
        let outcome = decoder.read(&update(&list, &[], &[]), &mut events).unwrap();
        assert_eq!((outcome.updates, outcome.errors, events.len()), (1_000, 0, 1_000));
        events.clear();
    }
    assert_eq!(decoder.limit(FeedTable::Ipv4).count(), 0);
}

/// A whole UPDATE with prefixes of both families, as a daemon could send it.
fn any_update() -> impl Strategy<Value = Vec<u8>> {
    let v4 = prop::collection::vec((any::<u32>(), 0..=32_u8), 1..20);
    let v6 = prop::collection::vec((any::<u128>(), 0..=128_u8), 0..10);
    let path = prop::collection::vec(1..u32::MAX, 1..20);
    let communities = prop::collection::vec(any::<u32>(), 1..20);
    (v4, v6, path, communities, any::<u32>(), 0..3_u8).prop_map(|(v4, v6, path, communities, med, origin)| {
        let mut nlri = Vec::new();
        for (address, length) in v4 {
            // Below 224.0.0.0/4.
            let address = address & 0xbfff_ffff;
            let masked = if length == 0 {
                0
            } else {
                address & (u32::MAX << (32 - length))
            };
            nlri.push(length);
            nlri.extend(&masked.to_be_bytes()[..usize::from(length.div_ceil(8))]);
        }
        let mut as_path = vec![2, path.len() as u8];
        as_path.extend(path.iter().flat_map(|number| number.to_be_bytes()));
        let mut attributes = vec![
            attribute(0x40, 1, &[origin]),
            attribute(0x40, 2, &as_path),
            plain()[2].clone(),
        ];
        attributes.push(attribute(0x80, 4, &med.to_be_bytes()));
        let communities: Vec<u8> = communities.iter().flat_map(|value| value.to_be_bytes()).collect();
        attributes.push(attribute(0xc0, 8, &communities));
        if !v6.is_empty() {
            let mut reach = hex("0002 01 10 20010db8000100000000000000000001 00");
            for (address, length) in v6 {
                let address = address & (u128::MAX >> 1);
                let masked = if length == 0 {
                    0
                } else {
                    address & (u128::MAX << (128 - length))
                };
                reach.push(length);
                reach.extend(&masked.to_be_bytes()[..usize::from(length.div_ceil(8))]);
            }
            attributes.push(attribute(0x80, 14, &reach));
        }
        update(&[], &attributes, &nlri)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What netgauze-bgp-pkt makes of a whole message is what we make of it.
    #[test]
    fn the_library_reads_the_same(body in any_update()) {
        let message = wire::message(2, &body);
        let mut context = BgpParsingContext::default();
        let BgpMessage::Update(theirs) = BgpMessage::parse(&mut SliceReader::new(&message), &mut context).unwrap() else {
            panic!("not an UPDATE");
        };
        let (events, outcome) = read(&body).unwrap();
        prop_assert_eq!(outcome.errors, 0);
        let mut ours: Vec<IpNet> = Vec::new();
        for event in &events {
            let FeedEvent::Route { prefix, route, .. } = event else { panic!("{event:?}") };
            ours.push(*prefix);
            for attribute in theirs.path_attributes() {
                match attribute.value() {
                    PathAttributeValue::Origin(origin) => prop_assert_eq!(u8::from(*origin), route.attributes.origin),
                    PathAttributeValue::AsPath(path) => {
                        let path: Vec<u32> = path.clone().into();
                        prop_assert_eq!(&[Segment::Sequence(path)][..], &route.attributes.as_path[..]);
                    }
                    PathAttributeValue::MultiExitDiscriminator(med) => {
                        prop_assert_eq!(Some(med.metric()), route.attributes.med);
                    }
                    PathAttributeValue::Communities(list) => {
                        let list: Vec<u32> = list.communities().iter().map(|value| value.value()).collect();
                        prop_assert_eq!(&list, &route.attributes.communities);
                    }
                    _ => {}
                }
            }
        }
        let mut expected: Vec<IpNet> = theirs.nlri().iter().map(|one| one.network().address().into()).collect();
        for attribute in theirs.path_attributes() {
            if let PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) = attribute.value() {
                expected.extend(nlri.iter().map(|one| IpNet::from(one.network().address())));
            }
        }
        prop_assert_eq!(ours, expected);
    }

    /// Whatever happens to an octet of it: no panic, and no prefix that the message does not have space for.
    #[test]
    fn a_message_with_changed_octets_is_survived(
        mut body in any_update(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        add_path in any::<bool>(),
        four_octets in any::<bool>(),
    ) {
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        let terms = Terms { add_path: [add_path, add_path, false, false], four_octets, ..terms() };
        for body in [&body[..], &body[..cut.index(body.len())]] {
            if let Ok((events, outcome)) = read_with(terms.clone(), body) {
                prop_assert!(events.len() <= body.len());
                prop_assert!(outcome.updates as usize <= body.len());
            }
        }
    }

    #[test]
    fn octets_without_sense_are_survived(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&body);
        let _ = flow::check(FeedTable::FlowSpec4, &body);
        let _ = flow::check(FeedTable::FlowSpec6, &body);
    }

    /// One attribute of a good message is broken: each of its routes is withdrawn.
    #[test]
    fn a_broken_attribute_withdraws_every_route_of_any_message(body in any_update(), which in 0..25_usize) {
        let (good, _) = read(&body).unwrap();
        let (_, bad) = broken().swap_remove(which);
        let (list, nlri) = counted(&body[2..]).unwrap();
        let (mut attributes, mut rest) = (Vec::new(), list);
        while let [_, code, length, ..] = rest {
            let (one, tail) = rest.split_at(3 + usize::from(*length));
            if *code != bad[1] {
                attributes.push(one.to_vec());
            }
            rest = tail;
        }
        let classic_only = bad[1] == 3 && bad[0] == 0x40;
        attributes.insert(0, bad);
        let (events, outcome) = read(&update(&[], &attributes, nlri)).unwrap();
        prop_assert_eq!((events.len(), outcome.errors), (good.len(), 1));
        for (event, before) in events.iter().zip(&good) {
            let FeedEvent::Route { prefix, .. } = before else { panic!() };
            let withdrawn = matches!(event, FeedEvent::RouteGone { prefix: gone, .. } if gone == prefix);
            // NEXT_HOP is the next hop of IPv4 routes alone.
            prop_assert!(withdrawn || (classic_only && matches!(prefix, IpNet::V6(_))), "{:?}", event);
        }
    }
}
