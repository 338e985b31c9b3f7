//! Accounts: named sets of prefixes, and what is counted between any two of them.
//!
//! An account is a number. That of a packet's destination stands in the next-hop group it is sent to
//! ([`crate::nexthop::Group::account`]), that of its source in the origin of the group its source is found in
//! ([`crate::origin::Origin::account`]): both in cache lines that are read anyway. A forwarded packet is counted in one cell of
//! `PAIRS`, by where it is from, where it goes to, and whether it crossed the edge: came in, or goes out, by an interface that
//! others are beyond. So of two routers on its way only the one at the edge bills it.

use crate::plain;

/// Numbers of accounts. 0 is elsewhere: whatever is in no account.
pub const ACCOUNTS: usize = 128;
/// Accounts there can be.
pub const MOST_ACCOUNTS: usize = ACCOUNTS - 1;
/// Octets of a name.
pub const NAME: usize = 64;
/// Cells of `PAIRS` on one CPU.
pub const PAIRS: usize = 2 * ACCOUNTS * ACCOUNTS;

/// The cell of packets from one account to another; `crossing` is 1 for those that crossed the edge, else 0.
#[inline(always)]
pub const fn pair(crossing: u32, from: u32, to: u32) -> u32 {
    const NUMBER: u32 = ACCOUNTS as u32 - 1;
    ((crossing & 1) * ACCOUNTS as u32 + (from & NUMBER)) * ACCOUNTS as u32 + (to & NUMBER)
}

/// `AccountEntry::state`: never given out.
pub const FREE: u32 = 0;
/// `AccountEntry::state`: an account of the configuration.
pub const LIVE: u32 = 1;
/// `AccountEntry::state`: no longer in the configuration; its counts stay.
pub const REMOVED: u32 = 2;

/// Account directory entry, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct AccountEntry {
    /// [`FREE`], [`LIVE`] or [`REMOVED`].
    pub state: u32,
    /// Zero.
    pub reserved: u32,
    /// Bits a second that are agreed with it; 0: none.
    pub commit: u64,
    /// Its name, NUL-padded.
    pub name: [u8; NAME],
}
plain!(AccountEntry, 80);

impl Default for AccountEntry {
    fn default() -> AccountEntry {
        AccountEntry {
            state: FREE,
            reserved: 0,
            commit: 0,
            name: [0; NAME],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_cell_of_its_own_and_no_number_leads_outside() {
        let mut seen = std::collections::HashSet::new();
        for crossing in 0..2 {
            for from in 0..ACCOUNTS as u32 {
                for to in 0..ACCOUNTS as u32 {
                    let cell = pair(crossing, from, to);
                    assert!((cell as usize) < PAIRS && seen.insert(cell));
                }
            }
        }
        assert!((pair(u32::MAX, u32::MAX, u32::MAX) as usize) < PAIRS);
    }
}
