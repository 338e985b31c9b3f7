//! Which samples a time has, and which it lacks. The rules stand in the essay of [`super`].

use std::ops::RangeInclusive;

use super::{
    Trouble,
    calendar::{Period, Zone},
};
use crate::{INTERVAL, Reader, Recorded};

const MS: u64 = INTERVAL as u64 * 1_000;
/// Shorter is no sample; a hole of that length is a gap.
const SHORTEST: u64 = MS / 2;
/// From here on it is more than one.
const LONGEST: u64 = MS * 3 / 2;

/// A sample, or several of the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it begins, seconds since 1970.
    pub start: i64,
    /// How long it is.
    pub milliseconds: u64,
    /// How many samples it counts for; nought when it is too short to be one.
    pub count: u64,
}

impl Sample {
    /// Bits a second, of so many octets in it; rounded down.
    pub fn rate(&self, octets: u64) -> u64 {
        let bits = u128::from(octets) * 8_000;
        bits.checked_div(u128::from(self.milliseconds))
            .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// Where it ends, seconds since 1970.
    pub fn end(&self) -> i64 {
        self.start
            .saturating_add_unsigned((self.milliseconds + 500) / 1_000)
    }
}

/// A time of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it begins, seconds since 1970.
    pub from: i64,
    /// Where it ends.
    pub to: i64,
}

/// The samples of a time.
#[derive(Clone, Debug)]
pub struct Samples {
    /// In the order in which they were recorded.
    pub samples: Vec<Sample>,
    /// The time they are of, which ends now where it has not ended.
    pub period: Period,
    /// It has ended.
    pub over: bool,
    /// Where there are none.
    pub gaps: Vec<Gap>,
    /// First number, and the sample of each from there on.
    first: i64,
    place: Vec<Option<u32>>,
}

impl Samples {
    /// Those of a time, as the history has them `now`.
    ///
    /// # Errors
    /// It lies in the future, there are none, or the history cannot be read.
    pub fn of(reader: &Reader, period: &Period, zone: &Zone, now: i64) -> Result<Samples, Trouble> {
        if period.from >= now {
            return Err(Trouble::Future(period.name.clone()));
        }
        let recorded = reader.intervals(period.from, period.to)?;
        let over = period.to <= now;
        let period = Period {
            to: period.to.min(now),
            ..period.clone()
        };
        let samples = build(&recorded, &period, over);
        if samples.count() == 0 {
            return Err(none(reader, &recorded, period, zone, now)?);
        }
        Ok(samples)
    }

    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.samples.iter().map(|sample| sample.count).sum()
    }

    /// How many of them share their value with others, because nobody looked in between.
    pub fn averaged(&self) -> u64 {
        let long = self
            .samples
            .iter()
            .filter(|sample| sample.milliseconds >= LONGEST);
        long.map(|sample| sample.count).sum()
    }

    /// How many intervals are too short for a sample.
    pub fn left_out(&self) -> u64 {
        self.samples.iter().filter(|sample| sample.count == 0).count() as u64
    }

    /// Seconds in gaps.
    pub fn gap_seconds(&self) -> u64 {
        self.gaps
            .iter()
            .map(|gap| (gap.to - gap.from).unsigned_abs())
            .sum()
    }

    /// Numbers of the intervals.
    pub fn seqs(&self) -> RangeInclusive<i64> {
        self.first..=self.first + self.place.len() as i64 - 1
    }

    /// The place in `samples` of an interval.
    pub fn place(&self, seq: i64) -> Option<usize> {
        let offset = usize::try_from(seq - self.first).ok()?;
        self.place.get(offset)?.map(|place| place as usize)
    }

    /// The 95th percentile of rates, one for each sample.
    pub fn percentile(&self, rates: impl IntoIterator<Item = u64>) -> u64 {
        let mut weighed: Vec<(u64, u64)> = rates
            .into_iter()
            .zip(&self.samples)
            .map(|(rate, sample)| (rate, sample.count))
            .filter(|(_, count)| *count > 0)
            .collect();
        percentile(&mut weighed)
    }
}

