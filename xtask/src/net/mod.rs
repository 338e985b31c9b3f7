//! Traffic for the lab: namespaced threads, counted UDP and TCP, hand-made frames.

pub mod ns;
pub mod raw;
pub mod tcp;
pub mod udp;
