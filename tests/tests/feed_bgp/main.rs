//! BIRD, GoBGP, ExaBGP and FRR each talk BGP to our speaker, started here as the controller starts it; what it says is
//! put together as the RIB would.
//!
//! The daemon runs on a host of the lab, or beside us on its router; our end is always on the router.

mod bird;
mod exabgp;
mod feed;
mod frr;
mod gobgp;
