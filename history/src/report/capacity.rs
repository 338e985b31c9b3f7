//! `report capacity`: how full a link is day by day, and when it will be fuller than it should be.
//!
//! The trend is the median of the slopes between all pairs of days (Theil 1950, Sen 1968), of the daily 95th percentile: a day of an
//! attack or an outage hardly moves it. The uncertainty is Sen's 95 % interval of that slope, from the variance of Kendall's S. The date is
//! where that line reaches the target; the earliest and latest where lines of the interval's
//! slopes do. A slope whose interval has zero in it has no latest date: it may be no growth at all.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Trouble,
    calendar::{Day, Period, Zone},
    curves::{Curve, curves},
    names::{By, Named, Traffic, chosen, told},
    samples::{Samples, percentile},
};
use crate::{DAY, Direction, Reader};

/// The question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which interfaces; none for all.
    pub names: Vec<String>,
    /// Bits a second of each: what the history knows as `speed` otherwise.
    pub speeds: Vec<(String, u64)>,
    /// Bonds: what each is called, and its members.
    pub bonds: Vec<(String, Vec<String>)>,
    /// How much of the speed is to be reached, percent.
    pub percent: f64,
    /// How many days back.
    pub days: u32,
}

/// How much of the speed is too much, percent, and how many days are looked at, unless somebody says.
pub const PERCENT: f64 = 80.0;
/// Days back.
pub const DAYS: u32 = 90;

/// A link, one way.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "CapacityRow")]
pub struct Row {
    /// Which.
    pub ifname: String,
    /// The bond that it is a member of; of the bond itself its own name.
    pub bond: Option<String>,
    /// `in` or `out`.
    pub direction: Direction,
    /// Bits a second that it can carry.
    pub speed: Option<u64>,
    /// Days that count: those with samples of at least half of them.
    pub days: u64,
    /// Largest sample.
    pub peak: u64,
    /// When it began.
    pub peak_at: String,
    /// 95th percentile of all samples.
    pub p95: u64,
    /// 95th percentile of the speed, percent.
    pub p95_percent: Option<f64>,
    /// Bits a second more each day, in the long run.
    pub growth_per_day: Option<f64>,
    /// At least.
    pub growth_low: Option<f64>,
    /// At most.
    pub growth_high: Option<f64>,
    /// How much of the speed is to be reached, percent.
    pub target_percent: f64,
    /// What will be: `reached`, `growing`, `no-growth`, `too-few-days`, `unknown-speed`.
    pub outlook: &'static str,
    /// The day on which the daily percentile reaches the target.
    pub reached: Option<String>,
    /// At the earliest.
    pub earliest: Option<String>,
    /// At the latest; none: perhaps never.
    pub latest: Option<String>,
    /// A member's part of its bond's octets, percent.
    pub share_percent: Option<f64>,
    /// Of a bond: its busiest member's percentile over the mean of all members'; 1 is even.
    pub imbalance: Option<f64>,
}

/// A day of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daily {
    /// Its date.
    pub day: Day,
    /// Largest sample, bits a second.
    pub peak: u64,
    /// 95th percentile.
    pub p95: u64,
}

/// The report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Two rows for each link.
    pub rows: Vec<Row>,
    /// Their days.
    pub daily: Vec<Vec<Daily>>,
}

/// Fewer days make no trend.
const FEWEST: usize = 14;
/// A date further away is a guess.
const FURTHEST: f64 = 3_650.0;

