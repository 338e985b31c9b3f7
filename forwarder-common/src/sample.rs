//! Flow samples: one in so many packets, with the first octets of its frame and what was decided about it.
//!
//! Each CPU counts packets down to its next sample. How many it leaves out is random, evenly between none and twice as many as
//! the rate leaves out on average, so that no regular stream hides between samples or fills all of them (sFlow version 5, section 3.1.1).
//! Samples go through a ring buffer that all CPUs share. Where that is full the sample is lost, which is counted; the packet goes
//! its way all the same.

use crate::plain;

/// Most octets of a frame in a sample.
pub const HEADER: usize = 128;
/// Octets of the ring buffer: about six thousand samples.
pub const RING_OCTETS: u32 = 1 << 20;
/// Largest rate, one in so many: what is left out fits 32 bits.
pub const MOST: u32 = 1 << 30;

/// A sample, as it stands in the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// Interface the packet came in on.
    pub ingress: u32,
    /// Interface it went out by; 0 where it was not forwarded.
    pub egress: u32,
    /// Counter slot of the destination's prefix; 0 where it was not forwarded.
    pub slot: u32,
    /// Next hop; 0 where it was not forwarded.
    pub nexthop: u32,
    /// Octets of the frame as it came in, without FCS.
    pub length: u32,
    /// One in so many packets was sampled.
    pub rate: u32,
    /// Port of the interface it came in on.
    pub port: u32,
    /// The [`crate::reason::Reason`] it left with, by its index.
    pub reason: u16,
    /// Octets of `header` that are the frame's; what is behind them means nothing.
    pub captured: u16,
    /// The beginning of the frame as it came in.
    pub header: [u8; HEADER],
}
plain!(Sample, 168);

/// How many samples of packets from one port were taken on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SampleCounter {
    /// Put in the ring buffer.
    pub taken: u64,
    /// Not: it was full.
    pub lost: u64,
}
plain!(SampleCounter, 16);

/// The word of the settings for samples of one packet in `rate`, with `octets` of its frame; a rate of 0 means none.
pub const fn settings_word(rate: u32, octets: u32) -> u64 {
    rate as u64 | (octets as u64) << 32
}

/// Whether a CPU that is `skip` packets from its next sample leaves this one out. 1 means that this one is the next. What no draw
/// for this rate can have answered was drawn for another, or never: then there is something to do, too.
#[inline(always)]
pub const fn leaves_out(skip: u64, rate: u32) -> bool {
    skip.wrapping_sub(2) < (rate as u64) * 2 - 2
}

/// How far the next sample is, from 32 random bits; `rate` is not 0.
#[inline(always)]
pub const fn draw(random: u32, rate: u32) -> u64 {
    random as u64 % (rate as u64 * 2 - 1) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_on_average_and_never_regularly() {
        for rate in [1u32, 2, 10, 1000] {
            let width = rate * 2 - 1;
            let sum: u64 = (0..width).map(|random| draw(random, rate)).sum();
            assert_eq!(sum, width as u64 * rate as u64, "rate {rate}");
            for random in 0..width {
                let skip = draw(random, rate);
                assert!((1..=width as u64).contains(&skip));
                assert_eq!(leaves_out(skip, rate), skip != 1, "rate {rate} skip {skip}");
            }
        }
    }

    #[test]
    fn what_was_drawn_for_another_rate_is_drawn_again() {
        assert!(!leaves_out(0, 1000) && !leaves_out(2000, 1000) && leaves_out(1999, 1000));
        assert!((0..5).all(|skip| !leaves_out(skip, 1)));
        assert!(leaves_out(draw(u32::MAX, MOST), MOST) && draw(u32::MAX, MOST) < 1 << 32);
    }
}
