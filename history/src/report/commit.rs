//! `report commit`: what was used of what is contracted, with the times that prove it.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Trouble,
    calendar::{Month, Zone},
    curves::curves,
    names::{By, Traffic, chosen, told},
    samples::Samples,
};
use crate::{Direction, Reader};

/// The question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Carriers, interfaces or accounts.
    pub by: By,
    /// Which; none for all that have a contract.
    pub names: Vec<String>,
    /// Contracted bits a second, by name: what the history knows as `commit` otherwise.
    pub commits: Vec<(String, u64)>,
    /// From this month.
    pub from: Month,
    /// To this one.
    pub to: Month,
    /// How many of the longest times below the contract.
    pub longest: usize,
    /// What is drawn is wanted, too.
    pub curves: bool,
}

/// How many of the longest times, unless somebody says.
pub const LONGEST: usize = 5;

/// The months of a question: those that are named, or the last one and `this`, so far.
#[must_use]
pub fn months(first: Option<Month>, last: Option<Month>, this: Month) -> (Month, Month) {
    (
        first.unwrap_or_else(|| this.before()),
        last.or(first).unwrap_or(this),
    )
}

/// Reads by what contracts are asked for.
///
/// # Errors
/// There are none by that.
pub fn by(word: &str) -> Result<By, String> {
    match word.parse()? {
        by @ (By::Carrier | By::Interface | By::Account) => Ok(by),
        _ => Err("contracts are by carrier, interface or account".to_string()),
    }
}

/// A month of one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CommitRow")]
pub struct Row {
    /// Which.
    pub name: String,
    /// The month.
    pub period: String,
    /// By which calendar.
    pub time_zone: String,
    /// `in` or `out`.
    pub direction: Direction,
    /// Contracted, bits a second.
    pub commit: u64,
    /// 95th percentile, bits a second; null where there are no samples.
    pub p95: Option<u64>,
    /// Largest sample; null where there are none.
    pub peak: Option<u64>,
    /// Samples at the contracted rate or above.
    pub above: u64,
    /// Below.
    pub below: u64,
    /// How much of the samples are above, percent; null where there are none.
    pub above_percent: Option<f64>,
    /// How many samples there are: 0 of a month of which the history has nothing.
    pub samples: u64,
    /// How many there should be, up to now where the month is not over.
    pub expected: u64,
    /// Samples that share a mean.
    pub averaged: u64,
}

/// A time without a break below the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Shortfall {
    /// Which.
    pub name: String,
    /// `in` or `out`.
    pub direction: Direction,
    /// Contracted, bits a second.
    pub commit: u64,
    /// When it began, with the zone's offset.
    pub from: String,
    /// When it ended.
    pub to: String,
    /// How long it was.
    pub seconds: u64,
    /// Mean, bits a second.
    pub mean: u64,
    /// Lowest sample.
    pub lowest: u64,
}

/// The report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A row for each month and direction.
    pub rows: Vec<Row>,
    /// Of each and direction, the longest first.
    pub shortfalls: Vec<Shortfall>,
    /// What is drawn, where that is wanted: of each, starts of samples, bits a second in and out.
    pub curves: Vec<Line>,
}

/// What was used over the whole time.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Which.
    pub name: String,
    /// Contracted, bits a second.
    pub commit: u64,
    /// Seconds since 1970, in, out.
    pub points: Vec<(i64, u64, u64)>,
}

/// A run of samples below, while it is being found.
struct Run {
    from: i64,
    to: i64,
    octets: u64,
    milliseconds: u64,
    lowest: u64,
}

/// Makes the report; `now` is the clock's, seconds since 1970.
///
/// # Errors
/// See [`Trouble`]. A month without samples beside others that have some is no error: its rows say so.
pub fn commit(reader: &Reader, question: &Question, zone: &Zone, now: i64) -> Result<Report, Trouble> {
    if question.to < question.from {
        return Err(Trouble::Question(format!(
            "{} is before {}",
            question.to, question.from
        )));
    }
    let mut report = Report::default();
    let mut runs: Vec<(String, Direction, u64, Vec<Run>)> = Vec::new();
    let (mut nothing, mut missing) = (None, Vec::new());
    let mut month = question.from;
    while month <= question.to {
        let samples = match Samples::of(reader, &month.period(zone), zone, now) {
            Ok(samples) => samples,
            Err(trouble @ (Trouble::Nothing { .. } | Trouble::TooShort { .. } | Trouble::Future(_))) => {
                if !matches!(trouble, Trouble::Future(_)) {
                    missing.push(month);
                }
                nothing = nothing.or(Some(trouble));
                month = month.behind();
                continue;
            }
            Err(other) => return Err(other),
        };
        for (name, commit, curve) in contracts(reader, question, &samples)? {
            if question.curves {
                draw(&mut report.curves, &name, commit, &samples, &curve);
            }
            for direction in Direction::BOTH {
                let rates: Vec<u64> = curve.rates(&samples, direction).collect();
                let counted = || {
                    rates
                        .iter()
                        .zip(&samples.samples)
                        .filter(|(_, sample)| sample.count > 0)
                };
                let above: u64 = counted()
                    .filter(|(rate, _)| **rate >= commit)
                    .map(|(_, sample)| sample.count)
                    .sum();
                let all = samples.count();
                report.rows.push(Row {
                    name: name.clone(),
                    period: month.to_string(),
                    time_zone: zone.name().to_string(),
                    direction,
                    commit,
                    p95: Some(samples.percentile(rates.iter().copied())),
                    peak: counted().map(|(rate, _)| *rate).max(),
                    above,
                    below: all - above,
                    above_percent: Some((above as f64 * 10_000.0 / all as f64).round() / 100.0),
                    samples: all,
                    expected: samples.period.expected(),
                    averaged: samples.averaged(),
                });
                let of = match runs.iter_mut().find(|run| run.0 == name && run.1 == direction) {
                    Some(of) => &mut of.3,
                    None => {
                        runs.push((name.clone(), direction, commit, Vec::new()));
                        let last = runs.len() - 1;
                        &mut runs[last].3
                    }
                };
                below(of, &samples, curve.way(direction), commit);
            }
        }
        month = month.behind();
    }
    if report.rows.is_empty()
        && let Some(trouble) = nothing
    {
        return Err(trouble);
    }
    without_samples(&mut report.rows, &missing, zone, now);
    for (name, direction, commit, mut runs) in runs {
        runs.sort_by_key(|run| std::cmp::Reverse((run.milliseconds, -run.from)));
        report
            .shortfalls
            .extend(runs.iter().take(question.longest).map(|run| Shortfall {
                name: name.clone(),
                direction,
                commit,
                from: zone.stamp(run.from),
                to: zone.stamp(run.to),
                seconds: run.milliseconds.div_ceil(1_000),
                mean: (u128::from(run.octets) * 8_000 / u128::from(run.milliseconds.max(1))) as u64,
                lowest: run.lowest,
            }));
    }
    Ok(report)
}

