//! Numbers of accounts, remembered in the pinned directory: an account has the one that its name had before.
//!
//! Counters are never set to zero. The number of an account that is no longer configured keeps its counts, and is given out again
//! only when no other is left and no group of the tables names it any more; what it has counted until then is put down as the
//! baseline.

use forwarder_common::account::{ACCOUNTS, AccountEntry, FREE, LIVE, NAME, REMOVED, pair};

use crate::{config::AccountConfig, dataplane::Tables, fib::accounts::Accounts};

/// The name in an entry.
pub fn name(entry: &AccountEntry) -> String {
    let end = entry.name.iter().position(|octet| *octet == 0).unwrap_or(NAME);
    String::from_utf8_lossy(&entry.name[..end]).into_owned()
}

/// Every number that was ever given out, with its entry.
pub fn used(tables: &Tables) -> impl Iterator<Item = (u32, AccountEntry)> {
    (1..ACCOUNTS as u32)
        .map(|number| (number, tables.account_directory.get(number as usize)))
        .filter(|(_, entry)| entry.state != FREE)
}

/// Numbers for these accounts, and no others: theirs from before, or free ones. Answers their prefixes, and what is wrong.
pub fn claim(tables: &Tables, accounts: &[AccountConfig]) -> (Accounts, Vec<String>) {
    for (number, entry) in used(tables) {
        let wanted = accounts.iter().any(|account| account.name == name(&entry));
        if !wanted && entry.state == LIVE {
            let removed = AccountEntry {
                state: REMOVED,
                ..entry
            };
            tables.account_directory.set(number as usize, &removed);
        }
    }
    let mut problems = Vec::new();
    let mut owned = Vec::new();
    for account in accounts {
        match number_for(tables, &account.name) {
            Some(number) => {
                let entry = AccountEntry {
                    state: LIVE,
                    reserved: 0,
                    commit: account.commit.unwrap_or(0),
                    name: octets(&account.name),
                };
                tables.account_directory.set(number as usize, &entry);
                owned.extend(account.prefixes.iter().map(|prefix| (*prefix, number as u8)));
            }
            None => problems.push(format!(
                "account {:?} is not counted: every number is taken by an account that is configured or was until now. Restart \
                 the controller, or `forwarder detach` and start again",
                account.name
            )),
        }
    }
    (Accounts::new(owned), problems)
}

fn octets(name: &str) -> [u8; NAME] {
    let mut octets = [0; NAME];
    let length = name.len().min(NAME);
    octets[..length].copy_from_slice(&name.as_bytes()[..length]);
    octets
}

/// The number that an account had, one that none had, or one that is no longer used.
fn number_for(tables: &Tables, wanted: &str) -> Option<u32> {
    let known = used(tables).find(|(_, entry)| name(entry) == wanted);
    if let Some((number, _)) = known {
        return Some(number);
    }
    let free = |number: &u32| tables.account_directory.get(*number as usize).state == FREE;
    if let Some(number) = (1..ACCOUNTS as u32).find(free) {
        return Some(number);
    }
    let named: Vec<u32> = (0..tables.sizes.groups as usize)
        .map(|group| tables.groups.get(group).account)
        .collect();
    let removed = used(tables).filter(|(_, entry)| entry.state == REMOVED);
    let (number, _) = removed.into_iter().find(|(number, _)| !named.contains(number))?;
    rebase(tables, number);
    Some(number)
}

/// From now on a number counts from the beginning.
fn rebase(tables: &Tables, number: u32) {
    for crossing in 0..2 {
        for other in 0..ACCOUNTS as u32 {
            for cell in [pair(crossing, number, other), pair(crossing, other, number)] {
                let counted = tables.pair_counter(cell);
                tables.pair_baselines.set(cell as usize, &counted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use forwarder_common::counters::Counter;

    use super::*;
    use crate::dataplane::Sizes;

    fn accounts(names: impl IntoIterator<Item = String>) -> Vec<AccountConfig> {
        let account = |(at, name): (u32, String)| AccountConfig {
            name,
            prefixes: vec![
                format!("10.{}.{}.0/24", at >> 8, at & 255)
                    .parse()
                    .expect("a prefix"),
            ],
            commit: Some(8 * u64::from(at)),
        };
        (0..).zip(names).map(account).collect()
    }

    fn number(tables: &Tables, wanted: &str) -> Option<u32> {
        used(tables)
            .find(|(_, entry)| name(entry) == wanted)
            .map(|(number, _)| number)
    }

    #[test]
    fn a_name_keeps_its_number_whatever_comes_and_goes_around_it() {
        let tables = Tables::heap(Sizes::SMALL);
        let names = |words: &str| accounts(words.split(' ').map(str::to_string));
        let (owned, problems) = claim(&tables, &names("a b members/c"));
        assert!(problems.is_empty());
        assert_eq!(owned.of("10.0.2.7/32".parse().expect("a prefix")), 3);
        assert_eq!(tables.account_directory.get(2).commit, 8);
        claim(&tables, &names("members/c d a"));
        let numbers = ["a", "b", "members/c", "d"].map(|name| number(&tables, name));
        assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(tables.account_directory.get(2).state, REMOVED);
        claim(&tables, &names("b"));
        assert_eq!(number(&tables, "b"), Some(2));
        assert_eq!(tables.account_directory.get(2).state, LIVE);
    }

    #[test]
    fn a_number_is_given_out_again_with_a_baseline_and_only_when_nothing_names_it() {
        let tables = Tables::heap(Sizes::SMALL);
        claim(&tables, &accounts((0..127).map(|at| format!("a{at}"))));
        let counted = Counter {
            packets: 7,
            bytes: 700,
        };
        let cell = pair(1, 5, 0);
        tables.pairs.set(cell as usize, &counted);
        let mut group = tables.groups.get(9);
        group.account = 5;
        tables.groups.set(9, &group);
        let all_but_5 = (0..127).filter(|at| *at != 4).map(|at| format!("a{at}"));
        let names: Vec<String> = all_but_5.chain(["new".to_string()]).collect();
        let (_, problems) = claim(&tables, &accounts(names.clone()));
        assert!(problems[0].contains("\"new\" is not counted"), "{problems:?}");
        group.account = 0;
        tables.groups.set(9, &group);
        let (_, problems) = claim(&tables, &accounts(names));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(number(&tables, "new"), Some(5));
        assert_eq!(tables.pair_baselines.get(cell as usize), counted);
        assert_eq!(
            tables.pair_baselines.get(pair(1, 6, 0) as usize),
            Counter::default()
        );
    }

    #[test]
    fn the_longest_name_comes_back_whole() {
        let tables = Tables::heap(Sizes::SMALL);
        let long = "é".repeat(32);
        claim(&tables, &accounts([long.clone()]));
        assert_eq!(number(&tables, &long), Some(1));
    }
}
