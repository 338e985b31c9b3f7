//! What can be looked at: grids made of two readings.

use super::{
    grid::{Cell, Column, Grid, Kind},
    rates::{Listing, Pair},
    reading::{Destinations, Reading},
};
use crate::{
    cli::filter::words,
    stats::{
        CounterRow, DropRow, InterfaceRow, RuleRow,
        accounts::AccountFigures,
        counters::{OTHERS, WITHDRAWN},
        rates::RateRow,
        status::SourceRow,
    },
};

/// Octets that a frame takes on an Ethernet link beside what is counted: preamble, frame check sequence, gap between frames (IEEE
/// 802.3 4.4.2).
const ON_THE_WIRE: f64 = 24.0;

/// Something to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// A little of everything.
    Now,
    /// Interfaces.
    Interfaces,
    /// Why packets were not forwarded.
    Reasons,
    /// Destination prefixes.
    Prefixes,
    /// Networks: the ASes that prefixes come from.
    Networks,
    /// Next hops.
    NextHops,
    /// Filter rules.
    Rules,
    /// Sources of routes.
    Feeds,
    /// Accounts.
    Accounts,
}

impl View {
    /// All, in the order of their digits.
    pub const ALL: [View; 9] = [
        View::Now,
        View::Interfaces,
        View::Reasons,
        View::Prefixes,
        View::Networks,
        View::NextHops,
        View::Rules,
        View::Feeds,
        View::Accounts,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            View::Now => "now",
            View::Interfaces => "interfaces",
            View::Reasons => "reasons",
            View::Prefixes => "prefixes",
            View::Networks => "networks",
            View::NextHops => "next-hops",
            View::Rules => "rules",
            View::Feeds => "feeds",
            View::Accounts => "accounts",
        }
    }

    /// The same where there is less room.
    pub const fn short(self) -> &'static str {
        match self {
            View::Interfaces => "links",
            View::NextHops => "hops",
            other => other.name(),
        }
    }

    /// Its grid. That of `Now` is its first panel.
    pub fn grid(self, before: Option<&Reading>, now: &Reading) -> Grid {
        match self {
            View::Now | View::Interfaces => interfaces(before, now),
            View::Reasons => reasons(before, now),
            View::Prefixes => prefixes(before, now),
            View::Networks => networks(before, now),
            View::NextHops => next_hops(before, now),
            View::Rules => rules(before, now),
            View::Feeds => feeds(now),
            View::Accounts => accounts(before, now),
        }
    }
}

const fn column(name: &'static str, key: &'static str, kind: Kind, rank: u8) -> Column {
    Column {
        name,
        key,
        kind,
        rank,
    }
}

const INTERFACES: &[Column] = &[
    column("interface", "ifname", Kind::Text, 0),
    column("role", "role", Kind::Text, 6),
    column("in bit/s", "received_bytes_per_second", Kind::Bits, 0),
    column("pps", "received_packets_per_second", Kind::Packets, 2),
    column("out bit/s", "sent_bytes_per_second", Kind::Bits, 0),
    column("pps", "sent_packets_per_second", Kind::Packets, 3),
    column("load", "load", Kind::Load, 0),
    column("of", "link_speed", Kind::Speed, 5),
    column("fast", "fast_path_share", Kind::Share, 1),
    column("passed", "passed_packets_per_second", Kind::Packets, 4),
    column("dropped", "dropped_packets_per_second", Kind::Lost, 0),
    column("lost", "lost_packets_per_second", Kind::Lost, 1),
];

