//! `forwarder filter limits`.

use anyhow::Result;

use super::words;
use crate::{
    cli::{
        output::{self, Paint, grouped},
        reader::Reader,
    },
    stats::{self, LimitRow},
};

/// Prints the punt classes.
pub fn limits(reader: &Reader, json: bool) -> Result<bool> {
    let figures = reader.fetch("/v1/limits", stats::limits)?;
    if json {
        figures.print_json()?;
    } else {
        output::print(&screen(&figures.rows()?, Paint::stdout()))?;
    }
    Ok(true)
}

const COLUMNS: &[output::Column] = &[
    ("class", false),
    ("rate", true),
    ("share", true),
    ("passed", true),
    ("dropped", true),
    ("by share", true),
    ("now", true),
    ("drops", true),
];

fn screen(rows: &[LimitRow], paint: Paint) -> String {
    if rows.is_empty() {
        return "nothing that goes up to the kernel is limited: [punt] says enabled = false, or no controller has said \
                otherwise yet\n"
            .into();
    }
    let mut text = output::table(COLUMNS, rows.iter().map(|row| line(row, paint)), paint);
    let sessions: u64 = rows.iter().filter_map(|row| row.sessions).sum();
    let peers: u64 = rows.iter().filter_map(|row| row.peers).sum();
    text += &format!(
        "\n{} of this router on control ports and {} are known\n",
        counted(sessions, "session"),
        counted(peers, "peer")
    );
    text
}

fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

fn line(row: &LimitRow, paint: Paint) -> Vec<String> {
    let rate = |rate: Option<u64>| rate.map_or("-".to_string(), words::packets);
    let now = |rate: Option<u64>| {
        rate.filter(|rate| *rate > 0)
            .map_or("-".to_string(), words::packets)
    };
    let drops = now(row.dropped_packets_per_second);
    vec![
        row.class.clone(),
        rate(row.rate),
        rate(row.per_source),
        words::count(row.passed_packets),
        words::count(row.dropped_packets),
        words::count(row.over_share_packets),
        now(row.passed_packets_per_second),
        if drops == "-" { drops } else { paint.bad(&drops) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_says_what_drops() {
        let row = |class: &str, passed, dropped| LimitRow {
            class: class.into(),
            rate: Some(20_000),
            per_source: Some(5_000),
            passed_packets: passed,
            dropped_packets: dropped,
            passed_packets_per_second: Some(20_000),
            dropped_packets_per_second: Some(dropped),
            ..LimitRow::default()
        };
        let mut session = row("session", 1_000_000, 0);
        (session.rate, session.sessions, session.peers) = (None, Some(1), Some(2));
        let text = screen(
            &[row("local-control", 12_345_678, 1_234_567), session],
            Paint::off(),
        );
        assert_eq!(
            text,
            "class             rate   share  passed  dropped  by share      now     drops\n\
             local-control  20 kpps  5 kpps  12.3 M    1.2 M         0  20 kpps  1.2 Mpps\n\
             session              -  5 kpps     1 M        0         0  20 kpps         -\n\
             \n1 session of this router on control ports and 2 peers are known\n"
        );
    }
}
