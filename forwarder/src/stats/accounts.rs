//! What accounts sent and received, from the counters of every pair of them (`forwarder_common::account`).
//!
//! Accounts nest by name: what is of "members/garden-radio" is of "members" too. A packet between two accounts that are part of
//! the same one stays inside that one, and is counted there once.

use std::collections::{BTreeMap, BTreeSet};

use forwarder_common::{
    account::{LIVE, pair},
    counters::Counter,
    reason::Reason,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counters::{By, CounterRow};
use crate::{
    daemon::accounts::{name, used},
    dataplane::Tables,
};

/// What a row says in place of an account: of packets that are from, or for, none.
pub const ELSEWHERE: &str = "(elsewhere)";
/// What a row says of accounts whose number was given to another.
pub const EARLIER: &str = "(earlier accounts)";
/// What a row says of packets that were forwarded and whose accounts were not looked for: there were none then.
pub const NOT_COUNTED: &str = "(not counted)";

/// What an account sent and received. Every packet is in one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountFigures {
    /// Its name.
    pub account: String,
    /// "configured", "removed" where it no longer is, "sum" where only its parts are.
    pub account_state: String,
    /// What is agreed with it, bits a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// To it, over the edge of our network: packets.
    pub in_packets: u64,
    /// Octets of those.
    pub in_bytes: u64,
    /// From it, over the edge: packets.
    pub out_packets: u64,
    /// Octets of those.
    pub out_bytes: u64,
    /// From it to itself: packets.
    pub inside_packets: u64,
    /// Octets of those.
    pub inside_bytes: u64,
    /// To it from other accounts, not over the edge: packets.
    pub from_accounts_packets: u64,
    /// Octets of those.
    pub from_accounts_bytes: u64,
    /// From it to other accounts, not over the edge: packets.
    pub to_accounts_packets: u64,
    /// Octets of those.
    pub to_accounts_bytes: u64,
    /// To it from elsewhere, not over the edge of this router: packets.
    pub from_elsewhere_packets: u64,
    /// Octets of those.
    pub from_elsewhere_bytes: u64,
    /// From it to elsewhere, not over the edge of this router: packets.
    pub to_elsewhere_packets: u64,
    /// Octets of those.
    pub to_elsewhere_bytes: u64,
}

/// What one cell has counted for the accounts that have it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Number of the account of the sources; 0: none.
    pub from: u32,
    /// Of the destinations.
    pub to: u32,
    /// Came in, or went out, by a transit or peer interface.
    pub outside: bool,
    /// What was counted.
    pub counter: Counter,
}

/// Every account, and what was counted between them.
#[derive(Debug, Default)]
pub struct Book {
    /// Accounts by number: name, whether it is configured now, and what is agreed, bits a second.
    pub accounts: BTreeMap<u32, (String, bool, Option<u64>)>,
    /// Every cell that has counted anything.
    pub cells: Vec<Cell>,
    /// What was counted for accounts whose number was given to another.
    pub earlier: Counter,
}

/// Whether there are, or were, any accounts.
pub fn any(tables: &Tables) -> bool {
    used(tables).next().is_some()
}

/// Reads them. Only cells of numbers that were given out have ever counted.
pub fn read(tables: &Tables) -> Book {
    let mut book = Book::default();
    for (number, entry) in used(tables) {
        let commit = Some(entry.commit).filter(|commit| *commit > 0);
        let account = (name(&entry), entry.state == LIVE, commit);
        book.accounts.insert(number, account);
    }
    let numbers: Vec<u32> = [0].into_iter().chain(book.accounts.keys().copied()).collect();
    for (from, to) in numbers
        .iter()
        .flat_map(|from| numbers.iter().map(move |to| (*from, *to)))
    {
        for outside in [false, true] {
            let cell = pair(outside.into(), from, to);
            let baseline = tables.pair_baselines.get(cell as usize);
            let counter = tables.pair_counter(cell).since(baseline);
            book.earlier = book.earlier.plus(baseline);
            if counter.packets > 0 {
                book.cells.push(Cell {
                    from,
                    to,
                    outside,
                    counter,
                });
            }
        }
    }
    book
}

