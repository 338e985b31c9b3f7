//! Per reason: what was not forwarded, and what was lost on the way out.

use forwarder_common::{
    counters::EgressError,
    reason::{Policy, Reason},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names;
use crate::dataplane::Tables;

/// One reason on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DropRow {
    /// Interface: the one it came in on, or for a loss the one it should have left by.
    pub ifname: String,
    /// The reason's name.
    pub reason: String,
    /// "pass": to the kernel. "drop": dropped. "lost": forwarded, and lost before or in the driver. "would-forward" and "would-drop":
    /// of what passed with the reason "dry-run", what would have become of it.
    pub verdict: String,
    /// Packets.
    pub packets: u64,
    /// Octets; null where the kernel does not tell.
    pub bytes: Option<u64>,
    /// The reason in a sentence.
    pub help: String,
}

/// Verdict of a dry run: the packet passed, and would have been forwarded.
pub const WOULD_FORWARD: &str = "would-forward";
/// The same of one that would have been dropped.
pub const WOULD_DROP: &str = "would-drop";

/// A row for each reason that has counted; with `all`, for each there is. The most frequent first, by interface.
pub fn drops(tables: &Tables, all: bool) -> Vec<DropRow> {
    let mut rows = Vec::new();
    for (port, entry) in names::ports(tables) {
        let ifname = names::ifname(&entry);
        let counters = tables.reasons(port);
        let start = rows.len();
        for reason in Reason::ALL
            .iter()
            .filter(|reason| reason.policy() != Policy::Forward)
        {
            let counter = counters[reason.index()];
            rows.push(DropRow {
                ifname: ifname.clone(),
                reason: reason.name().to_string(),
                verdict: reason.policy().as_str().to_string(),
                packets: counter.packets,
                bytes: Some(counter.bytes),
                help: reason.help().to_string(),
            });
        }
        rows.extend(presumed(tables, port, &ifname));
        let egress = tables.egress(port);
        for (stage, counts) in [
            ("redirect", &egress.redirect_errors),
            ("transmit", &egress.transmit_errors),
        ] {
            for error in EgressError::ALL {
                rows.push(DropRow {
                    ifname: ifname.clone(),
                    reason: format!("{stage}-{}", error.name()),
                    verdict: "lost".to_string(),
                    packets: counts[error as usize],
                    bytes: None,
                    help: egress_help(error).to_string(),
                });
            }
        }
        if !all {
            rows.retain(|row| row.packets > 0);
        }
        rows[start..].sort_by_key(|row| std::cmp::Reverse(row.packets));
    }
    rows
}

/// What would have become of packets that passed because of a dry run.
fn presumed(tables: &Tables, port: u32, ifname: &str) -> Vec<DropRow> {
    let counters = tables.presumed(port);
    let row = |reason: &Reason| {
        let verdict = match reason.policy() {
            Policy::Forward => WOULD_FORWARD,
            Policy::Drop => WOULD_DROP,
            Policy::Pass => return None,
        };
        let counter = counters[reason.index()];
        Some(DropRow {
            ifname: ifname.to_string(),
            reason: reason.name().to_string(),
            verdict: verdict.to_string(),
            packets: counter.packets,
            bytes: Some(counter.bytes),
            help: format!("Passed in a dry run: {}", reason.help()),
        })
    };
    let rows = Reason::ALL.iter().filter_map(row);
    // Nobody wants to read of it who never had one.
    rows.filter(|row| row.packets > 0).collect()
}

/// The kind in a sentence.
pub const fn egress_help(error: EgressError) -> &'static str {
    match error {
        EgressError::Down => "The egress interface is down",
        EgressError::TooBig => "Larger than the egress interface takes",
        EgressError::NotSupported => "The egress driver cannot transmit XDP frames",
        EgressError::NoQueue => {
            "The egress driver has no XDP transmit queue (veth: its peer has no XDP program or GRO)"
        }
        EgressError::QueueFull => "The egress driver's transmit queue was full",
        EgressError::Other => "The kernel gave an error that forwarder does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::sample;

    #[test]
    fn reasons_that_counted_are_listed_with_their_verdict() {
        let rows = drops(&sample::tables(), false);
        let short: Vec<_> = rows
            .iter()
            .map(|r| {
                (
                    r.ifname.as_str(),
                    r.reason.as_str(),
                    r.verdict.as_str(),
                    r.packets,
                    r.bytes,
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                ("transit0", "local", "pass", 7, Some(700)),
                ("transit0", "bogon-source", "drop", 5, Some(500)),
                ("core0", "redirect-down", "lost", 6, None),
                ("core0", "transmit-queue-full", "lost", 3, None),
            ]
        );
        assert!(rows[1].help.contains("must not appear on the Internet"));
        let value = serde_json::to_value(&rows[2]).unwrap();
        assert!(value["bytes"].is_null());
    }

    #[test]
    fn a_dry_run_tells_what_would_have_become_of_packets() {
        use forwarder_common::counters::Counter;
        let tables = sample::tables();
        for (reason, packets) in [(Reason::Forwarded, 9), (Reason::Rule, 4)] {
            let at = Reason::SLOTS + reason.index();
            tables.presumed_counters.set(at, &Counter { packets, bytes: 0 });
        }
        let rows = drops(&tables, false);
        let would: Vec<_> = rows
            .iter()
            .filter(|row| row.verdict.starts_with("would-"))
            .map(|row| (row.reason.as_str(), row.verdict.as_str(), row.packets))
            .collect();
        assert_eq!(would, [("forwarded", WOULD_FORWARD, 9), ("rule", WOULD_DROP, 4)]);
        assert!(
            rows.iter()
                .all(|row| row.ifname == "transit0" || row.verdict == "lost")
        );
    }

    #[test]
    fn all_lists_every_reason_but_forwarded() {
        let rows = drops(&sample::tables(), true);
        assert_eq!(rows.len(), 2 * (Reason::ALL.len() - 1 + 12));
        assert!(
            rows.iter()
                .all(|row| row.reason != "forwarded" && !row.help.is_empty())
        );
    }
}
