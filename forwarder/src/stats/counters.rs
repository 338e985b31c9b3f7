//! Forwarded packets by prefix, next hop, interface and the like. Each listing adds up to the forwarded total, but that of accounts,
//! where a packet is counted for whom it is from and for whom it is for.

use std::{collections::HashMap, net::IpAddr};

use forwarder_common::{
    counters::Counter,
    directory::{NextHopEntry, SlotEntry, State},
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    accounts::{self, AccountFigures},
    blackholes::discarded,
    names, path, prefixes,
};
use crate::dataplane::Tables;

/// What to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Destination prefix
    Prefix,
    /// Prefix of the source
    SourcePrefix,
    /// Next hop
    NextHop,
    /// Egress interface
    Interface,
    /// AS that the destination prefix comes from
    OriginAs,
    /// AS that it is heard from
    NeighbourAs,
    /// Account, those that are part of it with it
    Account,
    /// From account to account
    AccountPair,
}

impl By {
    /// All.
    pub const ALL: [By; 8] = [
        By::Prefix,
        By::SourcePrefix,
        By::NextHop,
        By::Interface,
        By::OriginAs,
        By::NeighbourAs,
        By::Account,
        By::AccountPair,
    ];

    /// The word on the command line and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            By::Prefix => "prefix",
            By::NextHop => "next-hop",
            By::Interface => "interface",
            By::OriginAs => "origin-as",
            By::NeighbourAs => "neighbour-as",
            By::SourcePrefix => "source-prefix",
            By::Account => "account",
            By::AccountPair => "account-pair",
        }
    }

    /// Why nothing is counted so, and what to do, where that is so.
    pub fn missing(self, tables: &Tables) -> Option<String> {
        accounts::missing(tables, self)
    }
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(word: &str) -> Result<By, String> {
        let found = By::ALL.into_iter().find(|by| by.name() == word);
        found.ok_or_else(|| {
            let names = By::ALL.map(By::name).join(", ");
            format!("cannot count by {word:?}: use one of {names}")
        })
    }
}

/// One row; the key is in the field that belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterRow {
    /// By prefix: the prefix, or "(withdrawn)" or "(others)".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// By next hop: its address, or "(withdrawn)" or "(others)".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nexthop: Option<String>,
    /// By next hop: "ipv4" or "ipv6", the family of the packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub af: Option<String>,
    /// By next hop and by interface: the egress interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// By next hop: "usable", or the reason packets leave with now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// By origin AS: the AS, or "(unknown)", "(withdrawn)" or "(others)".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_as: Option<String>,
    /// By neighbour AS: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbour_as: Option<String>,
    /// By pair of accounts: the account of the source, "(elsewhere)", "(earlier accounts)", "(not counted)" or "(others)".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// By pair of accounts: that of the destination, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// By pair of accounts: whether the packets came in, or went out, by a transit or peer interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<bool>,
    /// By account: the account, and which packets were which.
    #[serde(flatten)]
    pub account: Option<AccountFigures>,
    /// By AS: prefixes that have counted packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<u64>,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// What a row says of prefixes or next hops that are no more.
pub const WITHDRAWN: &str = "(withdrawn)";
/// What a row says of all that `top` left out.
pub const OTHERS: &str = "(others)";
/// What a row says of prefixes that nobody told the AS of: our own, and those without a BGP route.
pub const UNKNOWN: &str = "(unknown)";

impl CounterRow {
    fn named(by: By, name: String, counter: Counter) -> CounterRow {
        let mut row = CounterRow {
            packets: counter.packets,
            bytes: counter.bytes,
            ..CounterRow::default()
        };
        match by {
            By::Prefix | By::SourcePrefix => row.prefix = Some(name),
            By::NextHop => row.nexthop = Some(name),
            By::Interface => row.ifname = Some(name),
            By::OriginAs => row.origin_as = Some(name),
            By::NeighbourAs => row.neighbour_as = Some(name),
            By::AccountPair => (row.from, row.to) = (Some(name.clone()), Some(name)),
            By::Account => {
                row.account = Some(AccountFigures {
                    account: name,
                    ..AccountFigures::default()
                });
            }
        }
        row
    }
}

