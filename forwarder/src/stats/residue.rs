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

    /// The residue; `None` before the first sample.
    pub fn nearest(&self) -> Option<i64> {
        self.nearest
    }
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
