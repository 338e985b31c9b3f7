//! The steps of a traced packet, for people.

use super::steps::TraceRow;
use crate::cli::output::Paint;

/// The steps, one on each line.
pub fn screen(row: &TraceRow, paint: Paint) -> String {
    let mut lines: Vec<(&str, String)> = vec![(
        "packet",
        format!(
            "{} to {}, {} octets, in on {}",
            row.source, row.destination, row.bytes, row.ifname
        ),
    )];
    if row.stage != "start" {
        lines.push(("parse", "headers are sound, for this router's MAC".into()));
    }
    if let Some(class) = &row.source_class {
        lines.push(("filter", format!("source is {class}")));
    }
    if let Some(leaf) = row.leaf {
        lines.push((
            "fib",
            match (&row.prefix, row.slot) {
                (Some(prefix), Some(slot)) => format!("{prefix} (leaf {leaf:#010x}, slot {slot})"),
                (None, Some(slot)) => format!("leaf {leaf:#010x}, slot {slot}, of no prefix"),
                _ => "no prefix covers the destination".into(),
            },
        ));
    }
    if let Some(group) = row.group {
        let chosen = match (row.hash, row.bucket) {
            (Some(hash), Some(bucket)) => format!(", hash {hash:#010x}, bucket {bucket}"),
            _ => String::new(),
        };
        let count = row.next_hops.unwrap_or(0);
        let s = if count == 1 { "" } else { "s" };
        lines.push(("group", format!("{group}: {count} next hop{s}{chosen}")));
    }
    if let Some(id) = row.next_hop_id {
        let state = row.next_hop_state.as_deref().unwrap_or("");
        lines.push((
            "next hop",
            match &row.via {
                Some(via) => format!(
                    "{id}: {via} on {}, MTU {}, {state}",
                    row.egress_ifname.as_deref().unwrap_or("?"),
                    row.mtu.unwrap_or(0)
                ),
                None => format!("{id}: {state}"),
            },
        ));
    }
    rewrite(row, &mut lines);
    if let Some(class) = &row.punt_class {
        let rate = row
            .punt_rate
            .map_or("no limit".to_string(), |rate| format!("{rate} packets a second"));
        let share = row
            .punt_per_source
            .map_or(String::new(), |share| format!(", {share} of one source"));
        lines.push(("limit", format!("{class}: {rate}{share}")));
    }
    let verdict = match row.verdict.as_str() {
        "forward" => paint.good("forward"),
        "pass" => "pass to the kernel".to_string(),
        other => paint.bad(other),
    };
    lines.push(("verdict", format!("{verdict}: {} ({})", row.reason, row.help)));
    if let Some(decided) = &row.decided {
        lines.push(("", format!("without --dry-run it would leave as {decided}")));
    }
    let mut text = String::new();
    for (name, value) in lines {
        text += &format!("{} {value}\n", paint.bold(&format!("{name:9}")));
    }
    text
}

fn rewrite(row: &TraceRow, lines: &mut Vec<(&'static str, String)>) {
    let show = |mac: &Option<String>| mac.clone().unwrap_or_else(|| "?".into());
    if row.untouched {
        lines.push(("rewrite", "none, the packet is as it came".into()));
        return;
    }
    let checksum = match row.checksum_right {
        Some(true) => ", checksum right",
        Some(false) => ", CHECKSUM WRONG",
        None => "",
    };
    let after = row.ttl_after.map_or("?".to_string(), |ttl| ttl.to_string());
    lines.push(("rewrite", format!("TTL {} to {after}{checksum}", row.ttl_before)));
    lines.push((
        "",
        format!(
            "to {} (was {})",
            show(&row.destination_mac_after),
            show(&row.destination_mac_before)
        ),
    ));
    lines.push((
        "",
        format!(
            "from {} (was {})",
            show(&row.source_mac_after),
            show(&row.source_mac_before)
        ),
    ));
}
