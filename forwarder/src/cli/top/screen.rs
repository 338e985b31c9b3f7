//! Draws what is seen into whatever size there is.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Wrap},
};

use super::{
    app::{App, Readings, rate},
    detail,
    grid::{Cell, Column, Grid, Kind, Sort},
    rates::Pair,
    reading::Reading,
    views::{View, share},
};
use crate::cli::output::{grouped, span};

/// Between two columns.
const GAP: usize = 2;
/// A last column of words is cut rather than left out, down to this.
const SOME_WORDS: usize = 12;
/// From here on panels stand beside each other.
const WIDE: u16 = 150;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Whether there are any.
    pub colours: bool,
}

impl Palette {
    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(super) fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warning(self) -> Style {
        self.coloured(Color::Yellow)
    }

    pub(super) fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn of(self, cell: &Cell, kind: Kind) -> Style {
        match (kind, cell) {
            (Kind::Load, Cell::Figure(load)) if *load >= 0.95 => self.bad(),
            (Kind::Load, Cell::Figure(load)) if *load >= 0.8 => self.warning(),
            (Kind::Lost, Cell::Figure(lost)) if *lost > 0.0 => self.warning(),
            _ => Style::new(),
        }
    }
}

/// Draws it all.
pub fn draw(frame: &mut Frame, app: &mut App, palette: Palette) {
    let area = frame.area();
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    // A heading and a title stand above the rows.
    app.page = (body.height as usize).saturating_sub(2).max(1);
    let Some(readings) = app.shown.take() else {
        frame.render_widget(Paragraph::new("reading..."), area);
        return;
    };
    frame.render_widget(Paragraph::new(heading(app, &readings, palette)), head);
    frame.render_widget(Paragraph::new(tab_line(app, tabs.width, palette)), tabs);
    if app.help {
        frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }), body);
    } else if app.watched.is_some() {
        detail::draw(frame, body, app, &readings, palette);
    } else if app.view == View::Now {
        now(frame, body, app, &readings, palette);
    } else {
        listing(frame, body, app, &readings, palette);
    }
    frame.render_widget(Paragraph::new(footer(app, foot.width, palette)), foot);
    app.shown = Some(readings);
}

/// Health and totals: four lines.
fn heading(app: &App, readings: &Readings, palette: Palette) -> Vec<Line<'static>> {
    let status = &readings.now.status;
    let mut first = vec![Span::styled(
        format!("forwarder {}  ", status.version),
        palette.bold(),
    )];
    first.push(match status.uptime {
        Some(uptime) => Span::styled(format!("up {}", span(uptime)), palette.good()),
        None => Span::styled("no controller: figures of the pinned maps", palette.bad()),
    });
    first.push(Span::raw(format!("  every {} s", app.interval)));
    if app.paused {
        first.push(Span::styled("  PAUSED", palette.chosen()));
    }
    vec![
        Line::from(first),
        Line::from(totals(readings)),
        Line::from(table(&readings.now)),
        match &app.error {
            Some(why) => Line::styled(format!("NO NEWER FIGURES: {why}"), palette.bad()),
            None => problems(&readings.now, palette),
        },
    ]
}

fn totals(readings: &Readings) -> String {
    let now = &readings.now.interfaces;
    let before = readings.before.as_ref().map(|reading| &reading.interfaces);
    let pair = Pair::new(before, now, |row| row.port);
    let sum = |field: fn(&crate::stats::InterfaceRow) -> u64| {
        let rates = now.rows.iter().filter_map(|row| pair.rate(&row.port, row, field));
        rates.reduce(|sum, rate| sum + rate)
    };
    let figures = (
        sum(|row| row.received_bytes),
        sum(|row| row.received_packets),
        sum(|row| row.forwarded_packets),
        sum(|row| row.passed_packets),
        sum(|row| row.dropped_packets),
        sum(|row| row.redirect_errors + row.transmit_errors),
    );
    let (Some(bytes), Some(packets), Some(fast), Some(passed), Some(dropped), Some(lost)) = figures else {
        return "rates are known from the second reading on".into();
    };
    let part = Cell::figure(share(Some(fast), Some(passed))).shown(Kind::Share);
    let each = |figure| Cell::Figure(figure).shown(Kind::Packets);
    format!(
        "in {}; fast path {part}, passed {}, dropped {}, lost {} pps",
        rate(bytes, packets),
        each(passed),
        each(dropped),
        each(lost)
    )
}

