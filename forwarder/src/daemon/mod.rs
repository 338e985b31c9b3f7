//! The controller process.

pub mod engine;
