//! Which prefixes differ, since when, and for how many looks.

use std::{collections::BTreeMap, net::IpAddr};

use forwarder_history::report::calendar::utc;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Looks in a row, a second apart, at which a difference must be there: routes that are under way are there sooner.
pub const LOOKS: u32 = 5;
/// Suspects kept at a time: each is looked at every second.
pub const MOST: usize = 512;
/// Differences that are told one by one.
const TOLD: usize = 5;

/// A prefix about which tables and kernel disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Difference {
    /// The prefix.
    pub prefix: String,
    /// An address of it, for which both were asked.
    pub address: String,
    /// When that was first seen, seconds since 1970.
    pub since: u64,
    /// What the data path does.
    pub data_path: String,
    /// What the kernel does.
    pub kernel: String,
    /// Why that is not the same.
    pub why: String,
}

impl Difference {
    /// The same in a sentence.
    pub fn sentence(&self) -> String {
        format!(
            "{}: forwarder and the kernel disagree since {} (asked for {}: forwarder has {}, the kernel {}; {}). `forwarder lookup {}` \
             and `forwarder verify` tell more; restarting the controller lays all routes again",
            self.prefix,
            utc(self.since as i64),
            self.address,
            self.data_path,
            self.kernel,
            self.why,
            self.address
        )
    }
}

/// What the shadow check has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Shadow {
    /// Addresses compared since the controller started.
    pub checked: u64,
    /// Of these, those that were not held against the kernel, because a feed's route counts for their prefix.
    pub left_out: u64,
    /// Prefixes that differ now.
    pub differing: u64,
    /// The first of them, longest first.
    pub differences: Vec<Difference>,
}

impl Shadow {
    /// What is wrong, in sentences.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.differences.iter().map(Difference::sentence).collect();
        let others = self.differing.saturating_sub(problems.len() as u64);
        if others > 0 {
            problems.push(format!(
                "forwarder and the kernel disagree about {others} prefixes more: `forwarder verify` lists them"
            ));
        }
        problems
    }
}

/// What one look found of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Both do the same, or what forwarder does is right whatever the kernel does.
    Agrees,
    /// They do not.
    Differs {
        /// What the data path does.
        data_path: String,
        /// What the kernel does.
        kernel: String,
        /// Why that is not the same.
        why: String,
    },
}

#[derive(Clone, Debug)]
struct Suspect {
    address: IpAddr,
    looks: u32,
    difference: Difference,
}

/// What changed with a look, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A difference has a name.
    Differs(Difference),
    /// One that had is over.
    Agrees(Difference),
}

/// Prefixes that differed at the last look.
#[derive(Debug, Default)]
pub struct Suspects {
    known: BTreeMap<IpNet, Suspect>,
}

impl Suspects {
    /// What must be looked at again: the same addresses.
    pub fn again(&self) -> Vec<(IpAddr, IpNet)> {
        self.known
            .iter()
            .map(|(prefix, suspect)| (suspect.address, *prefix))
            .collect()
    }

    /// What a look found of one prefix, at `now`, seconds since 1970.
    pub fn look(&mut self, now: u64, (address, prefix): (IpAddr, IpNet), found: Found) -> Option<News> {
        let Found::Differs {
            data_path,
            kernel,
            why,
        } = found
        else {
            // Another address of a prefix that differs may well agree: a longer prefix may be what is missing.
            let over = self
                .known
                .get(&prefix)
                .is_some_and(|suspect| suspect.address == address);
            let gone = over.then(|| self.known.remove(&prefix)).flatten()?;
            return (gone.looks >= LOOKS).then_some(News::Agrees(gone.difference));
        };
        if self.known.len() >= MOST && !self.known.contains_key(&prefix) {
            return None;
        }
        let suspect = self.known.entry(prefix).or_insert_with(|| Suspect {
            address,
            looks: 0,
            difference: Difference {
                since: now,
                ..Difference::default()
            },
        });
        if suspect.address != address {
            return None;
        }
        suspect.looks = suspect.looks.saturating_add(1);
        suspect.difference = Difference {
            prefix: prefix.to_string(),
            address: address.to_string(),
            since: suspect.difference.since,
            data_path,
            kernel,
            why,
        };
        (suspect.looks == LOOKS).then(|| News::Differs(suspect.difference.clone()))
    }