fn interfaces(before: Option<&Reading>, now: &Reading) -> Grid {
    let pair = Pair::new(
        before.map(|reading| &reading.interfaces),
        &now.interfaces,
        |row: &InterfaceRow| (row.ifname.as_str(), row.ifindex, row.port),
    );
    let row = |row: &InterfaceRow| {
        let rate = |field: fn(&InterfaceRow) -> u64| {
            pair.rate(&(row.ifname.as_str(), row.ifindex, row.port), row, field)
        };
        let bytes_in = rate(|row| row.received_bytes);
        let packets_in = rate(|row| row.received_packets);
        // What the driver sent has the kernel's packets in it.
        let bytes_out = rate(|row| row.link_sent_bytes.unwrap_or(row.sent_bytes));
        let packets_out = rate(|row| row.link_sent_packets.unwrap_or(row.sent_packets));
        let load = |bytes: Option<f64>, packets: Option<f64>| {
            let speed = row.link_speed? as f64 / 8.0;
            Some((bytes? + packets? * ON_THE_WIRE) / speed)
        };
        let loads = [load(bytes_in, packets_in), load(bytes_out, packets_out)];
        let fast = rate(|row| row.forwarded_packets);
        let passed = rate(|row| row.passed_packets);
        vec![
            Cell::Text(row.ifname.clone()),
            Cell::text(row.role.as_deref()),
            Cell::figure(bytes_in),
            Cell::figure(packets_in),
            Cell::figure(bytes_out),
            Cell::figure(packets_out),
            Cell::figure(loads.into_iter().flatten().reduce(f64::max)),
            Cell::figure(row.link_speed.map(|speed| speed as f64)),
            Cell::figure(share(fast, passed)),
            Cell::figure(passed),
            Cell::figure(rate(|row| row.dropped_packets)),
            Cell::figure(rate(|row| row.redirect_errors + row.transmit_errors)),
        ]
    };
    Grid {
        title: View::Interfaces.name(),
        columns: INTERFACES,
        rows: now.interfaces.rows.iter().map(row).collect(),
        sort: Some(0),
        empty: "no interface carries the program",
    }
}

/// Of what was to be sent on, the part that did not need the kernel; unknown where nothing was.
pub fn share(fast: Option<f64>, passed: Option<f64>) -> Option<f64> {
    let (fast, all) = (fast?, fast? + passed?);
    (all > 0.0).then(|| fast / all)
}

const REASONS: &[Column] = &[
    column("interface", "ifname", Kind::Text, 0),
    column("verdict", "verdict", Kind::Text, 0),
    column("reason", "reason", Kind::Text, 0),
    column("pps", "packets_per_second", Kind::Packets, 0),
    column("bit/s", "bytes_per_second", Kind::Bits, 2),
    column("packets", "packets", Kind::Count, 1),
    column("what it means", "help", Kind::Text, 3),
];

fn reasons(before: Option<&Reading>, now: &Reading) -> Grid {
    let pair = Pair::new(
        before.map(|reading| &reading.drops),
        &now.drops,
        |row: &DropRow| (row.ifname.as_str(), row.reason.as_str(), row.verdict.as_str()),
    );
    // Of an interface that was not there before nobody knows when its counters began.
    let known = |ifname: &str| {
        before.is_some_and(|reading| reading.interfaces.rows.iter().any(|row| row.ifname == ifname))
    };
    let rows = now.drops.rows.iter().map(|row| {
        let key = (row.ifname.as_str(), row.reason.as_str(), row.verdict.as_str());
        let rate = |field: fn(&DropRow) -> u64| {
            known(&row.ifname).then(|| pair.rate_from_nothing(&key, row, field))?
        };
        vec![
            Cell::Text(row.ifname.clone()),
            Cell::Text(row.verdict.clone()),
            Cell::Text(row.reason.clone()),
            Cell::figure(rate(|row| row.packets)),
            Cell::figure(row.bytes.and_then(|_| rate(|row| row.bytes.unwrap_or(0)))),
            Cell::count(row.packets),
            Cell::Text(row.help.clone()),
        ]
    });
    let mut rows: Vec<Vec<Cell>> = rows.collect();
    // Among reasons that do nothing now, those that did most.
    rows.sort_by(|a, b| figure(&b[5]).total_cmp(&figure(&a[5])));
    Grid {
        title: View::Reasons.name(),
        columns: REASONS,
        rows,
        sort: Some(3),
        empty: "nothing was dropped, passed to the kernel or lost yet",
    }
}

fn figure(cell: &Cell) -> f64 {
    match cell {
        Cell::Figure(figure) => *figure,
        Cell::Text(_) | Cell::Unknown => 0.0,
    }
}

const PREFIXES: &[Column] = &[
    column("prefix", "prefix", Kind::Text, 0),
    column("bit/s", "bytes_per_second", Kind::Bits, 0),
    column("pps", "packets_per_second", Kind::Packets, 0),
    column("share", "share", Kind::Share, 0),
    column("origin AS", "origin_as", Kind::Text, 1),
    column("heard from AS", "neighbour_as", Kind::Text, 2),
];

