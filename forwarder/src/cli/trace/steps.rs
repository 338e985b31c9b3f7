//! What the program found on its way, as a row.

use forwarder_common::{
    fib::Leaf,
    filter::SourceClass,
    nexthop::{BUCKETS, bucket},
    punt::Class,
    reason::Reason,
    trace::Stage,
};
use serde::Serialize;

use super::packet::{ETHERNET, Packet};
use crate::{
    cli::checksum::{folded, sum},
    dataplane::{Tables, tracer::Traced},
    fib::slots::RESERVED,
    stats::{names, path, prefixes},
};

/// Everything about one traced packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceRow {
    /// Interface it came in on.
    pub ifname: String,
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// Octets of the frame.
    pub bytes: usize,
    /// "forward", "pass", "drop".
    pub verdict: String,
    /// The reason it left with.
    pub reason: String,
    /// The reason in a sentence.
    pub help: String,
    /// In a dry run, the reason it would have left with; null where that is `reason`.
    pub decided: Option<String>,
    /// Last stage that was finished.
    pub stage: String,
    /// Class of the source; null where the filter was not reached.
    pub source_class: Option<String>,
    /// FIB leaf; null where the table was not asked.
    pub leaf: Option<u32>,
    /// The prefix that covers the destination.
    pub prefix: Option<String>,
    /// Its counter slot.
    pub slot: Option<u32>,
    /// Next-hop group.
    pub group: Option<u32>,
    /// Next hops in the group.
    pub next_hops: Option<usize>,
    /// Flow hash; null where the group has one next hop.
    pub hash: Option<u32>,
    /// Bucket the hash chose.
    pub bucket: Option<usize>,
    /// Next-hop id.
    pub next_hop_id: Option<u32>,
    /// The neighbour.
    pub via: Option<String>,
    /// Egress interface.
    pub egress_ifname: Option<String>,
    /// "usable", or the reason its packets leave with.
    pub next_hop_state: Option<String>,
    /// Largest IP packet it takes.
    pub mtu: Option<u32>,
    /// Punt class that it is limited by; null where it is not.
    pub punt_class: Option<String>,
    /// What that class lets up, packets a second.
    pub punt_rate: Option<u32>,
    /// What it lets up of one source.
    pub punt_per_source: Option<u32>,
    /// Destination MAC before.
    pub destination_mac_before: Option<String>,
    /// Destination MAC after; null where the packet was not touched.
    pub destination_mac_after: Option<String>,
    /// Source MAC before.
    pub source_mac_before: Option<String>,
    /// Source MAC after.
    pub source_mac_after: Option<String>,
    /// TTL or hop limit before.
    pub ttl_before: u8,
    /// TTL or hop limit after.
    pub ttl_after: Option<u8>,
    /// IPv4 header checksum right after the rewrite; null for IPv6 and where the packet was not touched.
    pub checksum_right: Option<bool>,
    /// Whether the packet left as it came.
    pub untouched: bool,
}

