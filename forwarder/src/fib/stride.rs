//! The stride table of one family, written in place while packets are looked up in it.
//!
//! # Layout
//! A root and blocks of 256 words, as `forwarder_common::fib` tells. A root word stands for `r` bits: 24, or 16 in the
//! part of IPv6 where the Internet is not. A prefix of length `l` stands
//! - for `l <= r` in the root words of its range,
//! - else in 2^(b-l) words of the block for its first r, r+8, r+16... bits, where `b` is the next of r+8, r+16...
//!
//! A word that leads to a block carries no route; routes that cover it stand in the block's words instead.
//!
//! # Invariants
//! 1. A word holds the longest prefix that covers everything it stands for.
//! 2. A block exists exactly while a prefix longer than its first bit lies in it; `members` counts them, every block on
//!    the way included. A block whose count falls to 0 collapses into one word: what its 256 words all say, or, where
//!    punts of refused prefixes make them differ, a punt of the whole.
//! 3. A new block is filled before the word that leads to it is stored; a collapsed block waits for the grace period
//!    before it is used again. A reader thus meets the old or the new answer.
//!
//! # Running out
//! An announcement that would need more blocks than there are changes nothing and says so. The caller then punts the
//! smallest word that covers the prefix ([`Stride::word_for`]).

use std::sync::atomic::{AtomicU32, Ordering};

use forwarder_common::fib::{BLOCK_LEN, Leaf};

use super::family::Address;
use crate::dataplane::Region;

/// No block is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoBlocks;

/// The memory of a table: root and pool.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// Root words.
    pub root: &'a Region,
    /// Block words.
    pub pool: &'a Region,
}

/// Where a word stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Root(usize),
    Block(u32, usize),
}

impl Words<'_> {
    fn word(&self, place: Place) -> &AtomicU32 {
        match place {
            Place::Root(index) => self.root.u32(index * 4),
            Place::Block(block, index) => self.pool.u32((block as usize * BLOCK_LEN + index) * 4),
        }
    }

    fn load(&self, place: Place) -> Leaf {
        Leaf(self.word(place).load(Ordering::Relaxed))
    }

    fn store(&self, place: Place, leaf: Leaf) {
        self.word(place).store(leaf.0, Ordering::Release);
    }
}

/// Bookkeeping of one family's table. The words themselves are in shared memory.
pub struct Stride {
    /// Prefixes in each block or below it.
    members: Vec<u32>,
    free: Vec<u32>,
    /// Unlinked; may still be read.
    retired: Vec<u32>,
    /// Unlinked before the grace period began.
    waiting: Vec<u32>,
}

/// First bit beyond the level at which a prefix stands, where a root word stands for `root` bits: that, 8 more...
fn level_end(root: u8, length: u8) -> u8 {
    length.max(root).div_ceil(8) * 8
}

