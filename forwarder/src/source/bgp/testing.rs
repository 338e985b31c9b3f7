//! Messages for tests, octet by octet.

use std::sync::Arc;
use std::time::Duration;

use super::open::{Graceful, Identity, Terms};
use super::update::{Decoder, Limits, Outcome};
use super::wire::{self, Fault, LONGEST};
use crate::source::feed::FeedEvent;

/// Octets of hexadecimal digits; white space is for the reader.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|digit| !digit.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// An attribute.
pub fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    [&[flags, code, length], value].concat()
}

/// The body of an UPDATE.
pub fn update(withdrawn: &[u8], attributes: &[Vec<u8>], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    body
}

/// ORIGIN IGP, AS_PATH 65000, NEXT_HOP 192.0.2.1.
pub fn plain() -> Vec<Vec<u8>> {
    vec![
        attribute(0x40, 1, &[0]),
        attribute(0x40, 2, &hex("02 01 0000fde8")),
        attribute(0x40, 3, &[192, 0, 2, 1]),
    ]
}

/// We: AS 64500, all tables.
pub fn us() -> Identity {
    Identity {
        local_as: 64_500,
        peer_as: 64_500,
        router_id: "127.0.0.2".parse().unwrap(),
        hold_time: 90,
        add_path: true,
        graceful_restart: true,
    }
}

/// An internal session with all tables and nothing else.
pub fn terms() -> Terms {
    Terms {
        peer_as: 64_500,
        local_as: 64_500,
        router_id: "10.0.0.1".parse().unwrap(),
        hold: Some(Duration::from_secs(90)),
        four_octets: true,
        tables: [true; 4],
        add_path: [false; 4],
        longest: LONGEST,
        refresh: true,
        graceful: None,
        long_lived: [None; 4],
    }
}

/// Graceful restart for unicast, for two minutes.
pub fn graceful() -> Graceful {
    Graceful {
        restarting: false,
        notification: false,
        time: Duration::from_secs(120),
        tables: [Some(true), Some(true), None, None],
    }
}

/// Room for everything.
pub const LIMITS: Limits = Limits {
    most: [1_000_000; 4],
    disconnect: false,
};

/// What an UPDATE says in a session with these terms.
pub fn read_with(terms: Terms, body: &[u8]) -> Result<(Vec<FeedEvent>, Outcome), Fault> {
    let mut events = Vec::new();
    let outcome = Decoder::new(Arc::new(terms), Some(7), &LIMITS).read(body, &mut events)?;
    Ok((events, outcome))
}

/// The same in a plain session.
pub fn read(body: &[u8]) -> Result<(Vec<FeedEvent>, Outcome), Fault> {
    read_with(terms(), body)
}

/// A capability.
pub fn capability(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, value.len() as u8], value].concat()
}

/// The body of an OPEN of AS 64500, identifier 10.0.0.1, hold time 30 s.
pub fn open(capabilities: &[Vec<u8>]) -> Vec<u8> {
    let capabilities = capabilities.concat();
    let mut body = hex("04 fbf4 001e 0a000001");
    body.push(capabilities.len() as u8 + 2);
    body.extend([2, capabilities.len() as u8]);
    body.extend(capabilities);
    body
}

/// A neighbour's OPEN with both unicast tables, four octets, and route refresh, and what is added.
pub fn usual_open(more: &[Vec<u8>]) -> Vec<u8> {
    let mut capabilities = vec![
        capability(1, &[0, 1, 0, 1]),
        capability(1, &[0, 2, 0, 1]),
        capability(65, &64_500_u32.to_be_bytes()),
        capability(2, &[]),
    ];
    capabilities.extend_from_slice(more);
    wire::message(1, &open(&capabilities))
}

/// Graceful restart (64) for both unicast tables: time in seconds, N bit, F bit.
pub fn restart_capability(seconds: u16, notification: bool, forwarding: bool) -> Vec<u8> {
    let header = seconds | if notification { 0x4000 } else { 0 };
    let forwarding = if forwarding { 0x80 } else { 0 };
    let mut value = header.to_be_bytes().to_vec();
    value.extend([0, 1, 1, forwarding, 0, 2, 1, forwarding]);
    capability(64, &value)
}
