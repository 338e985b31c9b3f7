//! `report peering`: what would take another way if we peered with a network, and which networks are worth asking.
//!
//! What would move for certain are the prefixes that the network originates itself, as far as carriers bring us there: what we send to
//! it by carriers is counted by network and way ([`Series::OriginAsVia`]), and that is held against what the carriers carry. By which
//! interface a network's packets come in is not counted, nor by which one goes what a neighbour told us of, so nothing is said of how
//! much of those is the carriers'. What the network would tell us of its customers is not known before; where we hear the network as a
//! neighbour already, all of that is counted under `neighbour-as`.
//!
//! AS 0 stands for prefixes without an AS path: connected, static, local. Nobody can peer with it, so it is no row.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Trouble,
    calendar::{Period, Zone},
    curves::{Curve, Target, curves},
    names::{By, Traffic, chosen},
    samples::Samples,
};
use crate::{Direction, Kind, Reader, SHARED, Series, SeriesId};

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
    /// Octets of them that left by carriers; null where that is not known: of what comes in, and of neighbours. What was shared
    /// among carriers and others is not in it.
    pub carrier_bytes: Option<u64>,
    /// 95th percentile, bits a second.
    pub p95: u64,
    /// Largest sample.
    pub peak: u64,
    /// Of what all carriers sent the part that went to this network, percent; of what the interface sent where one is named.
    pub share_percent: Option<f64>,
    /// The carriers' (or the named interface's) percentile now.
    pub carrier_p95: Option<u64>,
    /// And what it would be without what goes to this network by carriers (or by that interface).
    pub carrier_p95_without: Option<u64>,
}

/// What is of no network that is known, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// As in [`Row::by`].
    pub by: &'static str,
    /// Octets from there.
    pub bytes_in: u64,
    /// Octets to there.
    pub bytes_out: u64,
}

/// The report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The rows.
    pub rows: Vec<Row>,
    /// What has no AS, where there is any.
    pub unknown: Vec<Unknown>,
    /// What they are made of.
    pub samples: Samples,
    /// Where a network's traffic goes is recorded by interface.
    pub by_interface: bool,
}

/// What a row is about.
struct Asked {
    by: By,
    asn: u32,
    ifname: Option<String>,
    /// All of it.
    target: Target,
    /// What of it went by carriers, where that is known.
    moved: Option<Target>,
    /// Whose share it is.
    whole: Option<Target>,
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
    if question.asn == Some(0) {
        return Err(Trouble::Question(
            "AS0 is what has no AS path (connected, static, local): nobody can peer with it. \
             `report p95 --by origin-as AS0` says how much it is"
                .to_string(),
        ));
    }
    let samples = Samples::of(reader, period, zone, now)?;
    let mut asked = match question.asn {
        None => largest(reader, &samples, question.top)?,
        Some(asn) => one(reader, &samples, asn)?,
    };
    let by_interface = ways(reader, &samples, &mut asked, question.asn)?;
    let unknown = unknown(reader, &samples)?;
    if asked.is_empty() {
        return Err(match question.asn {
            Some(asn) => Trouble::Unknown {
                what: "network",
                name: format!("AS{asn}"),
                known: "nothing was ever counted for it; AS numbers come with routes by BGP".into(),
            },
            None => Trouble::Question(
                "no network was ever counted: AS numbers come with routes by BGP".to_string(),
            ),
        });
    }
    let parts = |asked: &Asked| {
        let none = Target::default();
        let or_none = |target: &Option<Target>| target.clone().unwrap_or_else(|| none.clone());
        [asked.target.clone(), or_none(&asked.moved), or_none(&asked.whole)]
    };
    let targets: Vec<Target> = asked.iter().flat_map(parts).collect();
    let curves = curves(reader, &samples, &targets)?;
    let rows = asked.iter().zip(curves.chunks_exact(3));
    let rows = rows.flat_map(|(asked, curves)| {
        Direction::BOTH.map(|direction| row(asked, direction, curves, &samples, zone))
    });
    // By which interface something came in is not known: there is nothing to say.
    let rows = rows.filter(|row| row.ifname.is_none() || row.direction == Direction::Out);
    Ok(Report {
        rows: rows.collect(),
        unknown,
        samples,
        by_interface,
    })
}

fn row(asked: &Asked, direction: Direction, curves: &[Curve], samples: &Samples, zone: &Zone) -> Row {
    let [all, moved, whole] = [0, 1, 2].map(|place| &curves[place]);
    let rates = || all.rates(samples, direction);
    let moved = (asked.moved.is_some() && direction == Direction::Out).then_some(moved);
    let whole = asked.whole.is_some().then_some(whole);
    let (sent, carried) = (
        moved.map(|moved| moved.sum(direction)),
        whole.map(|whole| whole.sum(direction)),
    );
    let share = |(sent, carried): (u64, u64)| {
        let share = sent as f64 / carried as f64;
        // The carriers' driver may count a little less than we do.
        (carried > 0).then(|| (share.min(1.0) * 10_000.0).round() / 100.0)
    };
    let without = moved.zip(whole).map(|(moved, whole)| {
        let rest = whole
            .rates(samples, direction)
            .zip(moved.rates(samples, direction));
        samples.percentile(rest.map(|(all, this)| all.saturating_sub(this)))
    });
    Row {
        by: asked.by.name(),
        asn: asked.asn,
        direction,
        ifname: asked.ifname.clone(),
        period: samples.period.name.clone(),
        time_zone: zone.name().to_string(),
        bytes: all.sum(direction),
        carrier_bytes: sent.filter(|_| asked.ifname.is_none()),
        p95: samples.percentile(rates()),
        peak: rates()
            .zip(&samples.samples)
            .filter(|(_, sample)| sample.count > 0)
            .map(|(rate, _)| rate)
            .max()
            .unwrap_or(0),
        share_percent: sent.zip(carried).and_then(share),
        carrier_p95: whole.map(|whole| samples.percentile(whole.rates(samples, direction))),
        carrier_p95_without: without,
    }
}