fn prefixes(before: Option<&Reading>, now: &Reading) -> Grid {
    let all = forwarded(before, now);
    let earlier = before.map(|reading| &reading.prefixes);
    let rows = destinations(earlier, &now.prefixes, |row| row.prefix.as_deref());
    let row = |to: Destination| {
        vec![
            Cell::Text(to.name),
            Cell::figure(to.bytes),
            Cell::figure(to.packets),
            Cell::figure(part(to.bytes, to.all.or(all))),
            Cell::text(to.origin_as.as_deref()),
            Cell::text(to.neighbour_as.as_deref()),
        ]
    };
    Grid {
        title: View::Prefixes.name(),
        columns: PREFIXES,
        rows: rows.into_iter().map(row).collect(),
        sort: Some(1),
        empty: "nothing was forwarded in the last seconds",
    }
}

const NETWORKS: &[Column] = &[
    column("origin AS", "origin_as", Kind::Text, 0),
    column("bit/s", "bytes_per_second", Kind::Bits, 0),
    column("pps", "packets_per_second", Kind::Packets, 0),
    column("share", "share", Kind::Share, 0),
    column("prefixes", "prefixes", Kind::Count, 1),
];

fn networks(before: Option<&Reading>, now: &Reading) -> Grid {
    let all = forwarded(before, now);
    let earlier = before.map(|reading| &reading.networks);
    let rows = destinations(earlier, &now.networks, |row| row.origin_as.as_deref());
    let row = |to: Destination| {
        vec![
            Cell::Text(to.name),
            Cell::figure(to.bytes),
            Cell::figure(to.packets),
            Cell::figure(part(to.bytes, to.all.or(all))),
            Cell::figure(to.prefixes.map(|prefixes| prefixes as f64)),
        ]
    };
    Grid {
        title: View::Networks.name(),
        columns: NETWORKS,
        rows: rows.into_iter().map(row).collect(),
        sort: Some(1),
        empty: "nothing was forwarded in the last seconds",
    }
}

/// Where packets go: a prefix or a network.
struct Destination {
    name: String,
    bytes: Option<f64>,
    packets: Option<f64>,
    /// Octets each second to all of them, where it is known from the same reading.
    all: Option<f64>,
    origin_as: Option<String>,
    neighbour_as: Option<String>,
    prefixes: Option<u64>,
}

/// The controller's own rates, or those of two listings.
fn destinations(
    before: Option<&Destinations>,
    now: &Destinations,
    name: fn(&RateRow) -> Option<&str>,
) -> Vec<Destination> {
    // What is gone, and what was left out, is no destination.
    let one = |row: &RateRow| match name(row) {
        None | Some(WITHDRAWN | OTHERS) => None,
        Some(name) => Some(name.to_string()),
    };
    match now {
        Destinations::Rates(rows) => {
            let all = rows.iter().map(|row| row.bytes_per_second as f64).sum();
            let destination = |row: &RateRow| {
                Some(Destination {
                    name: one(row)?,
                    bytes: Some(row.bytes_per_second as f64),
                    packets: Some(row.packets_per_second as f64),
                    all: Some(all),
                    origin_as: row.origin_as.clone(),
                    neighbour_as: row.neighbour_as.clone(),
                    prefixes: Some(row.prefixes),
                })
            };
            rows.iter().filter_map(destination).collect()
        }
        Destinations::Counted(now) => {
            let before = match before {
                Some(Destinations::Counted(before)) => Some(before),
                Some(Destinations::Rates(_)) | None => None,
            };
            fn key(row: &CounterRow) -> (Option<&str>, Option<&str>) {
                (row.prefix.as_deref(), row.origin_as.as_deref())
            }
            let pair = Pair::new(before, now, key);
            let destination = |row: &CounterRow| {
                let named = RateRow {
                    prefix: row.prefix.clone(),
                    origin_as: row.origin_as.clone(),
                    ..RateRow::default()
                };
                Some(Destination {
                    name: one(&named)?,
                    bytes: pair.rate(&key(row), row, |row| row.bytes),
                    packets: pair.rate(&key(row), row, |row| row.packets),
                    all: None,
                    origin_as: None,
                    neighbour_as: None,
                    prefixes: row.prefixes,
                })
            };
            now.rows.iter().filter_map(destination).collect()
        }
    }
}

