//! What was counted, added up exactly: since the last pass for screens, since the last commit for the history.

pub mod anchors;
pub mod prefixes;
pub mod schedule;
