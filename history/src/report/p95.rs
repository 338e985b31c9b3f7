//! `report p95`: what is billed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Trouble,
    calendar::{Period, Zone},
    curves::{Curve, curves, totals},
    names::{By, Traffic, chosen, told},
    samples::Samples,
};
use crate::{Direction, Kind, Reader};

/// The question.
#[derive(Clone, Debug)]
pub struct Question {
    /// What about.
    pub by: By,
    /// Which; none for all.
    pub names: Vec<String>,
    /// How many, of things of which there are many.
    pub top: Option<usize>,
    /// Which traffic of accounts.
    pub traffic: Traffic,
}

/// How many of the largest, unless somebody says.
pub const TOP: usize = 20;

/// The bill of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "P95Row")]
pub struct Row {
    /// `account`, `interface`, ...
    pub by: &'static str,
    /// Which.
    pub name: String,
    /// The month.
    pub period: String,
    /// By which calendar.
    pub time_zone: String,
    /// Bits a second: 95th percentile in.
    pub p95_in: u64,
    /// Out.
    pub p95_out: u64,
    /// The larger one.
    pub p95: u64,
    /// Which it is.
    pub direction: Direction,
    /// What is agreed, bits a second; null where nothing is.
    pub commit: Option<u64>,
    /// Bits a second: largest sample in.
    pub peak_in: u64,
    /// Out.
    pub peak_out: u64,
    /// All octets in.
    pub bytes_in: u64,
    /// Out.
    pub bytes_out: u64,
    /// How many samples there are.
    pub samples: u64,
    /// How many there should be, up to now where the month is not over.
    pub expected: u64,
    /// Samples that share a mean, because nobody looked in between.
    pub averaged: u64,
    /// Intervals too short for a sample.
    pub left_out: u64,
    /// Gaps.
    pub gaps: u64,
    /// Seconds in them.
    pub gap_seconds: u64,
}

/// The report.
#[derive(Clone, Debug)]
pub struct Report {
    /// A row for each.
    pub rows: Vec<Row>,
    /// What they are made of.
    pub samples: Samples,
    /// Octets in each sample, for each row.
    pub curves: Vec<Curve>,
    /// Where prefixes or networks were asked about: octets forwarded to none that is known.
    pub unattributed: u64,
}

/// Makes the report; `now` is the clock's, seconds since 1970.
///
/// # Errors
/// See [`Trouble`].
pub fn p95(
    reader: &Reader,
    question: &Question,
    period: &Period,
    zone: &Zone,
    now: i64,
) -> Result<Report, Trouble> {
    let samples = Samples::of(reader, period, zone, now)?;
    let named = chosen(
        reader,
        &samples,
        question.by,
        &question.names,
        question.top,
        question.traffic,
    )?;
    let targets: Vec<_> = named.iter().map(|named| named.target.clone()).collect();
    let curves = curves(reader, &samples, &targets)?;
    let unattributed = match question.by.many() {
        true => totals(reader, &samples, Kind::UnattributedOut)?.values().sum(),
        false => 0,
    };
    let commits = match question.by {
        By::Account | By::Interface | By::Carrier => told(reader, question.by, "commit")?,
        By::Prefix | By::OriginAs | By::NeighbourAs => BTreeMap::new(),
    };
    let rows = named.into_iter().zip(&curves).map(|(named, curve)| {
        let commit = commits.get(&named.name).copied();
        row(question.by, named.name, commit, &samples, curve, zone)
    });
    Ok(Report {
        rows: rows.collect(),
        samples,
        curves,
        unattributed,
    })
}

fn row(by: By, name: String, commit: Option<u64>, samples: &Samples, curve: &Curve, zone: &Zone) -> Row {
    let [p95_in, p95_out] =
        Direction::BOTH.map(|direction| samples.percentile(curve.rates(samples, direction)));
    // What is too short for the percentile is too short for a peak.
    let [peak_in, peak_out] = Direction::BOTH.map(|direction| {
        let rates = curve.rates(samples, direction).zip(&samples.samples);
        rates
            .filter(|(_, sample)| sample.count > 0)
            .map(|(rate, _)| rate)
            .max()
            .unwrap_or(0)
    });
    Row {
        by: by.name(),
        name,
        period: samples.period.name.clone(),
        time_zone: zone.name().to_string(),
        p95_in,
        p95_out,
        p95: p95_in.max(p95_out),
        direction: if p95_in >= p95_out {
            Direction::In
        } else {
            Direction::Out
        },
        commit,
        peak_in,
        peak_out,
        bytes_in: curve.sum(Direction::In),
        bytes_out: curve.sum(Direction::Out),
        samples: samples.count(),
        expected: samples.period.expected(),
        averaged: samples.averaged(),
        left_out: samples.left_out(),
        gaps: samples.gaps.len() as u64,
        gap_seconds: samples.gap_seconds(),
    }
}