/// Makes the report; `now` is the clock's, seconds since 1970.
///
/// # Errors
/// See [`Trouble`].
pub fn capacity(reader: &Reader, question: &Question, zone: &Zone, now: i64) -> Result<Report, Trouble> {
    let period = Period {
        name: format!("the last {} days", question.days),
        from: now - i64::from(question.days) * DAY,
        to: now,
    };
    let samples = Samples::of(reader, &period, zone, now)?;
    let links = links(reader, question, &samples)?;
    let targets: Vec<_> = links.iter().map(|link| link.named.target.clone()).collect();
    let curves = curves(reader, &samples, &targets)?;
    let speeds = speeds(reader, question, &links)?;
    let days = zone.days(period.from, period.to);
    let mut report = Report::default();
    for (link, curve) in links.iter().zip(&curves) {
        let others = |bond: &str, member: bool| {
            let links = links.iter().zip(&curves);
            let bond = bond.to_string();
            links
                .filter(move |(other, _)| {
                    other.bond.as_deref() == Some(&*bond) && (other.named.name != bond) == member
                })
                .map(|(_, curve)| curve)
        };
        for direction in Direction::BOTH {
            let daily = daily(&samples, curve, direction, &days);
            let mut row = row(
                &link.named.name,
                direction,
                (&samples, curve),
                &daily,
                speeds.get(&link.named.name).copied(),
                question.percent,
                zone,
            );
            row.bond.clone_from(&link.bond);
            match &link.bond {
                Some(bond) if *bond == link.named.name => {
                    let members: Vec<u64> = others(bond, true)
                        .map(|curve| samples.percentile(curve.rates(&samples, direction)))
                        .collect();
                    row.imbalance = imbalance(&members);
                }
                Some(bond) => {
                    let whole = others(bond, false).map(|curve| curve.sum(direction)).sum::<u64>();
                    row.share_percent =
                        (whole > 0).then(|| percent(curve.sum(direction) as f64 / whole as f64));
                }
                None => {}
            }
            report.rows.push(row);
            report.daily.push(daily);
        }
    }
    Ok(report)
}

/// To two places.
fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

fn imbalance(members: &[u64]) -> Option<f64> {
    let most = *members.iter().max()?;
    let mean = members.iter().map(|p95| *p95 as f64).sum::<f64>() / members.len() as f64;
    (mean > 0.0).then(|| (most as f64 / mean * 100.0).round() / 100.0)
}

/// Refuses bonds whose rows would count something twice, or could not be told apart.
fn check_bonds(bonds: &[(String, Vec<String>)]) -> Result<(), Trouble> {
    // What each name is in.
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (bond, members) in bonds {
        let why = match seen.insert(bond, bond) {
            None => None,
            Some(other) if other == bond => {
                Some(format!("{bond} is given twice: name all of its members at once"))
            }
            Some(other) => Some(format!("{bond} is a bond, and cannot be a member of {other}")),
        };
        let twice = members.iter().find_map(|name| {
            let other = seen.insert(name, bond)?;
            Some(if name == bond {
                format!("{bond} cannot be a member of itself: give the bond another name than its members")
            } else if other == bond {
                format!("{name} is twice among the members of {bond}: once is enough")
            } else {
                format!("{name} is in {other} and in {bond}: an interface is a member of one bond")
            })
        });
        if let Some(why) = why.or(twice) {
            return Err(Trouble::Question(why));
        }
    }
    Ok(())
}

struct Link {
    named: Named,
    bond: Option<String>,
}

/// The interfaces that are asked for, bonds in front of their members.
fn links(reader: &Reader, question: &Question, samples: &Samples) -> Result<Vec<Link>, Trouble> {
    let some = |names: &[String]| chosen(reader, samples, By::Interface, names, None, Traffic::Outside);
    check_bonds(&question.bonds)?;
    let mut links = Vec::new();
    for (bond, members) in &question.bonds {
        let members = some(members)?;
        // The driver of the bond itself may count too; what its members count is what is compared here.
        let mut whole = Named {
            name: bond.clone(),
            target: Default::default(),
        };
        for member in &members {
            whole.target.join(&member.target);
        }
        let bond = Some(bond.clone());
        links.push(Link {
            named: whole,
            bond: bond.clone(),
        });
        links.extend(members.into_iter().map(|named| Link {
            named,
            bond: bond.clone(),
        }));
    }
    if !question.names.is_empty() || question.bonds.is_empty() {
        let plain = some(&question.names)?;
        links.extend(plain.into_iter().map(|named| Link { named, bond: None }));
    }
    Ok(links)
}

