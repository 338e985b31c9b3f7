//! `[[account]]`: whose traffic is whose, by the prefixes that are theirs; and `[statistics]`.
//!
//! Accounts nest by their names: what is counted for "members/garden-radio" is counted for "members" too, whether that has a
//! section of its own or not.

use std::collections::HashMap;

use forwarder_common::account::{MOST_ACCOUNTS, NAME};
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{ConfigError, check::Check, rules::rate};
use crate::filter::rule::Unit;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountConfig {
    /// Its name; those it is part of stand before it, each with a "/".
    pub name: String,
    /// What is its own; of prefixes inside each other the longest counts.
    pub prefixes: Vec<IpNet>,
    /// What is agreed with it, bits a second.
    pub commit: Option<u64>,
}

/// What is counted beside what always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatisticsConfig {
    /// Forwarded packets by the prefix that their source is in.
    pub sources: bool,
}

/// The section as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: Spanned<String>,
    prefixes: Spanned<Vec<Spanned<String>>>,
    commit: Option<Spanned<String>>,
}

/// The section as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WrittenStatistics {
    sources: bool,
}

impl WrittenStatistics {
    pub(super) fn read(&self) -> StatisticsConfig {
        StatisticsConfig {
            sources: self.sources,
        }
    }
}

/// Why an account cannot be called so.
fn name_fault(name: &str) -> Option<&'static str> {
    let blank = |part: &str| part.trim() != part;
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > NAME {
        Some("it is longer than 64 octets")
    } else if name.contains(char::is_control) {
        Some("it holds a control character")
    } else if name.split('/').any(str::is_empty) {
        Some("one of its parts is empty")
    } else if name.split('/').any(blank) {
        Some("one of its parts begins or ends with white space")
    } else if name.starts_with('(') {
        Some("names in parentheses are for rows that are no account")
    } else {
        None
    }
}

