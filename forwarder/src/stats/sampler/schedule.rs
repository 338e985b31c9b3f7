//! When an interval of the history ends.
//!
//! Intervals end at multiples of their length on the wall clock, as everybody bills. How long one was is measured by a clock
//! that nobody sets. Where the wall clock was set back, the interval goes on for its whole length, and the next begins at what
//! the clock says then; where it was set forward, it ends at once and is as long as it really was. So no packet is
//! in two intervals or in none, and none has a length that it had not.

use std::time::Duration;

/// Two clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Milliseconds since 1970.
    pub wall: i64,
    /// Milliseconds since the machine started, sleep included.
    pub boot: u64,
}

/// The interval that runs.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    length: i64,
    began: Clocks,
}

/// An interval that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it began, seconds since 1970.
    pub start: i64,
    /// How long it was.
    pub milliseconds: u64,
}

/// As much later than its end may an interval be closed and still count as ended there.
const LATE: i64 = 2_000;

impl Schedule {
    /// An interval began at this moment.
    pub fn new(length: Duration, began: Clocks) -> Schedule {
        Schedule {
            length: length.as_millis().max(1) as i64,
            began,
        }
    }

    /// Whether it is to end now.
    pub fn is_over(&self, now: Clocks) -> bool {
        let number = |wall: i64| wall.div_euclid(self.length);
        let elapsed = now.boot.saturating_sub(self.began.boot) as i64;
        // Set back by a little: its end is near, and what was left would be an interval of seconds.
        let left = self.length - now.wall.rem_euclid(self.length);
        let near = left <= self.length / 10;
        number(now.wall) > number(self.began.wall) || elapsed >= self.length && !near
    }

    /// Ends it; the next begins.
    pub fn end(&mut self, now: Clocks) -> Ended {
        let ended = Ended {
            start: self.began.wall.div_euclid(1000),
            milliseconds: now.boot.saturating_sub(self.began.boot),
        };
        // A moment after the full five minutes is the full five minutes.
        let late = now.wall.rem_euclid(self.length);
        self.began = Clocks {
            wall: if late <= LATE { now.wall - late } else { now.wall },
            boot: now.boot,
        };
        ended
    }

    /// When it began.
    pub fn began(&self) -> Clocks {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(300);

    /// Plays a clock that is looked at every second and set by `jumps`: (after so many seconds, by so many).
    fn play(seconds: u64, jumps: &[(u64, i64)]) -> Vec<Ended> {
        let mut wall = 1_000_000_000_000_i64 / 300_000 * 300_000 + 60_000;
        let mut schedule = Schedule::new(LENGTH, Clocks { wall, boot: 5_000 });
        let mut list = Vec::new();
        for second in 1..=seconds {
            wall += 1_000;
            for (_, by) in jumps.iter().filter(|(at, _)| *at == second) {
                wall += by * 1_000;
            }
            // Looked at a little after the full second.
            let now = Clocks {
                wall: wall + 3,
                boot: 5_003 + second * 1_000,
            };
            if schedule.is_over(now) {
                list.push(schedule.end(now));
            }
        }
        list
    }

    fn lengths(list: &[Ended]) -> Vec<u64> {
        list.iter().map(|ended| ended.milliseconds / 1_000).collect()
    }

    #[test]
    fn intervals_end_at_full_five_minutes() {
        let list = play(1_000, &[]);
        assert_eq!(lengths(&list), [240, 300, 300]);
        assert_eq!(list[1].start % 300, 0);
        assert_eq!(list[2].start - list[1].start, 300);
    }

    #[test]
    fn a_small_step_back_over_a_boundary_makes_no_tiny_interval() {
        let list = play(1_000, &[(241, -2)]);
        assert_eq!(lengths(&list), [240, 302, 300]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_twice_in_the_list_and_nothing_is_lost() {
        let list = play(2 * 3_600, &[(3_600, -3_600)]);
        let total: u64 = list.iter().map(|ended| ended.milliseconds).sum();
        assert!(total > 2 * 3_600_000 - 310_000, "{total}");
        assert!(list.iter().all(|ended| ended.milliseconds <= 330_000), "{list:?}");
        let starts: std::collections::BTreeSet<i64> = list.iter().map(|ended| ended.start / 300).collect();
        assert!(starts.len() < list.len(), "some times are there twice");
    }

    #[test]
    fn a_jump_forward_ends_the_interval_with_its_true_length() {
        let list = play(1_000, &[(100, 86_400)]);
        assert_eq!(lengths(&list)[0], 100);
        assert!(list[1].start - list[0].start > 86_000);
        let total: u64 = list.iter().map(|ended| ended.milliseconds).sum();
        assert!(total > 690_000);
    }
}
