//! Per interface: what came in, what became of it, what went out, and whether the sums close (law 2).

use std::collections::BTreeMap;

use forwarder_common::{
    counters::Counter,
    directory::PortEntry,
    reason::{Policy, Reason},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LinkStats, names, residue::Interval};
use crate::{config::Role, daemon::ports, dataplane::Tables};

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceRow {
    /// Name.
    pub ifname: String,
    /// Kernel index.
    pub ifindex: u32,
    /// Number of its counters.
    pub port: u32,
    /// "transit", "peer", "core", "customer"; null while no controller runs.
    pub role: Option<String>,
    /// "native", "generic", "detached"; "stacked" for a VLAN or bond, whose devices carry the program.
    pub mode: String,
    /// Packets the program saw.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
    /// Packets sent out by the fast path.
    pub forwarded_packets: u64,
    /// Their octets.
    pub forwarded_bytes: u64,
    /// Packets dropped.
    pub dropped_packets: u64,
    /// Their octets.
    pub dropped_bytes: u64,
    /// Packets handed to the kernel.
    pub passed_packets: u64,
    /// Their octets.
    pub passed_bytes: u64,
    /// Packets redirected to this interface.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// Packets its driver took.
    pub transmitted_packets: u64,
    /// Packets lost before its queue.
    pub redirect_errors: u64,
    /// Packets its driver refused.
    pub transmit_errors: u64,
    /// Packets its driver received; null where nobody can tell.
    #[serde(default)]
    pub link_received_packets: Option<u64>,
    /// Their octets, likewise.
    #[serde(default)]
    pub link_received_bytes: Option<u64>,
    /// Packets its driver sent, the kernel's among them; likewise.
    #[serde(default)]
    pub link_sent_packets: Option<u64>,
    /// Their octets, likewise.
    #[serde(default)]
    pub link_sent_bytes: Option<u64>,
    /// Bits each second that the link carries; null where the driver does not tell, or the link is down.
    #[serde(default)]
    pub link_speed: Option<u64>,
    /// What the driver received and the program did not see; null where nobody can tell.
    pub ingress_residue: Option<i64>,
    /// What was sent to it and neither transmitted nor lost; null where the kernel does not tell.
    pub egress_residue: Option<i64>,
}

/// How often a residue is read again while it is not zero.
const SAMPLES: usize = 4;

/// A row for every interface that ever carried the program.
pub fn interfaces(
    tables: &Tables,
    roles: &BTreeMap<String, Role>,
    link_stats: &LinkStats,
) -> Vec<InterfaceRow> {
    names::ports(tables)
        .map(|(port, entry)| row(tables, port, &entry, roles, link_stats))
        .collect()
}

