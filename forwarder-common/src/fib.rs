//! The forwarding table's words: leaves, blocks, and the walk that both the program and the host use.
//!
//! A table is a root of leaves indexed by the top bits of the address, and a pool of blocks of 256 leaves, each indexed by
//! the next octet. IPv4 has a root of 24 bits and needs one block below it (DIR-24-8). IPv6 has 24 bits where the Internet
//! is, in 2000::/3, and 16 elsewhere, and needs up to fourteen blocks below: a root of 24 bits everywhere would be
//! seven eighths empty.
//!
//! ```text
//! leaf 0                       no prefix covers this
//! leaf 1ccc cccc ... cccc      the answer lies in block c, at the next octet
//! leaf 0ggg gggg gggs ... s    next-hop group g (10 bits), counter slot s (21 bits)
//! ```
//! Group [`GROUP_INDIRECT`] says that the group stands in `SLOT_GROUP[slot]`, so that their number is not bounded by ten
//! bits: neighbours on connected subnets, which each have a group of their own, use it.

/// Leaves in the IPv4 root: one for every value of the top 24 bits.
pub const ROOT4_LEN: usize = 1 << 24;
/// Leaves in the IPv6 root: one for every /24 in 2000::/3, then one for every /16 of all, those in 2000::/3 unused.
pub const ROOT6_LEN: usize = GLOBAL6_LEN + (1 << 16);
/// Leaves in a block.
pub const BLOCK_LEN: usize = 256;
/// Largest counter slot.
pub const SLOT_MAX: u32 = (1 << SLOT_BITS) - 1;
/// Group number in a leaf that means: look in `SLOT_GROUP[slot]`.
pub const GROUP_INDIRECT: u32 = (1 << GROUP_BITS) - 1;

/// Leaves of the IPv6 root for 2000::/3.
const GLOBAL6_LEN: usize = 1 << 21;
const SLOT_BITS: u32 = 21;
const GROUP_BITS: u32 = 10;
const CHILD: u32 = 1 << 31;

/// The IPv4 root as it stands in its map.
pub type Root4 = [u32; ROOT4_LEN];
/// The IPv6 root as it stands in its map.
pub type Root6 = [u32; ROOT6_LEN];
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

/// Index in the IPv4 root of an address (host order).
#[inline(always)]
pub const fn root4(address: u32) -> usize {
    (address >> 8) as usize
}

/// Index in the IPv6 root of an address (octets in wire order), and how many octets that takes up: 3 or 2.
#[inline(always)]
pub const fn root6(address: &[u8; 16]) -> (usize, usize) {
    let top = (address[0] as usize) << 8 | address[1] as usize;
    if top >> 13 == 1 {
        ((top << 8 | address[2] as usize) & (GLOBAL6_LEN - 1), 3)
    } else {
        (GLOBAL6_LEN + top, 2)
    }
}

/// The network that a word of the IPv6 root stands for: the inverse of [`root6`].
pub const fn network6(index: usize) -> u128 {
    if index < GLOBAL6_LEN {
        1 << 125 | (index as u128) << 104
    } else {
        ((index - GLOBAL6_LEN) as u128) << 112
    }
}

/// Walks the IPv4 table down to the leaf for `address` (host order).
///
/// `root` reads the root at an index below [`ROOT4_LEN`], `pool` reads octet `u8` of a block. Either answers `None` where
/// the word does not exist, which a sound table never leads to.
#[inline(always)]
pub fn walk4(
    address: u32,
    root: impl Fn(usize) -> Option<u32>,
    pool: impl Fn(u32, u8) -> Option<u32>,
) -> Option<Leaf> {
    let leaf = Leaf(root(root4(address))?);
    let Some(block) = leaf.block() else {
        return Some(leaf);
    };
    let leaf = Leaf(pool(block, address as u8)?);
    if leaf.block().is_some() { None } else { Some(leaf) }
}

/// Walks the IPv6 table, as [`walk4`] does; `root` gets an index below [`ROOT6_LEN`].
#[inline(always)]
pub fn walk6(
    address: &[u8; 16],
    root: impl Fn(usize) -> Option<u32>,
    pool: impl Fn(u32, u8) -> Option<u32>,
) -> Option<Leaf> {
    let (index, octets) = root6(address);
    let mut leaf = Leaf(root(index)?);
    if octets == 2 {
        match leaf.block() {
            Some(block) => leaf = Leaf(pool(block, address[2])?),
            None => return Some(leaf),
        }
    }
    descend(address, 3, leaf, pool)
}

/// From a leaf that `octet` octets have led to, down.
#[inline(always)]
fn descend<const OCTETS: usize>(
    address: &[u8; OCTETS],
    mut octet: usize,
    mut leaf: Leaf,
    pool: impl Fn(u32, u8) -> Option<u32>,
) -> Option<Leaf> {
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
            walk4(
                0x0102_0304,
                |_| Some(Leaf::child(0).0),
                |_, _| Some(Leaf::child(0).0)
            ),
            None
        );
        let found = walk4(
            0x0102_0304,
            |i| (i == 0x010203).then(|| Leaf::child(9).0),
            |b, o| Some(Leaf::route(b, o as u32).0),
        );
        assert_eq!(found, Some(Leaf::route(9, 4)));
    }

    #[test]
    fn the_ipv6_root_is_fine_where_the_internet_is() {
        let address = |text: &str| text.parse::<core::net::Ipv6Addr>().expect("address").octets();
        assert_eq!(root6(&address("2000::")), (0, 3));
        assert_eq!(root6(&address("3fff:ffff::")), (GLOBAL6_LEN - 1, 3));
        assert_eq!(root6(&address("2a0e:b100::")), (0x0a0eb1, 3));
        assert_eq!(root6(&address("::")), (GLOBAL6_LEN, 2));
        assert_eq!(root6(&address("fd00:1234::")), (GLOBAL6_LEN + 0xfd00, 2));
        assert_eq!(root6(&address("ffff:ffff::")), (ROOT6_LEN - 1, 2));
        for index in [0, 5, GLOBAL6_LEN - 1, GLOBAL6_LEN, ROOT6_LEN - 1] {
            assert_eq!(root6(&network6(index).to_be_bytes()).0, index);
        }
        let found = walk6(
            &address("fd00:1234::"),
            |_| Some(Leaf::child(7).0),
            |block, octet| (block == 7).then(|| Leaf::route(1, octet as u32).0),
        );
        assert_eq!(found, Some(Leaf::route(1, 0x12)));
    }
}
