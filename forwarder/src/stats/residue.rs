//! A sum that does not close, told from one that is read while packets are under way.
//!
//! Two counters are never read at the same moment. But one of them, read before and after the other, bounds the true
//! difference from both sides; and over several tries the bound nearest to zero is nearest to the truth.

use std::collections::BTreeMap;

use super::InterfaceRow;

/// The residue nearest to zero that the samples so far allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    nearest: Option<i64>,
}

impl Interval {
    /// The true difference lies between these two (wrapping counters: read as signed).
    pub fn sample(&mut self, lower: u64, upper: u64) {
        let (lower, upper) = (lower as i64, upper as i64);
        let value = if lower <= 0 && upper >= 0 {
            0
        } else if lower.unsigned_abs() < upper.unsigned_abs() {
            lower
        } else {
            upper
        };
        if self
            .nearest
            .is_none_or(|known| value.unsigned_abs() < known.unsigned_abs())
        {
            self.nearest = Some(value);
        }
    }

    /// The same with baselines that may be wrong by so many packets.
    pub fn sample_within(&mut self, slack: u16, lower: u64, upper: u64) {
        let slack = u64::from(slack);
        self.sample(lower.wrapping_sub(slack), upper.wrapping_add(slack));
    }

    /// The residue; `None` before the first sample.
    pub fn nearest(&self) -> Option<i64> {
        self.nearest
    }
}

/// Samples of a difference that is to become a baseline, at most.
pub const CALIBRATIONS: usize = 64;
/// Samples that must agree.
const AGREED: usize = 8;

/// By how much one counter is ahead of another at the beginning of their sum, and by how many packets that may be wrong: from samples of
/// bounds, each as for [`Interval::sample`]. Most samples of a line that is not saturated are read between packets, where the bounds
/// meet; those agree on the truth, and a sample that caught a driver in the middle of a batch is outvoted.
pub fn calibrate(samples: impl Iterator<Item = (u64, u64)>) -> (u64, u16) {
    let mut votes: BTreeMap<i64, usize> = BTreeMap::new();
    let mut bounds: Vec<(i64, i64)> = Vec::new();
    for (lower, upper) in samples.take(CALIBRATIONS) {
        if lower == upper {
            let count = votes.entry(lower as i64).or_default();
            *count += 1;
            if *count >= AGREED {
                return (lower, 0);
            }
        }
        bounds.push((lower as i64, upper as i64));
    }
    // A line that is never quiet: the middle of what was seen, and how far it is to its ends.
    let middle = |bound: &(i64, i64)| bound.0.wrapping_add(bound.1.wrapping_sub(bound.0) / 2);
    let mut middles: Vec<i64> = bounds.iter().map(middle).collect();
    middles.sort_unstable();
    let Some(value) = middles.get(middles.len() / 2).copied() else {
        return (0, 0);
    };
    let apart = |(lower, upper): &(i64, i64)| value.abs_diff(*lower).max(value.abs_diff(*upper));
    let slack = bounds.iter().map(apart).max().unwrap_or(0);
    (value as u64, u16::try_from(slack).unwrap_or(u16::MAX))
}

/// Observations in a row after which a residue is an alarm.
pub const PERSISTENT: u32 = 5;

/// Remembers residues from one second to the next. Packets under way come and go; what stays is an error.
#[derive(Debug, Default)]
pub struct Watch {
    /// By interface and direction: the residue nearest to zero since it was last zero, and for how many observations.
    open: BTreeMap<(String, &'static str), (i64, u32)>,
}

impl Watch {
    /// Takes one observation; answers a sentence for each sum that has not closed for [`PERSISTENT`] of them.
    pub fn observe(&mut self, rows: &[InterfaceRow]) -> Vec<String> {
        let mut now = BTreeMap::new();
        for row in rows {
            let sums = [("ingress", row.ingress_residue), ("egress", row.egress_residue)];
            for (direction, residue) in sums {
                let Some(residue) = residue.filter(|residue| *residue != 0) else {
                    continue;
                };
                let key = (row.ifname.clone(), direction);
                let entry = match self.open.get(&key) {
                    Some((known, times)) if known.signum() == residue.signum() => {
                        let nearest = if residue.abs() < known.abs() {
                            residue
                        } else {
                            *known
                        };
                        (nearest, times + 1)
                    }
                    _ => (residue, 1),
                };
                now.insert(key, entry);
            }
        }
        self.open = now;
        self.open
            .iter()
            .filter(|(_, (_, times))| *times >= PERSISTENT)
            .map(|((ifname, direction), (residue, _))| sentence(ifname, direction, *residue))
            .collect()
    }
}

fn sentence(ifname: &str, direction: &str, residue: i64) -> String {
    let packets = residue.unsigned_abs();
    match (direction, residue > 0) {
        ("ingress", true) => {
            format!("{ifname}: the driver received {packets} packets more than the program has seen")
        }
        ("ingress", false) => {
            format!("{ifname}: the program has seen {packets} packets more than the driver counts")
        }
        (_, true) => format!("{ifname}: of {packets} packets sent to it the kernel does not say what became"),
        (_, false) => format!("{ifname}: the kernel tells of {packets} packets more than were sent to it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(residue: i64) -> Vec<InterfaceRow> {
        vec![InterfaceRow {
            ifname: "core0".into(),
            ingress_residue: Some(residue),
            ..InterfaceRow::default()
        }]
    }

    #[test]
    fn a_baseline_is_what_quiet_moments_agree_on() {
        // Two samples in the middle of a batch, then quiet.
        let samples = [(3, 9), (4, 4)].into_iter().chain(std::iter::repeat((7, 7)));
        assert_eq!(calibrate(samples), (7, 0));
        // Counters that were set back: below zero.
        let below = 0u64.wrapping_sub(5);
        assert_eq!(calibrate(std::iter::repeat((below, below))), (below, 0));
        // Never quiet: within what was seen.
        let busy = (0..CALIBRATIONS as u64).map(|number| (number % 10, number % 10 + 20));
        let (value, slack) = calibrate(busy);
        assert!(
            (10..=20).contains(&value) && (10..=20).contains(&slack),
            "{value} {slack}"
        );
        assert_eq!(calibrate(std::iter::empty()), (0, 0));
    }

    #[test]
    fn what_may_be_wrong_is_no_residue() {
        let mut found = Interval::default();
        found.sample_within(3, 0u64.wrapping_sub(2), 0u64.wrapping_sub(2));
        assert_eq!(found.nearest(), Some(0));
        let mut found = Interval::default();
        found.sample_within(3, 5, 5);
        assert_eq!(found.nearest(), Some(2));
    }

    #[test]
    fn bounds_around_zero_are_zero_and_the_nearest_counts() {
        let mut interval = Interval::default();
        interval.sample(3, 9);
        assert_eq!(interval.nearest(), Some(3));
        interval.sample((-7i64) as u64, (-2i64) as u64);
        assert_eq!(interval.nearest(), Some(-2));
        interval.sample((-1i64) as u64, 4);
        assert_eq!(interval.nearest(), Some(0));
    }

    #[test]
    fn only_a_residue_that_stays_is_an_alarm() {
        let mut watch = Watch::default();
        for residue in [4, 7, 2, 5] {
            assert!(watch.observe(&row(residue)).is_empty());
        }
        assert_eq!(
            watch.observe(&row(9)),
            ["core0: the driver received 2 packets more than the program has seen"]
        );
        assert!(watch.observe(&row(0)).is_empty());
        assert!(watch.observe(&row(9)).is_empty());
        assert!(watch.observe(&row(-9)).is_empty());
    }
}