/// Rows by octets, the largest first: the `top` largest and one row for the others, or all of them. Rows without
/// packets only with `all`.
pub fn counters(tables: &Tables, by: By, top: Option<usize>, all: bool) -> Vec<CounterRow> {
    let mut rows = match by {
        By::Prefix | By::SourcePrefix => by_prefix(tables, by, top, all),
        By::NextHop => by_next_hop(tables),
        By::Interface => by_interface(tables),
        By::OriginAs | By::NeighbourAs => by_as(tables, by),
        By::Account => accounts::by_account(tables),
        By::AccountPair => accounts::by_pair(tables),
    };
    // Accounts are few, and one that is new should be seen.
    if !all && by != By::Account {
        rows.retain(|row| row.packets > 0);
    }
    // The row for what was left out comes last.
    let left_out = |row: &CounterRow| row.prefix.as_deref() == Some(OTHERS);
    rows.retain(|row| !left_out(row) || row.packets > 0);
    rows.sort_by_key(|row| (left_out(row), std::cmp::Reverse((row.bytes, row.packets))));
    let most = top.unwrap_or(usize::MAX);
    if by == By::Account {
        // What is part of another is in its row already: there is no sum of others.
        rows.truncate(most);
    }
    if !matches!(by, By::Prefix | By::SourcePrefix) && rows.len() > most {
        let others = rows
            .drain(most..)
            .fold(Counter::default(), |sum, row| sum.plus(row.counter()));
        if others.packets > 0 {
            rows.push(CounterRow::named(by, OTHERS.into(), others));
        }
    }
    rows
}

