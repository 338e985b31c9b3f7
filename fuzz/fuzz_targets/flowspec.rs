//! FlowSpec NLRI (RFC 8955 4): a list of them, announced or withdrawn in an UPDATE that is whole otherwise, so that no
//! length around it has to be guessed first.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::Arc;

use forwarder::source::bgp::open::Terms;
use forwarder::source::bgp::update::{Decoder, Limits};
use forwarder::source::bgp::{flow, wire};
use forwarder::source::feed::{FeedEvent, FeedTable};
use libfuzzer_sys::fuzz_target;

/// ORIGIN, an empty AS_PATH, LOCAL_PREF 100, and the action to discard.
const ATTRIBUTES: [u8; 25] = [
    0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100, 0xc0, 16, 8, 0x80, 6, 0, 0, 0, 0, 0, 0,
];

fuzz_target!(|data: &[u8]| {
    let Some((&choice, list)) = data.split_first() else {
        return;
    };
    let (ipv6, withdrawn) = (choice & 1 != 0, choice & 2 != 0);
    let (afi, table) = if ipv6 {
        (2, FeedTable::FlowSpec6)
    } else {
        (1, FeedTable::FlowSpec4)
    };
    // MP_UNREACH_NLRI, or MP_REACH_NLRI with neither a next hop nor anything reserved (RFC 4760 3, 4).
    let (code, head) = if withdrawn {
        (15, &[0, afi, 133][..])
    } else {
        (14, &[0, afi, 133, 0, 0][..])
    };
    let value = [head, list].concat();
    let Ok(length) = u16::try_from(value.len()) else {
        return;
    };
    let mut attributes = if withdrawn {
        Vec::new()
    } else {
        ATTRIBUTES.to_vec()
    };
    attributes.extend([0x90, code]);
    attributes.extend(length.to_be_bytes());
    attributes.extend(value);
    let Ok(length) = u16::try_from(attributes.len()) else {
        return;
    };
    let body = [&[0, 0], &length.to_be_bytes()[..], &attributes].concat();
    let terms = Terms {
        peer_as: 64_500,
        local_as: 64_500,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        hold: None,
        four_octets: true,
        tables: [true; 4],
        add_path: [true, true, false, false],
        longest: wire::LONGEST_EXTENDED,
        refresh: false,
        graceful: None,
        long_lived: [None; 4],
    };
    let limits = Limits {
        most: [1_000_000; 4],
        disconnect: false,
    };
    let mut decoder = Decoder::new(Arc::new(terms), None, &limits);
    let mut events = Vec::new();
    let outcome = decoder.read(&body, &mut events);

    // What a list is, and which of its rules can be read, found out by hand.
    let (mut rest, mut rules, mut whole) = (list, Vec::new(), true);
    while !rest.is_empty() {
        let Some((nlri, tail)) = flow::first(rest) else {
            whole = false;
            break;
        };
        rules.push(nlri);
        rest = tail;
    }
    let Ok(outcome) = outcome else {
        assert!(!whole && events.is_empty());
        return;
    };
    assert!(whole);
    let good: Vec<_> = rules
        .iter()
        .filter(|nlri| flow::check(table, nlri).is_ok())
        .collect();
    assert_eq!(outcome.updates as usize, rules.len());
    assert_eq!(outcome.errors as usize, rules.len() - good.len());
    assert_eq!(events.len(), good.len());
    for (event, nlri) in events.iter().zip(good) {
        match event {
            FeedEvent::Flow(rule) if !withdrawn => assert_eq!((rule.table, &rule.nlri[..]), (table, *nlri)),
            FeedEvent::FlowGone(of, gone) if withdrawn => assert_eq!((*of, &gone[..]), (table, *nlri)),
            other => panic!("{other:?}"),
        }
    }
});
