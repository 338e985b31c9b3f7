//! The same figures for Prometheus, in OpenMetrics text.

use std::{collections::BTreeMap, fmt};

use forwarder_common::reason::Policy;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::ApiContext;
use crate::stats::{
    self, By, CounterRow, DropRow, InterfaceRow, StatusRow,
    status::{self, Now, SourceRow},
};

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One scrape.
///
/// # Errors
/// None in practice: the text is written to memory.
pub fn text(context: &ApiContext) -> Result<String, fmt::Error> {
    let interfaces = context.interfaces();
    let snapshot = Snapshot {
        status: status::status(&context.tables, Some(&context.state()), &interfaces, Now::read()),
        interfaces,
        drops: stats::drops(&context.tables, true),
        next_hops: stats::counters(&context.tables, By::NextHop, None, true),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Snapshot {
    status: StatusRow,
    interfaces: Vec<InterfaceRow>,
    drops: Vec<DropRow>,
    next_hops: Vec<CounterRow>,
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<'l, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, M)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        let Some((_, first)) = values.peek() else {
            return Ok(());
        };
        let mut encoder = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, value) in values {
            if labels.is_empty() {
                let no_labels: [(&str, &str); 0] = [];
                value.encode(encoder.encode_family(&no_labels)?)?;
            } else {
                value.encode(encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            values
                .into_iter()
                .map(|(labels, value)| (labels, ConstCounter::new(value))),
        )
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            values
                .into_iter()
                .map(|(labels, value)| (labels, ConstGauge::new(value))),
        )
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        self.interfaces(&mut families)?;
        self.reasons(&mut families)?;
        self.next_hops(&mut families)?;
        self.sources(&mut families)?;
        self.health(&mut families)
    }
}

fn feed_labels(row: &SourceRow) -> Labels<'_> {
    vec![("feed", row.kind.as_str()), ("name", row.name.as_str())]
}

impl Snapshot {
    fn interfaces(&self, families: &mut Families) -> fmt::Result {
        type Field = fn(&InterfaceRow) -> u64;
        let counters: [(&str, &str, Field); 8] = [
            ("received_packets", "Packets the program saw", |r| {
                r.received_packets
            }),
            ("received_bytes", "Octets of the packets the program saw", |r| {
                r.received_bytes
            }),
            (
                "forwarded_packets",
                "Packets sent out by the fast path, by ingress interface",
                |r| r.forwarded_packets,
            ),
            (
                "forwarded_bytes",
                "Octets sent out by the fast path, by ingress interface",
                |r| r.forwarded_bytes,
            ),
            (
                "sent_packets",
                "Packets redirected to the egress interface",
                |r| r.sent_packets,
            ),
            ("sent_bytes", "Octets redirected to the egress interface", |r| {
                r.sent_bytes
            }),
            ("transmitted_packets", "Packets the egress driver took", |r| {
                r.transmitted_packets
            }),
            (
                "lost_packets",
                "Packets lost before or in the egress driver",
                |r| r.redirect_errors + r.transmit_errors,
            ),
        ];
        for (name, help, field) in counters {
            let values = self
                .interfaces
                .iter()
                .map(|row| (vec![("ifname", row.ifname.as_str())], field(row)));
            families.counters(&format!("forwarder_{name}"), help, values)?;
        }
        type Residue = fn(&InterfaceRow) -> Option<i64>;
        let residues: [(&str, &str, Residue); 2] = [
            (
                "ingress",
                "Packets the driver received less those the program saw",
                |r| r.ingress_residue,
            ),
            ("egress", "Packets sent less those transmitted or lost", |r| {
                r.egress_residue
            }),
        ];
        for (direction, help, field) in residues {
            let values = self
                .interfaces
                .iter()
                .filter_map(|row| Some((vec![("ifname", row.ifname.as_str())], field(row)? as f64)));
            families.gauges(&format!("forwarder_{direction}_residue_packets"), help, values)?;
        }
        Ok(())
    }

    fn reasons(&self, families: &mut Families) -> fmt::Result {
        for (verdict, policy, help) in [
            ("dropped", Policy::Drop, "dropped, by reason"),
            ("passed", Policy::Pass, "handed to the kernel, by reason"),
        ] {
            let rows: Vec<&DropRow> = self
                .drops
                .iter()
                .filter(|row| row.verdict == policy.as_str())
                .collect();
            let packets = rows.iter().map(|row| {
                (
                    vec![("ifname", row.ifname.as_str()), ("reason", row.reason.as_str())],
                    row.packets,
                )
            });
            families.counters(
                &format!("forwarder_{verdict}_packets"),
                &format!("Packets {help}"),
                packets,
            )?;
            let bytes = rows.iter().map(|row| {
                let labels = vec![("ifname", row.ifname.as_str()), ("reason", row.reason.as_str())];
                (labels, row.bytes.unwrap_or(0))
            });
            families.counters(
                &format!("forwarder_{verdict}_bytes"),
                &format!("Octets {help}"),
                bytes,
            )?;
        }
        for (stage, help) in [
            (
                "redirect",
                "Packets lost between the verdict and the egress queue, by reason",
            ),
            ("transmit", "Packets the egress driver refused, by reason"),
        ] {
            let values = self
                .drops
                .iter()
                .filter(|row| row.verdict == "lost")
                .filter_map(|row| {
                    let reason = row.reason.strip_prefix(stage)?.strip_prefix('-')?;
                    Some((
                        vec![("ifname", row.ifname.as_str()), ("reason", reason)],
                        row.packets,
                    ))
                });
            families.counters(&format!("forwarder_{stage}_errors"), help, values)?;
        }
        Ok(())
    }

    fn next_hops(&self, families: &mut Families) -> fmt::Result {
        // Routes with an MTU have next hops of their own to the same neighbour: one series for all of them.
        let mut sums: BTreeMap<(&str, &str, &str), (u64, u64)> = BTreeMap::new();
        for row in &self.next_hops {
            if let (Some(nexthop), Some(af), Some(ifname)) = (&row.nexthop, &row.af, &row.ifname) {
                let sum = sums.entry((ifname, nexthop, af)).or_default();
                sum.0 += row.packets;
                sum.1 += row.bytes;
            }
        }
        let packets = sums.iter().map(|((ifname, nexthop, af), sum)| {
            (
                vec![("ifname", *ifname), ("nexthop", *nexthop), ("af", *af)],
                sum.0,
            )
        });
        families.counters(
            "forwarder_nexthop_packets",
            "Packets forwarded, by next hop",
            packets,
        )?;
        let bytes = sums.iter().map(|((ifname, nexthop, af), sum)| {
            (
                vec![("ifname", *ifname), ("nexthop", *nexthop), ("af", *af)],
                sum.1,
            )
        });
        families.counters("forwarder_nexthop_bytes", "Octets forwarded, by next hop", bytes)
    }

    fn sources(&self, families: &mut Families) -> fmt::Result {
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

    fn health(&self, families: &mut Families) -> fmt::Result {
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
        let help = "Problems that `forwarder status` tells";
        families.gauges(
            "forwarder_problems",
            help,
            [(Vec::new(), row.problems.len() as f64)],
        )?;
        let version = vec![("version", row.version.as_str())];
        families.gauges("forwarder_build_info", "The program", [(version, 1.0)])
    }
}
