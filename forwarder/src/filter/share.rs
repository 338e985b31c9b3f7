//! How sessions share what there is room for, where their rules do not all fit.
//!
//! A rule takes of several tables: a place among the rules, classes, blocks of prefixes, flow labels. What a session takes is
//! the largest part that its rules need of any of them, and whoever takes least is next: so nobody gets less than an equal
//! part of what each table holds, who needs less than that gets all of it, and what is left out is of those who ask for the
//! most (max-min fairness of dominant shares, Ghodsi et al., NSDI 2011). Within a session the rules that are asked first come
//! first. It depends on what is asked for, and not on who came first: nobody holds a place against others by having been
//! earlier.

use std::collections::BTreeMap;

use forwarder_common::rules::{BLOCKS, CLASSES, LABEL_BLOCKS, STRETCHES};
use ipnet::IpNet;

use super::order::MOST_RULES;
use super::rule::{Match, Origin, Rule};
use crate::source::feed::FeedId;

/// A whole table.
const WHOLE: u64 = 1 << 32;
/// Tables whose room is shared.
const TABLES: usize = 5;

/// Which session asks for a rule; rules of the configuration are not shared out.
fn whose(rule: &Rule) -> Option<FeedId> {
    match rule.origin {
        Origin::FlowSpec(feed) => Some(feed),
        Origin::Config(_) => None,
    }
}

/// Numbers of rules in the order in which they get places of which each takes one: the first of every session, then the
/// second.
pub fn in_turn<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<usize> {
    let mut before: BTreeMap<Option<FeedId>, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, usize)> = rules
        .enumerate()
        .map(|(at, rule)| {
            let turn = before.entry(whose(rule)).or_default();
            *turn += 1;
            (*turn, at)
        })
        .collect();
    turns.sort_unstable();
    turns.into_iter().map(|(_, at)| at).collect()
}

/// Numbers of the rules of one family in the order in which they get room in its tables: as many of the first as fit.
pub fn by_share<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<usize> {
    let mut taken: BTreeMap<Option<FeedId>, [u64; TABLES]> = BTreeMap::new();
    let mut shares: Vec<(u64, usize)> = rules
        .enumerate()
        .map(|(at, rule)| {
            let taken = taken.entry(whose(rule)).or_default();
            for (sum, more) in taken.iter_mut().zip(takes(&rule.when)) {
                *sum += more;
            }
            (taken.iter().copied().max().unwrap_or(0), at)
        })
        .collect();
    shares.sort_unstable();
    shares.into_iter().map(|(_, at)| at).collect()
}

/// What a rule takes of each table at most, in parts of [`WHOLE`].
fn takes(when: &Match) -> [u64; TABLES] {
    let numbers = [
        &when.protocol,
        &when.port,
        &when.destination_port,
        &when.source_port,
        &when.icmp_type,
        &when.icmp_code,
        &when.tcp_flags,
        &when.length,
        &when.dscp,
        &when.fragment,
        &when.flow_label,
    ];
    let prefixes = [&when.destination, &when.source];
    // Where a range begins and behind its end may begin another class, and packets without a value are another one.
    let ends = |ranges: usize| 2 * ranges + 1;
    let classes: usize = numbers
        .iter()
        .filter_map(|ranges| Some(ends(ranges.as_ref()?.iter().count())))
        .chain(
            prefixes
                .iter()
                .filter_map(|nets| Some(ends(nets.as_ref()?.len()))),
        )
        .chain(when.interfaces.iter().map(|names| ends(names.len())))
        .sum();
    let each = || prefixes.iter().filter_map(|nets| nets.as_deref());
    let blocks: usize = each().flatten().map(blocks).sum();
    let stretches = each().map(|nets| ends(nets.len())).max().unwrap_or(0);
    let labels = when
        .flow_label
        .as_ref()
        .map_or(0, |ranges| 2 * ranges.iter().count());
    let part = |count: usize, of: usize| count as u64 * (WHOLE / of as u64);
    [
        part(1, MOST_RULES),
        part(classes, CLASSES),
        part(blocks, BLOCKS),
        part(stretches, STRETCHES),
        part(labels, LABEL_BLOCKS),
    ]
}

/// Blocks that an IPv4 prefix may need for itself.
fn blocks(net: &IpNet) -> usize {
    match net {
        IpNet::V4(net) => match net.prefix_len() {
            0..=16 => 0,
            17..=24 => 1,
            _ => 2,
        },
        IpNet::V6(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranges::Ranges;
    use super::super::rule::Action;
    use super::*;

    /// A rule of a session with so many source ports.
    fn rule(feed: FeedId, ports: u32) -> Rule {
        Rule {
            name: format!("{feed}"),
            origin: Origin::FlowSpec(feed),
            when: Match {
                source_port: Some(Ranges::of((0..ports).map(|port| port * 2..=port * 2))),
                ..Match::default()
            },
            action: Action::Drop,
            proceed: false,
            mark: None,
        }
    }

    #[test]
    fn of_equal_rules_every_session_gets_one_after_the_other() {
        let rules = [1, 1, 1, 1, 2, 3, 3].map(|feed| rule(feed, 1));
        assert_eq!(by_share(rules.iter()), [0, 4, 5, 1, 6, 2, 3]);
        assert_eq!(in_turn(rules.iter()), [0, 4, 5, 1, 6, 2, 3]);
    }

    #[test]
    fn a_rule_that_takes_much_counts_as_much() {
        // 1,000 ports are an eighth of the classes; a plain rule is a thousandth of the places.
        let mut rules: Vec<Rule> = (0..4).map(|_| rule(1, 1_000)).collect();
        rules.extend((0..200).map(|_| rule(2, 1)));
        let order = by_share(rules.iter());
        let heavy: Vec<usize> = (0..4)
            .map(|at| order.iter().position(|other| *other == at).expect("it is there"))
            .collect();
        // 125 of the others come before the first of them, and all before the second.
        assert_eq!(heavy, [125, 201, 202, 203]);
    }
}