fn table(now: &Reading) -> String {
    let status = &now.status;
    let mut text = format!(
        "{} IPv4 + {} IPv6 prefixes",
        grouped(status.prefixes_ipv4),
        grouped(status.prefixes_ipv6)
    );
    for source in &status.sources {
        text += &match source.kind.as_str() {
            "kernel" => format!("; kernel {}", source.state),
            kind => format!("; {kind} {} {}", source.name, source.state),
        };
    }
    text
}

fn problems(now: &Reading, palette: Palette) -> Line<'static> {
    match now.status.problems.as_slice() {
        [] => Line::from("no problems"),
        [one] => Line::styled(format!("problem: {one}"), palette.bad()),
        [first, rest @ ..] => {
            let more = rest.len();
            Line::styled(
                format!("problem: {first} (and {more} more: feeds)"),
                palette.bad(),
            )
        }
    }
}

fn tab_line(app: &App, width: u16, palette: Palette) -> Line<'static> {
    // A digit and a gap before the name, and one behind it but for the last.
    let fit = |name: fn(View) -> &'static str| {
        let names = View::ALL.iter().map(|view| name(*view).len() + 3);
        names.sum::<usize>() <= width as usize + 1
    };
    let name = if fit(View::name) { View::name } else { View::short };
    let all = fit(name);
    let mut spans = Vec::new();
    for (index, view) in View::ALL.into_iter().enumerate() {
        // On a narrow screen only the chosen one has its name.
        let text = if view == app.view || all {
            format!("{} {}", index + 1, name(view))
        } else {
            format!("{}", index + 1)
        };
        let style = if view == app.view {
            palette.chosen()
        } else {
            Style::new()
        };
        spans.push(Span::styled(text, style));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

/// What is said of keys at the foot, as far as there is room.
const KEYS: [&str; 3] = [
    "1-9 Tab views   < > sort   r reverse   / filter   Enter closer   space pause   ? help   q quit",
    "1-9 views  < > sort  r reverse  / filter  Enter closer  space pause  ? help",
    "? help  q quit",
];

fn footer(app: &App, width: u16, palette: Palette) -> Line<'static> {
    if app.typing {
        return Line::from(vec![
            Span::styled(format!("/{}", app.filter), palette.bold()),
            Span::styled(" ", palette.chosen()),
            Span::raw("  Enter keeps it, Esc drops it"),
        ]);
    }
    let keys = if app.help {
        "any key: back   q quit"
    } else if app.watched.is_some() {
        "Esc back   up/down scroll   space pause   q quit"
    } else {
        KEYS.into_iter()
            .find(|keys| keys.len() <= width as usize)
            .unwrap_or(KEYS[2])
    };
    if app.filter.is_empty() {
        Line::from(keys)
    } else {
        Line::from(vec![
            Span::styled(format!("filter {} ", app.filter), palette.bold()),
            Span::raw(format!("(Esc drops it)   {keys}")),
        ])
    }
}

/// A view that has the screen for itself, with a chosen row.
fn listing(frame: &mut Frame, area: Rect, app: &App, readings: &Readings, palette: Palette) {
    let mut area = area;
    if app.view == View::Feeds && readings.now.status.problems.len() > 1 {
        let problems = &readings.now.status.problems;
        let lines: Vec<Line> = problems
            .iter()
            .map(|text| Line::from(format!("- {text}")))
            .collect();
        let [above, below] = Layout::vertical([Constraint::Percentage(50), Constraint::Min(3)]).areas(area);
        let text = Paragraph::new(lines).wrap(Wrap { trim: false });
        frame.render_widget(text, above);
        area = below;
    }
    let grid = app.grid(app.view, readings);
    let cursor = app.cursor(grid.rows.len());
    let sort = app.sort(&grid);
    draw_grid(frame, area, &grid, sort, Some(cursor), palette);
}