/// Puts rows for months of which there is nothing among the others, for all that other months have rows of.
fn without_samples(rows: &mut Vec<Row>, missing: &[Month], zone: &Zone, now: i64) {
    let mut of: Vec<Row> = Vec::new();
    for row in rows.iter() {
        if !of
            .iter()
            .any(|known| (&known.name, known.direction) == (&row.name, row.direction))
        {
            of.push(row.clone());
        }
    }
    for month in missing {
        let mut period = month.period(zone);
        period.to = period.to.min(now);
        rows.extend(of.iter().map(|row| Row {
            period: month.to_string(),
            p95: None,
            peak: None,
            above: 0,
            below: 0,
            above_percent: None,
            samples: 0,
            expected: period.expected(),
            averaged: 0,
            ..row.clone()
        }));
    }
    rows.sort_by(|a, b| a.period.cmp(&b.period));
}

/// Goes on with the line of one.
fn draw(lines: &mut Vec<Line>, name: &str, commit: u64, samples: &Samples, curve: &super::curves::Curve) {
    let line = match lines.iter_mut().find(|line| line.name == name) {
        Some(line) => line,
        None => {
            lines.push(Line {
                name: name.to_string(),
                commit,
                points: Vec::new(),
            });
            let last = lines.len() - 1;
            &mut lines[last]
        }
    };
    let points = samples.samples.iter().enumerate().map(|(index, sample)| {
        let [received, sent] = [curve.received[index], curve.sent[index]];
        (sample.start, sample.rate(received), sample.rate(sent))
    });
    line.points.extend(points);
}

/// What has a contract: name, bits a second, octets.
fn contracts(
    reader: &Reader,
    question: &Question,
    samples: &Samples,
) -> Result<Vec<(String, u64, super::curves::Curve)>, Trouble> {
    let mut names = question.names.clone();
    for (name, _) in &question.commits {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let named = chosen(reader, samples, question.by, &names, None, Traffic::Outside)?;
    let told = told(reader, question.by, "commit")?;
    let mut chosen = Vec::new();
    for named in named {
        let given = question.commits.iter().find(|(name, _)| *name == named.name);
        match given
            .map(|(_, commit)| *commit)
            .or_else(|| told.get(&named.name).copied())
        {
            Some(commit) => chosen.push((named, commit)),
            None if question.names.is_empty() => {}
            None => {
                return Err(Trouble::Question(format!(
                    "what is contracted for {0} is not known: write --commit {0}=100Mbit",
                    named.name
                )));
            }
        }
    }
    if chosen.is_empty() {
        return Err(Trouble::Question(
            "no contract is known: write --commit NAME=100Mbit, once for each".to_string(),
        ));
    }
    let targets: Vec<_> = chosen.iter().map(|(named, _)| named.target.clone()).collect();
    let curves = curves(reader, samples, &targets)?;
    Ok(chosen
        .into_iter()
        .zip(curves)
        .map(|((named, commit), curve)| (named.name, commit, curve))
        .collect())
}

/// Finds the times below the contract; one goes on where samples touch, over the end of a month too.
fn below(runs: &mut Vec<Run>, samples: &Samples, octets: &[u64], commit: u64) {
    /// Seconds between two samples that still touch.
    const TOUCH: i64 = 150;
    let mut open = true;
    for (sample, octets) in samples.samples.iter().zip(octets) {
        if sample.count == 0 {
            continue;
        }
        let rate = sample.rate(*octets);
        if rate >= commit {
            open = false;
            continue;
        }
        match runs.last_mut() {
            Some(run) if open && (sample.start - run.to).abs() < TOUCH => {
                run.to = sample.end();
                run.octets = run.octets.saturating_add(*octets);
                run.milliseconds += sample.milliseconds;
                run.lowest = run.lowest.min(rate);
            }
            _ => runs.push(Run {
                from: sample.start,
                to: sample.end(),
                octets: *octets,
                milliseconds: sample.milliseconds,
                lowest: rate,
            }),
        }
        open = true;
    }
}
