//! Where routes come from.

use std::fmt;

use super::{
    Snapshot,
    families::{Families, Labels},
};
use crate::stats::status::SourceRow;

fn feed_labels(row: &SourceRow) -> Labels<'_> {
    vec![("feed", row.kind.as_str()), ("name", row.name.as_str())]
}

impl Snapshot {
    pub(super) fn sources(&self, families: &mut Families) -> fmt::Result {
        let rows = &self.status.sources;
        type By = fn(&SourceRow) -> (u64, u64);
        let by_family: [(&str, &str, By); 3] = [
            ("routes", "Routes that a source gives", |r| {
                (r.routes_ipv4, r.routes_ipv6)
            }),
            (
                "stale_routes",
                "Routes not announced again since the source's session was lost",
                |r| (r.stale_ipv4, r.stale_ipv6),
            ),
            ("flowspec_rules", "FlowSpec rules that a source gives", |r| {
                (r.flowspec_ipv4, r.flowspec_ipv6)
            }),
        ];
        for (name, help, field) in by_family {
            let values = rows.iter().flat_map(|row| {
                let (v4, v6) = field(row);
                [("ipv4", v4), ("ipv6", v6)].map(|(af, value)| {
                    let mut labels = feed_labels(row);
                    labels.push(("af", af));
                    (labels, value as f64)
                })
            });
            families.gauges(&format!("forwarder_feed_{name}"), help, values)?;
        }
        type Field = fn(&SourceRow) -> u64;
        let counters: [(&str, &str, Field); 5] = [
            ("updates", "Announcements and withdrawals", |r| r.updates),
            ("sessions", "Sessions that came up", |r| r.sessions),
            ("errors", "What was not understood or not applied", |r| r.errors),
            (
                "answers",
                "Routes of which the daemon was told what became of them",
                |r| r.answered,
            ),
            (
                "answers_dropped",
                "Those of which it was not at once, because it did not read",
                |r| r.answers_dropped,
            ),
        ];
        for (name, help, field) in counters {
            let values = rows.iter().map(|row| (feed_labels(row), field(row)));
            families.counters(&format!("forwarder_feed_{name}"), help, values)?;
        }
        let up = |row: &SourceRow| matches!(row.state.as_str(), "live" | "in step");
        let values = rows
            .iter()
            .map(|row| (feed_labels(row), f64::from(u8::from(up(row)))));
        families.gauges("forwarder_feed_up", "1 while a source is in step with us", values)?;
        let values = rows.iter().map(|row| (feed_labels(row), row.refused as f64));
        let help = "Routes that are missing because they were refused: there were too many";
        families.gauges("forwarder_feed_refused_routes", help, values)?;
        let ages = rows
            .iter()
            .filter_map(|row| Some((feed_labels(row), row.last_change_age? as f64)));
        let help = "Seconds since a source last said something";
        families.gauges("forwarder_feed_last_change_age_seconds", help, ages)
    }
}
