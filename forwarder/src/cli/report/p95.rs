//! `forwarder report p95`

use anyhow::Result;
use clap::Args;
use forwarder_history::{
    Direction,
    plot::{Bar, Chart, Group, Line, Lines, Mark, Panel, rate},
    report::{
        calendar::Month,
        names::{By, Traffic},
        p95::{Question, Report, Row, TOP, p95},
    },
};

use super::{Common, Desk, about, gaps, notes, percent, some, way};
use crate::cli::output::{self, Paint, octets};

/// What can be asked.
#[derive(Debug, Args)]
pub struct Words {
    /// Which; without any, all (of prefixes and networks the largest)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// account (in: to it), interface, carrier (an interface with the role transit), prefix, origin-as or neighbour-as (in: from it)
    #[arg(long, value_name = "WHAT", default_value = "account")]
    by: By,
    /// The month, as 2026-02 [default: this one]
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    /// How many of the largest prefixes or networks
    #[arg(long, value_name = "N", default_value_t = TOP, value_parser = some)]
    top: usize,
    /// Of accounts: outside (what crosses the edge), inside, or all
    #[arg(long, value_name = "WHICH", default_value = "outside")]
    traffic: Traffic,
    #[command(flatten)]
    common: Common,
}

/// Prints it.
pub fn run(words: &Words) -> Result<()> {
    let desk = words.common.desk()?;
    let question = Question {
        by: words.by,
        names: words.names.clone(),
        top: Some(words.top),
        traffic: words.traffic,
    };
    let period = desk.period(words.month);
    let report = p95(&desk.reader, &question, &period, &desk.zone, desk.now)?;
    words.common.draw(|| picture(&report, &desk))?;
    if words.common.rows(&report.rows)? {
        return Ok(());
    }
    let agreed = report.rows.iter().any(|row| row.commit.is_some());
    let mut columns = vec![
        (words.by.name(), false),
        ("p95 in", true),
        ("p95 out", true),
        ("billed", true),
        ("", false),
        ("peak in", true),
        ("peak out", true),
        ("bytes in", true),
        ("bytes out", true),
    ];
    if agreed {
        columns.extend([("commit", true), ("of commit", true)]);
    }
    let cells = report.rows.iter().map(|row| {
        let mut cells = vec![
            row.name.clone(),
            rate(row.p95_in),
            rate(row.p95_out),
            rate(row.p95),
            way(row.direction),
            rate(row.peak_in),
            rate(row.peak_out),
            octets(row.bytes_in),
            octets(row.bytes_out),
        ];
        if agreed {
            cells.push(row.commit.map_or("-".to_string(), rate));
            cells.push(percent(
                row.commit.map(|commit| row.p95 as f64 * 100.0 / commit as f64),
            ));
        }
        cells
    });
    let mut text = about(&report.samples, &desk) + "\n" + &output::table(&columns, cells, Paint::stdout());
    if report.unattributed > 0 {
        text += &format!(
            "\n{} were forwarded to prefixes that nobody could name any more\n",
            octets(report.unattributed)
        );
    }
    output::print(&(text + &gaps(&report.samples, &desk)))
}

/// Most curves in a picture; of more, bars.
const CURVES: usize = 6;

fn picture(report: &Report, desk: &Desk) -> String {
    let title = |row: &Row| format!("95th percentile by {}, {}", row.by, row.period);
    let title = report.rows.first().map_or(String::new(), title);
    let notes = notes(&report.samples, desk);
    if report.rows.len() > CURVES {
        let group = |row: &Row| Group {
            name: row.name.clone(),
            bars: [(Direction::In, row.p95_in), (Direction::Out, row.p95_out)]
                .map(|(direction, p95)| Bar {
                    name: way(direction),
                    value: p95 as f64,
                    label: rate(p95),
                })
                .into(),
        };
        let groups = report.rows.iter().map(group).collect();
        return Chart { title, notes, groups }.svg();
    }
    let period = &report.samples.period;
    let panels = report.rows.iter().zip(&report.curves).map(|(row, curve)| {
        let line = |direction| Line {
            name: way(direction),
            points: points(report, curve.rates(&report.samples, direction)),
            apart: 450,
        };
        let p95 = Mark {
            name: format!("p95 {}", way(row.direction)),
            value: row.p95,
        };
        let commit = row.commit.map(|value| Mark {
            name: "commit".to_string(),
            value,
        });
        Panel {
            name: row.name.clone(),
            lines: Direction::BOTH.map(line).into(),
            marks: [p95].into_iter().chain(commit).collect(),
        }
    });
    Lines {
        title,
        notes,
        panels: panels.collect(),
        ticks: desk.ticks(period.from, period.to),
    }
    .svg()
}

/// A curve of samples; a long one goes on to its end.
fn points(report: &Report, rates: impl Iterator<Item = u64>) -> Vec<(i64, u64)> {
    let mut points = Vec::with_capacity(report.samples.samples.len());
    for (sample, rate) in report.samples.samples.iter().zip(rates) {
        for n in 0..sample.count {
            points.push((sample.start.saturating_add_unsigned(n * 300), rate));
        }
    }
    points
}