/// The row for what the program said.
pub fn row(tables: &Tables, packet: &Packet, ifname: &str, frame: &[u8], traced: &Traced) -> TraceRow {
    let trace = &traced.trace;
    let reason = Reason::from_index(trace.reason as usize).unwrap_or(Reason::Internal);
    let decided = match reason {
        Reason::DryRun => Reason::from_index(trace.decided as usize).unwrap_or(Reason::Internal),
        other => other,
    };
    let stage = Stage::from_number(trace.stage);
    let (mac, ttl) = (
        |at: usize, of: &[u8]| mac_at(of, at),
        if packet.source.is_ipv4() { 22 } else { 21 },
    );
    let mut row = TraceRow {
        ifname: ifname.to_string(),
        source: packet.source.to_string(),
        destination: packet.destination.to_string(),
        bytes: frame.len(),
        verdict: verdict(traced.action).to_string(),
        reason: reason.name().to_string(),
        help: reason.help().to_string(),
        decided: (decided != reason).then(|| decided.name().to_string()),
        stage: stage_name(stage).to_string(),
        destination_mac_before: mac(0, frame),
        source_mac_before: mac(6, frame),
        ttl_before: packet.ttl,
        untouched: traced.packet == frame,
        ..TraceRow::default()
    };
    let filtered = matches!(decided, Reason::BogonSource | Reason::SpoofedSource);
    if stage >= Stage::Filter || filtered {
        row.source_class = Some(class(trace.source_class).to_string());
    }
    if stage >= Stage::Fib || reason == Reason::NoRoute {
        fib(tables, trace.leaf, &mut row);
    }
    if stage >= Stage::Fib {
        next_hop(tables, trace, &mut row);
    }
    if let Some(class) = trace.punt_class.checked_sub(1).map(|class| class as usize)
        && let Some(class) = Class::ALL.get(class)
    {
        let allowed = tables.punt.get(0).classes[*class as usize];
        let some = |rate: u32| (rate != 0).then_some(rate);
        row.punt_class = Some(class.name().to_string());
        (row.punt_rate, row.punt_per_source) = (some(allowed.per_second), some(allowed.share_per_second));
    }
    if !row.untouched {
        row.destination_mac_after = mac(0, &traced.packet);
        row.source_mac_after = mac(6, &traced.packet);
        row.ttl_after = traced.packet.get(ttl).copied();
        row.checksum_right = packet.source.is_ipv4().then(|| checksum_right(&traced.packet));
    }
    row
}

fn fib(tables: &Tables, leaf: u32, row: &mut TraceRow) {
    row.leaf = Some(leaf);
    let leaf = Leaf(leaf);
    if leaf.is_none() || leaf.slot() >= tables.sizes.slots {
        return;
    }
    row.slot = Some(leaf.slot());
    if leaf.slot() >= RESERVED {
        let entry = prefixes::entry(tables, leaf.slot());
        row.prefix = prefixes::owner(&entry).map(|prefix| prefix.to_string());
    }
}

fn next_hop(tables: &Tables, trace: &forwarder_common::trace::Trace, row: &mut TraceRow) {
    row.group = Some(trace.group);
    let members = path::Paths::new(tables).hops(trace.group);
    row.next_hops = Some(members.len());
    if members.len() > 1 {
        row.hash = Some(trace.hash);
        row.bucket = Some(bucket(trace.hash, BUCKETS as u32));
    }
    let Some(hop) = path::next_hop(tables, trace.nexthop) else {
        return;
    };
    row.next_hop_id = Some(hop.id);
    row.mtu = hop.via.map(|_| hop.mtu);
    row.via = hop.via.map(|via| via.to_string());
    row.egress_ifname = hop.ifname;
    row.next_hop_state = Some(hop.state);
}

fn mac_at(frame: &[u8], at: usize) -> Option<String> {
    let octets: [u8; 6] = frame.get(at..at + 6)?.try_into().ok()?;
    Some(names::mac(octets))
}

fn checksum_right(frame: &[u8]) -> bool {
    let Some(header) = frame.get(ETHERNET..ETHERNET + 20) else {
        return false;
    };
    folded(sum(header)) == 0xffff
}

/// `XDP_*`, include/uapi/linux/bpf.h, in a word.
pub const fn verdict(action: u32) -> &'static str {
    match action {
        0 => "aborted",
        1 => "drop",
        2 => "pass",
        3 => "transmit",
        4 => "forward",
        _ => "unknown",
    }
}

const fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Start => "start",
        Stage::Parse => "parse",
        Stage::Filter => "filter",
        Stage::Origin => "source-check",
        Stage::Fib => "fib",
        Stage::NextHop => "next-hop",
        Stage::Redirect => "redirect",
        Stage::Rewrite => "rewrite",
    }
}

fn class(word: u32) -> &'static str {
    if word == SourceClass::Bogon as u32 {
        "bogon"
    } else if word == SourceClass::Own as u32 {
        "own"
    } else {
        "ordinary"
    }
}

#[cfg(test)]
mod tests {
    use forwarder_common::trace::Trace;

    use super::*;
    use crate::cli::{output::Paint, trace::screen::screen};
    use crate::{
        cli::trace::packet::{Protocol, tests::packet},
        stats::sample,
    };