/// Bits a second of links: as given, as told by the controller, and of a bond those of its members together.
fn speeds(reader: &Reader, question: &Question, links: &[Link]) -> Result<BTreeMap<String, u64>, Trouble> {
    let mut speeds = told(reader, By::Interface, "speed")?;
    speeds.extend(question.speeds.iter().cloned());
    for (bond, members) in &question.bonds {
        let members: Option<Vec<u64>> = members.iter().map(|member| speeds.get(member).copied()).collect();
        let given = question.speeds.iter().any(|(name, _)| name == bond);
        if let (Some(members), false) = (members, given) {
            speeds.insert(bond.clone(), members.iter().sum());
        }
    }
    for (name, _) in &question.speeds {
        if !links.iter().any(|link| link.named.name == *name) {
            return Err(Trouble::unknown(
                "interface",
                name,
                links.iter().map(|link| &*link.named.name),
            ));
        }
    }
    Ok(speeds)
}

fn daily(samples: &Samples, curve: &Curve, direction: Direction, days: &[Day]) -> Vec<Daily> {
    let mut of_days: Vec<Vec<(u64, u64)>> = vec![Vec::new(); days.len()];
    for (rate, sample) in curve.rates(samples, direction).zip(&samples.samples) {
        let middle = sample.start.saturating_add_unsigned(sample.milliseconds / 2_000);
        let place = days.partition_point(|day| day.to <= middle);
        // A sample over many days says nothing about any of them.
        if let Some(values) = of_days.get_mut(place)
            && sample.count > 0
            && sample.count <= 288
        {
            values.push((rate, sample.count));
        }
    }
    days.iter()
        .zip(of_days)
        .filter_map(|(day, mut values)| {
            let count: u64 = values.iter().map(|(_, count)| count).sum();
            let expected = (day.to - day.from).unsigned_abs() / crate::INTERVAL as u64;
            (count * 2 >= expected).then(|| Daily {
                day: day.clone(),
                peak: values.iter().map(|(rate, _)| *rate).max().unwrap_or(0),
                p95: percentile(&mut values),
            })
        })
        .collect()
}

fn row(
    name: &str,
    direction: Direction,
    (samples, curve): (&Samples, &Curve),
    daily: &[Daily],
    speed: Option<u64>,
    target_percent: f64,
    zone: &Zone,
) -> Row {
    let p95 = samples.percentile(curve.rates(samples, direction));
    let counted = curve.rates(samples, direction).zip(&samples.samples);
    let (peak, at) = counted
        .filter(|(_, sample)| sample.count > 0)
        .map(|(rate, sample)| (rate, sample.start))
        .max_by_key(|(rate, start)| (*rate, std::cmp::Reverse(*start)))
        .unwrap_or((0, samples.period.from));
    let points: Vec<(f64, f64)> = daily
        .iter()
        .map(|daily| (day_number(&daily.day), daily.p95 as f64))
        .collect();
    let trend = (points.len() >= FEWEST).then(|| Trend::of(&points)).flatten();
    let mut row = Row {
        ifname: name.to_string(),
        bond: None,
        direction,
        speed,
        days: daily.len() as u64,
        peak,
        peak_at: zone.stamp(at),
        p95,
        p95_percent: speed.map(|speed| percent(p95 as f64 / speed as f64)),
        growth_per_day: trend.as_ref().map(|trend| trend.slope.round()),
        growth_low: trend.as_ref().map(|trend| trend.low.round()),
        growth_high: trend.as_ref().map(|trend| trend.high.round()),
        target_percent,
        outlook: "too-few-days",
        reached: None,
        earliest: None,
        latest: None,
        share_percent: None,
        imbalance: None,
    };
    let Some(speed) = speed else {
        row.outlook = "unknown-speed";
        return row;
    };
    let (Some(trend), Some((today, _))) = (trend, points.last()) else {
        return row;
    };
    let target = speed as f64 * target_percent / 100.0;
    let date = |slope: f64| {
        trend
            .reaches(target, slope, *today)
            .and_then(|day| date(day, zone))
    };
    if trend.at(*today) >= target {
        row.outlook = "reached";
    } else if trend.slope <= 0.0 || trend.low <= 0.0 && date(trend.slope).is_none() {
        row.outlook = "no-growth";
    } else {
        row.outlook = "growing";
        row.reached = date(trend.slope);
        row.earliest = date(trend.high);
        row.latest = date(trend.low);
    }
    row
}

/// The middle of a day, in days since 1970.
fn day_number(day: &Day) -> f64 {
    (day.from + day.to) as f64 / (2 * DAY) as f64
}

