//! Which account a prefix is of: the one that has the longest prefix around it.
//!
//! An account's prefix need not be anybody's route. Then it is laid all the same, as a *counting prefix*: it does what the
//! route that covers it does, under a counter slot and an account of its own.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::first_octets::FirstOctets;

/// One prefix of an account.
#[derive(Clone, Copy, Debug)]
struct Owned {
    prefix: IpNet,
    account: u8,
    /// The next longer one around it.
    around: Option<usize>,
}

/// The prefixes of all accounts.
#[derive(Default)]
pub struct Accounts {
    /// By address, what covers before what it covers: so what is inside a prefix stands behind it in a row.
    all: Vec<Owned>,
    octets: FirstOctets,
}

impl Accounts {
    /// These prefixes, each with the number of its account; each prefix once.
    pub fn new(prefixes: impl IntoIterator<Item = (IpNet, u8)>) -> Accounts {
        let mut sorted: Vec<(IpNet, u8)> = prefixes.into_iter().collect();
        sorted.sort_unstable_by_key(|(prefix, _)| key(*prefix));
        let mut accounts = Accounts::default();
        let mut way: Vec<usize> = Vec::new();
        for (prefix, account) in sorted {
            let beside = |at: &mut usize| !accounts.all[*at].prefix.contains(&prefix);
            while way.pop_if(beside).is_some() {}
            let around = way.last().copied();
            way.push(accounts.all.len());
            accounts.octets.note(prefix.addr());
            accounts.all.push(Owned {
                prefix,
                account,
                around,
            });
        }
        accounts
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The account of a prefix; 0: it is in none.
    pub fn of(&self, prefix: IpNet) -> u8 {
        if self.all.is_empty() {
            return 0;
        }
        let mut at = self.from(prefix, true).checked_sub(1);
        while let Some(owned) = at.map(|at| &self.all[at]) {
            if owned.prefix.contains(&prefix) {
                return owned.account;
            }
            at = owned.around;
        }
        0
    }

    /// Whether this very prefix is one of an account.
    pub fn has(&self, prefix: IpNet) -> bool {
        let owned = self.all.get(self.from(prefix, false));
        owned.is_some_and(|owned| owned.prefix == prefix)
    }

    /// Every prefix of an account that is inside this one, and longer.
    pub fn inside(&self, prefix: IpNet) -> impl Iterator<Item = IpNet> + use<> {
        let mut found = Vec::new();
        if !self.all.is_empty() && self.octets.may_hold(prefix) {
            let behind = self.all[self.from(prefix, true)..].iter();
            let within = behind.take_while(|owned| prefix.contains(&owned.prefix));
            found.extend(within.map(|owned| owned.prefix));
        }
        found.into_iter()
    }

    /// All of them, what covers before what it covers.
    pub fn all(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.all.iter().map(|owned| owned.prefix)
    }

    /// Where the first one stands that comes behind a prefix; or not before it.
    fn from(&self, prefix: IpNet, behind: bool) -> usize {
        let wanted = key(prefix);
        self.all.partition_point(|owned| {
            let known = key(owned.prefix);
            known < wanted || behind && known == wanted
        })
    }
}

/// IPv4 first; by address, then by length.
fn key(prefix: IpNet) -> (bool, u128, u8) {
    let (v6, address) = match prefix.addr() {
        IpAddr::V4(address) => (false, u32::from(address).into()),
        IpAddr::V6(address) => (true, address.into()),
    };
    (v6, address, prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn accounts(all: &[(&str, u8)]) -> Accounts {
        Accounts::new(all.iter().map(|(text, account)| (net(text), *account)))
    }

    #[test]
    fn the_longest_prefix_around_names_the_account() {
        let some = accounts(&[
            ("192.0.2.128/25", 3),
            ("192.0.2.0/24", 1),
            ("192.0.2.0/26", 2),
            ("2001:db8::/32", 4),
            ("192.0.2.16/28", 5),
        ]);
        for (prefix, account) in [
            ("192.0.2.0/24", 1),
            ("192.0.2.0/25", 1),
            ("192.0.2.0/26", 2),
            ("192.0.2.17/32", 5),
            ("192.0.2.33/32", 2),
            ("192.0.2.64/26", 1),
            ("192.0.2.200/32", 3),
            ("192.0.3.0/24", 0),
            ("192.0.1.0/24", 0),
            ("192.0.0.0/16", 0),
            ("0.0.0.0/0", 0),
            ("::/0", 0),
            ("2001:db8:7::/48", 4),
            ("2001:db9::/32", 0),
        ] {
            assert_eq!(some.of(net(prefix)), account, "{prefix}");
        }
        assert!(some.has(net("192.0.2.0/26")) && !some.has(net("192.0.2.0/25")));
        assert_eq!(Accounts::default().of(net("192.0.2.0/24")), 0);
    }

    #[test]
    fn what_is_inside_a_prefix_is_longer_than_it() {
        let some = accounts(&[
            ("192.0.2.0/24", 1),
            ("192.0.2.0/26", 2),
            ("192.0.3.0/24", 3),
            ("2001:db8::/32", 4),
        ]);
        let inside = |prefix: &str| -> Vec<String> {
            some.inside(net(prefix))
                .map(|prefix| prefix.to_string())
                .collect()
        };
        assert_eq!(
            inside("0.0.0.0/0"),
            ["192.0.2.0/24", "192.0.2.0/26", "192.0.3.0/24"]
        );
        assert_eq!(
            inside("192.0.2.0/23"),
            ["192.0.2.0/24", "192.0.2.0/26", "192.0.3.0/24"]
        );
        assert_eq!(inside("192.0.2.0/24"), ["192.0.2.0/26"]);
        assert_eq!(inside("::/0"), ["2001:db8::/32"]);
        for none in ["192.0.2.0/26", "10.0.0.0/8", "2001:db8::/32"] {
            assert!(inside(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn both_answers_are_what_looking_at_every_prefix_gives() {
        let mut random = 1u64;
        let mut next = |most: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % most
        };
        let mut prefix = || {
            let length = 20 + next(13) as u8;
            let address = 0x0a00_0000u32 | (next(1 << 12) as u32) << next(4);
            IpNet::new(IpAddr::V4(address.into()), length)
                .expect("a length")
                .trunc()
        };
        for _ in 0..50 {
            let mut all: Vec<IpNet> = (0..40).map(|_| prefix()).collect();
            all.sort_unstable();
            all.dedup();
            let owned: Vec<(IpNet, u8)> = all.iter().copied().zip(1..).collect();
            let some = Accounts::new(owned.clone());
            for _ in 0..200 {
                let asked = prefix();
                let around = owned.iter().filter(|(net, _)| net.contains(&asked));
                let longest = around.max_by_key(|(net, _)| net.prefix_len());
                assert_eq!(some.of(asked), longest.map_or(0, |(_, account)| *account));
                let mut inside: Vec<IpNet> = some.inside(asked).collect();
                inside.sort_unstable();
                let within = |net: &&IpNet| asked.contains(*net) && **net != asked;
                assert_eq!(inside, all.iter().filter(within).copied().collect::<Vec<_>>());
                assert_eq!(some.has(asked), all.contains(&asked));
            }
        }
    }
}
