//! The BPF side of the benches. What a program times is never a copy: lookups are those of the `forwarder-ebpf` library
//! on the pinned maps, and the whole program is the pinned one, reached by a tail call.
//!
//! [`abi`] is what the bench in user space shares with it; the rest compiles for BPF alone.
#![no_std]

pub mod abi;

#[cfg(target_arch = "bpf")]
pub mod counters;
#[cfg(target_arch = "bpf")]
pub mod forward;
#[cfg(target_arch = "bpf")]
pub mod lookup;
#[cfg(target_arch = "bpf")]
pub mod maps;
#[cfg(target_arch = "bpf")]
mod params;
#[cfg(target_arch = "bpf")]
pub mod pipeline;
