//! Blackhole routes, with what each of them has thrown away.

use forwarder_common::{
    counters::Counter,
    directory::{NextHopEntry, State},
    reason::Reason,
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{dataplane::Tables, fib::path::victim_of};

/// One blackhole route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BlackholeRow {
    /// Its prefix; null: those for which there was no counter of their own.
    #[schemars(with = "Option<String>")]
    pub prefix: Option<IpNet>,
    /// Packets to it, and with source validation packets from it.
    pub packets: u64,
    /// Octets of them.
    pub bytes: u64,
    /// Packets in the last second.
    pub packets_per_second: u64,
    /// Octets of them.
    pub bytes_per_second: u64,
    /// Seconds since the last packet; null: none since the controller started.
    pub last_hit_seconds_ago: Option<u64>,
}

/// Every blackhole with what it has counted since it was laid, by next-hop id.
pub fn blackholes(tables: &Tables) -> Vec<(u32, Option<IpNet>, Counter)> {
    let live = |entry: &NextHopEntry| State::from_number(entry.state) == Some(State::Live);
    let blackhole =
        |entry: &NextHopEntry| entry.family == 0 && entry.special == Reason::Blackhole as u8 && live(entry);
    (1..tables.sizes.nexthops)
        .map(|id| (id, tables.nexthop_directory.get(id as usize)))
        .filter(|(_, entry)| blackhole(entry))
        .map(|(id, entry)| {
            let counter = tables.nexthop_counter(id).since(entry.baseline);
            (id, victim_of(&entry), counter)
        })
        .collect()
}

/// What blackholes have counted in all, those that are gone among them.
pub fn discarded(tables: &Tables) -> Counter {
    let reasons = (0..tables.sizes.ports).map(|port| tables.reasons(port));
    let of = [Reason::Blackhole, Reason::BlackholeSource];
    reasons
        .flat_map(|counters| of.map(|reason| counters[reason.index()]))
        .fold(Counter::default(), Counter::plus)
}
