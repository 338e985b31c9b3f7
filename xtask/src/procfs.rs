//! What the kernel tells of a process in `/proc/PID/stat`, proc_pid_stat(5).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Places of what is told, counted from 1 as the manual does.
const STATE: usize = 3;
const USER_TIME: usize = 14;
const SYSTEM_TIME: usize = 15;
const START_TIME: usize = 22;

/// What is told of one process at one moment.
pub struct Stat(String);

impl Stat {
    /// Asks.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(pid: u32) -> Result<Stat> {
        let path = format!("/proc/{pid}/stat");
        fs::read_to_string(&path)
            .map(Stat)
            .with_context(|| format!("cannot read {path}"))
    }

    /// The name, which is the second, may hold blanks and parentheses: counted from its end.
    fn field(&self, place: usize) -> Option<&str> {
        let (_, behind) = self.0.rsplit_once(')')?;
        behind.split_whitespace().nth(place - STATE)
    }

    fn number(&self, place: usize) -> Option<u64> {
        self.field(place)?.parse().ok()
    }

    /// Whether it has ended and nobody has waited for it yet.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.field(STATE), None | Some("Z" | "X"))
    }

    /// When it was started, ticks after boot.
    #[must_use]
    pub fn started(&self) -> Option<u64> {
        self.number(START_TIME)
    }

    /// CPU time that it has used so far, its own and the kernel's for it.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let ticks: u64 = [USER_TIME, SYSTEM_TIME]
            .into_iter()
            .filter_map(|place| self.number(place))
            .sum();
        // SAFETY: a number in, a number out.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
        Duration::from_secs_f64(ticks as f64 / per_second as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_process_has_cpu_time() {
        let start = Instant::now();
        while Stat::of(std::process::id()).unwrap().cpu() < Duration::from_millis(10) {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(Stat::of(u32::MAX).is_err());
    }

    #[test]
    fn fields_are_counted_from_the_end_of_the_name() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 4711 0 0\n";
        let stat = Stat(line.to_owned());
        assert!(!stat.has_ended());
        assert_eq!((stat.started(), stat.number(USER_TIME)), (Some(4711), Some(250)));
        assert!(Stat("7 (a) Z 1".to_owned()).has_ended());
        assert!(Stat(String::new()).has_ended());
    }
}
