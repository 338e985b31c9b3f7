//! The data path as the controller sees it: tables in shared memory, and the few things that need a system call.
//!
//! [`Tables`] is plain memory. In production it is the mmapped maps of the running program; in tests it is the heap, and
//! everything above works on it without root.

pub mod attach;
pub mod bencher;
pub mod btf;
mod direct;
pub mod kernel;
pub mod memory;
pub mod pins;
pub mod program;
pub mod refusal;
pub mod region;
pub mod succession;
pub mod tables;
pub mod tracer;

pub use region::{Array, Region};
pub use tables::{Sizes, Tables};

use forwarder_common::punt::Flow;

use crate::source::event::Ifindex;

/// What the tables alone cannot do.
pub trait Dataplane {
    /// The tables.
    fn tables(&self) -> &Tables;

    /// Makes an interface an egress of the redirect map, or takes it out.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn set_device(&mut self, ifindex: Ifindex, present: bool) -> anyhow::Result<()>;

    /// The router's own IPv4 addresses (host order): their packets are never taken for someone else's.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn set_own_addresses(&mut self, addresses: &std::collections::BTreeSet<u32>) -> anyhow::Result<()>;

    /// Sessions, peers and tunnels that punt protection exempts.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn set_flows(&mut self, flows: &std::collections::BTreeSet<Flow>) -> anyhow::Result<()>;

    /// Waits until no packet that is in the program now is in it any more. For rare, small changes.
    fn wait_grace(&self);

    /// Begins to wait until no packet that is in the program now is in it any more.
    fn begin_grace(&mut self);

    /// Whether a wait has begun and is not over.
    fn grace_pending(&self) -> bool;

    /// Whether the wait begun last is over; asked once, it forgets the answer.
    fn grace_over(&mut self) -> bool;
}
