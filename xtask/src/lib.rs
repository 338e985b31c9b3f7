//! What the development commands and the integration tests share: the lab, its traffic and its route tables.

pub mod bench;
pub mod demo;
pub mod interrupt;
pub mod lab;
pub mod net;
pub mod procfs;
pub mod progress;
pub mod soak;
pub mod table;
