//! What is laid in the table, one row for each prefix and next hop.

use std::net::IpAddr;

use forwarder_common::directory::COUNTING;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{names, path::Paths, prefixes};
use crate::dataplane::Tables;

/// One next hop of one prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteRow {
    /// Who says so: "data-path". Beside a prefix stand rows of its sources, [`CandidateRow`](super::CandidateRow)s.
    pub by: String,
    /// The prefix.
    pub prefix: String,
    /// The neighbour; null where packets leave with a reason.
    pub via: Option<String>,
    /// Egress interface.
    pub ifname: Option<String>,
    /// "usable", or the reason packets leave with.
    pub state: String,
    /// Next hops of this prefix.
    pub next_hops: u32,
    /// Share of this one: buckets of the group that lead to it; 1 where it is the only one.
    pub weight: u32,
    /// Who installed the route in the kernel.
    pub protocol: String,
    /// There is no route for this prefix: it is an account's, laid to be counted, and does what the route that covers it does.
    #[serde(default)]
    pub counting: bool,
    /// Next hops that take over when all of the route's have failed; null where none could.
    pub backup: Option<String>,
    /// They have: `via` and `ifname` are the backup's.
    pub on_backup: bool,
    /// Packets of the prefix, in the row of its first next hop; null in the others.
    pub packets: Option<u64>,
    /// Octets, likewise.
    pub bytes: Option<u64>,
}

/// Which prefixes to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// This one and its more specific ones.
    Within(IpNet),
    /// The one that an address is counted for.
    Covering(IpAddr),
}

impl std::str::FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Selection, String> {
        if text.is_empty() {
            Ok(Selection::All)
        } else if let Ok(prefix) = text.parse::<IpNet>() {
            Ok(Selection::Within(prefix.trunc()))
        } else if let Ok(address) = text.parse() {
            Ok(Selection::Covering(address))
        } else {
            Err(format!(
                "{text:?} is neither a prefix nor an address: write 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
            ))
        }
    }
}

/// A listing: sorted at once, made into rows piece by piece, so that a million prefixes never stand in memory as text.
pub struct Routes<'a> {
    tables: &'a Tables,
    paths: Paths<'a>,
    slots: Vec<(IpNet, u32)>,
    next: usize,
}

impl<'a> Routes<'a> {
    /// Lists a selection.
    pub fn new(tables: &'a Tables, selection: Selection) -> Routes<'a> {
        let mut paths = Paths::new(tables);
        let mut slots: Vec<(IpNet, u32)> = match selection {
            Selection::Covering(address) => {
                let decision = paths.decide(address);
                decision
                    .prefix
                    .map(|prefix| (prefix, decision.slot))
                    .into_iter()
                    .collect()
            }
            Selection::All => prefixes::laid(tables)
                .map(|(slot, prefix, _)| (prefix, slot))
                .collect(),
            Selection::Within(net) => prefixes::laid(tables)
                .filter(|(_, prefix, _)| net.contains(prefix))
                .map(|(slot, prefix, _)| (prefix, slot))
                .collect(),
        };
        slots.sort_unstable();
        Routes {
            tables,
            paths,
            slots,
            next: 0,
        }
    }

    /// Goes on behind this prefix, whether or not it is still there.
    #[must_use]
    pub fn after(mut self, prefix: IpNet) -> Routes<'a> {
        self.next = self.slots.partition_point(|(known, _)| *known <= prefix);
        self
    }

    /// The last prefix of which rows were taken; `None` at the end, and before the first.
    pub fn last(&self) -> Option<IpNet> {
        let more = self.next < self.slots.len();
        let last = self.next.checked_sub(1).filter(|_| more)?;
        Some(self.slots[last].0)
    }

    /// Prefixes in the listing.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The rows of the next `count` prefixes; empty at the end.
    pub fn take(&mut self, count: usize) -> Vec<RouteRow> {
        let mut rows = Vec::new();
        // A piece whose every prefix went meanwhile is not the end.
        while rows.is_empty() && self.next < self.slots.len() {
            let end = (self.next + count.max(1)).min(self.slots.len());
            for index in self.next..end {
                let (prefix, slot) = self.slots[index];
                self.rows_of(prefix, slot, &mut rows);
            }
            self.next = end;
        }
        rows
    }

    fn rows_of(&mut self, prefix: IpNet, slot: u32, rows: &mut Vec<RouteRow>) {
        let entry = prefixes::entry(self.tables, slot);
        if prefixes::owner(&entry) != Some(prefix) {
            return;
        }
        let counter = prefixes::counted(self.tables, slot, &entry);
        let hops = self.paths.hops(entry.group);
        let backup = self.paths.backup(entry.group);
        for (index, hop) in hops.iter().enumerate() {
            rows.push(RouteRow {
                by: "data-path".to_string(),
                prefix: prefix.to_string(),
                via: hop.via.map(|address| address.to_string()),
                ifname: hop.ifname.clone(),
                state: hop.state.clone(),
                next_hops: hops.len() as u32,
                weight: hop.weight,
                protocol: names::protocol(entry.protocol.into()),
                counting: entry.flags & COUNTING != 0,
                backup: backup.hops.clone(),
                on_backup: backup.in_use,
                packets: (index == 0).then_some(counter.packets),
                bytes: (index == 0).then_some(counter.bytes),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    fn list(text: &str) -> Vec<RouteRow> {
        let tables = sample::tables();
        let mut routes = Routes::new(&tables, text.parse().unwrap());
        let mut rows = Vec::new();
        loop {
            let piece = routes.take(1);
            if piece.is_empty() {
                return rows;
            }
            rows.extend(piece);
        }
    }

    #[test]
    fn all_prefixes_come_in_order_with_their_next_hops() {
        let rows = list("");
        assert_eq!(rows.len(), 2);
        assert_eq!(
            serde_json::to_value(&rows[0]).unwrap(),
            serde_json::json!({
                "by": "data-path", "prefix": "198.51.100.0/24", "via": "192.0.2.9", "ifname": "core0", "state": "usable",
                "next_hops": 1, "weight": 1, "protocol": "bird", "counting": false,
                "backup": "via 192.0.2.9 dev core0", "on_backup": false, "packets": 17, "bytes": 1700
            })
        );
        assert_eq!(rows[1].prefix, "2001:db8:5::/48");
    }

    #[test]
    fn a_listing_goes_on_where_a_page_ended() {
        let tables = sample::tables();
        let mut routes = Routes::new(&tables, Selection::All);
        let first = routes.take(1);
        let last = routes.last().unwrap();
        assert_eq!(last.to_string(), first[0].prefix);
        let mut routes = Routes::new(&tables, Selection::All).after(last);
        assert_eq!(routes.take(1)[0].prefix, "2001:db8:5::/48");
        assert_eq!(routes.last(), None, "there are no more");
        // One that is gone meanwhile.
        let mut routes = Routes::new(&tables, Selection::All).after("198.51.0.0/16".parse().unwrap());
        assert_eq!(routes.take(1)[0].prefix, "198.51.100.0/24");
    }

    #[test]
    fn a_prefix_selects_itself_and_what_is_inside_and_an_address_what_covers_it() {
        assert_eq!(list("198.51.0.0/16").len(), 1);
        assert_eq!(list("198.51.100.0/25").len(), 0);
        assert_eq!(list("198.51.100.200").len(), 1);
        assert_eq!(list("203.0.113.1").len(), 0);
        assert!(
            "fe80::1%eth0"
                .parse::<Selection>()
                .unwrap_err()
                .contains("neither a prefix nor")
        );
    }
}
