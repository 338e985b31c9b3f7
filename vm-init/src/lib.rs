//! What the host and the machine that `cargo xtask vm` boots say to each other: a [`plan`] in, [`say`] lines out.

pub mod plan;
pub mod say;
