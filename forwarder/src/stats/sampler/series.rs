//! Counters that are few: as they stand now, with what they are called in the history.

use forwarder_common::{
    account::pair,
    counters::{Counter, EgressError},
    reason::{Policy, Reason},
};
use forwarder_history::{Direction, Series};

use crate::{
    daemon::accounts,
    dataplane::Tables,
    stats::{LinkStats, RuleRow, counters::next_hops, names},
};

/// A counter that goes on from controller to controller.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Which counter: it stays the same when it comes to count something else.
    pub key: u64,
    /// What it counts.
    pub series: Series,
    /// As it stands.
    pub counter: Counter,
    /// What it had counted before it counted that; `None` where nobody can tell: a driver's.
    pub baseline: Option<Counter>,
}

/// Who keeps a counter: the upper half of its key.
#[derive(Clone, Copy)]
enum Keeper {
    Reason = 1,
    Forwarded,
    Redirect,
    Transmit,
    Received,
    Sent,
    NextHop,
    Rule,
    Pair,
}

/// Every counter of the maps but those of prefixes. `rules` are those in force.
pub fn standing(tables: &Tables, rules: &[RuleRow]) -> Vec<Standing> {
    let mut list = Vec::new();
    for (port, entry) in names::ports(tables) {
        of_port(tables, port, &names::ifname(&entry), &mut list);
    }
    for hop in next_hops(tables) {
        let series = Series::NextHop {
            nexthop: hop.nexthop,
            af: hop.af.into(),
            ifname: hop.ifname,
        };
        list.push(kept(Keeper::NextHop, hop.id, series, hop.counter, hop.baseline));
    }
    of_accounts(tables, &mut list);
    for (slot, row) in rules.iter().filter_map(|row| Some((row.slot?, row))) {
        let baseline = tables.rule_directory.get(slot as usize).matched;
        let counter = Counter {
            packets: row.packets,
            bytes: row.bytes,
        };
        let series = Series::Rule {
            name: row.name.clone(),
        };
        list.push(kept(Keeper::Rule, slot, series, counter.plus(baseline), baseline));
    }
    list
}

/// What drivers count.
pub fn of_drivers(tables: &Tables, link_stats: &LinkStats) -> Vec<Standing> {
    let mut list = Vec::new();
    for (_, entry) in names::ports(tables) {
        let Some(link) = link_stats(entry.ifindex) else {
            continue;
        };
        let both = [
            (
                Keeper::Received,
                Direction::In,
                link.received_packets,
                link.received_bytes,
            ),
            (Keeper::Sent, Direction::Out, link.sent_packets, link.sent_bytes),
        ];
        for (keeper, direction, packets, bytes) in both {
            let series = Series::Interface {
                ifname: names::ifname(&entry),
                direction,
            };
            list.push(Standing {
                baseline: None,
                ..kept(
                    keeper,
                    entry.ifindex,
                    series,
                    Counter { packets, bytes },
                    Counter::default(),
                )
            });
        }
    }
    list
}

/// What was forwarded from one account to another.
fn of_accounts(tables: &Tables, list: &mut Vec<Standing>) {
    let named: Vec<(u32, String)> = accounts::used(tables)
        .map(|(number, entry)| (number, accounts::name(&entry)))
        .collect();
    if named.is_empty() {
        return;
    }
    let all: Vec<(u32, String)> = [(0, String::new())].into_iter().chain(named).collect();
    let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (from, to)));
    for ((from, from_name), (to, to_name)) in pairs {
        for outside in [false, true] {
            let cell = pair(outside.into(), *from, *to);
            let series = Series::Account {
                from: from_name.clone(),
                to: to_name.clone(),
                outside,
            };
            let baseline = tables.pair_baselines.get(cell as usize);
            list.push(kept(
                Keeper::Pair,
                cell,
                series,
                tables.pair_counter(cell),
                baseline,
            ));
        }
    }
}

fn kept(keeper: Keeper, index: u32, series: Series, counter: Counter, baseline: Counter) -> Standing {
    Standing {
        key: (keeper as u64) << 32 | u64::from(index),
        series,
        counter,
        baseline: Some(baseline),
    }
}

fn of_port(tables: &Tables, port: u32, ifname: &str, list: &mut Vec<Standing>) {
    let zero = Counter::default();
    let reasons = tables.reasons(port);
    for reason in Reason::ALL {
        let series = if reason.policy() == Policy::Forward {
            forwarded(ifname, Direction::In)
        } else {
            Series::Reason {
                ifname: ifname.into(),
                reason: reason.name().into(),
            }
        };
        let index = port * Reason::SLOTS as u32 + reason.index() as u32;
        list.push(kept(Keeper::Reason, index, series, reasons[reason.index()], zero));
    }
    let egress = tables.egress(port);
    let sent = forwarded(ifname, Direction::Out);
    list.push(kept(Keeper::Forwarded, port, sent, egress.forwarded, zero));
    let stages = [
        (Keeper::Redirect, "redirect", &egress.redirect_errors),
        (Keeper::Transmit, "transmit", &egress.transmit_errors),
    ];
    for (keeper, stage, counts) in stages {
        for error in EgressError::ALL {
            let series = Series::EgressError {
                ifname: ifname.into(),
                reason: format!("{stage}-{}", error.name()),
            };
            let counter = Counter {
                packets: counts[error as usize],
                bytes: 0,
            };
            let index = port * EgressError::ALL.len() as u32 + error as u32;
            list.push(kept(keeper, index, series, counter, zero));
        }
    }
}

fn forwarded(ifname: &str, direction: Direction) -> Series {
    Series::Forwarded {
        ifname: ifname.into(),
        direction,
    }
}
