//! `forwarder report p95`

use anyhow::Result;
use clap::Args;
use forwarder_history::{
    Direction,
    plot::{Bar, Chart, Group, Line, Lines, Mark, Panel, rate},
    report::{
        calendar::Month,
        names::{By, Traffic},
        p95::{Question, Report, Row, p95},
    },
};

use super::{Common, Desk, about, gaps, notes, way};
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
    #[arg(long, value_name = "N", default_value_t = 20)]
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
    let columns = [
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
    let cells = report.rows.iter().map(|row| {
        vec![
            row.name.clone(),
            rate(row.p95_in),
            rate(row.p95_out),
            rate(row.p95),
            way(row.direction),
            rate(row.peak_in),
            rate(row.peak_out),
            octets(row.bytes_in),
            octets(row.bytes_out),
        ]
    });
    let text = about(&report.samples, &desk)
        + "\n"
        + &output::table(&columns, cells, Paint::stdout())
        + &gaps(&report.samples, &desk);
    output::print(&text)
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
    let panels = report.rows.iter().zip(&report.rates).map(|(row, rates)| Panel {
        name: row.name.clone(),
        lines: Direction::BOTH
            .into_iter()
            .zip(rates)
            .map(|(direction, rates)| Line {
                name: way(direction),
                points: points(report, rates),
                apart: 450,
            })
            .collect(),
        marks: vec![Mark {
            name: format!("p95 {}", way(row.direction)),
            value: row.p95,
        }],
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
fn points(report: &Report, rates: &[u64]) -> Vec<(i64, u64)> {
    let mut points = Vec::with_capacity(rates.len());
    for (sample, rate) in report.samples.samples.iter().zip(rates) {
        for n in 0..sample.count {
            points.push((sample.start.saturating_add_unsigned(n * 300), *rate));
        }
    }
    points
}