impl Check<'_> {
    /// The accounts, in the order written.
    pub(super) fn accounts(&self, written: &[Spanned<Written>]) -> Result<Vec<AccountConfig>, ConfigError> {
        if let Some(excess) = written.get(MOST_ACCOUNTS) {
            return Err(self.error(
                excess,
                format!(
                    "{} accounts, and at most {MOST_ACCOUNTS} can be counted",
                    written.len()
                ),
                "let one account have the prefixes of several",
            ));
        }
        let mut accounts: Vec<AccountConfig> = Vec::new();
        let mut owners: HashMap<IpNet, String> = HashMap::new();
        for account in written.iter().map(Spanned::get_ref) {
            let name = account.name.get_ref();
            if let Some(fault) = name_fault(name) {
                return Err(self.error(
                    &account.name,
                    format!("{name:?} cannot be the name of an account: {fault}"),
                    "write words with \"/\" between them, as \"members/garden-radio\"",
                ));
            }
            if accounts.iter().any(|known| known.name == *name) {
                return Err(self.error(
                    &account.name,
                    format!("account {name:?} stands here twice"),
                    "write the prefixes of both into one section",
                ));
            }
            if account.prefixes.get_ref().is_empty() {
                return Err(self.error(
                    &account.prefixes,
                    format!("account {name:?} has no prefix"),
                    "name its prefixes; an account that only others are part of needs no section",
                ));
            }
            let everything = "what is in no account is counted as elsewhere: name less";
            let prefixes = self.prefix_list(account.prefixes.get_ref(), everything)?;
            for (prefix, at) in prefixes.iter().zip(account.prefixes.get_ref()) {
                if let Some(owner) = owners.insert(*prefix, name.clone()) {
                    return Err(self.error(
                        at,
                        format!("`{prefix}` is of account {owner:?} already"),
                        "name it in one of the two; of prefixes inside each other the longest counts",
                    ));
                }
            }
            accounts.push(AccountConfig {
                name: name.clone(),
                prefixes,
                commit: account.commit.as_ref().map(|at| self.commit(at)).transpose()?,
            });
        }
        Ok(accounts)
    }

    /// A bandwidth, bits a second.
    pub(super) fn commit(&self, at: &Spanned<String>) -> Result<u64, ConfigError> {
        let fault = |fault: rate::Fault| self.error(at, fault.message, &fault.advice);
        match rate::bandwidth(at.get_ref()).map_err(fault)? {
            (_, 0) => Err(self.error(at, "a commit of nothing is none".into(), "remove the line")),
            (Unit::Bytes, octets) => Ok(octets * 8),
            (Unit::Packets, _) => Err(self.error(
                at,
                format!(
                    "{:?} is in packets, and what is agreed are bits a second",
                    at.get_ref()
                ),
                "write \"10Mbit\"; units: bit, kbit, Mbit, Gbit, Tbit",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, parse};

    const HEAD: &str = "[[interface]]\nname = \"eth0\"\n";

    fn read(text: &str) -> Result<Config, String> {
        parse("f.toml", &format!("{HEAD}{text}")).map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        match read(text) {
            Ok(config) => panic!("{text:?} is accepted: {:?}", config.accounts),
            Err(error) => error,
        }
    }

    #[test]
    fn accounts_have_names_prefixes_and_what_is_agreed() {
        let config = read(
            "[[account]]\nname = \"members/garden-radio\"\nprefixes = [\"192.0.2.0/25\", \"2001:db8:1::/48\"]\n\
             commit = \"10Mbit\"\n[[account]]\nname = \"members\"\nprefixes = [\"192.0.2.0/24\"]\n\
             [statistics]\nsources = true\n",
        )
        .expect("sound");
        let [radio, members] = &config.accounts[..] else {
            panic!("{:?}", config.accounts)
        };
        assert_eq!(
            (radio.name.as_str(), radio.prefixes.len(), radio.commit),
            ("members/garden-radio", 2, Some(10_000_000))
        );
        assert_eq!((members.name.as_str(), members.commit), ("members", None));
        assert!(config.statistics.sources && config.tables.source_counters);
        let plain = read("").expect("sound");
        assert!(plain.accounts.is_empty() && !plain.tables.source_counters);
    }

    #[test]
    fn what_cannot_be_a_name_is_told_with_its_place() {
        let long = "x".repeat(65);
        for (name, why) in [
            ("", "it is empty"),
            (long.as_str(), "longer than 64 octets"),
            ("a\\tb", "control character"),
            ("a//b", "one of its parts is empty"),
            ("/a", "one of its parts is empty"),
            ("a/", "one of its parts is empty"),
            ("a / b", "white space"),
            (" ", "white space"),
            ("(elsewhere)", "parentheses"),
        ] {
            let text = refused(&format!(
                "[[account]]\nname = \"{name}\"\nprefixes = [\"192.0.2.0/24\"]\n"
            ));
            assert!(text.contains(why) && text.contains("line 4, column 8"), "{text}");
        }
        read(&format!(
            "[[account]]\nname = \"{}\"\nprefixes = [\"192.0.2.0/24\"]\n",
            "x".repeat(64)
        ))
        .expect("64 octets fit");
    }

    #[test]
    fn a_prefix_has_one_account_and_an_account_one_section() {
        let account =
            |name: &str, prefixes: &str| format!("[[account]]\nname = \"{name}\"\nprefixes = [{prefixes}]\n");
        let two = |first: &str, second: &str| [first, second].concat();
        let text = refused(&two(
            &account("a", "\"192.0.2.0/24\""),
            &account("b", "\"198.51.100.0/24\", \"192.0.2.0/24\""),
        ));
        assert!(
            text.contains("line 8, column 32: `192.0.2.0/24` is of account \"a\" already"),
            "{text}"
        );
        assert!(text.ends_with("the longest counts"), "{text}");
        let text = refused(&two(
            &account("a", "\"192.0.2.0/24\""),
            &account("a", "\"198.51.100.0/24\""),
        ));
        assert!(
            text.contains("line 7, column 8: account \"a\" stands here twice"),
            "{text}"
        );
        for (prefixes, why) in [
            ("", "account \"a\" has no prefix"),
            (
                "\"192.0.2.1/24\"",
                "`192.0.2.1/24` has bits set beyond its length\n",
            ),
            ("\"192.0.2.0/24\", \"192.0.2.0/24\"", "stands here twice"),
            ("\"0.0.0.0/0\"", "is every address there is"),
            ("\"here\"", "`here` is not a prefix"),
        ] {
            let text = refused(&account("a", prefixes));
            assert!(text.contains(why) && text.contains("line 5, column "), "{text}");
        }
    }

    #[test]
    fn what_is_agreed_is_a_bandwidth() {
        for (commit, why) in [
            ("fast", "`fast` is not a rate"),
            ("10", "`10` has no unit"),
            ("10Mbit/s", "`Mbit/s` is no unit of a rate"),
            ("5kpps", "is in packets"),
            ("0bit", "a commit of nothing is none"),
            ("1000Tbit", "out of range"),
            ("12bit", "no whole number of octets"),
        ] {
            let text = refused(&format!(
                "[[account]]\nname = \"a\"\nprefixes = [\"192.0.2.0/24\"]\ncommit = \"{commit}\"\n"
            ));
            assert!(text.contains(why) && text.contains("line 6, column 10"), "{text}");
        }
        let text = refused("[[account]]\nname = \"a\"\nprefixes = [\"192.0.2.0/24\"]\ncomit = \"1Gbit\"\n");
        assert!(text.contains("did you mean `commit`?"), "{text}");
    }

    #[test]
    fn there_are_not_more_accounts_than_numbers() {
        let accounts = |count: usize| -> String {
            (0..count)
                .map(|number| {
                    format!("[[account]]\nname = \"a{number}\"\nprefixes = [\"10.{number}.0.0/16\"]\n")
                })
                .collect()
        };
        assert_eq!(read(&accounts(127)).expect("all fit").accounts.len(), 127);
        let text = refused(&accounts(128));
        assert!(
            text.contains("line 384") && text.contains("at most 127 can be counted"),
            "{text}"
        );
    }
}