/// Networks by both that they can be counted by.
const BOTH: [By; 2] = [By::OriginAs, By::NeighbourAs];

fn asked(by: By, asn: u32, target: Target) -> Asked {
    Asked {
        by,
        asn,
        ifname: None,
        target,
        moved: None,
        whole: None,
    }
}

/// The largest networks; what has none is not among them.
fn largest(reader: &Reader, samples: &Samples, top: usize) -> Result<Vec<Asked>, Trouble> {
    let mut list = Vec::new();
    for by in BOTH {
        let named = chosen(
            reader,
            samples,
            by,
            &[],
            Some(top.saturating_add(1)),
            Traffic::Outside,
        )?;
        let known = named
            .into_iter()
            .filter_map(|named| Some((super::names::asn(&named.name).filter(|asn| *asn != 0)?, named)));
        list.extend(known.take(top).map(|(asn, named)| asked(by, asn, named.target)));
    }
    Ok(list)
}

fn one(reader: &Reader, samples: &Samples, asn: u32) -> Result<Vec<Asked>, Trouble> {
    let mut list = Vec::new();
    for by in BOTH {
        match chosen(reader, samples, by, &[format!("AS{asn}")], None, Traffic::Outside) {
            Ok(named) => list.extend(named.into_iter().map(|named| asked(by, asn, named.target))),
            Err(Trouble::Unknown { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(list)
}

/// Finds what goes to each of the networks by which interfaces, and what these send in all. Of a network that was asked for alone,
/// each of its ways is asked about, too. Answers whether any way is known.
fn ways(
    reader: &Reader,
    samples: &Samples,
    list: &mut Vec<Asked>,
    alone: Option<u32>,
) -> Result<bool, Trouble> {
    let every = |by| match chosen(reader, samples, by, &[], None, Traffic::Outside) {
        Ok(named) => Ok(named),
        Err(Trouble::Question(_)) => Ok(Vec::new()),
        Err(other) => Err(other),
    };
    let carriers = every(By::Carrier)?;
    let interfaces = every(By::Interface)?;
    let mut all = Target::default();
    carriers.iter().for_each(|carrier| all.join(&carrier.target));
    let mut ways: BTreeMap<u32, BTreeMap<String, Target>> = BTreeMap::new();
    for (id, series) in reader.series(Kind::OriginAsViaOut)? {
        let Series::OriginAsVia { asn, ifname, .. } = series else {
            continue;
        };
        if list
            .iter()
            .any(|asked| asked.by == By::OriginAs && asked.asn == asn)
        {
            let series = (SeriesId::new(Kind::OriginAsViaOut, id), Direction::Out);
            ways.entry(asn)
                .or_default()
                .entry(ifname)
                .or_default()
                .series
                .push(series);
        }
    }
    let is_carrier = |ifname: &str| carriers.iter().any(|carrier| carrier.name == ifname);
    for asked in &mut *list {
        asked.whole = (!carriers.is_empty()).then(|| all.clone());
        if let Some(ways) = ways.get(&asked.asn).filter(|_| asked.by == By::OriginAs) {
            let mut moved = Target::default();
            for (_, target) in ways
                .iter()
                .filter(|(ifnames, _)| ifnames.split(SHARED).all(is_carrier))
            {
                moved.join(target);
            }
            asked.moved = Some(moved);
        }
    }
    let alone = alone.and_then(|asn| ways.remove_entry(&asn));
    let known = alone.is_some();
    for (asn, (ifname, target)) in alone.into_iter().flat_map(|(asn, ways)| {
        let ways = ways.into_iter();
        ways.map(move |way| (asn, way))
    }) {
        let mut whole = Some(Target::default());
        for name in ifname.split(SHARED) {
            let found = interfaces.iter().find(|named| named.name == name);
            whole = whole.zip(found).map(|(mut whole, found)| {
                whole.join(&found.target);
                whole
            });
        }
        list.push(Asked {
            ifname: Some(ifname),
            moved: Some(target.clone()),
            whole,
            ..asked(By::OriginAs, asn, target)
        });
    }
    Ok(known)
}

/// What has no AS.
fn unknown(reader: &Reader, samples: &Samples) -> Result<Vec<Unknown>, Trouble> {
    let mut list = Vec::new();
    for found in one(reader, samples, 0)? {
        let curves = curves(reader, samples, std::slice::from_ref(&found.target))?;
        let [bytes_in, bytes_out] = Direction::BOTH.map(|direction| curves[0].sum(direction));
        if bytes_in + bytes_out > 0 {
            list.push(Unknown {
                by: found.by.name(),
                bytes_in,
                bytes_out,
            });
        }
    }
    Ok(list)
}
