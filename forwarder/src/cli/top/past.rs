//! The past day of the prefix that somebody looks at, as bars.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::{Paragraph, Sparkline},
};

use crate::{api::history::HistoryRow, cli::filter::words};

/// Seconds that are looked at.
pub const DAY: i64 = 86_400;
/// What stands in a bar of which nothing is known.
const UNKNOWN: &str = "·";

/// What the history says of a prefix.
#[derive(Clone, Debug, PartialEq)]
pub enum Past {
    /// Samples of the day before a time, in seconds since 1970.
    Samples {
        /// Up to when.
        until: i64,
        /// In their order.
        rows: Vec<HistoryRow>,
    },
    /// Why there are none.
    Nothing(String),
}

/// Draws it: a line that says what it is, and bars.
pub fn draw(frame: &mut Frame, area: Rect, past: &Past) {
    let [title, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    match past {
        Past::Nothing(why) => {
            let line = Line::from(format!("the past day: {why}"));
            frame.render_widget(Paragraph::new(line), title);
        }
        Past::Samples { until, rows } => {
            frame.render_widget(Paragraph::new(heading(rows)), title);
            let heights = heights(rows, *until, bars.width.into());
            let bars_of = Sparkline::default().data(heights).absent_value_symbol(UNKNOWN);
            frame.render_widget(bars_of, bars);
        }
    }
}

/// Mean and most, and how much of the day was watched where that is not all of it.
fn heading(rows: &[HistoryRow]) -> String {
    let milliseconds: u64 = rows.iter().map(|row| row.milliseconds).sum();
    if milliseconds == 0 {
        return "the past day: nobody watched".into();
    }
    let octets: u128 = rows.iter().map(|row| u128::from(row.out_bytes)).sum();
    let mean = octets * 1_000 / u128::from(milliseconds);
    let most = rows
        .iter()
        .map(|row| row.out_bytes_per_second_most)
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "the past day: mean {}, most {} of a sample",
        words::bits(u64::try_from(mean).unwrap_or(u64::MAX)),
        words::bits(most)
    );
    let watched = milliseconds as f64 / (DAY * 1_000) as f64;
    if watched < 0.99 {
        text += &format!("; {:.0} % of it watched", watched * 100.0);
    }
    text
}

/// Octets a second in each of so many parts of the day; `None` where nobody watched.
fn heights(rows: &[HistoryRow], until: i64, width: usize) -> Vec<Option<u64>> {
    let mut sums = vec![(0u128, 0u128); width];
    for row in rows {
        let start = row.time - (until - DAY);
        let end = start.saturating_add_unsigned(row.milliseconds / 1_000);
        if end <= 0 || start >= DAY {
            continue;
        }
        // On a wide screen a sample is more than one bar.
        let place = |seconds: i64| seconds.clamp(0, DAY) as usize * width / DAY as usize;
        let last = place(end).max(place(start) + 1).min(width);
        for sum in sums.get_mut(place(start)..last).into_iter().flatten() {
            sum.0 += u128::from(row.out_bytes) * 1_000;
            sum.1 += u128::from(row.milliseconds);
        }
    }
    sums.iter()
        .map(|(octets, milliseconds)| {
            let rate = octets.checked_div(*milliseconds)?;
            Some(u64::try_from(rate).unwrap_or(u64::MAX))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: i64, bytes: u64) -> HistoryRow {
        HistoryRow {
            time,
            milliseconds: 300_000,
            samples: 1,
            out_bytes: bytes,
            out_bytes_per_second_most: bytes / 300,
            ..HistoryRow::default()
        }
    }

    #[test]
    fn a_day_fits_any_width_and_what_nobody_watched_is_no_nought() {
        let until = 10 * DAY;
        let all: Vec<HistoryRow> = (0..288)
            .map(|n| row(until - DAY + n * 300, if n < 144 { 300 } else { 0 }))
            .collect();
        for width in [1, 7, 80, 288, 500, 1_000] {
            let heights = heights(&all, until, width);
            assert_eq!(heights.len(), width);
            assert!(heights.iter().all(Option::is_some), "{width}: {heights:?}");
            assert_eq!(heights.first(), Some(&Some(if width == 1 { 0 } else { 1 })));
        }
        let half = heights(&all[144..], until, 80);
        assert!(half[..40].iter().all(Option::is_none));
        assert!(half[40..].iter().all(|height| *height == Some(0)), "{half:?}");
        // One that began the day before, and none at all.
        assert_eq!(heights(&[row(until - 2 * DAY, 1)], until, 3), [None; 3]);
        assert_eq!(heights(&[], until, 0), []);
        assert_eq!(heading(&[]), "the past day: nobody watched");
        assert_eq!(
            heading(&all[..144]),
            "the past day: mean 8 bit/s, most 8 bit/s of a sample; 50 % of it watched"
        );
    }
}
