//! What is forwarded now: the prefixes and networks with the most octets a second.

use std::collections::HashMap;

use forwarder_common::counters::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    counters::{By, OTHERS, UNKNOWN},
    prefixes::ListedRow,
    sampler::prefixes::Active,
};

/// What moved between two passes of the sampler.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Seconds between them; 0 before the second.
    pub seconds: f64,
    /// When the later one was, seconds since 1970.
    pub at: u64,
    /// Prefixes that forwarded anything meanwhile. One that was heard from two networks is in it twice.
    pub active: Vec<Active>,
    /// Prefixes that `[metrics]` names.
    pub listed: Vec<ListedRow>,
}

/// A prefix or a network, and its rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RateRow {
    /// By prefix: the prefix, or "(others)".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// By origin AS, and of a prefix: the AS the prefix comes from, or "(unknown)", "(others)".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_as: Option<String>,
    /// By neighbour AS, and of a prefix: the AS it is heard from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbour_as: Option<String>,
    /// Prefixes that are added up here.
    pub prefixes: u64,
    /// Packets a second.
    pub packets_per_second: u64,
    /// Octets a second.
    pub bytes_per_second: u64,
    /// Over how many milliseconds.
    pub milliseconds: u64,
    /// Up to when, seconds since 1970.
    pub time: u64,
}

/// The `top` rows with the most octets, and one for the others. By prefix, origin AS or neighbour AS; of anything else there are
/// none.
pub fn rates(live: &Live, by: By, top: usize) -> Vec<RateRow> {
    if live.seconds <= 0.0 {
        return Vec::new();
    }
    let mut rows = match by {
        By::Prefix => live
            .active
            .iter()
            .map(|active| (by_prefix(active), active.to))
            .collect(),
        By::OriginAs => by_as(
            live,
            |active| active.origin_as,
            |name| RateRow {
                origin_as: Some(name),
                ..RateRow::default()
            },
        ),
        By::NeighbourAs => by_as(
            live,
            |active| active.neighbour_as,
            |name| RateRow {
                neighbour_as: Some(name),
                ..RateRow::default()
            },
        ),
        By::SourcePrefix | By::NextHop | By::Interface | By::Account | By::AccountPair => Vec::new(),
    };
    rows.sort_by_key(|(_, counter)| std::cmp::Reverse((counter.bytes, counter.packets)));
    let others: Vec<(RateRow, Counter)> = rows.drain(rows.len().min(top)..).collect();
    if !others.is_empty() {
        let mut row = match by {
            By::Prefix => RateRow {
                prefix: Some(OTHERS.into()),
                ..RateRow::default()
            },
            By::OriginAs => RateRow {
                origin_as: Some(OTHERS.into()),
                ..RateRow::default()
            },
            _ => RateRow {
                neighbour_as: Some(OTHERS.into()),
                ..RateRow::default()
            },
        };
        row.prefixes = others.iter().map(|(row, _)| row.prefixes).sum();
        let sum = others
            .iter()
            .fold(Counter::default(), |sum, (_, counter)| sum.plus(*counter));
        rows.push((row, sum));
    }
    let a_second = |count: u64| (count as f64 / live.seconds).round() as u64;
    let finish = |(row, counter): (RateRow, Counter)| RateRow {
        packets_per_second: a_second(counter.packets),
        bytes_per_second: a_second(counter.bytes),
        milliseconds: (live.seconds * 1000.0).round() as u64,
        time: live.at,
        ..row
    };
    rows.into_iter().map(finish).collect()
}

fn name(asn: u32) -> String {
    if asn == 0 { UNKNOWN.into() } else { asn.to_string() }
}

fn by_prefix(active: &Active) -> RateRow {
    RateRow {
        prefix: Some(active.prefix.to_string()),
        origin_as: Some(name(active.origin_as)),
        neighbour_as: Some(name(active.neighbour_as)),
        prefixes: 1,
        ..RateRow::default()
    }
}

fn by_as(
    live: &Live,
    asn: impl Fn(&Active) -> u32,
    row: impl Fn(String) -> RateRow,
) -> Vec<(RateRow, Counter)> {
    let mut sums: HashMap<u32, (u64, Counter)> = HashMap::new();
    for active in &live.active {
        let (prefixes, sum) = sums.entry(asn(active)).or_default();
        *prefixes += 1;
        *sum = sum.plus(active.to);
    }
    let row = |(asn, (prefixes, sum))| {
        (
            RateRow {
                prefixes,
                ..row(name(asn))
            },
            sum,
        )
    };
    sums.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(prefix: &str, origin_as: u32, packets: u64) -> Active {
        Active {
            prefix: prefix.parse().expect("prefix"),
            origin_as,
            neighbour_as: 64_501,
            to: Counter {
                packets,
                bytes: packets * 100,
            },
            from: Counter::default(),
        }
    }

    #[test]
    fn the_fastest_come_first_and_the_rest_is_one_row() {
        let live = Live {
            seconds: 10.0,
            at: 1_000,
            active: vec![
                active("192.0.2.0/24", 64_510, 10),
                active("198.51.100.0/24", 0, 300),
                active("2001:db8::/32", 64_510, 500),
            ],
            listed: Vec::new(),
        };
        let short = |by, top| -> Vec<(String, u64, u64, u64)> {
            let rows = rates(&live, by, top).into_iter();
            rows.map(|row| {
                let name = match by {
                    By::Prefix => row.prefix,
                    By::OriginAs => row.origin_as,
                    _ => row.neighbour_as,
                };
                (
                    name.expect("a name"),
                    row.prefixes,
                    row.packets_per_second,
                    row.bytes_per_second,
                )
            })
            .collect()
        };
        let row = |name: &str, prefixes, packets| (name.to_string(), prefixes, packets, packets * 100);
        assert_eq!(
            short(By::Prefix, 1),
            [row("2001:db8::/32", 1, 50), row(OTHERS, 2, 31)]
        );
        assert_eq!(short(By::OriginAs, 9), [row("64510", 2, 51), row(UNKNOWN, 1, 30)]);
        assert_eq!(short(By::NeighbourAs, 9), [row("64501", 3, 81)]);
        assert!(rates(&live, By::NextHop, 9).is_empty());
        assert!(rates(&Live::default(), By::Prefix, 9).is_empty());
    }
}
