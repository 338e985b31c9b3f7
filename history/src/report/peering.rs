//! `report peering`: what would take another way if we peered with a network, and which networks are worth asking.
//!
//! What would move for certain are the prefixes that the network originates itself. What it would tell us of its customers is not
//! known before; where we hear the network as a neighbour already, all of that is counted under `neighbour-as`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Trouble,
    calendar::{Period, Zone},
    curves::{Target, curves},
    names::{By, Traffic, chosen},
    samples::Samples,
};
use crate::{Direction, Kind, Reader, Series, SeriesId};

/// The question.
#[derive(Clone, Debug)]
pub struct Question {
    /// The network; none for the largest.
    pub asn: Option<u32>,
    /// How many of the largest.
    pub top: usize,
}

/// A network, one way.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "PeeringRow")]
pub struct Row {
    /// `origin-as`: prefixes that it originates; `neighbour-as`: prefixes whose routes it told us.
    pub by: &'static str,
    /// Its number.
    pub asn: u32,
    /// `in`: from it; `out`: to it.
    pub direction: Direction,
    /// The interface that this part of it takes; none for all of it.
    pub ifname: Option<String>,
    /// The time.
    pub period: String,
    /// By which calendar.
    pub time_zone: String,
    /// Octets.
    pub bytes: u64,
    /// 95th percentile, bits a second.
    pub p95: u64,
    /// Largest sample.
    pub peak: u64,
    /// Its octets of all of the interface's; of all carriers' where no interface is named. Percent.
    pub share_percent: Option<f64>,
    /// The interface's (or all carriers') percentile now.
    pub carrier_p95: Option<u64>,
    /// And what it would be without.
    pub carrier_p95_without: Option<u64>,
}

/// The report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The rows.
    pub rows: Vec<Row>,
    /// What they are made of.
    pub samples: Samples,
    /// Where a network's traffic goes is recorded by interface.
    pub by_interface: bool,
}

/// Makes the report; `now` is the clock's, seconds since 1970.
///
/// # Errors
/// See [`Trouble`].
pub fn peering(
    reader: &Reader,
    question: &Question,
    period: &Period,
    zone: &Zone,
    now: i64,
) -> Result<Report, Trouble> {
    let samples = Samples::of(reader, period, zone, now)?;
    let mut asked: Vec<(By, u32, Option<String>, Target)> = Vec::new();
    let mut by_interface = false;
    match question.asn {
        None => {
            for by in [By::OriginAs, By::NeighbourAs] {
                for named in chosen(reader, &samples, by, &[], Some(question.top), Traffic::Outside)? {
                    let asn = super::names::asn(&named.name).unwrap_or(0);
                    asked.push((by, asn, None, named.target));
                }
            }
        }
        Some(asn) => {
            for by in [By::OriginAs, By::NeighbourAs] {
                match chosen(
                    reader,
                    &samples,
                    by,
                    &[format!("AS{asn}")],
                    None,
                    Traffic::Outside,
                ) {
                    Ok(named) => asked.extend(named.into_iter().map(|named| (by, asn, None, named.target))),
                    Err(Trouble::Unknown { .. }) => {}
                    Err(other) => return Err(other),
                }
            }
            for (ifname, target) in via(reader, asn)? {
                by_interface = true;
                asked.push((By::OriginAs, asn, Some(ifname), target));
            }
            if asked.is_empty() {
                return Err(Trouble::Unknown {
                    what: "network",
                    name: format!("AS{asn}"),
                    known: "nothing was ever counted for it; AS numbers come with routes by BGP".into(),
                });
            }
        }
    }
    if asked.is_empty() {
        return Err(Trouble::Question(
            "no network was ever counted: AS numbers come with routes by BGP".to_string(),
        ));
    }
    // Carriers, and all of them together as the first.
    let carriers = match chosen(reader, &samples, By::Carrier, &[], None, Traffic::Outside) {
        Ok(carriers) => carriers,
        Err(Trouble::Question(_)) => Vec::new(),
        Err(other) => return Err(other),
    };
    let mut all = Target::default();
    for carrier in &carriers {
        all.series.extend(&carrier.target.series);
    }
    let interfaces = chosen(reader, &samples, By::Interface, &[], None, Traffic::Outside).unwrap_or_default();
    let mut targets: Vec<Target> = asked.iter().map(|(.., target)| target.clone()).collect();
    let (first_interface, together) = (targets.len(), targets.len() + interfaces.len());
    targets.extend(interfaces.iter().map(|named| named.target.clone()));
    targets.push(all);
    let curves = curves(reader, &samples, &targets)?;
    let mut rows = Vec::new();
    for ((by, asn, ifname, _), curve) in asked.iter().zip(&curves) {
        let whole = match ifname {
            None => (!carriers.is_empty()).then(|| &curves[together]),
            Some(ifname) => interfaces
                .iter()
                .position(|named| named.name == *ifname)
                .map(|place| &curves[first_interface + place]),
        };
        for direction in Direction::BOTH {
            let rates = || curve.rates(&samples, direction);
            let bytes = curve.sum(direction);
            let p95_of_whole = whole.map(|whole| samples.percentile(whole.rates(&samples, direction)));
            let without = whole.map(|whole| {
                let rest = whole.rates(&samples, direction).zip(rates());
                samples.percentile(rest.map(|(all, this)| all.saturating_sub(this)))
            });
            rows.push(Row {
                by: by.name(),
                asn: *asn,
                direction,
                ifname: ifname.clone(),
                period: samples.period.name.clone(),
                time_zone: zone.name().to_string(),
                bytes,
                p95: samples.percentile(rates()),
                peak: rates()
                    .zip(&samples.samples)
                    .filter(|(_, sample)| sample.count > 0)
                    .map(|(rate, _)| rate)
                    .max()
                    .unwrap_or(0),
                share_percent: whole
                    .map(|whole| whole.sum(direction))
                    .filter(|whole| *whole > 0)
                    .map(|whole| (bytes as f64 / whole as f64 * 10_000.0).round() / 100.0),
                carrier_p95: p95_of_whole,
                carrier_p95_without: without,
            });
        }
    }
    Ok(Report {
        rows,
        samples,
        by_interface,
    })
}

/// Which interfaces a network's traffic takes.
fn via(reader: &Reader, wanted: u32) -> Result<BTreeMap<String, Target>, Trouble> {
    let mut targets = BTreeMap::new();
    for (id, series) in reader.series(Kind::OriginAsViaIn)? {
        if let Series::OriginAsVia { asn, ifname, .. } = series
            && asn == wanted
        {
            let series = Direction::BOTH.map(|direction| {
                let kind = Kind::OriginAsViaIn.towards(direction);
                (SeriesId { kind, id }, direction)
            });
            targets.insert(
                ifname,
                Target {
                    series: series.to_vec(),
                },
            );
        }
    }
    Ok(targets)
}
