//! Controller and command line of forwarder.
//!
//! ```text
//! routes:   source -> rib -> fib -> dataplane (maps);  neighbour, link -> next hops
//! figures:  maps -> stats -> api -> cli, /metrics
//! ```

pub mod api;
pub mod change;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cpus;
pub mod daemon;
pub mod dataplane;
pub mod doctor;
pub mod driver;
pub mod fib;
pub mod filter;
mod first_octets;
pub mod layout;
pub mod link;
mod locked;
pub mod neighbour;
pub mod netlink;
pub mod privileges;
pub mod punt;
pub mod rib;
pub mod samples;
pub mod shadow;
pub mod source;
pub mod stats;
