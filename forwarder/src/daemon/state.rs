//! What only the running controller knows: its feeds, its refusals, its problems. Served with the figures of the maps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Role;

/// The controller, as it was within the last second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Process id.
    pub pid: u32,
    /// When it started, seconds since 1970.
    pub started: u64,
    /// Route feeds.
    pub feeds: Vec<Feed>,
    /// IPv4 prefixes that found no room.
    pub refused_ipv4: u64,
    /// IPv6 prefixes that found no room.
    pub refused_ipv6: u64,
    /// Paths that found no group or next hop.
    pub paths_refused: u64,
    /// How full the tables are.
    pub usage: Usage,
    /// Roles by interface name.
    pub roles: BTreeMap<String, Role>,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
}

/// One source of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// "kernel"
    pub name: String,
    /// "synchronising", "in step", "lost"
    pub state: String,
    /// IPv4 routes it gives.
    pub routes_ipv4: u64,
    /// IPv6 routes it gives.
    pub routes_ipv6: u64,
    /// When it last said something, seconds since 1970; 0 = never.
    pub last_change: u64,
    /// Announcements and withdrawals since the controller started.
    pub updates: u64,
    /// Full comparisons since the controller started.
    pub resyncs: u64,
}

/// How full the tables are, as only the controller's own books tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Slots in use, those that wait for a grace period included.
    pub slots: u64,
    /// IPv4 blocks in use.
    pub ipv4_blocks: u64,
    /// IPv6 blocks in use.
    pub ipv6_blocks: u64,
    /// Next-hop groups in use.
    pub groups: u64,
    /// Next hops in use.
    pub next_hops: u64,
    /// IPv4 prefixes laid.
    pub prefixes_ipv4: u64,
    /// IPv6 prefixes laid.
    pub prefixes_ipv6: u64,
}
