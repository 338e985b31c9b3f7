//! A rule in words.

use crate::{
    cli::output::{grouped, span},
    stats::RuleRow,
};

/// What it does: `drop`, `limit 10 Mbit/s`, `accept, DSCP 8`.
pub fn action(row: &RuleRow) -> String {
    let mut text = match (row.action.as_str(), row.rate) {
        ("rate-limit", Some(rate)) if row.rate_unit.as_deref() == Some("packets") => {
            format!("limit {}", packets(rate))
        }
        ("rate-limit", Some(rate)) => format!("limit {}", bits(rate)),
        (action, _) => action.to_string(),
    };
    if let Some(dscp) = row.dscp {
        text += &format!(", DSCP {dscp}");
    }
    text
}

/// Who asked for it: `config`, or the session.
pub fn origin(row: &RuleRow) -> &str {
    row.session.as_deref().unwrap_or(&row.origin)
}

/// When packets came last, of those that were counted since a start that nobody watched.
pub fn last_hit(packets: u64, seconds_ago: Option<u64>) -> String {
    match seconds_ago {
        Some(seconds) => format!("{} ago", span(seconds)),
        None if packets > 0 => "before the start".into(),
        None => "never".into(),
    }
}

/// Octets a second as bits: `9.8 Mbit/s`.
pub fn bits(octets: u64) -> String {
    scaled(
        u128::from(octets) * 8,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
    )
}

/// Packets a second: `5 kpps`.
pub fn packets(number: u64) -> String {
    scaled(number.into(), &["pps", "kpps", "Mpps", "Gpps"])
}

/// A number: `99,999`, and then `100 k`.
pub fn count(number: u64) -> String {
    if number < 100_000 {
        grouped(number)
    } else {
        scaled(number.into(), &["", "k", "M", "G", "T", "P", "E"])
    }
}

/// To a tenth, and no tenth where it is none.
fn scaled(number: u128, units: &[&str]) -> String {
    let mut scale = 1;
    let mut unit = 0;
    // 999.95 would be printed as 1000.0.
    while number * 100 >= scale * 99_995 && unit + 1 < units.len() {
        scale *= 1_000;
        unit += 1;
    }
    let tenths = (number * 10 + scale / 2) / scale;
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, units[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_to_a_tenth() {
        assert_eq!(
            [0, 1, 124, 125, 1_250_000, 1_234_567, 124_999_999].map(bits),
            [
                "0 bit/s",
                "8 bit/s",
                "992 bit/s",
                "1 kbit/s",
                "10 Mbit/s",
                "9.9 Mbit/s",
                "1 Gbit/s"
            ]
        );
        assert_eq!(packets(5_000), "5 kpps");
        assert_eq!(
            [99_999, 100_000, 12_345_678].map(count),
            ["99,999", "100 k", "12.3 M"]
        );
        assert_eq!(bits(u64::MAX), "147573952.6 Tbit/s");
    }

    #[test]
    fn an_action_is_said_in_a_few_words() {
        let row = |action: &str, rate, unit: Option<&str>, dscp| RuleRow {
            action: action.into(),
            rate,
            rate_unit: unit.map(Into::into),
            dscp,
            ..RuleRow::default()
        };
        assert_eq!(action(&row("drop", None, None, None)), "drop");
        assert_eq!(
            action(&row("rate-limit", Some(50), Some("packets"), None)),
            "limit 50 pps"
        );
        assert_eq!(
            action(&row("rate-limit", Some(1_250_000), Some("bytes"), Some(8))),
            "limit 10 Mbit/s, DSCP 8"
        );
    }
}