    #[test]
    fn a_forwarded_packet_shows_every_step() {
        let tables = sample::tables();
        let described = packet("192.0.2.1", "198.51.100.7", Protocol::Udp);
        let frame = described.frame().unwrap();
        let mut out = frame.clone();
        out[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        out[22] = 63;
        // TTL is the high octet of its word: one less there is one more in the checksum.
        out[24] = out[24].wrapping_add(1);
        let traced = Traced {
            action: 4,
            packet: out,
            trace: Trace {
                stage: Stage::Rewrite as u32,
                leaf: Leaf::route(5, RESERVED).0,
                group: 5,
                nexthop: 3,
                port: 1,
                ..Trace::default()
            },
        };
        let row = row(&tables, &described, "transit0", &frame, &traced);
        assert_eq!(
            (row.verdict.as_str(), row.reason.as_str()),
            ("forward", "forwarded")
        );
        assert_eq!(
            (row.ttl_before, row.ttl_after, row.checksum_right),
            (64, Some(63), Some(true))
        );
        let text = screen(&row, Paint::off());
        for words in [
            "fib       198.51.100.0/24 (leaf",
            "next hop  3: 192.0.2.9 on core0, MTU 1500, usable",
            "rewrite   TTL 64 to 63, checksum right",
            "to 02:00:00:00:00:09 (was 02:00:00:00:00:01)",
            "verdict   forward: forwarded (Sent out by the fast path)",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        let value = serde_json::to_value(&row).unwrap();
        assert!(
            value
                .as_object()
                .unwrap()
                .values()
                .all(|v| !v.is_object() && !v.is_array())
        );
    }

    #[test]
    fn what_goes_up_to_the_kernel_shows_the_class_that_limits_it() {
        let tables = sample::tables();
        crate::punt::install(&tables, &crate::config::PuntConfig::default(), false);
        let described = packet("192.0.2.1", "198.51.100.7", Protocol::Udp);
        let frame = described.frame().unwrap();
        let traced = Traced {
            action: 2,
            packet: frame.clone(),
            trace: Trace {
                stage: Stage::Parse as u32,
                reason: Reason::TtlExpired as u32,
                punt_class: Class::TtlExpired as u32 + 1,
                ..Trace::default()
            },
        };
        let row = row(&tables, &described, "transit0", &frame, &traced);
        let text = screen(&row, Paint::off());
        assert!(
            text.contains("limit     ttl-expired: 2000 packets a second, 200 of one source\n"),
            "{text}"
        );
    }

    #[test]
    fn a_dry_run_shows_what_would_have_become_of_it() {
        let tables = sample::tables();
        let described = packet("10.0.0.1", "198.51.100.7", Protocol::Tcp);
        let frame = described.frame().unwrap();
        let traced = Traced {
            action: 2,
            packet: frame.clone(),
            trace: Trace {
                stage: Stage::Parse as u32,
                reason: Reason::DryRun as u32,
                decided: Reason::BogonSource as u32,
                source_class: SourceClass::Bogon as u32,
                ..Trace::default()
            },
        };
        let row = row(&tables, &described, "transit0", &frame, &traced);
        let text = screen(&row, Paint::off());
        for words in [
            "filter    source is bogon",
            "verdict   pass to the kernel: dry-run",
            "without --dry-run it would leave as bogon-source",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_dropped_packet_stops_at_its_stage() {
        let tables = sample::tables();
        let described = packet("10.0.0.1", "198.51.100.7", Protocol::Tcp);
        let frame = described.frame().unwrap();
        let traced = Traced {
            action: 1,
            packet: frame.clone(),
            trace: Trace {
                stage: Stage::Parse as u32,
                reason: Reason::BogonSource as u32,
                source_class: SourceClass::Bogon as u32,
                ..Trace::default()
            },
        };
        let text = screen(
            &row(&tables, &described, "transit0", &frame, &traced),
            Paint::off(),
        );
        assert!(text.contains("filter    source is bogon"), "{text}");
        assert!(!text.contains("limit "), "{text}");
        assert!(
            !text.contains("fib ") && text.contains("verdict   drop: bogon-source"),
            "{text}"
        );
    }
}
