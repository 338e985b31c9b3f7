//! Sets of numbers as closed ranges.

use std::{fmt, ops::RangeInclusive};

/// Closed ranges of numbers: ascending, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The numbers of all these ranges together; one whose end is before its start holds none.
    #[must_use]
    pub fn of(ranges: impl IntoIterator<Item = RangeInclusive<u32>>) -> Ranges {
        let mut sorted: Vec<(u32, u32)> = ranges
            .into_iter()
            .filter(|range| range.start() <= range.end())
            .map(RangeInclusive::into_inner)
            .collect();
        sorted.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => joined.push((first, last)),
            }
        }
        Ranges(joined)
    }

    /// The numbers up to `most` for which `holds`.
    #[must_use]
    pub fn where_true(most: u32, holds: impl Fn(u32) -> bool) -> Ranges {
        Ranges::of((0..=most).filter(|number| holds(*number)).map(|n| n..=n))
    }

    /// The numbers in both.
    #[must_use]
    pub fn and(&self, other: &Ranges) -> Ranges {
        let overlaps = self.0.iter().flat_map(|(first, last)| {
            let meets = move |(start, end): &(u32, u32)| (*first).max(*start)..=(*last).min(*end);
            other.0.iter().map(meets)
        });
        Ranges::of(overlaps)
    }

    /// The numbers in either.
    #[must_use]
    pub fn or(&self, other: &Ranges) -> Ranges {
        Ranges::of(self.iter().chain(other.iter()))
    }

    /// The numbers up to `most` that are not among them.
    #[must_use]
    pub fn others(&self, most: u32) -> Ranges {
        let mut others = Vec::with_capacity(self.0.len() + 1);
        let mut next = 0;
        for (first, last) in self.0.iter().take_while(|(first, _)| *first <= most) {
            if next < *first {
                others.push((next, first - 1));
            }
            match last.checked_add(1) {
                Some(behind) => next = behind,
                None => return Ranges(others),
            }
        }
        if next <= most {
            others.push((next, most));
        }
        Ranges(others)
    }

    /// Whether a number is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && self.0[behind - 1].1 >= number
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each range.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
        self.0.iter().map(|(first, last)| *first..=*last)
    }
}

impl fmt::Display for Ranges {
    /// `80,443,1024-65535`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_upside_down_ones_none() {
        let upside_down = RangeInclusive::new(20, 10);
        let ranges = Ranges::of([5..=9, 1..=4, upside_down, 30..=30, 12..=u32::MAX, 40..=50]);
        assert_eq!(ranges.to_string(), format!("1-9,12-{}", u32::MAX));
        assert!(
            ranges.contains(9) && !ranges.contains(10) && ranges.contains(u32::MAX) && !ranges.contains(0)
        );
    }

    #[test]
    fn and_or_hold_for_every_number() {
        let a = Ranges::where_true(255, |n| n % 3 == 0 || n > 200);
        let b = Ranges::of([0..=0, 9..=100, 210..=220]);
        let (and, or) = (a.and(&b), a.or(&b));
        for n in 0..300 {
            assert_eq!(and.contains(n), a.contains(n) && b.contains(n), "{n}");
            assert_eq!(or.contains(n), a.contains(n) || b.contains(n), "{n}");
        }
    }

    #[test]
    fn the_others_are_all_that_are_missing_up_to_the_largest() {
        for (ranges, others) in [
            (Ranges::of([0..=4, 9..=9, 20..=u32::MAX]), "5-8,10-19"),
            (Ranges::of([9..=15, 40..=50]), "0-8,16-30"),
            (Ranges::of([20..=30]), "0-19"),
            (Ranges::of([0..=99]), ""),
            (Ranges::default(), "0-30"),
        ] {
            assert_eq!(ranges.others(30).to_string(), others, "{ranges}");
        }
        assert_eq!(
            Ranges::default().others(u32::MAX).to_string(),
            format!("0-{}", u32::MAX)
        );
    }
}