fn row(
    tables: &Tables,
    port: u32,
    entry: &PortEntry,
    roles: &BTreeMap<String, Role>,
    link_stats: &LinkStats,
) -> InterfaceRow {
    let ingress_residue = ingress_residue(tables, port, entry, link_stats);
    let egress_residue = egress_residue(tables, port, entry);
    // Of a VLAN the kernel counts only what it forwards itself.
    let whole =
        ports::is_attached(entry) || entry.state == ports::STACKED && devices(tables, port).next().is_some();
    let link = whole.then(|| link_stats(entry.ifindex)).flatten();
    let reasons = tables.reasons(port);
    let egress = tables.egress(port);
    let by = |policy: Policy| {
        Reason::ALL
            .iter()
            .filter(|reason| reason.policy() == policy)
            .fold(Counter::default(), |sum, reason| {
                sum.plus(reasons[reason.index()])
            })
    };
    let (forwarded, dropped, passed) = (by(Policy::Forward), by(Policy::Drop), by(Policy::Pass));
    let received = reasons.iter().fold(Counter::default(), |sum, one| sum.plus(*one));
    let ifname = names::ifname(entry);
    InterfaceRow {
        role: roles.get(&ifname).map(|role| role.name().to_string()),
        ifname,
        ifindex: entry.ifindex,
        port,
        mode: names::mode(entry.state).to_string(),
        received_packets: received.packets,
        received_bytes: received.bytes,
        forwarded_packets: forwarded.packets,
        forwarded_bytes: forwarded.bytes,
        dropped_packets: dropped.packets,
        dropped_bytes: dropped.bytes,
        passed_packets: passed.packets,
        passed_bytes: passed.bytes,
        sent_packets: egress.forwarded.packets,
        sent_bytes: egress.forwarded.bytes,
        transmitted_packets: egress.transmitted,
        redirect_errors: sum(&egress.redirect_errors),
        transmit_errors: sum(&egress.transmit_errors),
        link_received_packets: link.map(|link| link.received_packets),
        link_received_bytes: link.map(|link| link.received_bytes),
        link_sent_packets: link.map(|link| link.sent_packets),
        link_sent_bytes: link.map(|link| link.sent_bytes),
        link_speed: link.and_then(|link| link.speed),
        ingress_residue,
        egress_residue,
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
}

/// The drivers' counts less the program's, both since the baseline: of a device, or of all members of a bond. What stands on
/// them is part of that.
fn ingress_residue(tables: &Tables, port: u32, entry: &PortEntry, link_stats: &LinkStats) -> Option<i64> {
    let devices: Vec<u32> = devices(tables, port).map(|(_, device)| device.ifindex).collect();
    if devices.is_empty() {
        return None;
    }
    let received = || ports::received_together(tables, port).wrapping_sub(entry.received_baseline);
    let driver = || {
        devices.iter().try_fold(0u64, |sum, ifindex| {
            Some(sum.wrapping_add(link_stats(*ifindex)?.received_packets))
        })
    };
    let mut before = received();
    let mut found = Interval::default();
    for _ in 0..SAMPLES {
        let driver = driver()?.wrapping_sub(entry.rx_baseline);
        let after = received();
        // The program's count rose from `before` to `after` while the drivers' were read.
        let (lower, upper) = (driver.wrapping_sub(after), driver.wrapping_sub(before));
        found.sample_within(entry.slack[0], lower, upper);
        if found.nearest() == Some(0) {
            break;
        }
        before = after;
    }
    found.nearest()
}

/// The devices whose sums close together under this port.
fn devices(tables: &Tables, port: u32) -> impl Iterator<Item = (u32, PortEntry)> {
    ports::group(tables, port).filter(|(_, entry)| ports::is_attached(entry))
}

/// Sent less transmitted and lost, since the tracepoint programs began to watch. In generic mode the kernel has no
/// tracepoint for what was transmitted.
fn egress_residue(tables: &Tables, port: u32, entry: &PortEntry) -> Option<i64> {
    let mut devices = devices(tables, port).peekable();
    devices.peek()?;
    if devices.any(|(_, device)| device.state != names::PORT_NATIVE) {
        return None;
    }
    let mut found = Interval::default();
    for _ in 0..SAMPLES {
        let (first, second) = (
            ports::egress_together(tables, port),
            ports::egress_together(tables, port),
        );
        let open = |forwarded: u64, gone: u64| {
            let sent = forwarded.wrapping_sub(entry.forwarded_baseline);
            sent.wrapping_sub(gone.wrapping_sub(entry.transmitted_baseline))
        };
        let (lower, upper) = (open(first.0, second.1), open(second.0, first.1));
        found.sample_within(entry.slack[1], lower, upper);
        if found.nearest() == Some(0) {
            break;
        }
    }
    found.nearest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn every_packet_is_in_exactly_one_sum() {
        let tables = sample::tables();
        let rows = interfaces(&tables, &sample::roles(), &|_| None);
        assert_eq!(rows.len(), 2);
        let row = &rows[0];
        assert_eq!((row.ifname.as_str(), row.mode.as_str()), ("transit0", "native"));
        assert_eq!(row.role.as_deref(), Some("transit"));
        assert_eq!(
            (row.forwarded_packets, row.dropped_packets, row.passed_packets),
            (30, 5, 7)
        );
        assert_eq!(row.received_packets, 42);
        assert_eq!(
            row.received_bytes,
            row.forwarded_bytes + row.dropped_bytes + row.passed_bytes
        );
        assert_eq!(row.ingress_residue, None);
    }

    #[test]
    fn residues_are_what_the_other_side_counted_less_ours_since_the_baselines() {
        let tables = sample::tables();
        // transit0: 42 received, 2 of them before the baseline at which the driver stood at 1002.
        let closed = interfaces(&tables, &sample::roles(), &|_| Some(sample::link(1042)));
        assert_eq!(closed[0].ingress_residue, Some(0));
        assert_eq!(
            (closed[0].link_speed, closed[0].link_sent_bytes),
            (Some(10_000_000_000), Some(70_000))
        );
        let open = interfaces(&tables, &sample::roles(), &|_| Some(sample::link(1045)));
        assert_eq!(open[0].ingress_residue, Some(3));
        // core0: 30 sent, 20 transmitted, 6 + 3 lost.
        assert_eq!(open[1].egress_residue, Some(1));
        assert_eq!((open[1].redirect_errors, open[1].transmit_errors), (6, 3));
    }

    #[test]
    fn the_row_is_flat_and_its_names_are_the_contract() {
        let tables = sample::tables();
        let rows = interfaces(&tables, &sample::roles(), &|_| None);
        let value = serde_json::to_value(&rows[0]).unwrap();
        let object = value.as_object().unwrap();
        assert!(object.values().all(|v| !v.is_object() && !v.is_array()));
        for key in [
            "ifname",
            "ifindex",
            "role",
            "mode",
            "received_packets",
            "received_bytes",
            "forwarded_packets",
            "dropped_packets",
            "passed_packets",
            "sent_packets",
            "transmitted_packets",
            "redirect_errors",
            "transmit_errors",
            "link_received_packets",
            "link_sent_bytes",
            "link_speed",
            "ingress_residue",
            "egress_residue",
        ] {
            assert!(object.contains_key(key), "{key}");
        }
    }
}
