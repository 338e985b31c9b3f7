//! Punt classes: what each lets up to the kernel, what it dropped, how much now.

use forwarder_common::punt::Class;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dataplane::Tables;

/// One class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitRow {
    /// Its name.
    pub class: String,
    /// Packets that are let up each second; null: as many as come.
    pub rate: Option<u64>,
    /// Those of one source; null: as many as come.
    pub per_source: Option<u64>,
    /// Packets passed.
    pub passed_packets: u64,
    /// Of these, those of known sources that passed while the rate was used up.
    pub reserve_packets: u64,
    /// Packets dropped because the rate was used up.
    pub dropped_packets: u64,
    /// Packets dropped because their source's share was. Of sessions: those that were asked about again as any other's.
    pub over_share_packets: u64,
    /// Packets passed in the last second; null while no controller runs.
    pub passed_packets_per_second: Option<u64>,
    /// Packets dropped in the last second, for either reason; null while no controller runs.
    pub dropped_packets_per_second: Option<u64>,
    /// Sessions that are known; of the class of sessions alone.
    pub sessions: Option<u64>,
    /// Peers that are known: neighbours, and remote ends of sessions of the last hour. Likewise.
    pub peers: Option<u64>,
    /// What is in it.
    pub help: String,
}

impl LimitRow {
    /// Packets that left with a drop. A session's that were too many are among those of another class.
    fn dropped(&self) -> u64 {
        if self.class == Class::Session.name() {
            0
        } else {
            self.dropped_packets.wrapping_add(self.over_share_packets)
        }
    }
}

/// The classes; none where nothing is limited.
pub fn limits(tables: &Tables) -> Vec<LimitRow> {
    if tables.settings.get(0).limited == 0 {
        return Vec::new();
    }
    let punt = tables.punt.get(0);
    let row = |class: &Class| {
        let index = *class as usize;
        let allowed = punt.classes[index];
        let mut row = LimitRow {
            class: class.name().into(),
            rate: some(allowed.per_second),
            per_source: some(allowed.share_per_second),
            help: class.help().into(),
            ..LimitRow::default()
        };
        if *class == Class::Session {
            row.sessions = Some(punt.sessions.into());
            row.peers = Some(punt.peers.into());
        }
        for cpu in 0..tables.sizes.cpus as usize {
            let state = tables.punt_states.get(cpu).classes[index];
            row.passed_packets = row.passed_packets.wrapping_add(state.passed);
            row.reserve_packets = row.reserve_packets.wrapping_add(state.reserved);
            row.dropped_packets = row.dropped_packets.wrapping_add(state.dropped);
            row.over_share_packets = row.over_share_packets.wrapping_add(state.over_share);
        }
        row
    };
    Class::ALL.iter().map(row).collect()
}

fn some(rate: u32) -> Option<u64> {
    (rate != 0).then_some(rate.into())
}

/// The classes from second to second.
#[derive(Debug, Default)]
pub struct Watch {
    before: Vec<LimitRow>,
}

impl Watch {
    /// The classes now; `elapsed` seconds after this was asked last.
    pub fn rows(&mut self, tables: &Tables, elapsed: f64) -> Vec<LimitRow> {
        let mut rows = limits(tables);
        let each_second = |count: u64| (count as f64 / elapsed.max(0.001)).round() as u64;
        for row in &mut rows {
            // What was counted before the controller started is not of the last second.
            let before = self.before.iter().find(|known| known.class == row.class);
            let before = before.unwrap_or(row).clone();
            let passed = row.passed_packets.wrapping_sub(before.passed_packets);
            let dropped = row.dropped().wrapping_sub(before.dropped());
            row.passed_packets_per_second = Some(each_second(passed));
            row.dropped_packets_per_second = Some(each_second(dropped));
        }
        self.before.clone_from(&rows);
        rows
    }
}

/// A sentence about a class that drops now.
pub fn problem(row: &LimitRow) -> Option<String> {
    let dropped = row.dropped_packets_per_second.filter(|dropped| *dropped > 0)?;
    Some(format!(
        "{}: {dropped} packets a second are dropped, more than is let up to the kernel: `forwarder filter limits`",
        row.class
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::PuntConfig, dataplane::Sizes, punt};

    fn count(tables: &Tables, cpu: usize, class: Class, passed: u64, dropped: u64, over_share: u64) {
        let mut states = tables.punt_states.get(cpu);
        let state = &mut states.classes[class as usize];
        (state.passed, state.dropped, state.over_share) = (passed, dropped, over_share);
        tables.punt_states.set(cpu, &states);
    }

    #[test]
    fn a_class_is_counted_over_all_cpus_and_from_second_to_second() {
        let tables = Tables::heap(Sizes::SMALL);
        assert!(limits(&tables).is_empty(), "nothing is limited");
        punt::install(&tables, &PuntConfig::default(), false);
        count(&tables, 0, Class::LocalIcmp, 100, 5, 0);
        let mut watch = Watch::default();
        let icmp = |rows: &[LimitRow]| rows[Class::LocalIcmp as usize].clone();
        let row = icmp(&watch.rows(&tables, 1.0));
        assert_eq!(
            (row.class.as_str(), row.rate, row.per_source),
            ("local-icmp", Some(5_000), Some(500))
        );
        assert_eq!((row.passed_packets_per_second, problem(&row)), (Some(0), None));
        count(&tables, 1, Class::LocalIcmp, 50, 20, 6);
        let row = icmp(&watch.rows(&tables, 2.0));
        assert_eq!(
            (row.passed_packets, row.dropped_packets, row.over_share_packets),
            (150, 25, 6)
        );
        assert_eq!(
            (row.passed_packets_per_second, row.dropped_packets_per_second),
            (Some(25), Some(13))
        );
        let sentence = problem(&row).unwrap();
        assert!(
            sentence.starts_with("local-icmp: 13 packets a second are dropped"),
            "{sentence}"
        );
    }

    #[test]
    fn sessions_have_a_share_and_no_rate_and_drop_nothing() {
        let tables = Tables::heap(Sizes::SMALL);
        punt::install(&tables, &PuntConfig::default(), false);
        let mut watch = Watch::default();
        let rows = watch.rows(&tables, 1.0);
        let row = &rows[Class::Session as usize];
        assert_eq!(
            (row.rate, row.per_source, row.sessions),
            (None, Some(20_000), Some(0))
        );
        assert_eq!(rows[0].sessions, None);
        count(&tables, 0, Class::Session, 9, 0, 4);
        let row = watch.rows(&tables, 1.0)[Class::Session as usize].clone();
        assert_eq!(
            (row.over_share_packets, row.dropped_packets_per_second),
            (4, Some(0))
        );
        let value = serde_json::to_value(&row).unwrap();
        assert!(
            value
                .as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_object() && !value.is_array())
        );
    }
}
