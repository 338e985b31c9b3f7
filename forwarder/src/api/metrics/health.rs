//! How the controller and its tables are.

use std::fmt;

use super::{Snapshot, families::Families};
use crate::daemon::state::CollectorState;

impl Snapshot {
    pub(super) fn health(&self, families: &mut Families) -> fmt::Result {
        let row = &self.status;
        let af = |v4: u64, v6: u64| {
            [
                (vec![("af", "ipv4")], v4 as f64),
                (vec![("af", "ipv6")], v6 as f64),
            ]
        };
        families.gauges(
            "forwarder_prefixes",
            "Prefixes laid in the forwarding table",
            af(row.prefixes_ipv4, row.prefixes_ipv6),
        )?;
        let lists = row.bogons.iter().flat_map(|list| {
            let labels = |af| vec![("list", list.name.as_str()), ("af", af)];
            [
                (labels("ipv4"), list.ipv4 as f64),
                (labels("ipv6"), list.ipv6 as f64),
            ]
        });
        let help = "Bogon prefixes in force, by the list they are from";
        families.gauges("forwarder_bogon_prefixes", help, lists)?;
        families.gauges(
            "forwarder_refused_prefixes",
            "Prefixes that found no room and are left to the kernel",
            af(row.refused_ipv4.unwrap_or(0), row.refused_ipv6.unwrap_or(0)),
        )?;
        let tables = [
            ("routes", row.slots_used, row.slots_size),
            (
                "ipv4-blocks",
                row.ipv4_blocks_used.unwrap_or(0),
                row.ipv4_blocks_size,
            ),
            (
                "ipv6-blocks",
                row.ipv6_blocks_used.unwrap_or(0),
                row.ipv6_blocks_size,
            ),
            ("next-hop-groups", row.groups_used, row.groups_size),
            ("next-hops", row.next_hops_used, row.next_hops_size),
        ];
        families.gauges(
            "forwarder_table_used",
            "Entries in use, by table",
            tables.map(|(table, used, _)| (vec![("table", table)], used as f64)),
        )?;
        families.gauges(
            "forwarder_table_size",
            "Entries there are, by table",
            tables.map(|(table, _, size)| (vec![("table", table)], size as f64)),
        )?;
        if let Some(age) = row.heartbeat_age {
            let help = "Seconds since the controller last said that the tables are true";
            families.gauges("forwarder_heartbeat_age_seconds", help, [(Vec::new(), age)])?;
        }
        let stale = if row.stale { 1.0 } else { 0.0 };
        let help = "1 when packets pass to the kernel because the heartbeat is too old";
        families.gauges("forwarder_stale", help, [(Vec::new(), stale)])?;
        let dry = if row.dry_run { 1.0 } else { 0.0 };
        let help = "1 when every packet passes to the kernel because the controller runs with --dry-run";
        families.gauges("forwarder_dry_run", help, [(Vec::new(), dry)])?;
        if let Some(shadow) = &row.shadow {
            let one = |value: u64| [(Vec::new(), value)];
            let help = "Addresses for which tables and kernel were compared";
            families.counters("forwarder_shadow_checked", help, one(shadow.checked))?;
            let help = "Of these, those that were not held against the kernel, because a feed's route counts";
            families.counters("forwarder_shadow_left_out", help, one(shadow.left_out))?;
            let help = "Prefixes about which tables and kernel disagree now";
            families.gauges(
                "forwarder_shadow_differing",
                help,
                [(Vec::new(), shadow.differing as f64)],
            )?;
        }
        let help = "Problems that `forwarder status` tells";
        families.gauges(
            "forwarder_problems",
            help,
            [(Vec::new(), row.problems.len() as f64)],
        )?;
        let version = vec![("version", row.version.as_str())];
        families.gauges("forwarder_build_info", "The program", [(version, 1.0)])
    }

    /// Where a history is to be kept.
    pub(super) fn history(&self, families: &mut Families) -> fmt::Result {
        let history = &self.state.history;
        if !history.enabled {
            return Ok(());
        }
        let one = |value: f64| [(Vec::new(), value)];
        let help = "1 while the history is written";
        families.gauges(
            "forwarder_history_up",
            help,
            one(f64::from(u8::from(history.why.is_none()))),
        )?;
        families.gauges(
            "forwarder_history_size_bytes",
            "Octets of the history's files",
            one(history.bytes as f64),
        )?;
        let help = "When the last interval of the history ended, seconds since 1970";
        let last = history.last.map(|last| (Vec::new(), last as f64));
        families.gauges("forwarder_history_last_interval_timestamp_seconds", help, last)?;
        let help = "Octets that the history's file system has left";
        let free = history.disk_free_bytes.map(|free| (Vec::new(), free as f64));
        families.gauges("forwarder_history_disk_free_bytes", help, free)
    }

    /// Where packets are sampled.
    pub(super) fn samples(&self, families: &mut Families) -> fmt::Result {
        let Some(samples) = &self.status.samples else {
            return Ok(());
        };
        let help = "One in so many packets is sampled";
        families.gauges(
            "forwarder_sample_rate",
            help,
            [(Vec::new(), f64::from(samples.rate))],
        )?;
        let one = |value: u64| [(Vec::new(), value)];
        families.counters("forwarder_samples", "Flow samples taken", one(samples.taken))?;
        let help = "Flow samples lost because those before them were not read yet";
        families.counters("forwarder_samples_lost", help, one(samples.lost))?;
        let of = |value: fn(&CollectorState) -> u64| {
            samples.collectors.iter().map(move |to| {
                let labels = vec![
                    ("protocol", to.protocol.name()),
                    ("collector", to.address.as_str()),
                ];
                (labels, value(to))
            })
        };
        let help = "Datagrams of flow samples that were sent, by collector";
        families.counters("forwarder_sample_datagrams", help, of(|to| to.datagrams))?;
        let help = "Datagrams of flow samples that could not be sent, by collector";
        families.counters("forwarder_sample_datagram_errors", help, of(|to| to.errors))
    }

    /// Where the administrator has set kernel.bpf_stats_enabled.
    pub(super) fn cost(&self, families: &mut Families) -> fmt::Result {
        let Some(cost) = self.program else { return Ok(()) };
        let help = "Times the program ran, while kernel.bpf_stats_enabled was set";
        families.counters("forwarder_program_runs", help, [(Vec::new(), cost.runs)])?;
        let help = "Nanoseconds the program ran, while kernel.bpf_stats_enabled was set";
        families.counters(
            "forwarder_program_run_nanoseconds",
            help,
            [(Vec::new(), cost.nanoseconds)],
        )
    }
}
