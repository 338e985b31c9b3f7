//! The forwarding table's words: leaves, blocks, and the walk that both the program and the host use.
//!
//! A table is a root of 2^24 leaves indexed by the top 24 bits of the address, and a pool of blocks of 256 leaves, each
//! indexed by the next octet. IPv4 needs one block below the root (DIR-24-8); IPv6 up to thirteen (24-8-8-...).
//!
//! ```text
//! leaf 0                       no prefix covers this
//! leaf 1ccc cccc ... cccc      the answer lies in block c, at the next octet
//! leaf 0ggg gggg gggs ... s    next-hop group g (10 bits), counter slot s (21 bits)
//! ```
//! Group [`GROUP_INDIRECT`] says that the group stands in `SLOT_GROUP[slot]`, so that their number is not bounded by ten
//! bits: neighbours on connected subnets, which each have a group of their own, use it.

/// Leaves in a root: one for every value of the top 24 bits.
pub const ROOT_LEN: usize = 1 << 24;
/// Leaves in a block.
pub const BLOCK_LEN: usize = 256;
/// Octets of an address that index the root.
pub const ROOT_OCTETS: usize = 3;
/// Largest counter slot.
pub const SLOT_MAX: u32 = (1 << SLOT_BITS) - 1;
/// Group number in a leaf that means: look in `SLOT_GROUP[slot]`.
pub const GROUP_INDIRECT: u32 = (1 << GROUP_BITS) - 1;

const SLOT_BITS: u32 = 21;
const GROUP_BITS: u32 = 10;
const CHILD: u32 = 1 << 31;

/// A root of a table as it stands in its map.
pub type Root = [u32; ROOT_LEN];
/// A block of a pool as it stands in its map.
pub type Block = [u32; BLOCK_LEN];

/// One word of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Leaf(pub u32);

impl Leaf {
    /// No prefix covers this.
    pub const NONE: Leaf = Leaf(0);

    /// A leaf naming a group (below [`GROUP_INDIRECT`], or that) and a counter slot.
    pub const fn route(group: u32, slot: u32) -> Leaf {
        Leaf((group & GROUP_INDIRECT) << SLOT_BITS | slot & SLOT_MAX)
    }

    /// A leaf that leads to a block.
    pub const fn child(block: u32) -> Leaf {
        Leaf(CHILD | block)
    }

    /// The block it leads to, if it leads to one.
    #[inline(always)]
    pub const fn block(self) -> Option<u32> {
        if self.0 & CHILD != 0 {
            Some(self.0 & !CHILD)
        } else {
            None
        }
    }

    /// Whether no prefix covers this.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The group field; meaningful when it leads to no block.
    #[inline(always)]
    pub const fn group(self) -> u32 {
        self.0 >> SLOT_BITS & GROUP_INDIRECT
    }

    /// The counter slot; meaningful when it leads to no block.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        self.0 & SLOT_MAX
    }
}

/// Walks a table down to the leaf for `address` (its octets in wire order).
///
/// `root` reads the root at an index below [`ROOT_LEN`], `pool` reads octet `u8` of a block. Either answers `None` where
/// the word does not exist, which a sound table never leads to.
#[inline(always)]
pub fn walk<const OCTETS: usize>(
    address: &[u8; OCTETS],
    root: impl Fn(u32) -> Option<u32>,
    pool: impl Fn(u32, u8) -> Option<u32>,
) -> Option<Leaf> {
    let index = (address[0] as u32) << 16 | (address[1] as u32) << 8 | address[2] as u32;
    let mut leaf = Leaf(root(index)?);
    let mut octet = ROOT_OCTETS;
    while octet < OCTETS {
        let Some(block) = leaf.block() else {
            return Some(leaf);
        };
        leaf = Leaf(pool(block, address[octet])?);
        octet += 1;
    }
    if leaf.block().is_some() { None } else { Some(leaf) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_gives_back_what_it_was_made_of() {
        let leaf = Leaf::route(1022, SLOT_MAX);
        assert_eq!((leaf.group(), leaf.slot(), leaf.block()), (1022, SLOT_MAX, None));
        assert_eq!(Leaf::child(77).block(), Some(77));
        assert!(Leaf::NONE.is_none() && Leaf::NONE.block().is_none());
    }

    #[test]
    fn a_walk_that_never_ends_is_an_error_not_a_leaf() {
        assert_eq!(
            walk(
                &[1, 2, 3, 4],
                |_| Some(Leaf::child(0).0),
                |_, _| Some(Leaf::child(0).0)
            ),
            None
        );
        let found = walk(
            &[1, 2, 3, 4],
            |i| (i == 0x010203).then(|| Leaf::child(9).0),
            |b, o| Some(Leaf::route(b, o as u32).0),
        );
        assert_eq!(found, Some(Leaf::route(9, 4)));
    }
}
