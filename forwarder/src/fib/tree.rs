//! The tree of prefixes, threaded through the table: each slot knows the slot of what covers it.
//!
//! The leaf that stands where a prefix begins belongs to the longest prefix there; from its slot the way up leads over every
//! other prefix that covers the spot, so whether a prefix is laid, and what covers it, takes a walk in the table (which
//! an update makes anyway) and a few steps up. No hash of a million prefixes, which would cost two cache misses for every
//! update and forty megabytes.
//!
//! This holds while every word tells the longest prefix that covers it. Punts of refused prefixes do not: while there are
//! any, [`super::half`] keeps an index instead, and the tree is built anew when the last one is gone.

/// A slot's place in the tree.
#[derive(Clone, Copy, Default)]
struct Node {
    /// Slot of the longest prefix that covers this one; 0 where none does.
    parent: u32,
    length: u8,
    /// Whether blocks count the prefix as a member.
    laid: bool,
}

/// The tree of both families, by slot.
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Room for so many slots.
    pub fn new(slots: u32) -> Tree {
        Tree {
            nodes: vec![Node::default(); slots as usize],
        }
    }

    /// How many slots.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Prefix length of a slot.
    pub fn length(&self, slot: u32) -> u8 {
        self.nodes[slot as usize].length
    }

    /// Says the prefix length of a slot.
    pub fn set_length(&mut self, slot: u32, length: u8) {
        self.nodes[slot as usize].length = length;
    }

    /// Whether blocks count the slot's prefix as a member.
    pub fn is_laid(&self, slot: u32) -> bool {
        self.nodes[slot as usize].laid
    }

    /// Says whether they do.
    pub fn set_laid(&mut self, slot: u32, laid: bool) {
        self.nodes[slot as usize].laid = laid;
    }

    /// The slot of what covers a slot's prefix; 0 where nothing does.
    pub fn parent(&self, slot: u32) -> u32 {
        self.nodes[slot as usize].parent
    }

    /// Says what covers a slot's prefix.
    pub fn set_parent(&mut self, slot: u32, parent: u32) {
        self.nodes[slot as usize].parent = parent;
    }

    /// From the slot of a leaf up to the first that is no longer than `length`; 0 where none is.
    pub fn climb(&self, mut slot: u32, length: u8) -> u32 {
        while slot != 0 && self.nodes[slot as usize].length > length {
            slot = self.nodes[slot as usize].parent;
        }
        slot
    }

    /// What hung on `old` on the way up from `slot` hangs on `new` now.
    pub fn rehang(&mut self, mut slot: u32, old: u32, new: u32) {
        loop {
            let parent = self.nodes[slot as usize].parent;
            if parent == old {
                self.nodes[slot as usize].parent = new;
                return;
            }
            if parent == new || parent == 0 {
                return;
            }
            slot = parent;
        }
    }

    /// Builds the part of one family anew. `prefixes`: network, length and slot of every one.
    pub fn rebuild<A: super::family::Address>(&mut self, mut prefixes: Vec<(A, u8, u32)>) {
        prefixes.sort_unstable();
        let mut way: Vec<(A, u8, u32)> = Vec::new();
        for (network, length, slot) in prefixes {
            while way.pop_if(|(a, l, _)| network.network(*l) != *a).is_some() {}
            self.set_parent(slot, way.last().map_or(0, |(.., cover)| *cover));
            way.push((network, length, slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_comes_between_takes_what_it_covers_and_gives_it_back() {
        let mut tree = Tree::new(8);
        for (slot, length) in [(1, 8), (2, 24), (3, 32), (4, 16)] {
            tree.set_length(slot, length);
        }
        tree.rebuild::<u32>(vec![
            (0x0a00_0000, 8, 1),
            (0x0a00_0000, 24, 2),
            (0x0a00_0001, 32, 3),
            (0x0b00_0000, 16, 5),
        ]);
        assert_eq!([1, 2, 3, 5].map(|slot| tree.parent(slot)), [0, 1, 2, 0]);
        assert_eq!(
            [32, 31, 24, 23, 8, 7].map(|length| tree.climb(3, length)),
            [3, 2, 2, 1, 1, 0]
        );
        // 10.0.0.0/16 comes, seen from the host route's leaf; and goes.
        tree.set_parent(4, 1);
        tree.rehang(3, 1, 4);
        tree.rehang(3, 1, 4);
        assert_eq!([1, 2, 3, 4].map(|slot| tree.parent(slot)), [0, 4, 2, 1]);
        tree.rehang(3, 4, 1);
        assert_eq!([1, 2, 3].map(|slot| tree.parent(slot)), [0, 1, 2]);
    }
}
