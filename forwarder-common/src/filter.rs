//! The first ingress filter: what class a source address belongs to.
//!
//! A tree with a branch for each octet. A node has a word for each value of its octet: a class, or the table that the next
//! octet is looked up in. That is another node, or, where the tree ends with it, a leaf: 256 classes of two bits, which are one
//! cache line instead of eight. Nearly all tables of a long list are leaves, so thousands of prefixes fit in what
//! stays in the cache. Both families share the tables; each has its root.
//!
//! There are two trees; a change is compiled whole into the one not in force and takes effect by one store.

use crate::plain;

/// Nodes of a tree: a power of two, so that the program can mask.
pub const NODES: usize = 1_024;
/// Leaves of a tree: a power of two.
pub const LEAVES: usize = 4_096;
/// The node that IPv4 begins with.
pub const ROOT4: u16 = 0;
/// The node that IPv6 begins with.
pub const ROOT6: u16 = 1;

/// In a word: the next octet is looked up in the node of this number.
pub const NODE: u16 = 1 << 15;
/// In a word: it is looked up in the leaf of this number.
pub const LEAF: u16 = 1 << 14;

/// Words of a node.
pub const NODE_LEN: usize = 256;
/// Classes in a word of a leaf.
pub const CLASSES: usize = 16;
/// Words of a leaf.
pub const LEAF_LEN: usize = 256 / CLASSES;

const _: () = assert!(NODES.is_power_of_two() && NODES <= LEAF as usize);
const _: () = assert!(LEAVES.is_power_of_two() && LEAVES <= LEAF as usize);

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
    /// Words of the nodes.
    pub nodes: [u16; NODES * NODE_LEN],
    /// Words of the leaves: the class of the lowest octet stands in the lowest bits.
    pub leaves: [u32; LEAVES * LEAF_LEN],
}
plain!(SourceTable, NODES * NODE_LEN * 2 + LEAVES * LEAF_LEN * 4);

/// Walks a tree down to the class of `address` (octets in wire order).
#[inline(always)]
pub fn classify<const OCTETS: usize>(
    nodes: &[u16; NODES * NODE_LEN],
    leaves: &[u32; LEAVES * LEAF_LEN],
    address: &[u8; OCTETS],
) -> u32 {
    let mut word = if OCTETS == 4 { ROOT4 } else { ROOT6 } | NODE;
    let mut at = 0;
    while at < OCTETS {
        let octet = address[at] as usize;
        if word & LEAF != 0 {
            let classes = leaves[(word as usize & (LEAVES - 1)) * LEAF_LEN + octet / CLASSES];
            return classes >> (octet % CLASSES * 2) & 3;
        }
        word = nodes[(word as usize & (NODES - 1)) * NODE_LEN + octet];
        if word & (NODE | LEAF) == 0 {
            return word as u32;
        }
        at += 1;
    }
    SourceClass::Ordinary as u32
}
