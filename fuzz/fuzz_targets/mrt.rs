//! A table dump, not compressed: as it is, and with its octets as the body of a record behind a list of peers.
#![no_main]

use forwarder::source::mrt::Dump;
use libfuzzer_sys::fuzz_target;

/// A list of one peer, 192.0.2.1 of AS 64501.
const PEERS: [u8; 33] = [
    0, 0, 0, 0, 0, 13, 0, 1, 0, 0, 0, 21, 10, 0, 0, 1, 0, 0, 0, 1, 2, 10, 0, 0, 2, 192, 0, 2, 1, 0, 0, 251,
    245,
];

fuzz_target!(|data: &[u8]| {
    let _ = Dump::new(data).count();
    let Some((&subtype, body)) = data.split_first() else {
        return;
    };
    let mut dump = PEERS.to_vec();
    dump.extend([0, 0, 0, 0, 0, 13, 0, subtype % 16]);
    dump.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    dump.extend(body);
    let _ = Dump::new(&dump[..]).count();
});