impl Book {
    /// The name of an account.
    pub fn name(&self, number: u32) -> &str {
        let account = self.accounts.get(&number);
        account.map_or(ELSEWHERE, |(name, ..)| name.as_str())
    }

    /// What all pairs have counted together, those of earlier accounts too.
    pub fn total(&self) -> Counter {
        let cells = self.cells.iter().map(|cell| cell.counter);
        cells.fold(self.earlier, Counter::plus)
    }
}

/// What the program forwarded, on all interfaces.
pub fn forwarded(tables: &Tables) -> Counter {
    let of_port = |port| tables.reasons(port)[Reason::Forwarded.index()];
    (0..tables.sizes.ports)
        .map(of_port)
        .fold(Counter::default(), Counter::plus)
}

/// What is left of a total, read later, when a part of it is taken away.
pub fn rest(total: Counter, part: Counter) -> Counter {
    Counter {
        packets: total.packets.saturating_sub(part.packets),
        bytes: total.bytes.saturating_sub(part.bytes),
    }
}

/// A row for each pair that has counted anything; together they are what was forwarded.
pub(super) fn by_pair(tables: &Tables) -> Vec<CounterRow> {
    let book = read(tables);
    let row = |from: &str, to: &str, outside, counter: Counter| CounterRow {
        from: Some(from.to_string()),
        to: Some(to.to_string()),
        outside,
        packets: counter.packets,
        bytes: counter.bytes,
        ..CounterRow::default()
    };
    let mut rows: Vec<CounterRow> = book
        .cells
        .iter()
        .map(|cell| {
            let (from, to) = (book.name(cell.from), book.name(cell.to));
            row(from, to, Some(cell.outside), cell.counter)
        })
        .collect();
    rows.push(row(EARLIER, EARLIER, None, book.earlier));
    let uncounted = rest(forwarded(tables), book.total());
    rows.push(row(NOT_COUNTED, NOT_COUNTED, None, uncounted));
    rows
}

/// A row for each account, and for each that only has parts.
pub(super) fn by_account(tables: &Tables) -> Vec<CounterRow> {
    let book = read(tables);
    let mut figures: BTreeMap<String, AccountFigures> = BTreeMap::new();
    for (name, configured, commit) in book.accounts.values() {
        for whole in wholes(name) {
            figures
                .entry(whole.to_string())
                .or_insert_with(|| AccountFigures {
                    account: whole.to_string(),
                    account_state: "sum".to_string(),
                    ..AccountFigures::default()
                });
        }
        if let Some(own) = figures.get_mut(name) {
            own.account_state = if *configured { "configured" } else { "removed" }.to_string();
            own.commit = *commit;
        }
    }
    for cell in &book.cells {
        let chain = |number: u32| -> BTreeSet<&str> {
            let account = book.accounts.get(&number);
            account.into_iter().flat_map(|(name, ..)| wholes(name)).collect()
        };
        let (from, to) = (chain(cell.from), chain(cell.to));
        for whole in from.union(&to) {
            if let Some(figures) = figures.get_mut(*whole) {
                figures.add(cell, from.contains(whole), to.contains(whole));
            }
        }
    }
    figures.into_values().map(AccountFigures::row).collect()
}

/// An account and all that it is part of: "a", "a/b" and "a/b/c" of "a/b/c".
fn wholes(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.match_indices('/').map(|(at, _)| &name[..at]);
    parts.chain([name])
}

impl AccountFigures {
    /// Adds a cell whose sources, or destinations, or both are of this account.
    fn add(&mut self, cell: &Cell, sends: bool, receives: bool) {
        let (packets, bytes) = match (sends, receives) {
            (true, true) => (&mut self.inside_packets, &mut self.inside_bytes),
            (true, false) if cell.outside => (&mut self.out_packets, &mut self.out_bytes),
            (true, false) if cell.to == 0 => (&mut self.to_elsewhere_packets, &mut self.to_elsewhere_bytes),
            (true, false) => (&mut self.to_accounts_packets, &mut self.to_accounts_bytes),
            (false, _) if cell.outside => (&mut self.in_packets, &mut self.in_bytes),
            (false, _) if cell.from == 0 => {
                (&mut self.from_elsewhere_packets, &mut self.from_elsewhere_bytes)
            }
            (false, _) => (&mut self.from_accounts_packets, &mut self.from_accounts_bytes),
        };
        *packets = packets.wrapping_add(cell.counter.packets);
        *bytes = bytes.wrapping_add(cell.counter.bytes);
    }

