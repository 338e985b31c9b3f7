//! What was forwarded, and what was not: interfaces, reasons, next hops, and the prefixes and networks that are asked for.

use std::{collections::BTreeMap, fmt};

use forwarder_common::reason::Policy;

use super::{Snapshot, families::Families};
use crate::stats::{
    DropRow, InterfaceRow,
    drops::{WOULD_DROP, WOULD_FORWARD},
};

impl Snapshot {
    pub(super) fn interfaces(&self, families: &mut Families) -> fmt::Result {
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
        let about = self.interfaces.iter().map(|row| {
            let role = row.role.as_deref().unwrap_or("");
            let labels = vec![
                ("ifname", row.ifname.as_str()),
                ("role", role),
                ("mode", row.mode.as_str()),
            ];
            (labels, 1.0)
        });
        families.gauges(
            "forwarder_interface_info",
            "An interface, its role and how the program is on it",
            about,
        )?;
        for (name, help, field) in counters {
            let values = self
                .interfaces
                .iter()
                .map(|row| (vec![("ifname", row.ifname.as_str())], field(row)));
            families.counters(&format!("forwarder_{name}"), help, values)?;
        }
        type Link = fn(&InterfaceRow) -> Option<u64>;
        let links: [(&str, &str, Link); 4] = [
            ("received_packets", "Packets the driver received", |r| {
                r.link_received_packets
            }),
            ("received_bytes", "Octets the driver received", |r| {
                r.link_received_bytes
            }),
            (
                "sent_packets",
                "Packets the driver sent, the kernel's among them",
                |r| r.link_sent_packets,
            ),
            (
                "sent_bytes",
                "Octets the driver sent, the kernel's among them",
                |r| r.link_sent_bytes,
            ),
        ];
        for (name, help, field) in links {
            let rows = self.interfaces.iter();
            let values = rows.filter_map(|row| Some((vec![("ifname", row.ifname.as_str())], field(row)?)));
            families.counters(&format!("forwarder_link_{name}"), help, values)?;
        }
        let rows = self.interfaces.iter();
        let speeds =
            rows.filter_map(|row| Some((vec![("ifname", row.ifname.as_str())], row.link_speed? as f64)));
        let help = "Bits a second that the link carries";
        families.gauges("forwarder_link_speed_bits_per_second", help, speeds)?;
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

    pub(super) fn reasons(&self, families: &mut Families) -> fmt::Result {
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
        let presumed = self
            .drops
            .iter()
            .filter(|row| row.verdict == WOULD_FORWARD || row.verdict == WOULD_DROP);
        let packets = presumed.map(|row| {
            let labels = vec![
                ("ifname", row.ifname.as_str()),
                ("verdict", row.verdict.as_str()),
                ("reason", row.reason.as_str()),
            ];
            (labels, row.packets)
        });
        let help = "Packets passed in a dry run, by what would have become of them";
        families.counters("forwarder_dry_run_packets", help, packets)?;
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

    pub(super) fn next_hops(&self, families: &mut Families) -> fmt::Result {
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

    /// Prefixes that `[metrics]` names, and as many of the fastest as it asks for.
    pub(super) fn chosen(&self, families: &mut Families) -> fmt::Result {
        let names: Vec<String> = self.prefixes.iter().map(|row| row.prefix.to_string()).collect();
        let rows = || self.prefixes.iter().zip(&names);
        let packets = rows().map(|(row, name)| (vec![("prefix", name.as_str())], row.counter.packets));
        let help = "Packets forwarded to a prefix of [metrics], since the controller started";
        families.counters("forwarder_prefix_packets", help, packets)?;
        let bytes = rows().map(|(row, name)| (vec![("prefix", name.as_str())], row.counter.bytes));
        let help = "Octets forwarded to a prefix of [metrics], since the controller started";
        families.counters("forwarder_prefix_bytes", help, bytes)?;
        let top = self.top_prefixes.iter().filter_map(|row| {
            let labels = vec![("prefix", row.prefix.as_deref()?)];
            Some((labels, row.bytes_per_second as f64))
        });
        let help = "Octets a second to the prefixes that get most, over the last ten seconds";
        families.gauges("forwarder_top_prefix_bytes_per_second", help, top)?;
        let top = self.top_networks.iter().filter_map(|row| {
            let labels = vec![("origin_as", row.origin_as.as_deref()?)];
            Some((labels, row.bytes_per_second as f64))
        });
        let help = "Octets a second to the networks that get most, over the last ten seconds";
        families.gauges("forwarder_top_network_bytes_per_second", help, top)
    }
}
