//! One prefix: its rate, its next hops, and what every source says of it.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::Line,
    widgets::{Paragraph, Sparkline, Wrap},
};

use super::{
    app::{App, Readings, Watched, rate},
    past,
    reading::Detail,
    screen::Palette,
};
use crate::{
    cli::{
        candidates::{details, way},
        output::{self, grouped, octets},
    },
    stats::{CandidateRow, RouteRow},
};

/// Lines of the curve.
const CURVE: u16 = 3;
/// Lines of the past day, and from which height on there is room for it.
const PAST: u16 = 4;
const ROOMY: u16 = 16;

/// Draws it.
pub fn draw(frame: &mut Frame, area: Rect, app: &App, readings: &Readings, palette: Palette) {
    let Some(watched) = &app.watched else { return };
    let lines_of_past = if area.height < ROOMY { 0 } else { PAST };
    let [title, curve, day, text] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(CURVE),
        Constraint::Length(lines_of_past),
        Constraint::Min(0),
    ])
    .areas(area);
    let heading = vec![
        Line::styled(watched.prefix.to_string(), palette.bold()),
        Line::from(rates(watched)),
    ];
    frame.render_widget(Paragraph::new(heading), title);
    let width = curve.width as usize;
    let skipped = watched.rates.len().saturating_sub(width);
    let bars: Vec<u64> = watched
        .rates
        .iter()
        .skip(skipped)
        .map(|(bytes, _)| *bytes as u64)
        .collect();
    frame.render_widget(Sparkline::default().data(&bars), curve);
    let detail = readings
        .now
        .detail
        .as_ref()
        .filter(|detail| detail.prefix == watched.prefix);
    if let Some(detail) = detail {
        past::draw(frame, day, &detail.past);
    }
    let lines = match detail {
        None => vec![Line::from("reading...")],
        Some(detail) => lines(detail, palette),
    };
    let most = (lines.len() as u16).saturating_sub(1);
    let scroll = (watched.scroll.min(most), 0);
    frame.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: false }).scroll(scroll),
        text,
    );
}

fn rates(watched: &Watched) -> String {
    let Some((bytes, packets)) = watched.rates.back() else {
        return "its rate is known after two readings".into();
    };
    let most = watched
        .rates
        .iter()
        .fold(0.0_f64, |most, (bytes, _)| most.max(*bytes));
    format!(
        "now {}; most {} in {} readings",
        rate(*bytes, *packets),
        crate::cli::filter::words::bits(most as u64),
        watched.rates.len()
    )
}

fn lines(detail: &Detail, palette: Palette) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled("next hops", palette.bold())];
    if detail.routes.rows.is_empty() {
        lines.push(Line::from("it is not in the table any more"));
    }
    for row in &detail.routes.rows {
        lines.push(Line::from(next_hop(row)));
    }
    if let Some(row) = detail.routes.rows.first() {
        lines.push(Line::from(format!(
            "counted {} packets, {}; by {}; {}",
            row.packets.map_or("-".into(), grouped),
            row.bytes.map_or("-".into(), octets),
            row.protocol,
            match &row.backup {
                Some(backup) => format!("backup {backup}"),
                None => "no backup".into(),
            }
        )));
    }
    lines.push(Line::default());
    lines.push(Line::styled("sources", palette.bold()));
    match detail.candidates.as_deref() {
        None => lines.push(Line::from(
            "the controller does not tell: none runs, or it is busy",
        )),
        Some([]) => lines.push(Line::from("no source has a route for it")),
        Some(rows) => {
            for row in rows {
                source(row, palette, &mut lines);
            }
        }
    }
    lines
}

fn next_hop(row: &RouteRow) -> String {
    let state = output::state(&row.state, row.on_backup);
    match (&row.via, &row.ifname) {
        (Some(via), Some(ifname)) if row.next_hops > 1 => {
            format!("via {via} dev {ifname}: {state}, {} of 124 buckets", row.weight)
        }
        (Some(via), Some(ifname)) => format!("via {via} dev {ifname}: {state}"),
        (None, Some(ifname)) => format!("dev {ifname}: {state}"),
        (_, None) => format!("packets leave with the reason {state}"),
    }
}

fn source(row: &CandidateRow, palette: Palette, lines: &mut Vec<Line<'static>>) {
    let mark = if row.best { "*" } else { " " };
    let from = match &row.peer {
        Some(peer) => format!("{} {peer}", row.by),
        None => row.by.clone(),
    };
    lines.push(Line::from(format!("{mark} {from}: {}", way(row))));
    let style = if row.best {
        palette.good()
    } else {
        Default::default()
    };
    lines.push(Line::styled(format!("    {}", row.why), style));
    for line in details(row) {
        lines.push(Line::from(format!("    {line}")));
    }
}
