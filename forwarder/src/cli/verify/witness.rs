//! For each prefix an address that only it decides.
//!
//! The first address of a prefix often belongs to a longer one that begins there too: asking for it would never ask for the
//! shorter. One sweep over the sorted prefixes finds the first address that no longer prefix covers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A prefix on the stack: what lies open of it.
struct Open {
    prefix: IpNet,
    last: u128,
    /// First address not covered by the longer prefixes met so far; `None` when they reach the end.
    next: Option<u128>,
    found: bool,
}

/// An address for every prefix that has one of its own; the rest, which longer prefixes cover whole, decides nothing.
/// Prefixes may come in any order and more than once.
pub fn witnesses(mut prefixes: Vec<IpNet>) -> Vec<(IpAddr, IpNet)> {
    prefixes.sort_unstable_by_key(|prefix| (prefix.network(), prefix.prefix_len()));
    prefixes.dedup();
    let mut answers = Vec::with_capacity(prefixes.len());
    let mut stack: Vec<Open> = Vec::new();
    for prefix in prefixes {
        let (first, last) = (number(prefix.network()), number(prefix.broadcast()));
        let elsewhere = |open: &Open| open.prefix.network().is_ipv4() != prefix.network().is_ipv4();
        while stack
            .last()
            .is_some_and(|open| elsewhere(open) || open.last < first)
        {
            close(stack.pop(), &mut answers);
        }
        if let Some(parent) = stack.last_mut()
            && !parent.found
        {
            match parent.next {
                Some(next) if next < first => parent.found = true,
                Some(_) => parent.next = last.checked_add(1).filter(|next| *next <= parent.last),
                None => {}
            }
        }
        // 0.0.0.0 is nobody's address (RFC 1122 3.2.1.3): the kernel takes it for the router's own.
        let least = u128::from(prefix.network().is_ipv4());
        stack.push(Open {
            prefix,
            last,
            next: Some(first.max(least)).filter(|next| *next <= last),
            found: false,
        });
    }
    while !stack.is_empty() {
        close(stack.pop(), &mut answers);
    }
    answers.sort_unstable();
    answers
}

fn close(open: Option<Open>, answers: &mut Vec<(IpAddr, IpNet)>) {
    if let Some(open) = open
        && let Some(next) = open.next
    {
        let address = match open.prefix {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(next as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(next)),
        };
        answers.push((address, open.prefix));
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4) as u128,
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(prefixes: &[&str]) -> Vec<(String, String)> {
        let parsed = prefixes
            .iter()
            .map(|text| text.parse().expect("prefix"))
            .collect();
        witnesses(parsed)
            .into_iter()
            .map(|(a, p)| (p.to_string(), a.to_string()))
            .collect()
    }

    #[test]
    fn each_prefix_is_asked_for_where_it_alone_decides() {
        let mut answers = found(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/16",
            "10.1.0.0/16",
            "::/0",
            "::/1",
            "8000::/1",
        ]);
        answers.sort();
        let expected = [
            ("0.0.0.0/0", "0.0.0.1"),
            ("10.0.0.0/16", "10.0.0.0"),
            ("10.0.0.0/8", "10.2.0.0"),
            ("10.1.0.0/16", "10.1.0.0"),
            ("8000::/1", "8000::"),
            ("::/1", "::"),
        ];
        assert_eq!(answers, expected.map(|(p, a)| (p.to_string(), a.to_string())));
    }

    proptest! {
        #[test]
        fn a_witness_is_covered_by_no_longer_prefix(
            drawn in prop::collection::vec((0u32..64, 24u8..=32), 1..60),
        ) {
            let prefixes: Vec<IpNet> = drawn
                .iter()
                .map(|(low, length)| {
                    IpNet::new(IpAddr::V4((0xffff_ff00 | low << 2).into()), *length).expect("length").trunc()
                })
                .collect();
            let answers = witnesses(prefixes.clone());
            for (address, prefix) in &answers {
                let longest = prefixes.iter().filter(|p| p.contains(address)).max_by_key(|p| p.prefix_len());
                prop_assert_eq!(longest, Some(prefix));
            }
            for prefix in &prefixes {
                let decides = |a: &IpAddr| {
                    prefixes.iter().filter(|p| p.contains(a)).map(IpNet::prefix_len).max() == Some(prefix.prefix_len())
                };
                let (first, last) = (number(prefix.network()) as u32, number(prefix.broadcast()) as u32);
                let any = (first..=last).any(|a| decides(&IpAddr::V4(a.into())));
                prop_assert_eq!(any, answers.iter().any(|(_, p)| p == prefix), "{}", prefix);
            }
        }
    }
}
