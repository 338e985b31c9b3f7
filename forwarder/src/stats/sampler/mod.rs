//! What was counted, added up exactly: since the last pass for screens, since the last commit for the history.
//!
//! ```text
//! every 10 s    pass: prefixes (anchors say up to where)  -> rates
//! every 5 min   commit: sums of the passes, and what all other counters (series) did -> history, with the state
//! ```
//!
//! Nothing in here waits for a clock, or asks one: `daemon/sampler.rs` does.

pub mod anchors;
pub mod prefixes;
pub mod recorder;
pub mod schedule;
pub mod series;
pub mod state;