    /// All of it, each packet once.
    fn total(&self) -> Counter {
        let packets = [
            self.in_packets,
            self.out_packets,
            self.inside_packets,
            self.from_accounts_packets,
            self.to_accounts_packets,
            self.from_elsewhere_packets,
            self.to_elsewhere_packets,
        ];
        let bytes = [
            self.in_bytes,
            self.out_bytes,
            self.inside_bytes,
            self.from_accounts_bytes,
            self.to_accounts_bytes,
            self.from_elsewhere_bytes,
            self.to_elsewhere_bytes,
        ];
        Counter {
            packets: packets.into_iter().fold(0, u64::wrapping_add),
            bytes: bytes.into_iter().fold(0, u64::wrapping_add),
        }
    }

    fn row(self) -> CounterRow {
        let Counter { packets, bytes } = self.total();
        CounterRow {
            account: Some(self),
            packets,
            bytes,
            ..CounterRow::default()
        }
    }
}

/// Why there is nothing to list, and what to do.
pub(super) fn missing(tables: &Tables, by: By) -> Option<String> {
    let (there, what, section) = match by {
        By::Account | By::AccountPair => (any(tables), "account", "[[account]]"),
        By::SourcePrefix => (
            tables.sizes.sources,
            "source prefix",
            "sources = true in [statistics], before the tables are made",
        ),
        _ => return None,
    };
    (!there).then(|| format!("nothing is counted by {what}: the configuration has to say {section}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::AccountConfig,
        daemon::accounts::claim,
        stats::{counters, sample},
    };

    /// Four accounts, two of them parts of "m", which has prefixes of its own, and one of "s", which has none. 30 packets were
    /// forwarded, 27 of them counted.
    fn tables() -> Tables {
        let tables = sample::tables();
        let account = |(at, name): (usize, &str)| AccountConfig {
            name: name.to_string(),
            prefixes: vec![format!("10.0.{at}.0/24").parse().expect("a prefix")],
            commit: (name == "m").then_some(10_000_000),
        };
        let names = ["m", "m/a", "m/b", "s/x"];
        let (_, problems) = claim(
            &tables,
            &names.into_iter().enumerate().map(account).collect::<Vec<_>>(),
        );
        assert!(problems.is_empty());
        for (cpu, crossing, from, to, packets) in [
            (0, 1, 2, 0, 3),
            (1, 1, 2, 0, 2),
            (0, 1, 0, 2, 4),
            (0, 0, 2, 3, 5),
            (0, 0, 4, 1, 6),
            (1, 0, 3, 0, 1),
            (0, 0, 0, 3, 2),
            (0, 0, 0, 0, 4),
        ] {
            let at = cpu * forwarder_common::account::PAIRS + pair(crossing, from, to) as usize;
            tables.pairs.set(at, &count(packets));
        }
        tables
    }

    fn count(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 100,
        }
    }

    /// In, out, inside, from and to other accounts, from and to elsewhere: packets.
    fn figures(rows: &[CounterRow], account: &str) -> [u64; 7] {
        let all = rows.iter().filter_map(|row| row.account.as_ref());
        let found = all.clone().find(|row| row.account == account);
        let row = found.unwrap_or_else(|| panic!("no {account} in {rows:?}"));
        for (packets, bytes) in [
            (row.in_packets, row.in_bytes),
            (row.out_packets, row.out_bytes),
            (row.inside_packets, row.inside_bytes),
        ] {
            assert_eq!(packets * 100, bytes);
        }
        [
            row.in_packets,
            row.out_packets,
            row.inside_packets,
            row.from_accounts_packets,
            row.to_accounts_packets,
            row.from_elsewhere_packets,
            row.to_elsewhere_packets,
        ]
    }

    #[test]
    fn what_is_of_a_part_is_of_the_whole_and_what_parts_send_each_other_stays_inside() {
        let rows = counters(&tables(), By::Account, None, false);
        assert_eq!(figures(&rows, "m/a"), [4, 5, 0, 0, 5, 0, 0]);
        assert_eq!(figures(&rows, "m/b"), [0, 0, 0, 5, 0, 2, 1]);
        assert_eq!(figures(&rows, "m"), [4, 5, 5, 6, 0, 2, 1]);
        assert_eq!(figures(&rows, "s/x"), [0, 0, 0, 0, 6, 0, 0]);
        assert_eq!(figures(&rows, "s"), [0, 0, 0, 0, 6, 0, 0]);
        let whole = &rows[0];
        assert_eq!((whole.packets, whole.bytes), (23, 2300));
        let own = whole.account.as_ref().expect("figures");
        assert_eq!((own.account.as_str(), own.commit), ("m", Some(10_000_000)));
        let states: Vec<&str> = rows
            .iter()
            .filter_map(|row| row.account.as_ref())
            .filter(|row| row.account.starts_with('s'))
            .map(|row| row.account_state.as_str())
            .collect();
        assert_eq!(states.iter().filter(|state| **state == "sum").count(), 1);
    }

    #[test]
    fn pairs_and_what_is_not_counted_are_what_was_forwarded() {
        let rows = counters(&tables(), By::AccountPair, None, false);
        let sum = rows.iter().fold(Counter::default(), |sum, row| {
            sum.plus(Counter {
                packets: row.packets,
                bytes: row.bytes,
            })
        });
        assert_eq!(sum, count(30));
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::json!({"from": "s/x", "to": "m", "outside": false, "packets": 6, "bytes": 600})
        );
        let uncounted = rows.iter().find(|row| row.from.as_deref() == Some(NOT_COUNTED));
        assert_eq!(uncounted.map(|row| (row.packets, row.outside)), Some((3, None)));
        let top = counters(&tables(), By::AccountPair, Some(1), false);
        assert_eq!(top.len(), 2);
        assert_eq!((top[1].from.as_deref(), top[1].packets), (Some("(others)"), 24));
    }

    #[test]
    fn an_account_that_is_gone_keeps_its_counts_until_its_number_is_anothers() {
        let tables = tables();
        claim(&tables, &[]);
        let rows = counters(&tables, By::Account, None, false);
        assert_eq!(figures(&rows, "m/a"), [4, 5, 0, 0, 5, 0, 0]);
        let own = rows[0].account.as_ref().expect("figures");
        assert_eq!(own.account_state, "removed");
        let cell = pair(1, 2, 0) as usize;
        tables.pair_baselines.set(cell, &count(5));
        let rows = counters(&tables, By::AccountPair, None, false);
        let earlier = rows.iter().find(|row| row.from.as_deref() == Some(EARLIER));
        assert_eq!(earlier.map(|row| row.packets), Some(5));
        assert_eq!(rows.iter().map(|row| row.packets).sum::<u64>(), 30);
    }

    #[test]
    fn a_row_comes_back_from_its_json() {
        for by in [By::Account, By::AccountPair] {
            let rows = counters(&tables(), by, None, true);
            let text = serde_json::to_string(&rows).unwrap();
            assert_eq!(serde_json::from_str::<Vec<CounterRow>>(&text).unwrap(), rows);
        }
        let plain = counters(&sample::tables(), By::Prefix, None, true);
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(serde_json::from_str::<Vec<CounterRow>>(&text).unwrap(), plain);
    }

    #[test]
    fn where_nothing_is_counted_by_account_it_is_said_what_to_write() {
        let bare = sample::tables();
        let said = By::Account.missing(&bare).expect("refused");
        assert!(said.contains("[[account]]"), "{said}");
        let said = By::SourcePrefix.missing(&bare).expect("refused");
        assert!(said.contains("sources = true in [statistics]"), "{said}");
        assert_eq!(By::Prefix.missing(&bare), None);
        assert_eq!(By::AccountPair.missing(&tables()), None);
    }
}
