//! Where routes come from. Every source emits the same events and ends its first sync with a marker.
//!
//! Nothing in here knows about maps; nothing outside knows about wire formats.

pub mod answers;
pub mod bgp;
pub mod event;
pub mod feed;
pub mod fpm;
pub mod kernel;
mod listening;
#[cfg(test)]
mod logged;
pub mod mrt;
pub mod octets;
pub mod record;
pub mod route_tables;
pub mod stacked;
pub mod tap;
