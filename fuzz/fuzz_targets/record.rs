//! A recording of a feed: what is read of it and written again is what stood there.
#![no_main]

use forwarder::source::record::{Player, write_chunk, write_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(player) = Player::open(data) else {
        return;
    };
    let mut head = Vec::new();
    write_header(&mut head, &player.kind, &player.name).expect("a vector takes everything");
    let begin = data
        .iter()
        .position(|octet| *octet == b'\n')
        .map_or(data.len(), |end| end + 1);
    let mut body = Vec::new();
    for chunk in player.map_while(Result::ok) {
        write_chunk(&mut body, &chunk).expect("what was read can be written");
    }
    // Time is kept in nanoseconds and no piece is longer than its file, so nothing is lost.
    assert!(data[begin..].starts_with(&body));
    let again = Player::open(&head[..]).expect("its own first line");
    assert_eq!(again.count(), 0);
});
