//! `forwarder lookup`: two answers side by side.

use std::{collections::HashMap, net::IpAddr};

use anyhow::{Context, Result};
use forwarder_common::directory::{COUNTING, SlotEntry};

use super::{
    output::{self, Paint, or_dash},
    reader::Reader,
};
use crate::{
    netlink::{
        dump,
        lookup::{RouteAnswer, RouteQuery, route_get},
    },
    shadow::agreement::{self, Agreement},
    stats::{
        lookup::{LookupRow, lookup as ask},
        path::{Backup, Decision, Hop, Paths},
    },
};

/// Prints both answers; "no" when they differ.
pub fn lookup(reader: &Reader, address: IpAddr, json: bool) -> Result<bool> {
    let figures = reader.fetch(&format!("/v1/lookup?address={address}"), |tables| {
        ask(&mut Paths::new(tables), address)
    })?;
    let mut rows = figures.rows()?;
    let names = interface_names()?;
    let ifname = |ifindex: u32| {
        names
            .get(&ifindex)
            .cloned()
            .unwrap_or_else(|| format!("if{ifindex}"))
    };
    let answer = route_get(RouteQuery::matching(address)).context("the kernel does not answer")?;
    let agreement = agreement::compare(address, &decision(&rows, &names), &answer);
    let ours = rows.len();
    rows.extend(kernel_rows(address, &answer, &ifname));
    if json {
        output::print_json(&rows)?;
    } else {
        output::print(&screen(&rows, ours, &agreement, Paint::stdout()))?;
    }
    Ok(!matches!(agreement, Agreement::Differs(_)))
}

/// Interface names by index.
pub fn interface_names() -> Result<HashMap<u32, String>> {
    let links = dump::dump_links().context("cannot list the interfaces")?;
    Ok(links.into_iter().map(|link| (link.ifindex, link.name)).collect())
}

/// The decision that rows stand for: they may have come from the controller.
fn decision(rows: &[LookupRow], names: &HashMap<u32, String>) -> Decision {
    let index = |name: &Option<String>| {
        let found = names.iter().find(|(_, known)| Some(*known) == name.as_ref());
        found.map_or(0, |(ifindex, _)| *ifindex)
    };
    let hops = rows.iter().filter(|row| row.group.is_some()).map(|row| Hop {
        via: row.via.as_ref().and_then(|via| via.parse().ok()),
        ifindex: index(&row.ifname),
        ifname: row.ifname.clone(),
        state: row.state.clone(),
        weight: row.weight,
        ..Hop::default()
    });
    let first = rows.first();
    Decision {
        leaf: u32::from(first.is_some_and(|row| row.group.is_some())),
        slot: first.and_then(|row| row.slot).unwrap_or(0),
        group: first.and_then(|row| row.group).unwrap_or(0),
        prefix: first.and_then(|row| row.prefix.as_ref()?.parse().ok()),
        entry: SlotEntry {
            flags: if first.is_some_and(|row| row.counting) {
                COUNTING
            } else {
                0
            },
            ..SlotEntry::default()
        },
        hops: std::sync::Arc::new(hops.collect()),
        backup: Backup {
            hops: first.and_then(|row| row.backup.clone()),
            in_use: first.is_some_and(|row| row.on_backup),
        },
    }
}

fn kernel_rows(address: IpAddr, answer: &RouteAnswer, ifname: &dyn Fn(u32) -> String) -> Vec<LookupRow> {
    let base = LookupRow {
        by: "kernel".to_string(),
        address: address.to_string(),
        state: agreement::word(answer).to_string(),
        ..LookupRow::default()
    };
    let RouteAnswer::Route(found) = answer else {
        return vec![base];
    };
    let base = LookupRow {
        prefix: Some(found.prefix.to_string()),
        ..base
    };
    if found.hops.is_empty() {
        return vec![base];
    }
    let row = |hop: &crate::source::event::Hop| LookupRow {
        via: hop.gateway.map(|via| via.to_string()),
        ifname: (hop.ifindex != 0).then(|| ifname(hop.ifindex)),
        state: if hop.dead {
            "dead".to_string()
        } else {
            base.state.clone()
        },
        weight: hop.weight.into(),
        ..base.clone()
    };
    found.hops.iter().map(row).collect()
}

fn screen(rows: &[LookupRow], ours: usize, agreement: &Agreement, paint: Paint) -> String {
    let columns = [
        ("by", false),
        ("prefix", false),
        ("via", false),
        ("ifname", false),
        ("state", false),
        ("verdict", false),
        ("mac", false),
        ("mtu", true),
        ("weight", true),
    ];
    let cells = rows.iter().map(|row| {
        vec![
            row.by.clone(),
            or_dash(row.prefix.as_deref()),
            or_dash(row.via.as_deref()),
            or_dash(row.ifname.as_deref()),
            output::state(&row.state, row.on_backup),
            or_dash(row.verdict.as_deref()),
            or_dash(row.destination_mac.as_deref()),
            row.mtu.map_or("-".to_string(), |mtu| mtu.to_string()),
            row.weight.to_string(),
        ]
    });
    let mut text = output::table(&columns, cells, paint);
    let help = forwarder_common::reason::Reason::ALL
        .iter()
        .find(|reason| rows[..ours].iter().any(|row| row.state == reason.name()));
    if let Some(reason) = help {
        text += &format!("{}: {}\n", reason.name(), reason.help());
    }
    if let Some(row) = rows[..ours].first().filter(|row| !row.on_backup)
        && let Some(backup) = &row.backup
    {
        text += &format!("backup: {backup}\n");
    }
    if let Some(row) = rows[..ours].first().filter(|row| row.counting)
        && let Some(prefix) = &row.prefix
    {
        text += &format!("{prefix} is an account's and no route: it does what the route around it does\n");
    }
    text + &match agreement {
        Agreement::Same => paint.good("data path and kernel agree"),
        Agreement::Punt => "the data path leaves it to the kernel".to_string(),
        Agreement::Backup => {
            "the way the kernel has does not work: the data path goes by the backup".to_string()
        }
        Agreement::Differs(why) => paint.bad(&format!("they differ: {why}")),
    } + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn rows_that_came_over_the_socket_are_the_decision_again() {
        let tables = sample::tables();
        let address = "198.51.100.7".parse().unwrap();
        let rows = ask(&mut Paths::new(&tables), address);
        let names = HashMap::from([(12, "core0".to_string())]);
        let again = decision(&rows, &names);
        let first = Paths::new(&tables).decide(address);
        assert_eq!(
            (again.prefix, again.group, again.slot),
            (first.prefix, first.group, first.slot)
        );
        assert_eq!(
            (again.hops[0].via, again.hops[0].ifindex),
            (first.hops[0].via, 12)
        );
        let nothing = ask(&mut Paths::new(&tables), "203.0.113.1".parse().unwrap());
        assert!(decision(&nothing, &names).hops.is_empty());
    }

    #[test]
    fn the_screen_ends_with_the_verdict() {
        let tables = sample::tables();
        let address = "203.0.113.1".parse().unwrap();
        let rows = ask(&mut Paths::new(&tables), address);
        let text = screen(&rows, rows.len(), &Agreement::Punt, Paint::off());
        assert!(
            text.contains("no-route: No prefix covers the destination"),
            "{text}"
        );
        assert!(
            text.ends_with("the data path leaves it to the kernel\n"),
            "{text}"
        );
    }
}
