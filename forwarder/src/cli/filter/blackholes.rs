//! `forwarder filter blackholes`.

use anyhow::Result;

use super::words;
use crate::{
    cli::output::{self, Paint, grouped, octets},
    stats::BlackholeRow,
};

/// Prints the blackholes.
pub fn show(rows: &[BlackholeRow], json: bool) -> Result<bool> {
    if json {
        output::print_json(rows)?;
    } else {
        output::print(&screen(rows, Paint::stdout()))?;
    }
    Ok(true)
}

const COLUMNS: &[output::Column] = &[
    ("blackhole", false),
    ("packets", true),
    ("bytes", true),
    ("now", true),
    ("packets/s", true),
    ("last hit", true),
];

fn screen(rows: &[BlackholeRow], paint: Paint) -> String {
    if rows.is_empty() {
        return "no blackhole route, of the kernel's or by a community\n".into();
    }
    output::table(COLUMNS, rows.iter().map(line), paint)
}

fn line(row: &BlackholeRow) -> Vec<String> {
    let quiet = row.packets_per_second == 0;
    let now = |text: String| if quiet { "-".to_string() } else { text };
    vec![
        row.prefix
            .map_or("(all others)".to_string(), |prefix| prefix.to_string()),
        grouped(row.packets),
        octets(row.bytes),
        now(words::bits(row.bytes_per_second)),
        now(grouped(row.packets_per_second)),
        words::last_hit(row.packets, row.last_hit_seconds_ago),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_shows_while_it_lasts_and_when_it_ended() {
        let row = |prefix: Option<&str>| BlackholeRow {
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            ..BlackholeRow::default()
        };
        let under_attack = BlackholeRow {
            packets: 1_234_567,
            bytes: 617_283_500,
            packets_per_second: 2_500,
            bytes_per_second: 1_250_000,
            last_hit_seconds_ago: Some(0),
            ..row(Some("192.0.2.1/32"))
        };
        let over = BlackholeRow {
            packets: 12,
            bytes: 1_200,
            last_hit_seconds_ago: Some(60),
            ..row(Some("2001:db8::1/128"))
        };
        let text = screen(&[under_attack, over, row(None)], Paint::off());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "blackhole          packets     bytes        now  packets/s       last hit",
                "192.0.2.1/32     1,234,567  617.3 MB  10 Mbit/s      2,500        0 s ago",
                "2001:db8::1/128         12    1.2 kB          -          -  1 min 0 s ago",
                "(all others)             0       0 B          -          -          never",
            ]
        );
        assert!(screen(&[], Paint::off()).starts_with("no blackhole route"));
    }
}
