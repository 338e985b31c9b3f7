//! The XDP program's stages, in the order of the pipeline:
//!
//! ```text
//! main -> parse -> filter -> fib -> nexthop -> redirect (ask) -> rewrite -> count; or -> leave
//! ```
//! Every stage before `rewrite` may end the packet's way with a [`Reason`]; none of them writes to it. `packet` holds the
//! only pointer arithmetic. What needs no map compiles for the host too and is unit-tested there.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(test)]
extern crate std;

pub mod class;
pub mod fields;
pub mod packet;
pub mod parse;
pub mod rewrite;

#[cfg(target_arch = "bpf")]
pub mod count;
#[cfg(target_arch = "bpf")]
pub mod direct;
#[cfg(target_arch = "bpf")]
pub mod egress;
#[cfg(target_arch = "bpf")]
pub mod fib;
#[cfg(target_arch = "bpf")]
pub mod filter;
#[cfg(target_arch = "bpf")]
pub mod leave;
#[cfg(target_arch = "bpf")]
pub mod limit;
#[cfg(target_arch = "bpf")]
pub mod log;
#[cfg(target_arch = "bpf")]
pub mod maps;
#[cfg(target_arch = "bpf")]
pub mod nexthop;
#[cfg(target_arch = "bpf")]
pub mod notes;
#[cfg(target_arch = "bpf")]
pub mod origin;
#[cfg(target_arch = "bpf")]
pub mod punt;
#[cfg(target_arch = "bpf")]
pub mod redirect;
#[cfg(target_arch = "bpf")]
pub mod rules;
#[cfg(target_arch = "bpf")]
pub mod sample;

use forwarder_common::reason::Reason;

/// The end of a packet's way: the index of a [`Reason`].
///
/// An index and not the enum, because a next hop carries its reason as a number in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub usize);

impl From<Reason> for Exit {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Exit(reason.index())
    }
}
