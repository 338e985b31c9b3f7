//! Helpers shared by the integration tests: a throwaway network namespace with the real program on the real tables.
//!
//! They need root and say so; nothing here skips.

pub mod bird;
pub mod controller;
pub mod cpus;
pub mod daemon;
pub mod differential;
pub mod exabgp;
pub mod flood;
pub mod frame;
pub mod frr;
pub mod gobgp;
pub mod guide;
pub mod hostile;
pub mod kernel;
pub mod known;
pub mod lab;
pub mod ledger;
pub mod memory;
pub mod mroute;
pub mod operator;
pub mod overlap;
pub mod packets;
pub mod random;
pub mod replay;
pub mod ring;
pub mod routes;
pub mod sandbox;
pub mod soak;
pub mod table;
pub mod traffic;
pub mod twins;
pub mod volley;
