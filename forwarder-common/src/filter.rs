//! The first ingress filter: what class a source address belongs to.
//!
//! An 8-8-8-... stride table of the same words as the forwarding table: block 0 is the root, a child bit leads to the next
//! block, any other word is a class. It is small (a few dozen blocks) and stays in the cache. There are two of them;
//! a change is compiled whole into the one not in force and takes effect by one store.

use crate::{fib::Leaf, plain};

/// Blocks per family in a source table: a power of two, so that the program can mask.
pub const BLOCKS: usize = 128;
/// Words per family.
pub const WORDS: usize = BLOCKS * crate::fib::BLOCK_LEN;

/// What a source address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SourceClass {
    /// Nothing is known against it.
    Ordinary = 0,
    /// Must not appear on the Internet.
    Bogon = 1,
    /// One of our own prefixes.
    Own = 2,
}

/// Source classes of both families.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SourceTable {
    /// IPv4 words.
    pub v4: [u32; WORDS],
    /// IPv6 words.
    pub v6: [u32; WORDS],
}
plain!(SourceTable, WORDS * 8);

/// Walks a family's words down to the class word of `address` (octets in wire order).
#[inline(always)]
pub fn classify<const OCTETS: usize>(words: &[u32; WORDS], address: &[u8; OCTETS]) -> u32 {
    let mut block = 0usize;
    let mut octet = 0;
    while octet < OCTETS {
        let leaf = Leaf(words[(block & (BLOCKS - 1)) << 8 | address[octet] as usize]);
        match leaf.block() {
            Some(next) => block = next as usize,
            None => return leaf.0,
        }
        octet += 1;
    }
    0
}
