//! An FPM connection: a recording (tests/data/fpm are the seeds), or else plain octets, read in two pieces.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use forwarder::config::FpmConfig;
use forwarder::source::feed::FeedCounts;
use forwarder::source::fpm::Session;
use forwarder::source::record::Player;
use forwarder::source::tap::{Chunk, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let config = FpmConfig {
        max_routes: 64,
        ..FpmConfig::default()
    };
    let mut session = Session::new(config, Arc::new(FeedCounts::default()));
    let (start, mut events) = (Instant::now(), Vec::new());
    let mut play = |chunk: Chunk| {
        let now = start + Duration::from_millis(chunk.at.as_millis() as u64 % 1_000_000);
        let heard = match chunk.kind {
            Kind::Begin => {
                session.connected(now, &mut events);
                Ok(())
            }
            Kind::Read => session.received(&chunk.bytes, now, &mut events),
            Kind::End | Kind::Missed => {
                session.lost(now, &mut events);
                Ok(())
            }
        };
        if heard.and_then(|()| session.tick(now, &mut events)).is_err() {
            session.lost(now, &mut events);
            session.connected(now, &mut events);
        }
        assert!(session.routes() <= 64 && session.objects() <= 65_536);
        events.clear();
    };
    match Player::open(data) {
        Ok(player) => player.map_while(Result::ok).for_each(play),
        Err(_) => {
            let (first, second) = data.split_at(data.len() / 2);
            for (kind, bytes) in [(Kind::Begin, &[][..]), (Kind::Read, first), (Kind::Read, second)] {
                play(Chunk {
                    at: Duration::ZERO,
                    kind,
                    bytes: bytes.to_vec(),
                });
            }
        }
    }
});
