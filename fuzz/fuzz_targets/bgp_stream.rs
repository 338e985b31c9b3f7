//! What two connections of a neighbour say, behind an octet that says whether it is an external one: pieces, each behind an
//! octet with its connection and the time before it, and one with its length.
#![no_main]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forwarder::source::bgp::neighbour::{BATCH, CONNECTIONS, Neighbour, Output};
use forwarder::source::bgp::open::Identity;
use forwarder::source::bgp::update::Limits;
use forwarder::source::feed::FeedCounts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((external, mut rest)) = data.split_first() else {
        return;
    };
    let us = Identity {
        local_as: 64_500,
        peer_as: 64_500 + u32::from(external & 1),
        router_id: Ipv4Addr::new(127, 0, 0, 2),
        hold_time: 90,
        add_path: true,
        graceful_restart: true,
    };
    let limits = Limits {
        most: [64; 4],
        disconnect: false,
    };
    let mut neighbour = Neighbour::new("fuzz".into(), us, limits, Arc::new(FeedCounts::default()));
    let (mut now, mut next) = (Instant::now(), 0_u64);
    // The connections that are open, and what of them is not taken yet.
    let mut open: [Option<(u64, Vec<u8>)>; 2] = [None, None];
    while let [which, length, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        now += Duration::from_secs(u64::from(which >> 3));
        neighbour.tick(which & 4 != 0, now);
        let connection = &mut open[usize::from(which & 1)];
        if which & 2 != 0
            && let Some((id, _)) = connection.take()
        {
            neighbour.lost(id, "fuzz", now);
        }
        let (id, waiting) = connection.get_or_insert_with(|| {
            next += 1;
            neighbour.connected(next, None, now);
            (next, Vec::new())
        });
        waiting.extend(piece);
        let used = neighbour.received(*id, waiting, now);
        waiting.drain(..used);
        assert!(neighbour.events().len() < BATCH + 70_000);
        assert!(neighbour.half_open() <= CONNECTIONS);
        for output in neighbour.outputs() {
            if let Output::Close(id) = output {
                for connection in &mut open {
                    connection.take_if(|(open, _)| *open == id);
                }
            }
        }
    }
});