impl Stride {
    /// Bookkeeping for an empty table of so many blocks.
    pub fn new(blocks: u32) -> Stride {
        Stride {
            members: vec![0; blocks as usize],
            free: (0..blocks).rev().collect(),
            retired: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Blocks in use, waiting ones included.
    pub fn blocks_used(&self) -> usize {
        self.members.len() - self.free.len()
    }

    /// Blocks in all.
    pub fn blocks(&self) -> usize {
        self.members.len()
    }

    /// Finds the blocks that an earlier controller left linked, given every prefix. Answers also whether any leaf is
    /// `odd`.
    ///
    /// # Errors
    /// A sentence where words and prefixes contradict each other.
    pub fn adopt<A: Address>(
        words: Words<'_>,
        blocks: u32,
        prefixes: impl Iterator<Item = (A, u8)>,
        odd: impl Fn(Leaf) -> bool,
    ) -> Result<(Stride, bool), String> {
        let mut stride = Stride::new(blocks);
        for (address, length) in prefixes {
            let (first, root) = address.root();
            let mut place = Place::Root(first);
            for octet in root / 8..level_end(root, length) / 8 {
                let block = words.load(place).block().ok_or_else(|| {
                    format!(
                        "{}/{length} stands in the directory but has no block",
                        address.ip()
                    )
                })?;
                let members = stride
                    .members
                    .get_mut(block as usize)
                    .ok_or("a word leads beyond the pool")?;
                *members += 1;
                place = Place::Block(block, address.octet(octet as usize));
            }
        }
        stride.free.retain(|block| stride.members[*block as usize] == 0);
        // Linked blocks without members: the earlier controller died between filling and counting. They are found
        // where a root word leads to one, and collapse.
        let mut found = false;
        for index in 0..A::ROOT_LEN {
            stride.collapse_empty(words, Place::Root(index), &mut |leaf| found |= odd(leaf))?;
        }
        Ok((stride, found))
    }

    fn collapse_empty(
        &mut self,
        words: Words<'_>,
        place: Place,
        seen: &mut impl FnMut(Leaf),
    ) -> Result<(), String> {
        let leaf = words.load(place);
        let Some(block) = leaf.block() else {
            seen(leaf);
            return Ok(());
        };
        let members = *self
            .members
            .get(block as usize)
            .ok_or("a word leads beyond the pool")?;
        for index in 0..BLOCK_LEN {
            self.collapse_empty(words, Place::Block(block, index), seen)?;
        }
        if members == 0 {
            words.store(place, words.load(Place::Block(block, 0)));
            self.free.retain(|free| *free != block);
            self.retired.push(block);
        }
        Ok(())
    }

    /// Lays a prefix. `gives_way` is asked of every leaf now there: one of a prefix no longer than this one does.
    ///
    /// # Errors
    /// [`NoBlocks`], with the table unchanged.
    pub fn announce<A: Address>(
        &mut self,
        words: Words<'_>,
        (address, length): (A, u8),
        leaf: Leaf,
        new: bool,
        gives_way: &mut impl FnMut(Leaf) -> bool,
    ) -> Result<(), NoBlocks> {
        let (first, root) = address.root();
        let mut place = Place::Root(first);
        let levels = root / 8..level_end(root, length) / 8;
        let mut probe = place;
        let mut missing = levels.len();
        for octet in levels.clone() {
            let Some(block) = words.load(probe).block() else {
                break;
            };
            probe = Place::Block(block, address.octet(octet as usize));
            missing -= 1;
        }
        if missing > self.free.len() {
            return Err(NoBlocks);
        }
        for octet in levels {
            let below = words.load(place);
            let block = match below.block() {
                Some(block) => block,
                None => {
                    let block = self.free.pop().ok_or(NoBlocks)?;
                    for index in 0..BLOCK_LEN {
                        words.store(Place::Block(block, index), below);
                    }
                    words.store(place, Leaf::child(block));
                    block
                }
            };
            self.members[block as usize] += u32::from(new);
            place = Place::Block(block, address.octet(octet as usize));
        }
        each_word((address, length), place, &mut |place| {
            replace_where(words, place, leaf, gives_way);
        });
        Ok(())
    }

    /// Takes a prefix away: its words get `cover`, and blocks without members collapse, into `punt` where their words
    /// differ. `gives_way` is asked of every leaf in the prefix's range: the prefix's own do.
    pub fn withdraw<A: Address>(
        &mut self,
        words: Words<'_>,
        (address, length): (A, u8),
        cover: Leaf,
        punt: Leaf,
        gives_way: &mut impl FnMut(Leaf) -> bool,
    ) {
        let (first, root) = address.root();
        let mut place = Place::Root(first);
        // Blocks on the way, with the word that leads to each; IPv6 has at most fourteen.
        let mut way = [(place, 0); 14];
        let levels = root / 8..level_end(root, length) / 8;
        let depth = levels.len();
        for (step, octet) in way.iter_mut().zip(levels) {
            let Some(block) = words.load(place).block() else {
                return;
            };
            *step = (place, block);
            place = Place::Block(block, address.octet(octet as usize));
        }
        each_word((address, length), place, &mut |place| {
            replace_where(words, place, cover, gives_way);
        });
        for (parent, block) in way[..depth].iter().copied().rev() {
            let members = &mut self.members[block as usize];
            *members = members.saturating_sub(1);
            if *members == 0 {
                let first = words.load(Place::Block(block, 0));
                let even = (1..BLOCK_LEN).all(|index| words.load(Place::Block(block, index)) == first);
                words.store(parent, if even { first } else { punt });
                self.retired.push(block);
            }
        }
    }

    /// Stores a leaf at the smallest existing word that covers the prefix and answers how many bits that word stands
    /// for: what is left to do for a prefix that found no block.
    pub fn punt_word<A: Address>(&self, words: Words<'_>, address: A, leaf: Leaf) -> u8 {
        let (place, bits) = self.smallest_word(words, address);
        words.store(place, leaf);
        bits
    }

    /// The leaf of the smallest existing word that covers an address, and the bits that word stands for.
    pub fn word_for<A: Address>(&self, words: Words<'_>, address: A) -> (Leaf, u8) {
        let (place, bits) = self.smallest_word(words, address);
        (words.load(place), bits)
    }

    fn smallest_word<A: Address>(&self, words: Words<'_>, address: A) -> (Place, u8) {
        let (first, mut bits) = address.root();
        let mut place = Place::Root(first);
        while bits < A::BITS {
            let Some(block) = words.load(place).block() else {
                break;
            };
            place = Place::Block(block, address.octet(bits as usize / 8));
            bits += 8;
        }
        (place, bits)
    }

    /// Whether anything waits for a grace period.
    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty() || !self.waiting.is_empty()
    }

    /// A grace period begins: what was retired until now will be free when it is over.
    pub fn grace_begins(&mut self) {
        self.waiting.append(&mut self.retired);
    }

    /// The grace period is over.
    pub fn grace_over(&mut self) {
        self.free.append(&mut self.waiting);
    }
}

/// Whether every block on the way to where a prefix stands is linked.
pub fn is_reachable<A: Address>(words: Words<'_>, address: A, length: u8) -> bool {
    let (first, root) = address.root();
    let mut place = Place::Root(first);
    (root / 8..level_end(root, length) / 8).all(|octet| match words.load(place).block() {
        Some(block) => {
            place = Place::Block(block, address.octet(octet as usize));
            true
        }
        None => false,
    })
}

/// Calls `visit` with every leaf of the table, the network and the bits it stands for; what that answers takes its place.
pub fn each_leaf<A: Address>(words: Words<'_>, visit: &mut impl FnMut(Leaf, A, u8) -> Leaf) {
    for index in 0..A::ROOT_LEN {
        let network = A::of_root(index);
        visit_leaf(words, Place::Root(index), network, network.root().1, visit);
    }
}

/// The same with the leaves inside the word of so many bits around an address, or in the larger one that is there.
pub fn each_leaf_inside<A: Address>(
    words: Words<'_>,
    address: A,
    bits: u8,
    visit: &mut impl FnMut(Leaf, A, u8) -> Leaf,
) {
    let (first, mut at) = address.root();
    let mut place = Place::Root(first);
    while at < bits {
        let Some(block) = words.load(place).block() else {
            break;
        };
        place = Place::Block(block, address.octet(at as usize / 8));
        at += 8;
    }
    visit_leaf(words, place, address.network(at), at, visit);
}

fn visit_leaf<A: Address>(
    words: Words<'_>,
    place: Place,
    network: A,
    bits: u8,
    visit: &mut impl FnMut(Leaf, A, u8) -> Leaf,
) {
    let old = words.load(place);
    let Some(block) = old.block() else {
        let new = visit(old, network, bits);
        if new != old {
            words.store(place, new);
        }
        return;
    };
    for octet in 0..=u8::MAX {
        let place = Place::Block(block, octet as usize);
        visit_leaf(words, place, network.with_octet(bits, octet), bits + 8, visit);
    }
}

/// Calls `visit` with every word of a prefix's range at its own level; `place` is the first of them.
fn each_word<A: Address>((address, length): (A, u8), place: Place, visit: &mut impl FnMut(Place)) {
    match place {
        Place::Root(_) => address
            .root_runs(length)
            .flat_map(|(first, count)| first..first + count)
            .for_each(|index| visit(Place::Root(index))),
        Place::Block(block, index) => {
            let count = 1usize << (length.next_multiple_of(8) - length);
            (index & !(count - 1)..)
                .take(count)
                .for_each(|index| visit(Place::Block(block, index)));
        }
    }
}

/// Replaces every leaf at or below a word for which `gives_way` says so.
fn replace_where(words: Words<'_>, place: Place, leaf: Leaf, gives_way: &mut impl FnMut(Leaf) -> bool) {
    let old = words.load(place);
    match old.block() {
        Some(block) => {
            for index in 0..BLOCK_LEN {
                replace_where(words, Place::Block(block, index), leaf, gives_way);
            }
        }
        None if old != leaf && gives_way(old) => words.store(place, leaf),
        None => {}
    }
}
