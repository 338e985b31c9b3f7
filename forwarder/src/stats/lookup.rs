//! The data path's answer for one address.

use std::net::IpAddr;

use forwarder_common::reason::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{names, path::Paths};

/// One next hop of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LookupRow {
    /// Who answers: "data-path", "kernel".
    pub by: String,
    /// The address asked for.
    pub address: String,
    /// The prefix that covers it; null where none does.
    pub prefix: Option<String>,
    /// The neighbour; null where packets leave with a reason.
    pub via: Option<String>,
    /// Egress interface.
    pub ifname: Option<String>,
    /// "usable", or the reason packets leave with; of the kernel: the type of the route.
    pub state: String,
    /// What happens: "forward", "pass", "drop"; null of the kernel.
    pub verdict: Option<String>,
    /// Buckets of the group, or weight, that lead to this next hop.
    pub weight: u32,
    /// Largest IP packet it takes, octets; null where nothing is forwarded.
    pub mtu: Option<u32>,
    /// Destination MAC.
    pub destination_mac: Option<String>,
    /// Source MAC.
    pub source_mac: Option<String>,
    /// Who installed the route.
    pub protocol: Option<String>,
    /// The prefix is an account's and no route: it is counted apart, and does what the route that covers it does.
    #[serde(default)]
    pub counting: bool,
    /// Counter slot.
    pub slot: Option<u32>,
    /// Next-hop group.
    pub group: Option<u32>,
    /// Next hops that take over when all of the route's have failed; null where none could.
    pub backup: Option<String>,
    /// They have: the next hop of this row is the backup's.
    pub on_backup: bool,
}

/// What the data path does with an address: a row for each next hop, or one that says why there is none.
pub fn lookup(paths: &mut Paths, address: IpAddr) -> Vec<LookupRow> {
    let decision = paths.decide(address);
    let base = LookupRow {
        by: "data-path".to_string(),
        address: address.to_string(),
        prefix: decision.prefix.map(|prefix| prefix.to_string()),
        ..LookupRow::default()
    };
    if decision.hops.is_empty() {
        let reason = if decision.leaf == 0 {
            Reason::NoRoute
        } else {
            Reason::Internal
        };
        return vec![LookupRow {
            state: reason.name().to_string(),
            verdict: Some(reason.policy().as_str().to_string()),
            ..base
        }];
    }
    let row = |hop: &super::path::Hop| LookupRow {
        via: hop.via.map(|via| via.to_string()),
        ifname: hop.ifname.clone(),
        state: hop.state.clone(),
        verdict: Some(hop.verdict().to_string()),
        weight: hop.weight,
        mtu: hop.via.map(|_| hop.mtu),
        destination_mac: hop.destination_mac.clone(),
        source_mac: hop.via.and_then(|_| hop.source_mac.clone()),
        protocol: decision
            .prefix
            .map(|_| names::protocol(decision.entry.protocol.into())),
        counting: decision.is_counting(),
        slot: Some(decision.slot),
        group: Some(decision.group),
        backup: decision.backup.hops.clone(),
        on_backup: decision.backup.in_use,
        ..base.clone()
    };
    decision.hops.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn the_answer_names_prefix_and_next_hop_or_why_there_is_none() {
        let tables = sample::tables();
        let mut paths = Paths::new(&tables);
        let rows = lookup(&mut paths, "198.51.100.7".parse().unwrap());
        assert_eq!(rows[0].prefix.as_deref(), Some("198.51.100.0/24"));
        assert_eq!(rows[0].verdict.as_deref(), Some("forward"));
        assert_eq!(rows[0].protocol.as_deref(), Some("bird"));
        assert_eq!(rows[0].backup.as_deref(), Some("via 192.0.2.9 dev core0"));
        assert!(!rows[0].on_backup);
        let rows = lookup(&mut paths, "2001:db8::1".parse().unwrap());
        assert_eq!(
            (rows[0].state.as_str(), rows[0].verdict.as_deref()),
            ("no-route", Some("pass"))
        );
    }
}
