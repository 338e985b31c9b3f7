//! An interrupt in the middle of a run.
//!
//! Undisturbed, the program holds a word that it is about to follow for some ten nanoseconds, in which the other CPU
//! hardly ever does all that would make the word a wrong one. A CPU that is interrupted just there holds it for
//! microseconds. That may happen to any packet; here it is made to happen often.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use forwarder_tests::random::Random;

/// Tries for each of the two measurements.
const TRIES: usize = 501;

/// A timer of this thread's CPU.
pub struct Interrupter {
    timer: OwnedFd,
    /// What arming it takes.
    arming: Duration,
    /// What a run takes.
    run: Duration,
}

impl Interrupter {
    /// Looks how long a run takes, and how long arming the timer, which on a virtual machine may be more.
    ///
    /// # Errors
    /// The kernel has no timer, or does not run the program.
    pub fn new(mut run: impl FnMut() -> Result<()>) -> Result<Interrupter> {
        // SAFETY: two integers; the result is checked before it is owned.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) };
        ensure!(fd >= 0, "timerfd_create: {}", io::Error::last_os_error());
        let mut new = Interrupter {
            // SAFETY: the descriptor is new and nobody else's.
            timer: unsafe { OwnedFd::from_raw_fd(fd) },
            arming: Duration::ZERO,
            run: Duration::ZERO,
        };
        new.run = median(&mut run)?;
        // The next is armed before the last has struck.
        new.arming = median(|| new.arm(Duration::from_micros(100)))?;
        Ok(new)
    }

    /// An interrupt at any point of a run that begins now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn strike(&self, random: &mut Random) -> Result<()> {
        let within = random.below(self.run.as_nanos() as usize + 1) as u64;
        self.arm(self.arming + Duration::from_nanos(within))
    }

    fn arm(&self, delay: Duration) -> Result<()> {
        let never = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let when = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec {
                tv_sec: delay.as_secs() as i64,
                tv_nsec: i64::from(delay.subsec_nanos()),
            },
        };
        // SAFETY: the descriptor is ours, the time live, and the old one not asked for.
        let set = unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &when, ptr::null_mut()) };
        ensure!(set == 0, "timerfd_settime: {}", io::Error::last_os_error());
        Ok(())
    }
}

fn median(mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut times = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[TRIES / 2])
}
