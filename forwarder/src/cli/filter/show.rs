//! `forwarder filter show`.

use anyhow::Result;

use super::words;
use crate::{
    cli::{
        bogons,
        output::{self, Paint, grouped, octets},
    },
    stats::{RuleRow, status::BogonRow},
};

/// Prints the rules, and on a screen the lists of bogons.
pub fn show(rows: &[RuleRow], bogons: &[BogonRow], json: bool) -> Result<bool> {
    if json {
        output::print_json(rows)?;
        return Ok(true);
    }
    let paint = Paint::stdout();
    let mut text = screen(rows, paint);
    for (index, line) in bogons::lines(bogons, paint).into_iter().enumerate() {
        text += if index == 0 { "\nbogons  " } else { "        " };
        text += &format!("{line}\n");
    }
    output::print(&text)?;
    Ok(true)
}

/// Names stand last: those of FlowSpec rules may be as long as they like.
const IN_FORCE: &[output::Column] = &[
    ("#", true),
    ("action", false),
    ("packets", true),
    ("bytes", true),
    ("dropped", true),
    ("now", true),
    ("last hit", true),
    ("from", false),
    ("family", false),
    ("rule", false),
];
const NOT_APPLIED: &[output::Column] = &[("not applied", false), ("from", false), ("why", false)];

fn screen(rows: &[RuleRow], paint: Paint) -> String {
    let (mut active, rest): (Vec<&RuleRow>, Vec<&RuleRow>) = rows.iter().partition(|row| row.is_active());
    active.sort_by_key(|row| place(row));
    if active.is_empty() && rest.is_empty() {
        return "no rules: [[filter.rule]] has none, and no FlowSpec neighbour has sent one\n".into();
    }
    let mut text = if active.is_empty() {
        "no rule is in force\n".to_string()
    } else {
        output::table(IN_FORCE, active.into_iter().map(in_force), paint)
    };
    if !rest.is_empty() {
        let rows = rest.into_iter().map(|row| {
            vec![
                row.name.clone(),
                words::origin(row).to_string(),
                output::or_dash(row.why.as_deref()),
            ]
        });
        text.push('\n');
        text += &output::table(NOT_APPLIED, rows, paint);
    }
    text
}

/// Where a rule stands: those of neighbours are asked by family, each counted from those of the configuration on.
fn place(row: &RuleRow) -> (bool, Option<&str>, Option<u32>) {
    let announced = row.origin == "flowspec";
    let family = row.family.as_deref().filter(|_| announced);
    (announced, family, row.order)
}

fn in_force(row: &RuleRow) -> Vec<String> {
    // In the unit of its rate, so that the two can be compared.
    let now = match (row.packets_per_second, row.rate_unit.as_deref()) {
        (0, _) => "-".to_string(),
        (packets, Some("packets")) => words::packets(packets),
        _ => words::bits(row.bytes_per_second),
    };
    vec![
        row.order.map_or("-".to_string(), |order| order.to_string()),
        words::action(row),
        grouped(row.packets),
        octets(row.bytes),
        grouped(row.dropped_packets),
        now,
        words::last_hit(row.packets, row.last_hit_seconds_ago),
        words::origin(row).to_string(),
        match &row.family {
            Some(family) => family.clone(),
            // Of one that was found at the start nobody knows it.
            None if row.order.is_none() => "-".into(),
            None => "both".into(),
        },
        match &row.why {
            None => row.name.clone(),
            Some(but) => format!("{} ({but})", row.name),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::rules::{ACTIVE, NOT_APPLIED};

    fn row(order: u32, name: &str, action: &str) -> RuleRow {
        RuleRow {
            order: Some(order),
            name: name.into(),
            origin: "config".into(),
            state: ACTIVE.into(),
            action: action.into(),
            ..RuleRow::default()
        }
    }

    #[test]
    fn rules_in_force_stand_in_their_order_and_the_others_behind_with_why() {
        let limit = RuleRow {
            rate: Some(1_250_000),
            rate_unit: Some("bytes".into()),
            packets: 1_234_567,
            bytes: 617_283_500,
            dropped_packets: 1_000_000,
            packets_per_second: 2_500,
            bytes_per_second: 1_250_000,
            last_hit_seconds_ago: Some(0),
            ..row(2, "ntp-amplification", "rate-limit")
        };
        let refused = RuleRow {
            order: None,
            origin: "flowspec".into(),
            session: Some("scrubber".into()),
            state: NOT_APPLIED.into(),
            why: Some("redirect is not done".into()),
            ..row(0, "dst 192.0.2.1/32", "accept")
        };
        let first = RuleRow {
            why: Some("applied without sampling".into()),
            ..row(1, "chargen", "drop")
        };
        let announced = |order, family: &str, name: &str| RuleRow {
            family: Some(family.into()),
            origin: "flowspec".into(),
            session: Some("scrubber".into()),
            ..row(order, name, "drop")
        };
        let six = announced(3, "ipv6", "dst 2001:db8::1/128");
        let fourth = announced(4, "ipv4", "dst 192.0.2.9/32");
        let third = RuleRow {
            action: "rate-limit".into(),
            rate: Some(500),
            rate_unit: Some("packets".into()),
            packets: 9_000,
            bytes: 4_338_000,
            dropped_packets: 8_500,
            packets_per_second: 2_500,
            bytes_per_second: 1_250_000,
            last_hit_seconds_ago: Some(61),
            ..announced(3, "ipv4", "dst 192.0.2.8/32")
        };
        let text = screen(&[refused.clone(), six, fourth, third, limit, first], Paint::off());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "#  action             packets     bytes    dropped        now       last hit  from      family  rule",
                "1  drop                     0       0 B          0          -          never  config    both    chargen (applied without sampling)",
                "2  limit 10 Mbit/s  1,234,567  617.3 MB  1,000,000  10 Mbit/s        0 s ago  config    both    ntp-amplification",
                "3  limit 500 pps        9,000    4.3 MB      8,500   2.5 kpps  1 min 1 s ago  scrubber  ipv4    dst 192.0.2.8/32",
                "4  drop                     0       0 B          0          -          never  scrubber  ipv4    dst 192.0.2.9/32",
                "3  drop                     0       0 B          0          -          never  scrubber  ipv6    dst 2001:db8::1/128",
                "",
                "not applied       from      why",
                "dst 192.0.2.1/32  scrubber  redirect is not done",
            ]
        );
        let text = screen(&[refused], Paint::off());
        assert_eq!(
            text,
            "no rule is in force\n\nnot applied       from      why\ndst 192.0.2.1/32  scrubber  redirect is not done\n"
        );
        assert!(screen(&[], Paint::off()).starts_with("no rules: "));
    }
}
