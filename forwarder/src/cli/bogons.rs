//! Lists of bogons, as screens show them.

use super::output::{Paint, grouped, span};
use crate::stats::status::BogonRow;

/// A line for each list.
pub fn lines(rows: &[BogonRow], paint: Paint) -> Vec<String> {
    rows.iter().map(|row| line(row, paint)).collect()
}

fn line(row: &BogonRow, paint: Paint) -> String {
    let from = match row.kind.as_str() {
        "built-in" => format!("built in ({})", row.name),
        _ => format!("of {}", row.name),
    };
    let mut text = format!("{} IPv4 + {} IPv6 {from}", grouped(row.ipv4), grouped(row.ipv6));
    if let Some(age) = row.read_age {
        text += &format!(", read {} ago", span(age));
    }
    if row.why.is_some() {
        text += &format!(", {}", paint.bad("kept: see problems"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_how_many_where_from_and_whether_it_is_an_older_one() {
        let row = |kind: &str, name: &str, ipv4, ipv6| BogonRow {
            kind: kind.into(),
            name: name.into(),
            ipv4,
            ipv6,
            ..BogonRow::default()
        };
        let file = BogonRow {
            read_age: Some(3),
            why: Some("gone".into()),
            ..row("file", "/etc/bogons", 1_503, 0)
        };
        let rows = [
            row("built-in", "IANA 2025-10-09", 15, 4),
            row("config", "bogon-prefixes", 1, 0),
            file,
        ];
        assert_eq!(
            lines(&rows, Paint::off()),
            [
                "15 IPv4 + 4 IPv6 built in (IANA 2025-10-09)",
                "1 IPv4 + 0 IPv6 of bogon-prefixes",
                "1,503 IPv4 + 0 IPv6 of /etc/bogons, read 3 s ago, kept: see problems",
            ]
        );
    }
}
