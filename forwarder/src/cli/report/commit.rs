//! `forwarder report commit`

use anyhow::Result;
use clap::Args;
use forwarder_history::{
    plot::{Line, Lines, Mark, Panel, rate},
    report::{
        calendar::Month,
        commit::{LONGEST, Question, Report, Row, by, commit, months},
        names::By,
    },
};

use super::{Common, Desk, assigned, way};
use crate::cli::output::{self, Paint, grouped, span};

/// What can be asked.
#[derive(Debug, Args)]
pub struct Words {
    /// Which; without any, all with a contract
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// carrier (an interface with the role transit), interface or account
    #[arg(long, value_name = "WHAT", default_value = "carrier", value_parser = by)]
    by: By,
    /// What is contracted, where the history does not know it: transit0=1Gbit; once for each
    #[arg(long, value_name = "NAME=RATE", value_parser = assigned)]
    commit: Vec<(String, u64)>,
    /// The first month, as 2026-02 [default: the last one, and this one so far]
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    /// The last month [default: the first]
    #[arg(long, value_name = "MONTH", requires = "month")]
    until: Option<Month>,
    /// How many of the longest times below
    #[arg(long, value_name = "N", default_value_t = LONGEST)]
    longest: usize,
    /// With --json or --csv: these times instead of the months
    #[arg(long)]
    evidence: bool,
    #[command(flatten)]
    common: Common,
}

/// Prints it.
pub fn run(words: &Words) -> Result<()> {
    let desk = words.common.desk()?;
    let (from, to) = months(words.month, words.until, Month::at(&desk.zone, desk.now));
    let question = Question {
        by: words.by,
        names: words.names.clone(),
        commits: words.commit.clone(),
        from,
        to,
        longest: words.longest,
        curves: words.common.plot.is_some(),
    };
    let report = commit(&desk.reader, &question, &desk.zone, desk.now)?;
    words.common.draw(|| picture(&report, &desk, &question))?;
    let for_programs = if words.evidence {
        words.common.rows(&report.shortfalls)?
    } else {
        words.common.rows(&report.rows)?
    };
    if for_programs {
        return Ok(());
    }
    let columns = [
        (words.by.name(), false),
        ("month", false),
        ("", false),
        ("contracted", true),
        ("p95", true),
        ("peak", true),
        ("at or above", true),
        ("below", true),
        ("samples", true),
    ];
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.period.clone(),
            way(row.direction),
            rate(row.commit),
            row.p95.map_or("-".to_string(), rate),
            row.peak.map_or("-".to_string(), rate),
            row.above_percent
                .map_or("-".to_string(), |above| format!("{above:.2} %")),
            row.above_percent
                .map_or("-".to_string(), |above| format!("{:.2} %", 100.0 - above)),
            format!("{} of {}", grouped(row.samples), grouped(row.expected)),
        ]
    };
    let mut text = format!("months of {}\n\n", desk.zone.name());
    text += &output::table(&columns, report.rows.iter().map(cells), Paint::stdout());
    let mut without: Vec<&str> = report
        .rows
        .iter()
        .filter(|row| row.samples == 0)
        .map(|row| &*row.period)
        .collect();
    without.dedup();
    if !without.is_empty() {
        text += &format!("\nthe history has no samples of {}\n", without.join(", "));
    }
    if !report.shortfalls.is_empty() {
        text += "\nthe longest times below what is contracted; what was not asked for cannot come:\n";
        let columns = [
            (words.by.name(), false),
            ("", false),
            ("from", false),
            ("to", false),
            ("for", true),
            ("mean", true),
            ("lowest", true),
        ];
        let cells = report.shortfalls.iter().map(|shortfall| {
            vec![
                shortfall.name.clone(),
                way(shortfall.direction),
                shortfall.from.clone(),
                shortfall.to.clone(),
                span(shortfall.seconds),
                rate(shortfall.mean),
                rate(shortfall.lowest),
            ]
        });
        text += &output::table(&columns, cells, Paint::stdout());
    }
    output::print(&text)
}

fn picture(report: &Report, desk: &Desk, question: &Question) -> String {
    let panels = report.curves.iter().map(|curve| {
        let line = |name: &str, of: fn(&(i64, u64, u64)) -> u64| Line {
            name: name.to_string(),
            points: curve.points.iter().map(|point| (point.0, of(point))).collect(),
            apart: 450,
        };
        Panel {
            name: curve.name.clone(),
            lines: vec![line("in", |point| point.1), line("out", |point| point.2)],
            marks: vec![Mark {
                name: "contracted".to_string(),
                value: curve.commit,
            }],
        }
    });
    let (from, to) = (question.from.period(&desk.zone), question.to.period(&desk.zone));
    let months = if from == to {
        from.name.clone()
    } else {
        format!("{} to {}", from.name, to.name)
    };
    Lines {
        title: format!("Delivered and contracted, {months}"),
        notes: vec![format!("months of {}", desk.zone.name())],
        panels: panels.collect(),
        ticks: desk.ticks(from.from, to.to.min(desk.now)),
    }
    .svg()
}
