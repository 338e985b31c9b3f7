//! The XDP program's stages, in the order of the pipeline:
//!
//! ```text
//! main -> tag -> parse -> filter -> fib -> nexthop -> lag -> redirect (ask) -> rewrite or tag -> count; or -> leave
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
pub mod buffers;
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
pub mod lag;
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
#[cfg(target_arch = "bpf")]
pub mod tag;

use forwarder_common::reason::Reason;

/// Where a packet came in, and where in its frame it begins, in a word: functions of the verifier's take five registers.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Inlet(pub u32);

impl Inlet {
    const TAGS: u32 = 16;

    /// `port` is the interface's number, below 2^16; `tags` the octets of the frame's tags.
    #[inline(always)]
    pub const fn new(port: u32, tags: usize) -> Inlet {
        Inlet(port | (tags as u32) << Self::TAGS)
    }

    /// Number of the interface's counters.
    #[inline(always)]
    pub const fn port(self) -> u32 {
        self.0 & 0xffff
    }

    /// Octets of tags.
    #[inline(always)]
    pub const fn tags(self) -> usize {
        (self.0 >> Self::TAGS) as usize & 0xc
    }
}

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