/// Octets that were forwarded each second.
fn forwarded(before: Option<&Reading>, now: &Reading) -> Option<f64> {
    let pair = Pair::new(
        before.map(|reading| &reading.interfaces),
        &now.interfaces,
        |row: &InterfaceRow| row.port,
    );
    let rows = now.interfaces.rows.iter();
    rows.filter_map(|row| pair.rate(&row.port, row, |row| row.forwarded_bytes))
        .reduce(|sum, rate| sum + rate)
}

fn part(bytes: Option<f64>, all: Option<f64>) -> Option<f64> {
    let (bytes, all) = (bytes?, all?);
    // Two listings are not read in the same moment.
    (all > 0.0).then(|| (bytes / all).min(1.0))
}

const NEXT_HOPS: &[Column] = &[
    column("next hop", "nexthop", Kind::Text, 0),
    column("for", "af", Kind::Text, 2),
    column("interface", "ifname", Kind::Text, 0),
    column("state", "state", Kind::Text, 1),
    column("bit/s", "bytes_per_second", Kind::Bits, 0),
    column("pps", "packets_per_second", Kind::Packets, 0),
    column("share", "share", Kind::Share, 0),
    column("octets", "bytes", Kind::Octets, 3),
];

fn next_hops(before: Option<&Reading>, now: &Reading) -> Grid {
    fn key(row: &CounterRow) -> (Option<&str>, Option<&str>, Option<&str>) {
        (row.nexthop.as_deref(), row.af.as_deref(), row.ifname.as_deref())
    }
    let pair = Pair::new(before.map(|reading| &reading.next_hops), &now.next_hops, key);
    let all = forwarded(before, now);
    let live = now
        .next_hops
        .rows
        .iter()
        .filter(|row| row.nexthop.as_deref() != Some(WITHDRAWN));
    let row = |row: &CounterRow| {
        let rate = |field: fn(&CounterRow) -> u64| pair.rate_from_nothing(&key(row), row, field);
        let bytes = rate(|row| row.bytes);
        vec![
            Cell::text(row.nexthop.as_deref()),
            Cell::text(row.af.as_deref()),
            Cell::text(row.ifname.as_deref()),
            Cell::text(row.state.as_deref()),
            Cell::figure(bytes),
            Cell::figure(rate(|row| row.packets)),
            Cell::figure(part(bytes, all)),
            Cell::count(row.bytes),
        ]
    };
    Grid {
        title: View::NextHops.name(),
        columns: NEXT_HOPS,
        rows: live.map(row).collect(),
        sort: Some(4),
        empty: "no next hop is in use",
    }
}

const RULES: &[Column] = &[
    column("#", "order", Kind::Count, 1),
    column("action", "action", Kind::Text, 0),
    column("bit/s", "bytes_per_second", Kind::Bits, 0),
    column("pps", "packets_per_second", Kind::Packets, 0),
    column("dropped", "dropped_packets_per_second", Kind::Lost, 0),
    column("packets", "packets", Kind::Count, 2),
    column("from", "from", Kind::Text, 3),
    column("rule", "name", Kind::Text, 0),
];

fn rules(before: Option<&Reading>, now: &Reading) -> Grid {
    type Key<'a> = (&'a str, &'a str, Option<&'a str>, Option<u32>);
    fn key(row: &RuleRow) -> Key<'_> {
        (&row.name, &row.origin, row.session.as_deref(), row.slot)
    }
    let none = Listing {
        at: now.at,
        rows: Vec::new(),
    };
    let listing = now.rules.as_ref().unwrap_or(&none);
    let pair = Pair::new(before.and_then(|reading| reading.rules.as_ref()), listing, key);
    let row = |row: &RuleRow| {
        let rate = |field: fn(&RuleRow) -> u64| pair.rate(&key(row), row, field);
        vec![
            Cell::figure(row.order.map(f64::from)),
            Cell::Text(if row.is_active() {
                words::action(row)
            } else {
                "not applied".into()
            }),
            Cell::figure(rate(|row| row.bytes)),
            Cell::figure(rate(|row| row.packets)),
            Cell::figure(rate(|row| row.dropped_packets)),
            Cell::count(row.packets),
            Cell::Text(words::origin(row).into()),
            Cell::Text(row.name.clone()),
        ]
    };
    Grid {
        title: View::Rules.name(),
        columns: RULES,
        rows: listing.rows.iter().map(row).collect(),
        sort: Some(3),
        empty: match now.rules {
            Some(_) => "no rules: [[filter.rule]] has none, and no FlowSpec neighbour has sent one",
            None => "only a running controller knows what the rules are called",
        },
    }
}

