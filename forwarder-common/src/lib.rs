//! The map ABI: every structure that the XDP program and the controller share, and nothing else.
//!
//! # Byte order
//! Numbers in maps are in the host's order. What came off the wire stays as it was: a MAC address is six bytes in
//! wire order, read as the low 48 bits of a little-endian `u64` (see [`nexthop::mac_bits`]). IPv4 addresses used as
//! *indices* are host-order numbers, so that the first octet is the most significant one. BPF here is little-endian only
//! (`bpfel`), and so are the hosts.
//!
//! # Publication
//! The controller writes through `mmap`; the program reads while it does. So everything the program follows is an
//! aligned 4- or 8-byte word, or a `u16` bucket, that is stored whole: a reader sees the old or the new word.
//!
//! # Version
//! [`directory::ABI_VERSION`] changes with any change to a layout in this crate. Pins of another version are refused.
#![cfg_attr(not(test), no_std)]

pub mod account;
pub mod counters;
pub mod direct;
pub mod directory;
pub mod fib;
pub mod filter;
pub mod flow;
pub mod harness;
pub mod interface;
pub mod lag;
pub mod limit;
pub mod maps;
pub mod nexthop;
pub mod origin;
pub mod punt;
pub mod reason;
pub mod rules;
pub mod sample;
pub mod settings;
pub mod trace;
pub mod vlan;

/// Marks a type whose every bit pattern is valid and which has no padding that matters: it may be read from and written
/// to a shared map as plain bytes.
///
/// # Safety
/// Implementors are `repr(C)`, hold only integers or arrays of `Plain` types, and have no padding bytes.
pub unsafe trait Plain: Copy + 'static {}

/// Implements [`Plain`] and checks the size that the ABI promises.
macro_rules! plain {
    ($type:ty, $size:expr) => {
        // SAFETY: repr(C), integers only; the size assertion below leaves no room for padding.
        unsafe impl $crate::Plain for $type {}
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
    };
}
pub(crate) use plain;
