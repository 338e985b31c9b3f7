//! Rates that all CPUs share, without a lock: of filter rules and of what goes up to the kernel.
//!
//! Time is the currency: a packet costs what the rate takes to earn it. A CPU spends its own credit and takes some more
//! from the common store, a [`Limiter`], when that is used up; so CPUs meet at the store a few times in the burst's time and
//! not with each packet.

use crate::plain;

/// Ticks of a limiter's clock in a nanosecond: a word of them lasts nine years, and is compared by differences.
pub const TICKS: u64 = 64;

/// The common store of a rate: a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Limiter {
    /// Up to when its time's worth is given out, in [`TICKS`].
    pub given: u64,
    /// `CLOCK_MONOTONIC` when something was too much, nanoseconds, to a tenth of a second; of punt classes alone.
    pub overrun_ns: u64,
    /// Zero.
    pub reserved: [u64; 6],
}
plain!(Limiter, 64);

/// What a CPU takes from the store at once, in [`TICKS`], for a burst in those: so small that what CPUs have taken and not used
/// is little beside a second.
pub const fn quantum(burst: u64, cpus: u32) -> u64 {
    const MOST: u64 = 1_000_000 * TICKS;
    let cpus = if cpus == 0 { 1 } else { cpus as u64 };
    match burst / (8 * cpus) {
        0 => 1,
        share if share > MOST => MOST,
        share => share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_cpus_hold_is_an_eighth_of_the_burst_at_most() {
        for (burst, cpus) in [(1u64 << 20, 1u32), (1 << 30, 64), (1 << 60, 8)] {
            assert!(quantum(burst, cpus) * u64::from(cpus) <= burst / 8);
        }
        assert_eq!((quantum(0, 4), quantum(100, 0)), (1, 12));
    }
}