/// Why a time has no sample: what the history has, and when the first one will be there.
fn none(
    reader: &Reader,
    recorded: &[Recorded],
    period: Period,
    zone: &Zone,
    now: i64,
) -> Result<Trouble, Trouble> {
    let figures = reader.figures()?;
    let boundary = |at: i64| (at.div_euclid(INTERVAL) + 1) * INTERVAL;
    // What the controller writes next, if it runs.
    let by = |at: i64| {
        format!(
            "while the controller runs, the first is there by {}",
            zone.written(at)
        )
    };
    let running = !recorded.is_empty() && now < period.to.saturating_add(INTERVAL);
    Ok(match (figures.first, figures.last) {
        (Some(first), Some(last)) if recorded.is_empty() => Trouble::Nothing {
            period: period.name,
            has: format!("it goes from {} to {}", zone.written(first), zone.written(last)),
        },
        (Some(first), Some(last)) => {
            let milliseconds: u64 = recorded.iter().map(|one| one.milliseconds).sum();
            let count = recorded.len();
            // The five minutes that have begun when the history did are no whole ones.
            let whole = boundary(first.max(last - INTERVAL)) + INTERVAL;
            Trouble::TooShort {
                period: period.name,
                since: zone.written(first),
                has: format!(
                    "{} of {} s together",
                    if count == 1 {
                        "one interval".to_string()
                    } else {
                        format!("{count} intervals")
                    },
                    milliseconds.div_ceil(1_000)
                ),
                next: if running && last >= now - INTERVAL {
                    by(whole)
                } else {
                    "none is long enough".to_string()
                },
            }
        }
        _ => Trouble::Nothing {
            period: period.name,
            has: format!("it is still empty; {}", by(boundary(now) + INTERVAL)),
        },
    })
}

/// The 95th percentile of values with how often each is there; nought of none.
pub fn percentile(weighed: &mut [(u64, u64)]) -> u64 {
    weighed.sort_unstable();
    let all: u64 = weighed.iter().map(|(_, count)| count).sum();
    let mut discarded = all / 20;
    for (value, count) in weighed.iter().rev() {
        if *count > discarded {
            return *value;
        }
        discarded -= count;
    }
    0
}

fn build(recorded: &[Recorded], period: &Period, over: bool) -> Samples {
    let (first, last) = match (recorded.first(), recorded.last()) {
        (Some(first), Some(last)) => (first.seq, last.seq),
        _ => (0, -1),
    };
    let mut samples: Vec<Sample> = Vec::new();
    let mut place = vec![None; usize::try_from(last - first + 1).unwrap_or(0)];
    // Those of the same five minutes are one. What is short then waits for what comes behind, or goes to what is before it.
    let mut slots: Vec<Merged> = Vec::new();
    for interval in recorded {
        let here = Sample {
            start: interval.start,
            milliseconds: interval.milliseconds,
            count: 0,
        };
        let next = (here, interval.seq..=interval.seq);
        match slots.last_mut() {
            Some(before) if slot(&before.0) == slot(&here) && touch(before, &next) => join(before, &next),
            _ => slots.push(next),
        }
    }
    let mut merged: Vec<Merged> = Vec::new();
    for next in slots {
        match merged.last_mut() {
            Some(before) if before.0.milliseconds < SHORTEST && touch(before, &next) => join(before, &next),
            _ => merged.push(next),
        }
    }
    merged.dedup_by(|next, before| {
        let joined = next.0.milliseconds < SHORTEST && touch(before, next);
        if joined {
            join(before, next);
        }
        joined
    });
    for (mut sample, seqs) in merged {
        match part(&sample, period) {
            None => continue,
            Some(count) => sample.count = count,
        }
        for seq in seqs {
            if let Some(place) = usize::try_from(seq - first).ok().and_then(|at| place.get_mut(at)) {
                *place = u32::try_from(samples.len()).ok();
            }
        }
        samples.push(sample);
    }
    Samples {
        gaps: gaps(recorded, period),
        samples,
        period: period.clone(),
        over,
        first,
        place,
    }
}

