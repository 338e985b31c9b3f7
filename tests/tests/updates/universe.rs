//! The prefixes that come and go.

use std::{collections::HashSet, ops::RangeInclusive};

use forwarder_tests::{random::Random, table};
use ipnet::IpNet;

/// How many there are.
pub const UNIVERSE: usize = 20_000;

/// A prefix lies inside one of so many before it: were it any, the oldest would hold most of the others, and an update of
/// those would be all that takes time.
const NEAR: usize = 200;

/// Lengths and their weights: the Internet's in rough numbers, and every other one. What a short prefix costs is the words
/// it has to look at; so they are drawn seldom, and the shortest ([`WIDEST`]) by the clock.
const LENGTHS4: &[(RangeInclusive<u8>, usize)] = &[
    (16..=19, 1_000),
    (20..=23, 17_000),
    (24..=24, 20_000),
    (25..=32, 12_000),
];
const LENGTHS6: &[(RangeInclusive<u8>, usize)] = &[
    (20..=23, 20),
    (24..=31, 1_500),
    (32..=47, 19_000),
    (48..=48, 20_000),
    (49..=64, 5_000),
    (65..=127, 1_500),
    (128..=128, 1_000),
];
/// The lengths of the first prefixes of the universe: 2^24 words and less.
pub const WIDEST: [u8; 8] = [0, 3, 7, 8, 10, 14, 16, 19];

/// Different prefixes, most of them inside another.
pub fn universe(v4: bool, random: &mut Random) -> Vec<IpNet> {
    let lengths = if v4 { LENGTHS4 } else { LENGTHS6 };
    let mut seen = HashSet::new();
    let mut prefixes: Vec<IpNet> = Vec::new();
    while prefixes.len() < UNIVERSE {
        let length = match WIDEST.get(prefixes.len()) {
            Some(length) => *length,
            None => draw(lengths, random),
        };
        let around = match random.below(5) {
            0 => None,
            _ => prefixes.get(prefixes.len().saturating_sub(1 + random.below(NEAR))),
        };
        let address = match around {
            Some(around) if around.prefix_len() < length => table::inside(random, *around),
            _ if v4 => table::unicast4(random).into(),
            _ => table::unicast6(random).into(),
        };
        let prefix = IpNet::new(address, length).map(|net| net.trunc());
        prefixes.extend(prefix.ok().filter(|prefix| seen.insert(*prefix)));
    }
    prefixes
}

/// A length.
fn draw(lengths: &[(RangeInclusive<u8>, usize)], random: &mut Random) -> u8 {
    let mut at = random.below(lengths.iter().map(|(_, weight)| weight).sum());
    for (range, weight) in lengths {
        if at < *weight {
            return range.start() + random.below(range.len()) as u8;
        }
        at -= weight;
    }
    0
}