/// A little of everything: interfaces above, then as many panels as there is room for.
fn now(frame: &mut Frame, area: Rect, app: &App, readings: &Readings, palette: Palette) {
    let panel = |frame: &mut Frame, area: Rect, view: View, cursor: Option<usize>| {
        let grid = app.grid(view, readings);
        let sort = app.sorts.get(&view).copied();
        let usual = grid.sort.map(|column| Sort {
            column,
            reversed: false,
        });
        draw_grid(frame, area, &grid, sort.or(usual), cursor, palette);
    };
    let interfaces = app.grid(View::Now, readings).rows.len();
    // Title, heading and a row at least; half of the screen at most.
    let rows = (interfaces + 3).clamp(4, (area.height as usize / 2).max(4)) as u16;
    let [first, rest] = Layout::vertical([Constraint::Length(rows), Constraint::Min(0)]).areas(area);
    panel(frame, first, View::Now, Some(app.cursor(interfaces)));
    if area.width < WIDE {
        // Two below it, the shorter list second.
        let [a, b] = Layout::vertical([Constraint::Percentage(55), Constraint::Min(0)]).areas(rest);
        panel(frame, a, View::Prefixes, None);
        panel(frame, b, View::Reasons, None);
        return;
    }
    let [upper, lower] = Layout::vertical([Constraint::Percentage(60), Constraint::Min(0)]).areas(rest);
    let columns = |area| {
        Layout::horizontal([
            Constraint::Ratio(1, 3),
            Constraint::Ratio(1, 3),
            Constraint::Min(0),
        ])
        .spacing(3)
        .areas(area)
    };
    let [a, b, c] = columns(upper);
    panel(frame, a, View::Prefixes, None);
    panel(frame, b, View::Networks, None);
    panel(frame, c, View::NextHops, None);
    let [a, b] = Layout::horizontal([Constraint::Percentage(60), Constraint::Min(0)])
        .spacing(3)
        .areas(lower);
    panel(frame, a, View::Reasons, None);
    panel(frame, b, View::Rules, None);
}

/// Which columns fit, and how wide each is.
fn layout(grid: &Grid, headings: &[String], width: usize) -> Vec<(usize, usize)> {
    let mut wanted: Vec<(usize, usize)> = headings
        .iter()
        .enumerate()
        .map(|(index, heading)| {
            let kind = grid.columns[index].kind;
            let widest = grid
                .rows
                .iter()
                .map(|row| row[index].shown(kind).chars().count())
                .max();
            // What is seen of figures from second to second should not make columns wander.
            let least = if kind == Kind::Text { 0 } else { 5 };
            (index, heading.chars().count().max(widest.unwrap_or(0)).max(least))
        })
        .collect();
    let sum = |columns: &[(usize, usize)]| -> usize {
        columns
            .iter()
            .map(|(_, width)| width + GAP)
            .sum::<usize>()
            .saturating_sub(GAP)
    };
    let last_is_words = |columns: &[(usize, usize)]| {
        columns
            .last()
            .is_some_and(|(index, _)| grid.columns[*index].kind == Kind::Text)
    };
    loop {
        let over = sum(&wanted).saturating_sub(width);
        if over == 0 {
            return wanted;
        }
        let rank = |&(index, _): &(usize, usize)| grid.columns[index].rank;
        if last_is_words(&wanted)
            && let Some((_, last)) = wanted.last_mut()
            && *last >= over + SOME_WORDS
        {
            *last -= over;
            return wanted;
        }
        let Some(place) = (0..wanted.len())
            .filter(|place| rank(&wanted[*place]) > 0)
            .max_by_key(|place| rank(&wanted[*place]))
        else {
            return squeezed(wanted, over);
        };
        wanted.remove(place);
    }
}