/// The five minutes of the clock that the middle lies in.
fn slot(sample: &Sample) -> i64 {
    let middle = sample
        .start
        .saturating_mul(1_000)
        .saturating_add_unsigned(sample.milliseconds / 2);
    middle.div_euclid(MS as i64)
}

/// Intervals that are one sample.
type Merged = (Sample, RangeInclusive<i64>);

/// Whether one was recorded behind the other, without much in between, and both are no more than a sample.
fn touch(before: &Merged, next: &Merged) -> bool {
    let apart = next.0.start.saturating_mul(1_000) - end_ms(&before.0);
    *before.1.end() + 1 == *next.1.start()
        && apart.unsigned_abs() < SHORTEST
        && before.0.milliseconds.saturating_add(next.0.milliseconds) < LONGEST
}

fn join(before: &mut Merged, next: &Merged) {
    before.0.milliseconds += next.0.milliseconds;
    before.1 = *before.1.start()..=*next.1.end();
}

fn end_ms(sample: &Sample) -> i64 {
    sample
        .start
        .saturating_mul(1_000)
        .saturating_add_unsigned(sample.milliseconds)
}

/// How many samples of this time an interval is; `None` when it belongs to another.
fn part(sample: &Sample, period: &Period) -> Option<u64> {
    let (from, to) = (period.from.saturating_mul(1_000), period.to.saturating_mul(1_000));
    let begin = sample.start.saturating_mul(1_000);
    if sample.milliseconds < LONGEST {
        let middle = begin.saturating_add_unsigned(sample.milliseconds / 2);
        let here = middle >= from && middle < to;
        return here.then_some(u64::from(sample.milliseconds >= SHORTEST));
    }
    let inside = end_ms(sample).min(to).saturating_sub(begin.max(from));
    let count = (u64::try_from(inside).unwrap_or(0) + MS / 2) / MS;
    (count > 0).then_some(count)
}