fn date(day: f64, zone: &Zone) -> Option<String> {
    zone.date((day * DAY as f64) as i64).map(|date| date.to_string())
}

/// A line through points, and how sure its slope is.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// Up, for each step to the right.
    pub slope: f64,
    /// The slope is not below this, at 95 %.
    pub low: f64,
    /// Nor above this.
    pub high: f64,
    /// Its height at nought: the median of what the points have without the slope.
    pub base: f64,
}

impl Trend {
    /// Theil and Sen's line; `None` of less than two different places.
    pub fn of(points: &[(f64, f64)]) -> Option<Trend> {
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, (x, y)) in points.iter().enumerate() {
            for (later_x, later_y) in &points[index + 1..] {
                if later_x != x {
                    slopes.push((later_y - y) / (later_x - x));
                }
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let n = points.len() as f64;
        // Sen 1968, (2.6): ranks so far from the middle as Kendall's S is from nought at 95 %.
        let wide = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let count = slopes.len() as f64;
        let at = |rank: f64| {
            slopes
                .get((rank.max(0.0) as usize).min(slopes.len().saturating_sub(1)))
                .copied()
        };
        let slope = median(&slopes)?;
        Some(Trend {
            slope,
            low: at(((count - wide) / 2.0).floor() - 1.0)?,
            high: at(((count + wide) / 2.0).ceil())?,
            base: median(&sorted(points.iter().map(|(x, y)| y - slope * x)))?,
        })
    }

    /// The line's height.
    pub fn at(&self, x: f64) -> f64 {
        self.base + self.slope * x
    }

    /// Where a line of that slope, from where this one is today, is so high; `None` for never, or too far away to say.
    fn reaches(&self, height: f64, slope: f64, today: f64) -> Option<f64> {
        let steps = (height - self.at(today)) / slope;
        (slope > 0.0 && (0.0..=FURTHEST).contains(&steps)).then_some(today + steps)
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len().is_multiple_of(2) {
        (sorted[sorted.len() / 2 - 1] + upper) / 2.0
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trend_is_the_line_where_there_is_one_and_an_outage_does_not_move_it() {
        let mut points: Vec<(f64, f64)> = (0..60)
            .map(|x| (f64::from(x), 100.0 + 3.0 * f64::from(x)))
            .collect();
        for x in [7, 8, 30, 55] {
            points[x].1 = 0.0;
        }
        let trend = Trend::of(&points).unwrap();
        assert_eq!((trend.slope, trend.at(100.0).round()), (3.0, 400.0));
        assert!(trend.low > 2.0 && trend.high < 4.0, "{trend:?}");
        assert_eq!(
            trend.reaches(400.0, trend.slope, 59.0).map(f64::round),
            Some(100.0)
        );
        assert_eq!(trend.reaches(1e9, trend.slope, 59.0), None);
    }

    #[test]
    fn the_interval_is_as_in_the_literature() {
        // Gilbert, Statistical Methods for Environmental Pollution Monitoring (1987), example 16.5 has this form: n = 10, distinct.
        let points: Vec<(f64, f64)> = [10.0, 15.0, 14.0, 20.0, 18.0, 25.0, 24.0, 31.0, 29.0, 35.0]
            .into_iter()
            .enumerate()
            .map(|(x, y)| (x as f64, y))
            .collect();
        // Var S = 10 * 9 * 25 / 18 = 125, so C = 21.9: of 45 slopes those at ranks 11.5 and 34.5.
        let mut slopes = Vec::new();
        for a in 0..10 {
            for b in a + 1..10 {
                slopes.push((points[b].1 - points[a].1) / (points[b].0 - points[a].0));
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let trend = Trend::of(&points).unwrap();
        assert_eq!(trend.slope, slopes[22]);
        assert_eq!((trend.low, trend.high), (slopes[10], slopes[34]));
    }

    #[test]
    fn noise_without_growth_may_never_reach_anything() {
        let mut seed = 12_345u64;
        let points: Vec<(f64, f64)> = (0..90)
            .map(|x| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (f64::from(x), 1_000.0 + (seed >> 40) as f64 / 1e5)
            })
            .collect();
        let trend = Trend::of(&points).unwrap();
        assert!(trend.low < 0.0 && trend.high > 0.0, "{trend:?}");
    }
}
