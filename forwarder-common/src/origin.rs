//! Source validation (RFC 3704): by which interfaces packets from the sources of a next-hop group may come in.
//!
//! The source is looked for in the forwarding table as a destination is, and its group has an [`Origin`], written whenever the
//! group is. So a check costs a second walk and one more cache line, whatever the number of routes, and a prefix that moves
//! to another carrier moves its check with the same store.

use crate::{plain, reason::Reason};

/// Words of an [`Origin`]: a cache line.
pub const WORDS: usize = 8;
/// Bit: there is a route that leads somewhere, whatever the interface. Ports begin at 1.
pub const ANYWHERE: u32 = 0;
/// Bit: packets to it are thrown away.
pub const BLACKHOLE: u32 = 510;
/// Bit: only the kernel understands the route.
pub const UNDECIDED: u32 = 511;
/// The highest port that has a bit. Behind it stand eight bits of the account.
pub const MAX_PORT: u32 = 495;
/// No bit: sources are looked for and not checked.
pub const UNCHECKED: u32 = u32::MAX;
/// Where the account stands in the last word.
const ACCOUNT_SHIFT: u32 = (MAX_PORT + 1) % 64;

/// Bits: [`ANYWHERE`], one for each port, the account, [`BLACKHOLE`], [`UNDECIDED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Origin {
    /// Bit n is bit n % 64 of word n / 64.
    pub bits: [u64; WORDS],
}
plain!(Origin, 64);

impl Origin {
    /// Sets a bit; one that there is not is nothing.
    pub fn set(&mut self, bit: u32) {
        if let Some(word) = self.bits.get_mut(bit as usize / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    /// Says whose the sources are, 0 for nobody's.
    pub fn set_account(&mut self, account: u8) {
        let last = &mut self.bits[WORDS - 1];
        *last = *last & !(0xff << ACCOUNT_SHIFT) | (account as u64) << ACCOUNT_SHIFT;
    }

    /// Whose the sources are.
    #[inline(always)]
    pub fn account(&self) -> u8 {
        (self.bits[WORDS - 1] >> ACCOUNT_SHIFT) as u8
    }

    /// Whether a bit is set.
    #[inline(always)]
    pub fn has(&self, bit: u32) -> bool {
        self.bits[(bit as usize / 64) & (WORDS - 1)] >> (bit % 64) & 1 != 0
    }

    /// What becomes of a packet from such a source that needs this bit.
    ///
    /// # Errors
    /// Why it must not come in, or [`Reason::SourceUndecided`].
    #[inline(always)]
    pub fn admits(&self, bit: u32) -> Result<(), Reason> {
        if self.has(bit) {
            return Ok(());
        }
        Err(if self.has(UNDECIDED) {
            Reason::SourceUndecided
        } else if self.has(BLACKHOLE) {
            Reason::BlackholeSource
        } else if self.has(ANYWHERE) {
            Reason::SourceInterface
        } else {
            Reason::SourceNoRoute
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(bits: &[u32]) -> Origin {
        let mut origin = Origin::default();
        bits.iter().for_each(|bit| origin.set(*bit));
        origin
    }

    #[test]
    fn a_source_needs_its_bit_and_what_else_stands_there_says_why_not() {
        let somewhere = origin(&[ANYWHERE, 7, MAX_PORT]);
        for bit in [ANYWHERE, 7, MAX_PORT] {
            assert_eq!(somewhere.admits(bit), Ok(()));
        }
        assert_eq!(somewhere.admits(8), Err(Reason::SourceInterface));
        assert_eq!(origin(&[]).admits(ANYWHERE), Err(Reason::SourceNoRoute));
        assert_eq!(
            origin(&[BLACKHOLE]).admits(ANYWHERE),
            Err(Reason::BlackholeSource)
        );
        assert_eq!(
            origin(&[UNDECIDED, BLACKHOLE]).admits(7),
            Err(Reason::SourceUndecided)
        );
        let mut owned = origin(&[MAX_PORT, BLACKHOLE]);
        owned.set_account(255);
        owned.set_account(127);
        assert_eq!((owned.account(), somewhere.account()), (127, 0));
        assert!(owned.has(MAX_PORT) && owned.has(BLACKHOLE) && !owned.has(UNDECIDED));
        // A group of which one member only the kernel understands: that there is a route is certain.
        assert_eq!(origin(&[UNDECIDED, ANYWHERE]).admits(ANYWHERE), Ok(()));
    }
}
