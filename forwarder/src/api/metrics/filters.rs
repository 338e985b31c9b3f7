//! What filters met: rules, blackholes, and what was let up to the kernel.

use std::{collections::BTreeMap, fmt};

use super::{
    Snapshot,
    families::{Families, Labels},
};
use crate::stats::{LimitRow, RuleRow};

impl Snapshot {
    /// The configuration's rules by name; those of a FlowSpec session, which come and go, together.
    pub(super) fn rules(&self, families: &mut Families) -> fmt::Result {
        let mut sums: BTreeMap<(&str, &str), [u64; 4]> = BTreeMap::new();
        let mut in_force: BTreeMap<(&str, &str), [u64; 2]> = BTreeMap::new();
        for row in &self.state.rules {
            let name = if row.origin == "config" {
                row.name.as_str()
            } else {
                ""
            };
            let session = row.session.as_deref().unwrap_or("");
            in_force.entry((&row.origin, session)).or_default()[usize::from(!row.is_active())] += 1;
            let key = if name.is_empty() {
                ("flowspec", session)
            } else {
                ("config", name)
            };
            let sum = sums.entry(key).or_default();
            for (place, figure) in sum.iter_mut().zip(figures(row)) {
                *place += figure;
            }
        }
        let metrics = [
            ("matched_packets", "Packets that a rule matched"),
            ("matched_bytes", "Octets of the packets that a rule matched"),
            ("dropped_packets", "Packets that a rule dropped"),
            ("dropped_bytes", "Octets of the packets that a rule dropped"),
        ];
        for (index, (name, help)) in metrics.into_iter().enumerate() {
            let values = sums.iter().map(|((origin, name), sum)| {
                let labels: Labels<'_> = vec![("origin", *origin), ("rule", *name)];
                (labels, sum[index])
            });
            let help = format!("{help}; of a FlowSpec session all rules together");
            families.counters(&format!("forwarder_rule_{name}"), &help, values)?;
        }
        let values = in_force.iter().flat_map(|((origin, session), counts)| {
            ["active", "not-applied"]
                .into_iter()
                .zip(counts)
                .map(|(state, count)| {
                    let labels = vec![("origin", *origin), ("session", *session), ("state", state)];
                    (labels, *count as f64)
                })
        });
        families.gauges("forwarder_rules", "Filter rules, by where they are from", values)
    }

    pub(super) fn blackholes(&self, families: &mut Families) -> fmt::Result {
        let rows = &self.state.blackholes;
        let one = |value: f64| [(Vec::new(), value)];
        let help = "Prefixes whose packets are thrown away";
        families.gauges("forwarder_blackholes", help, one(rows.len() as f64))?;
        let help = "Octets a second that blackhole routes throw away";
        let rate: u64 = rows.iter().map(|row| row.bytes_per_second).sum();
        families.gauges("forwarder_blackhole_bytes_per_second", help, one(rate as f64))
    }

    pub(super) fn limits(&self, families: &mut Families) -> fmt::Result {
        let rows = &self.state.limits;
        type Field = fn(&LimitRow) -> u64;
        let counters: [(&str, &str, Field); 3] = [
            ("passed", "Packets let up to the kernel, by punt class", |row| {
                row.passed_packets
            }),
            (
                "dropped",
                "Packets dropped because the rate of their punt class was used up",
                |row| row.dropped_packets,
            ),
            (
                "over_share",
                "Packets dropped because their source's share of a punt class was used up",
                |row| row.over_share_packets,
            ),
        ];
        for (name, help, field) in counters {
            let values = rows
                .iter()
                .map(|row| (vec![("class", row.class.as_str())], field(row)));
            families.counters(&format!("forwarder_punt_{name}_packets"), help, values)?;
        }
        let limited = rows
            .iter()
            .filter_map(|row| Some((vec![("class", row.class.as_str())], row.rate? as f64)));
        let help = "Packets a second that a punt class lets up at most";
        families.gauges("forwarder_punt_limit_packets_per_second", help, limited)
    }
}

fn figures(row: &RuleRow) -> [u64; 4] {
    [row.packets, row.bytes, row.dropped_packets, row.dropped_bytes]
}
