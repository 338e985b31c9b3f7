//! Link aggregation (IEEE 802.1AX): which member of a bond a packet leaves by.
//!
//! The program redirects to the member and never to the bond itself, which would take one frame a call
//! (drivers/net/bonding/bond_main.c, `bond_xdp_xmit`). Members stand in buckets as next hops do in a group: losing one moves its own
//! flows and no others, where the kernel's modulo would move nearly all. An aggregation stands in `LAGS` under its bond's port.

use crate::plain;

/// Buckets of an aggregation.
pub const BUCKETS: usize = 124;

/// What of a packet chooses the member: the next hop's MAC address.
pub const BY_MAC: u32 = 1;
/// IP addresses.
pub const BY_ADDRESSES: u32 = 2;
/// Protocol and ports; with [`BY_ADDRESSES`].
pub const BY_PORTS: u32 = 4;
/// Told apart from what chooses the member of a next-hop group: equal hashes would leave members without traffic.
pub const SALT: u32 = 0x5bd1_e995;

/// An aggregation: four cache lines, of which a packet touches two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Lag {
    /// [`BY_MAC`], [`BY_ADDRESSES`], [`BY_PORTS`]; 0: one member takes everything, and no hash is needed.
    pub policy: u32,
    /// Zero.
    pub reserved: u32,
    /// ifindexes of members in use, each in its share of the buckets; all 0 where there is none.
    pub buckets: [u16; BUCKETS],
}
plain!(Lag, 256);

impl Default for Lag {
    fn default() -> Lag {
        Lag {
            policy: 0,
            reserved: 0,
            buckets: [0; BUCKETS],
        }
    }
}

/// The bucket for a hash.
#[inline(always)]
pub const fn bucket(hash: u32) -> usize {
    ((hash as u64 * BUCKETS as u64) >> 32) as usize
}