const FEEDS: &[Column] = &[
    column("feed", "kind", Kind::Text, 0),
    column("name", "name", Kind::Text, 0),
    column("state", "state", Kind::Text, 0),
    column("IPv4", "routes_ipv4", Kind::Count, 0),
    column("IPv6", "routes_ipv6", Kind::Count, 0),
    column("stale", "stale", Kind::Count, 2),
    column("updates/s", "updates_per_second", Kind::Packets, 1),
    column("errors", "errors", Kind::Count, 3),
    column("refused", "refused", Kind::Count, 4),
    column("last error", "last_error", Kind::Text, 5),
];

fn feeds(now: &Reading) -> Grid {
    let row = |row: &SourceRow| {
        vec![
            Cell::Text(row.kind.clone()),
            Cell::Text(row.name.clone()),
            Cell::Text(row.state.clone()),
            Cell::count(row.routes_ipv4),
            Cell::count(row.routes_ipv6),
            Cell::count(row.stale_ipv4 + row.stale_ipv6),
            Cell::count(row.updates_per_second),
            Cell::count(row.errors),
            Cell::count(row.refused),
            Cell::text(row.last_error.as_deref()),
        ]
    };
    Grid {
        title: View::Feeds.name(),
        columns: FEEDS,
        rows: now.status.sources.iter().map(row).collect(),
        sort: None,
        empty: "only a running controller knows its feeds",
    }
}

const ACCOUNTS: &[Column] = &[
    column("account", "account", Kind::Text, 0),
    column("in bit/s", "in_bytes_per_second", Kind::Bits, 0),
    column("pps", "in_packets_per_second", Kind::Packets, 2),
    column("out bit/s", "out_bytes_per_second", Kind::Bits, 0),
    column("pps", "out_packets_per_second", Kind::Packets, 3),
    column("share", "share", Kind::Share, 1),
    column("of commit", "commit_share", Kind::Share, 1),
    column("commit", "commit", Kind::Speed, 4),
    column("inside", "inside_bytes_per_second", Kind::Bits, 5),
    column("others", "accounts_bytes_per_second", Kind::Bits, 6),
    column("elsewhere", "elsewhere_bytes_per_second", Kind::Bits, 7),
];

/// In and out over the edge; what is agreed is compared with the larger of them.
fn accounts(before: Option<&Reading>, now: &Reading) -> Grid {
    fn key(row: &CounterRow) -> Option<&str> {
        row.account.as_ref().map(|figures| figures.account.as_str())
    }
    let pair = Pair::new(before.map(|reading| &reading.accounts), &now.accounts, key);
    let all = forwarded(before, now);
    let row = |row: &CounterRow| {
        let figures = row.account.as_ref()?;
        let rate = |field: fn(&AccountFigures) -> u64| {
            pair.rate(&key(row), row, |row| row.account.as_ref().map_or(0, field))
        };
        let (into, out) = (rate(|row| row.in_bytes), rate(|row| row.out_bytes));
        let larger = into.zip(out).map(|(into, out)| into.max(out) * 8.0);
        Some(vec![
            Cell::Text(figures.account.clone()),
            Cell::figure(into),
            Cell::figure(rate(|row| row.in_packets)),
            Cell::figure(out),
            Cell::figure(rate(|row| row.out_packets)),
            Cell::figure(part(pair.rate(&key(row), row, |row| row.bytes), all)),
            Cell::figure(
                larger
                    .zip(figures.commit)
                    .map(|(rate, commit)| rate / commit as f64),
            ),
            Cell::figure(figures.commit.map(|commit| commit as f64)),
            Cell::figure(rate(|row| row.inside_bytes)),
            Cell::figure(rate(|row| row.from_accounts_bytes + row.to_accounts_bytes)),
            Cell::figure(rate(|row| row.from_elsewhere_bytes + row.to_elsewhere_bytes)),
        ])
    };
    Grid {
        title: View::Accounts.name(),
        columns: ACCOUNTS,
        rows: now.accounts.rows.iter().filter_map(row).collect(),
        sort: Some(1),
        empty: "no accounts: the configuration has no [[account]]",
    }
}