/// All that is left must be seen: the widest words are cut.
fn squeezed(mut columns: Vec<(usize, usize)>, over: usize) -> Vec<(usize, usize)> {
    for _ in 0..over {
        if let Some((_, width)) = columns.iter_mut().max_by_key(|(_, width)| *width) {
            *width = width.saturating_sub(1);
        }
    }
    columns
}

fn draw_grid(
    frame: &mut Frame,
    area: Rect,
    grid: &Grid,
    sort: Option<Sort>,
    cursor: Option<usize>,
    palette: Palette,
) {
    let headings: Vec<String> = grid
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| heading_of(column, sort.filter(|sort| sort.column == index)))
        .collect();
    let columns = layout(grid, &headings, area.width as usize);
    let room = (area.height as usize).saturating_sub(2);
    // The chosen row is always among those that are seen.
    let first = cursor.map_or(0, |cursor| {
        (cursor + 1)
            .saturating_sub(room)
            .min(grid.rows.len().saturating_sub(room))
    });
    let shown = grid.rows.len().saturating_sub(first).min(room);
    let title = match grid.rows.len() {
        0 => grid.title.to_string(),
        rows if shown == rows => format!("{}: {rows}", grid.title),
        rows => format!("{}: {} to {} of {rows}", grid.title, first + 1, first + shown),
    };
    let mut lines = vec![Line::styled(title, palette.bold())];
    if grid.rows.is_empty() {
        lines.push(Line::from(grid.empty));
    } else {
        let heading = columns
            .iter()
            .map(|(index, width)| placed(&headings[*index], grid.columns[*index].kind, *width));
        lines.push(Line::styled(
            joined(heading),
            Style::new().add_modifier(Modifier::UNDERLINED),
        ));
    }
    for (index, row) in grid.rows.iter().enumerate().skip(first).take(room) {
        let spans = columns.iter().enumerate().flat_map(|(place, (column, width))| {
            let (cell, kind) = (&row[*column], grid.columns[*column].kind);
            let gap = if place == 0 { "" } else { "  " };
            [
                Span::raw(gap),
                Span::styled(placed(&cell.shown(kind), kind, *width), palette.of(cell, kind)),
            ]
        });
        let line = Line::from(spans.collect::<Vec<_>>());
        lines.push(if cursor == Some(index) {
            line.style(palette.chosen())
        } else {
            line
        });
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The heading of the column that it is sorted by has an arrow.
fn heading_of(column: &Column, sort: Option<Sort>) -> String {
    let upwards = |sort: Sort| (column.kind == Kind::Text) != sort.reversed;
    match sort {
        None => column.name.to_string(),
        Some(sort) if upwards(sort) => format!("{}^", column.name),
        Some(_) => format!("{}v", column.name),
    }
}

/// A cell in its width: figures to the right, words cut where they do not fit.
fn placed(text: &str, kind: Kind, width: usize) -> String {
    if kind != Kind::Text {
        return format!("{text:>width$}");
    }
    let letters = text.chars().count();
    if letters <= width {
        return format!("{text:<width$}");
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('~');
    cut
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    cells.collect::<Vec<_>>().join("  ")
}

const HELP: &str = "\
views    1 to 9, Tab and Shift-Tab
rows     up, down, Page Up, Page Down, Home, End
sort     < and > (or left, right) choose the column, r turns the order round
filter   / and letters: rows with these in a word; Enter keeps it, Esc drops it
closer   Enter. A prefix: rate, past day, routes, sources. An interface: its reasons
pause    space; figures are still read, and the next space shows the newest
quit     q, Ctrl-C; Ctrl-Z stops it until the shell's fg

bit/s, pps: means of the interval; of prefixes and networks, of ten seconds.
out: what the driver sent, the kernel's packets among them.
load: the larger direction, with the 24 octets that each frame takes beside it.
fast: what was forwarded, of that and what was passed to the kernel.
passed: to the kernel. lost: forwarded, and lost before or in the driver.
accounts: in and out over the edge; of commit: the larger of these; others: from
and to other accounts; share: of all that is forwarded.
-: not known, as of a counter that was made anew between two readings.
";