    /// Nothing is looked at for now: what was not a difference yet begins anew.
    pub fn pause(&mut self) {
        self.known.retain(|_, suspect| suspect.looks >= LOOKS);
    }

    /// How many differ, and the first of them.
    pub fn named(&self) -> (u64, Vec<Difference>) {
        let mut named: Vec<&Difference> = self
            .known
            .values()
            .filter(|suspect| suspect.looks >= LOOKS)
            .map(|suspect| &suspect.difference)
            .collect();
        named.sort_by_key(|difference| difference.since);
        (
            named.len() as u64,
            named.into_iter().take(TOLD).cloned().collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> (IpAddr, IpNet) {
        (
            "198.51.100.7".parse().unwrap(),
            "198.51.100.0/24".parse().unwrap(),
        )
    }

    fn differs() -> Found {
        Found::Differs {
            data_path: "via 192.0.2.1 dev a".into(),
            kernel: "via 192.0.2.2 dev b".into(),
            why: "the data path uses a next hop that the kernel does not".into(),
        }
    }

    #[test]
    fn a_difference_is_named_when_it_stays_and_forgotten_when_it_is_mended() {
        let mut suspects = Suspects::default();
        for second in 0..u64::from(LOOKS) - 1 {
            assert_eq!(suspects.look(1_700_000_000 + second, asked(), differs()), None);
            assert_eq!(suspects.named().0, 0);
        }
        assert_eq!(suspects.again(), [asked()]);
        let named = suspects.look(1_700_000_009, asked(), differs());
        let Some(News::Differs(difference)) = named else {
            panic!("{named:?}");
        };
        assert_eq!(difference.since, 1_700_000_000, "since the first look");
        let sentence = difference.sentence();
        for words in [
            "198.51.100.0/24",
            "2023-11-14 22:13 UTC",
            "via 192.0.2.1 dev a",
            "via 192.0.2.2 dev b",
        ] {
            assert!(sentence.contains(words), "{words}: {sentence}");
        }
        // Named once, and kept through a pause.
        assert_eq!(suspects.look(1_700_000_010, asked(), differs()), None);
        suspects.pause();
        assert_eq!(suspects.named().0, 1);
        // Another address of the prefix agrees: that does not speak for this one.
        let other = ("198.51.100.8".parse().unwrap(), asked().1);
        assert_eq!(suspects.look(1_700_000_011, other, Found::Agrees), None);
        assert_eq!(suspects.look(1_700_000_011, other, differs()), None);
        let over = suspects.look(1_700_000_012, asked(), Found::Agrees);
        assert!(matches!(over, Some(News::Agrees(_))), "{over:?}");
        assert_eq!(suspects.named(), (0, Vec::new()));
    }

    #[test]
    fn what_is_under_way_is_never_named() {
        let mut suspects = Suspects::default();
        for second in 0..100 {
            let found = if second % u64::from(LOOKS) == 0 {
                Found::Agrees
            } else {
                differs()
            };
            assert_eq!(suspects.look(second, asked(), found), None);
        }
        for second in 0..100 {
            if second % u64::from(LOOKS - 1) == 0 {
                suspects.pause();
            }
            assert_eq!(suspects.look(second, asked(), differs()), None);
        }
    }

    #[test]
    fn many_differences_are_counted_and_a_few_told() {
        let mut suspects = Suspects::default();
        for number in 0..2 * MOST as u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 | number << 8 | 1);
            let prefix = IpNet::new(address.into(), 24).unwrap().trunc();
            for second in 0..u64::from(LOOKS) {
                suspects.look(second + u64::from(number), (address.into(), prefix), differs());
            }
        }
        let (differing, differences) = suspects.named();
        assert_eq!((differing, differences.len()), (MOST as u64, TOLD));
        assert_eq!(differences[0].since, 0);
        let shadow = Shadow {
            differing,
            differences,
            ..Shadow::default()
        };
        let problems = shadow.problems();
        assert_eq!(problems.len(), TOLD + 1);
        assert!(problems[TOLD].contains("507 prefixes more"), "{}", problems[TOLD]);
        assert!(Shadow::default().problems().is_empty());
    }
}