fn gaps(recorded: &[Recorded], period: &Period) -> Vec<Gap> {
    let mut spans: Vec<(i64, i64)> = recorded
        .iter()
        .map(|interval| (interval.start.saturating_mul(1_000), interval.end_ms()))
        .collect();
    spans.sort_unstable();
    let end = period.to.saturating_mul(1_000);
    let mut known = period.from.saturating_mul(1_000);
    let mut gaps = Vec::new();
    for (from, to) in spans.into_iter().chain([(end, end)]) {
        let from = from.min(end);
        if from - known >= SHORTEST as i64 {
            gaps.push(Gap {
                from: known.div_euclid(1_000),
                to: from.div_euclid(1_000),
            });
        }
        known = known.max(to);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(spans: &[(i64, u64)]) -> Vec<Recorded> {
        let spans = spans.iter().enumerate();
        spans
            .map(|(n, (start, seconds))| Recorded {
                seq: n as i64 + 1,
                start: *start,
                milliseconds: seconds * 1_000,
            })
            .collect()
    }

    fn period(from: i64, to: i64) -> Period {
        Period {
            name: "p".into(),
            from,
            to,
        }
    }

    #[test]
    fn of_so_many_samples_the_twentieth_part_is_discarded_and_the_next_is_the_percentile() {
        for (all, expected) in [
            (1, 1),
            (19, 19),
            (20, 19),
            (21, 20),
            (100, 95),
            (8_640, 8_208),
            (8_928, 8_482),
            (8_064, 7_661),
        ] {
            let mut values: Vec<(u64, u64)> = (1..=all).map(|value| (value, 1)).collect();
            assert_eq!(percentile(&mut values), expected, "of {all}");
        }
        assert_eq!(percentile(&mut []), 0);
        // One that counts for many is as good as many.
        assert_eq!(percentile(&mut [(7, 19), (9, 1)]), 7);
        assert_eq!(percentile(&mut [(7, 18), (9, 2)]), 9);
    }

    #[test]
    fn a_month_without_holes_has_a_sample_for_every_five_minutes_wherever_they_begin() {
        for shift in [0, 1, 149, 151, 299] {
            // A second more or less each time, as timers are.
            let spans: Vec<_> = (-2..12)
                .map(|n: i64| (n * 300 + shift + n % 2, (300 - n % 2 * 2) as u64))
                .collect();
            let samples = build(&recorded(&spans), &period(0, 3_000), true);
            assert_eq!((samples.count(), samples.gaps.len()), (10, 0), "shift {shift}");
            assert_eq!((samples.averaged(), samples.left_out()), (0, 0));
        }
    }

    #[test]
    fn an_interval_over_hours_counts_for_each_five_minutes_of_it_in_each_month() {
        let recorded = recorded(&[(0, 300), (300, 3_000), (3_300, 300)]);
        let this = build(&recorded, &period(0, 1_800), true);
        assert_eq!((this.count(), this.averaged()), (6, 5));
        let next = build(&recorded, &period(1_800, 3_600), true);
        assert_eq!((next.count(), next.averaged()), (6, 5));
        // Octets over the true length.
        assert_eq!(this.samples[1].rate(3_000_000), 8_000);
    }

    #[test]
    fn short_intervals_of_a_restart_are_put_together_and_one_alone_is_left_out() {
        let samples = build(
            &recorded(&[(0, 300), (300, 100), (400, 200), (600, 300), (5_000, 60)]),
            &period(0, 6_000),
            true,
        );
        assert_eq!((samples.count(), samples.left_out()), (3, 1));
        assert_eq!(samples.place(2), samples.place(3));
        assert_eq!(
            samples.gaps,
            [
                Gap { from: 900, to: 5_000 },
                Gap {
                    from: 5_060,
                    to: 6_000
                }
            ]
        );
    }

    #[test]
    fn intervals_of_seconds_are_put_together_to_the_five_minutes_of_the_clock() {
        for length in [10, 15, 30, 60, 100, 150] {
            let spans: Vec<_> = (0..3_000 / length).map(|n| (n * length, length as u64)).collect();
            let samples = build(&recorded(&spans), &period(0, 3_000), true);
            let starts: Vec<i64> = samples.samples.iter().map(|sample| sample.start).collect();
            assert_eq!(
                starts,
                [0, 300, 600, 900, 1_200, 1_500, 1_800, 2_100, 2_400, 2_700]
            );
            assert!(
                samples
                    .samples
                    .iter()
                    .all(|sample| sample.milliseconds == 300_000 && sample.count == 1)
            );
            assert_eq!(
                (samples.averaged(), samples.left_out(), samples.gaps.len()),
                (0, 0, 0)
            );
            assert_eq!(samples.place(3_000 / length), Some(9));
        }
        // 80 s at the beginning go to what is behind; the 100 s so far of what has not ended would be too much with that.
        let spans: Vec<_> = (22..70).map(|n| (n * 10, 10)).collect();
        let samples = build(&recorded(&spans), &period(0, 900), false);
        let found: Vec<_> = samples
            .samples
            .iter()
            .map(|sample| (sample.start, sample.milliseconds))
            .collect();
        assert_eq!(found, [(220, 380_000), (600, 100_000)]);
        assert_eq!((samples.count(), samples.left_out()), (1, 1));
    }

    #[test]
    fn an_hour_that_came_twice_has_its_samples_twice_and_makes_no_gap() {
        let spans: Vec<_> = (0..24).chain(12..24).map(|n| (n * 300, 300)).collect();
        let samples = build(&recorded(&spans), &period(0, 7_200), true);
        assert_eq!((samples.count(), samples.gaps.len()), (36, 0));
    }
}