impl CounterRow {
    fn counter(&self) -> Counter {
        Counter {
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}

/// Calls `each` with what every prefix that is laid has counted of packets to it. Answers what prefixes have that are no more:
/// every slot is read once, so all together is what the program counted, whatever changes meanwhile.
fn each_prefix(tables: &Tables, each: impl FnMut(Counter, IpNet, &SlotEntry)) -> Counter {
    let counter = |slot| tables.slot_counter(slot);
    each_owner(tables, counter, |_, entry| entry.baseline, each)
}

/// The same of packets from it.
fn each_source(tables: &Tables, each: impl FnMut(Counter, IpNet, &SlotEntry)) -> Counter {
    if !tables.sizes.sources {
        return Counter::default();
    }
    let counter = |slot| tables.slot_source_counter(slot);
    let baseline = |slot, _: &SlotEntry| tables.source_baselines.get(slot as usize);
    each_owner(tables, counter, baseline, each)
}

fn each_owner(
    tables: &Tables,
    counter: impl Fn(u32) -> Counter,
    baseline: impl Fn(u32, &SlotEntry) -> Counter,
    mut each: impl FnMut(Counter, IpNet, &SlotEntry),
) -> Counter {
    let mut total = Counter::default();
    let mut live = Counter::default();
    for slot in 0..tables.sizes.slots {
        let entry = prefixes::entry(tables, slot);
        if entry.generation == 0 && slot >= crate::fib::slots::RESERVED {
            continue;
        }
        let raw = counter(slot);
        total = total.plus(raw);
        if let Some(prefix) = prefixes::owner(&entry) {
            let counter = raw.since(baseline(slot, &entry));
            live = live.plus(counter);
            each(counter, prefix, &entry);
        }
    }
    total.since(live)
}

fn by_prefix(tables: &Tables, by: By, top: Option<usize>, all: bool) -> Vec<CounterRow> {
    let mut owners = Vec::new();
    let push = |counter: Counter, prefix, _: &SlotEntry| {
        if all || counter.packets > 0 {
            owners.push((counter, prefix));
        }
    };
    let withdrawn = if by == By::SourcePrefix {
        each_source(tables, push)
    } else {
        each_prefix(tables, push)
    };
    let counted = owners
        .iter()
        .fold(withdrawn, |sum, (counter, _)| sum.plus(*counter));
    // A million names are not made for ten rows: what `top` leaves out is added up here already.
    owners.sort_unstable_by_key(|(counter, prefix)| {
        (std::cmp::Reverse((counter.bytes, counter.packets)), *prefix)
    });
    let shown = top.map_or(owners.len(), |top| owners.len().min(top));
    let others = owners
        .drain(shown..)
        .fold(Counter::default(), |sum, (counter, _)| sum.plus(counter));
    let named = |(counter, prefix): (Counter, IpNet)| CounterRow::named(by, prefix.to_string(), counter);
    let mut rows: Vec<CounterRow> = owners.into_iter().map(named).collect();
    rows.push(CounterRow::named(by, WITHDRAWN.into(), withdrawn));
    if by == By::SourcePrefix {
        let uncounted = accounts::rest(accounts::forwarded(tables), counted);
        rows.push(CounterRow::named(by, accounts::NOT_COUNTED.into(), uncounted));
    }
    rows.push(CounterRow::named(by, OTHERS.into(), others));
    rows
}

fn by_as(tables: &Tables, by: By) -> Vec<CounterRow> {
    let mut sums: HashMap<u32, (Counter, u64)> = HashMap::new();
    let withdrawn = each_prefix(tables, |counter, _, entry| {
        let number = match by {
            By::NeighbourAs => tables.neighbour_as(entry.neighbour),
            _ => entry.origin_as,
        };
        let (sum, prefixes) = sums.entry(number).or_default();
        *sum = sum.plus(counter);
        *prefixes += u64::from(counter.packets > 0);
    });
    let row = |(number, (counter, prefixes)): (u32, (Counter, u64))| {
        let name = if number == 0 {
            UNKNOWN.into()
        } else {
            number.to_string()
        };
        CounterRow {
            prefixes: Some(prefixes),
            ..CounterRow::named(by, name, counter)
        }
    };
    let mut rows: Vec<CounterRow> = sums.into_iter().map(row).collect();
    rows.push(CounterRow::named(by, WITHDRAWN.into(), withdrawn));
    rows
}

/// The neighbour of a next hop that is in use, if it has one.
fn neighbour(tables: &Tables, id: u32, entry: &NextHopEntry) -> Option<(IpAddr, path::Hop)> {
    let in_use = matches!(State::from_number(entry.state), Some(State::Live));
    let hop = path::next_hop(tables, id).filter(|_| in_use)?;
    Some((hop.via?, hop))
}

const fn family_of(entry: &NextHopEntry) -> &'static str {
    if entry.packet_family == 6 { "ipv6" } else { "ipv4" }
}

/// A next hop in use that is a neighbour.
pub struct NextHopCounter {
    /// Its id.
    pub id: u32,
    /// Its address.
    pub nexthop: String,
    /// Family of the packets: "ipv4", "ipv6".
    pub af: &'static str,
    /// Egress interface.
    pub ifname: String,
    /// What the id has counted.
    pub counter: Counter,
    /// What of that was for neighbours before this one.
    pub baseline: Counter,
}

/// Every next hop in use that is a neighbour.
pub fn next_hops(tables: &Tables) -> Vec<NextHopCounter> {
    let hop = |id: u32| {
        let entry = tables.nexthop_directory.get(id as usize);
        let (address, hop) = neighbour(tables, id, &entry)?;
        Some(NextHopCounter {
            id,
            nexthop: address.to_string(),
            af: family_of(&entry),
            ifname: hop.ifname.unwrap_or_default(),
            counter: tables.nexthop_counter(id),
            baseline: entry.baseline,
        })
    };
    (0..tables.sizes.nexthops).filter_map(hop).collect()
}

fn by_next_hop(tables: &Tables) -> Vec<CounterRow> {
    let mut rows = Vec::new();
    // Before the others, of which it is a part: so the rest is not less than nothing.
    let discarded = discarded(tables);
    let mut total = Counter::default();
    let mut live = Counter::default();
    for id in 0..tables.sizes.nexthops {
        let raw = tables.nexthop_counter(id);
        total = total.plus(raw);
        let entry = tables.nexthop_directory.get(id as usize);
        let Some((address, hop)) = neighbour(tables, id, &entry) else {
            continue;
        };
        let counter = raw.since(entry.baseline);
        live = live.plus(counter);
        rows.push(CounterRow {
            af: Some(family_of(&entry).into()),
            ifname: hop.ifname,
            state: Some(hop.state),
            ..CounterRow::named(By::NextHop, address.to_string(), counter)
        });
    }
    rows.push(CounterRow::named(
        By::NextHop,
        WITHDRAWN.into(),
        total.since(discarded).since(live),
    ));
    rows
}

fn by_interface(tables: &Tables) -> Vec<CounterRow> {
    names::ports(tables)
        .map(|(port, entry)| {
            CounterRow::named(
                By::Interface,
                names::ifname(&entry),
                tables.egress(port).forwarded,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    fn sum(rows: &[CounterRow]) -> Counter {
        rows.iter()
            .fold(Counter::default(), |sum, row| sum.plus(row.counter()))
    }

    #[test]
    fn every_listing_adds_up_to_the_forwarded_total() {
        let tables = sample::tables();
        let forwarded = Counter {
            packets: 30,
            bytes: 3000,
        };
        // Of accounts a packet is counted for two.
        for by in By::ALL.into_iter().filter(|by| *by != By::Account) {
            for top in [None, Some(0), Some(1), Some(100)] {
                for all in [false, true] {
                    assert_eq!(
                        sum(&counters(&tables, by, top, all)),
                        forwarded,
                        "{by:?} {top:?} {all}"
                    );
                }
            }
        }
    }

    #[test]
    fn prefixes_that_are_gone_have_one_row() {
        let rows = counters(&sample::tables(), By::Prefix, None, false);
        let short: Vec<_> = rows
            .iter()
            .map(|row| (row.prefix.as_deref().unwrap_or(""), row.packets))
            .collect();
        assert_eq!(
            short,
            [
                ("198.51.100.0/24", 17),
                ("(withdrawn)", 8),
                ("2001:db8:5::/48", 5)
            ]
        );
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::json!({"prefix": "198.51.100.0/24", "packets": 17, "bytes": 1700})
        );
    }

    #[test]
    fn next_hops_tell_where_and_how_they_are() {
        let rows = counters(&sample::tables(), By::NextHop, None, false);
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::json!({
                "nexthop": "192.0.2.9", "af": "ipv4", "ifname": "core0", "state": "usable",
                "packets": 30, "bytes": 3000
            })
        );
    }

    #[test]
    fn ases_have_the_sum_of_their_prefixes() {
        let rows = counters(&sample::tables(), By::OriginAs, None, false);
        assert_eq!(
            serde_json::to_value(&rows).unwrap(),
            serde_json::json!([
                {"origin_as": "64510", "prefixes": 1, "packets": 17, "bytes": 1700},
                {"origin_as": "(withdrawn)", "packets": 8, "bytes": 800},
                {"origin_as": "(unknown)", "prefixes": 1, "packets": 5, "bytes": 500},
            ])
        );
        let rows = counters(&sample::tables(), By::NeighbourAs, Some(1), false);
        assert_eq!(rows[0].neighbour_as.as_deref(), Some("64501"));
    }

    #[test]
    fn what_cannot_be_counted_by_is_said() {
        assert!(
            "x".parse::<By>()
                .unwrap_err()
                .contains("use one of prefix, source-prefix, next-hop")
        );
        assert_eq!("next-hop".parse(), Ok(By::NextHop));
    }
}
