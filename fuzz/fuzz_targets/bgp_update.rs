//! The body of an UPDATE, behind an octet that says what the session agreed on; and the same as a list of FlowSpec NLRI.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::Arc;

use forwarder::source::bgp::open::Terms;
use forwarder::source::bgp::update::{Decoder, Limits};
use forwarder::source::bgp::{flow, wire};
use forwarder::source::feed::{FeedEvent, FeedTable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((agreed, body)) = data.split_first() else {
        return;
    };
    let bit = |number: u8| agreed >> number & 1 != 0;
    let terms = Terms {
        peer_as: if bit(0) { 64_500 } else { 64_501 },
        local_as: 64_500,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        hold: None,
        four_octets: bit(1),
        tables: [true, bit(2), true, bit(2)],
        add_path: [bit(3), bit(4), false, false],
        longest: wire::LONGEST,
        refresh: false,
        graceful: None,
        long_lived: [None; 4],
    };
    let limits = Limits {
        most: [64; 4],
        disconnect: false,
    };
    let mut decoder = Decoder::new(Arc::new(terms), Some(1), &limits);
    let mut events = Vec::new();
    // Twice: the second time the attributes are known.
    for _ in 0..2 {
        let before = events.len();
        match decoder.read(body, &mut events) {
            // Each event takes an octet at least.
            Ok(_) => assert!(events.len() - before <= body.len()),
            Err(fault) => {
                assert!((fault.code, events.len()) == (3, before));
                assert!(fault.notification().len() <= wire::LONGEST);
            }
        }
    }
    let tables = [
        FeedTable::Ipv4,
        FeedTable::Ipv6,
        FeedTable::FlowSpec4,
        FeedTable::FlowSpec6,
    ];
    assert!(tables.iter().all(|table| decoder.limit(*table).count() <= 64));
    for event in &events {
        match event {
            FeedEvent::Route { prefix, .. } | FeedEvent::RouteGone { prefix, .. } => {
                assert_eq!(*prefix, prefix.trunc());
            }
            FeedEvent::Flow(rule) => assert_eq!(flow::check(rule.table, &rule.nlri), Ok(())),
            FeedEvent::FlowGone(table, nlri) => assert_eq!(flow::check(*table, nlri), Ok(())),
            other => panic!("{other:?}"),
        }
    }
    let mut list = body;
    while let Some((nlri, rest)) = flow::first(list) {
        let _ = flow::check(FeedTable::FlowSpec4, nlri);
        let _ = flow::check(FeedTable::FlowSpec6, nlri);
        list = rest;
    }
});
