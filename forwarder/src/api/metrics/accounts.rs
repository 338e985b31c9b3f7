//! What accounts sent and received. Those that are configured, and those that they are part of: at most as many as the configuration has
//! names and parts of names.

use std::fmt;

use super::{
    Snapshot,
    families::{Families, Labels},
};
use crate::stats::accounts::AccountFigures;

/// Direction, which traffic, packets, octets.
type Part = (&'static str, &'static str, fn(&AccountFigures) -> (u64, u64));

/// What is in a direction. Every packet of an account is in one of these, or stays inside.
const PARTS: [Part; 6] = [
    ("in", "edge", |row| (row.in_packets, row.in_bytes)),
    ("out", "edge", |row| (row.out_packets, row.out_bytes)),
    ("in", "accounts", |row| {
        (row.from_accounts_packets, row.from_accounts_bytes)
    }),
    ("out", "accounts", |row| {
        (row.to_accounts_packets, row.to_accounts_bytes)
    }),
    ("in", "elsewhere", |row| {
        (row.from_elsewhere_packets, row.from_elsewhere_bytes)
    }),
    ("out", "elsewhere", |row| {
        (row.to_elsewhere_packets, row.to_elsewhere_bytes)
    }),
];

impl Snapshot {
    pub(super) fn accounts(&self, families: &mut Families) -> fmt::Result {
        let rows = || self.accounts.iter();
        type Figure = fn((u64, u64)) -> u64;
        let units: [(&str, &str, Figure); 2] = [
            ("packets", "Packets", |(packets, _)| packets),
            ("bytes", "Octets", |(_, bytes)| bytes),
        ];
        for (unit, what, figure) in units {
            let values = rows().flat_map(|row| {
                PARTS.iter().map(move |(direction, traffic, part)| {
                    let labels: Labels<'_> = vec![
                        ("account", row.account.as_str()),
                        ("direction", direction),
                        ("traffic", traffic),
                    ];
                    (labels, figure(part(row)))
                })
            });
            let help = format!(
                "{what} forwarded to (in) or from (out) an account and its parts: over the edge of the network, or not, from and to other \
                 accounts or elsewhere"
            );
            families.counters(&format!("forwarder_account_{unit}"), &help, values)?;
            let values = rows().map(|row| {
                let inside = (row.inside_packets, row.inside_bytes);
                (vec![("account", row.account.as_str())], figure(inside))
            });
            let help = format!("{what} forwarded from an account to itself, its parts included");
            families.counters(&format!("forwarder_account_inside_{unit}"), &help, values)?;
        }
        let agreed = rows()
            .filter(|row| row.account_state == "configured")
            .filter_map(|row| Some((vec![("account", row.account.as_str())], row.commit? as f64)));
        let help = "Bits a second that are agreed with an account";
        families.gauges("forwarder_account_commit_bits_per_second", help, agreed)?;
        let agreed = self.state.commits.iter();
        let agreed = agreed.map(|(ifname, commit)| (vec![("ifname", ifname.as_str())], *commit as f64));
        let help = "Bits a second that are contracted with the carrier behind an interface";
        families.gauges("forwarder_link_commit_bits_per_second", help, agreed)
    }
}

/// Those that the configuration has, and those that they are part of.
pub(super) fn configured(rows: Vec<AccountFigures>) -> Vec<AccountFigures> {
    let named: Vec<String> = rows
        .iter()
        .filter(|row| row.account_state == "configured")
        .map(|row| row.account.clone())
        .collect();
    let part = |name: &str, whole: &str| {
        name.strip_prefix(whole)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    rows.into_iter()
        .filter(|row| named.iter().any(|name| part(name, &row.account)))
        .collect()
}
