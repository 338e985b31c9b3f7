//! The one line of settings every packet reads.

use crate::plain;

/// Settings: one cache line, written by the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Settings {
    /// `CLOCK_MONOTONIC` when the controller last said that the tables are true, nanoseconds.
    pub heartbeat_ns: u64,
    /// Age of the heartbeat at which packets pass to the kernel, nanoseconds; 0 = never.
    pub max_age_ns: u64,
    /// Which of the two source tables is in force, 0 or 1.
    pub active_filter: u32,
    /// Seed of the flow hash: differs between routers so that two in a row do not polarise.
    pub hash_seed: u32,
    /// Which of the two rule sets is in force, 0 or 1.
    pub active_rules: u32,
    /// Zero.
    pub reserved0: u32,
    /// A bit for each [`crate::reason::Reason`] that is asked about before it is passed ([`crate::punt`]).
    pub limited: u64,
    /// One in so many packets is sampled ([`crate::sample`]); 0: none.
    pub sample_rate: u32,
    /// Octets of a frame in a sample, 1 to [`crate::sample::HEADER`].
    pub sample_octets: u32,
    /// 1: everything is decided and nothing done: what would be forwarded or dropped passes with [`crate::reason::Reason::DryRun`].
    /// A word of its own, so that nothing else is written with it.
    pub dry_run: u64,
    /// Zero.
    pub reserved: u64,
}
plain!(Settings, 64);
