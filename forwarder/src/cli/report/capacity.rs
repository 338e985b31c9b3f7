//! `forwarder report capacity`

use anyhow::Result;
use clap::Args;
use forwarder_history::{
    plot::{Line, Lines, Mark, Panel, rate},
    report::capacity::{DAYS, PERCENT, Question, Report, Row, capacity},
};

use super::{Common, Desk, assigned, percent, share, way};
use crate::cli::output::{self, Paint, or_dash};

/// What can be asked.
#[derive(Debug, Args)]
pub struct Words {
    /// Which interfaces; without any, all
    #[arg(value_name = "IFNAME")]
    names: Vec<String>,
    /// A link's speed, where the history does not know it: eth0=10Gbit; once for each
    #[arg(long, value_name = "IFNAME=RATE", value_parser = assigned)]
    speed: Vec<(String, u64)>,
    /// A bond and its members, compared with each other: bond0=eth0,eth1
    #[arg(long, value_name = "NAME=IFNAME,...", value_parser = bond)]
    bond: Vec<(String, Vec<String>)>,
    /// How much of the speed is too much, percent
    #[arg(long, value_name = "PERCENT", default_value_t = PERCENT, value_parser = share)]
    share: f64,
    /// How many days back
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=3_660))]
    days: u32,
    #[command(flatten)]
    common: Common,
}

fn bond(text: &str) -> Result<(String, Vec<String>), String> {
    let fault = || format!("`{text}` is no bond: write bond0=eth0,eth1");
    let (name, members) = text.split_once('=').ok_or_else(fault)?;
    let members: Vec<String> = members.split(',').map(str::to_string).collect();
    if name.is_empty() || members.iter().any(String::is_empty) {
        return Err(fault());
    }
    Ok((name.to_string(), members))
}

/// Prints it.
pub fn run(words: &Words) -> Result<()> {
    let desk = words.common.desk()?;
    let question = Question {
        names: words.names.clone(),
        speeds: words.speed.clone(),
        bonds: words.bond.clone(),
        percent: words.share,
        days: words.days,
    };
    let report = capacity(&desk.reader, &question, &desk.zone, desk.now)?;
    words.common.draw(|| picture(&report, &desk, words))?;
    if words.common.rows(&report.rows)? {
        return Ok(());
    }
    let bonds = !words.bond.is_empty();
    let mut columns = vec![
        ("interface", false),
        ("", false),
        ("speed", true),
        ("p95", true),
        ("of speed", true),
        ("peak", true),
        ("peak at", false),
        ("a day", true),
        ("days", true),
        ("full enough", false),
    ];
    if bonds {
        columns.push(("balance", false));
    }
    let cells = report.rows.iter().map(|row| {
        let mut cells = vec![
            match &row.bond {
                Some(bond) if *bond != row.ifname => format!("  {}", row.ifname),
                _ => row.ifname.clone(),
            },
            way(row.direction),
            row.speed.map_or("-".to_string(), rate),
            rate(row.p95),
            percent(row.p95_percent),
            rate(row.peak),
            row.peak_at.get(..16).unwrap_or(&row.peak_at).replace('T', " "),
            growth(row.growth_per_day),
            row.days.to_string(),
            outlook(row),
        ];
        if bonds {
            cells.push(balance(row));
        }
        cells
    });
    let text = format!(
        "the last {} days ({}); full enough: when the daily 95th percentile reaches {} % of the speed, at 95 % confidence\n\n",
        words.days,
        desk.zone.name(),
        words.share,
    ) + &output::table(&columns, cells, Paint::stdout());
    output::print(&text)
}

fn growth(slope: Option<f64>) -> String {
    slope.map_or("-".to_string(), |slope| {
        let sign = if slope < 0.0 { "-" } else { "+" };
        format!("{sign}{}", rate(slope.abs() as u64))
    })
}

fn outlook(row: &Row) -> String {
    match row.outlook {
        "reached" => "now".to_string(),
        "no-growth" => "no growth".to_string(),
        "too-few-days" => "too few days".to_string(),
        "unknown-speed" => format!("speed unknown: --speed {}=...", row.ifname),
        _ => {
            let latest = row.latest.as_deref().unwrap_or("perhaps never");
            match (&row.reached, &row.earliest) {
                (Some(reached), Some(earliest)) => format!("{reached} ({earliest} to {latest})"),
                (None, Some(earliest)) => format!("{earliest} at the earliest"),
                _ => format!("in more than ten years, {}", or_dash(row.latest.as_deref())),
            }
        }
    }
}

fn balance(row: &Row) -> String {
    match (row.share_percent, row.imbalance) {
        (Some(_), _) => percent(row.share_percent),
        (None, Some(imbalance)) => format!("busiest {imbalance:.2} of mean"),
        (None, None) => "-".to_string(),
    }
}

fn picture(report: &Report, desk: &Desk, words: &Words) -> String {
    let mut panels: Vec<Panel> = Vec::new();
    let mut without: Vec<&str> = Vec::new();
    for (row, daily) in report.rows.iter().zip(&report.daily) {
        // A frame with nothing in it would look like no traffic.
        if daily.is_empty() {
            without.push(&row.ifname);
            continue;
        }
        let middle = |at: &forwarder_history::report::calendar::Day| (at.from + at.to) / 2;
        let line = |name: &str, of: fn(&forwarder_history::report::capacity::Daily) -> u64| Line {
            name: name.to_string(),
            points: daily
                .iter()
                .map(|daily| (middle(&daily.day), of(daily)))
                .collect(),
            apart: 100_000,
        };
        let target = row.speed.map(|speed| Mark {
            name: format!("{} %", words.share),
            value: (speed as f64 * words.share / 100.0) as u64,
        });
        // A target far above everything would press the curves flat.
        let highest = daily.iter().map(|daily| daily.peak).max().unwrap_or(0);
        panels.push(Panel {
            name: format!("{} {}: {}", row.ifname, way(row.direction), outlook(row)),
            lines: vec![
                line("daily peak", |daily| daily.peak),
                line("daily p95", |daily| daily.p95),
            ],
            marks: target
                .into_iter()
                .filter(|mark| mark.value / 5 <= highest)
                .collect(),
        });
    }
    let mut notes = vec![format!("days of {}", desk.zone.name())];
    without.dedup();
    if !without.is_empty() {
        notes.push(format!(
            "no day with samples of at least half of it: {}",
            without.join(", ")
        ));
    }
    Lines {
        title: format!("Capacity, the last {} days", words.days),
        notes,
        panels,
        ticks: desk.ticks(desk.now - i64::from(words.days) * 86_400, desk.now),
    }
    .svg()
}
