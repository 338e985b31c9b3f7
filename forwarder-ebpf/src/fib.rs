//! Longest-prefix match: one dependent load for most IPv4 packets, two to four for IPv6.

use forwarder_common::{
    fib::{Block, GROUP_INDIRECT, Leaf, walk4, walk6},
    reason::Reason,
};

use crate::{
    direct::{Table, opaque},
    maps,
};

/// What the table says of a destination.
#[derive(Clone, Copy)]
pub struct Match {
    /// Next-hop group.
    pub group: u32,
    /// Counter slot of the prefix.
    pub slot: u32,
}

#[inline(always)]
fn pool<const NUMBER: u32>(pool: &Table<Block, NUMBER>, block: u32, octet: u8) -> Option<u32> {
    Some(pool.get(block)?[octet as usize])
}

/// What stands for a walk that led nowhere: a leaf that is none. No sound table has one.
const BROKEN: Leaf = Leaf::child(0);

/// What a leaf says.
///
/// # Errors
/// [`Reason::NoRoute`], or [`Reason::Internal`] where the walk led nowhere.
#[inline(always)]
pub fn answer(leaf: Leaf) -> Result<Match, Reason> {
    // No route is 0 and a walk that led nowhere has the top bit: one comparison for both.
    if leaf.0 as i32 <= 0 {
        return Err(if leaf.is_none() {
            Reason::NoRoute
        } else {
            Reason::Internal
        });
    }
    let slot = leaf.slot();
    let group = match leaf.group() {
        GROUP_INDIRECT => *maps::SLOT_GROUP.get(slot).ok_or(Reason::Internal)?,
        group => group,
    };
    Ok(Match { group, slot })
}

/// The leaf for an IPv4 destination, host order.
#[inline(always)]
pub fn leaf4(destination: u32) -> Leaf {
    let leaf = walk4(
        destination,
        |index| maps::FIB4_ROOT.get().get(index).copied(),
        |block, octet| pool(&maps::FIB4_POOL, block, octet),
    );
    leaf.unwrap_or(BROKEN)
}

/// The leaf for an IPv6 destination, wire order.
#[inline(always)]
pub fn leaf6(destination: &[u8; 16]) -> Leaf {
    let leaf = walk6(
        destination,
        |index| maps::FIB6_ROOT.get().get(opaque(index as u64) as usize).copied(),
        |block, octet| pool(&maps::FIB6_POOL, block, octet),
    );
    leaf.unwrap_or(BROKEN)
}

/// IPv4: `destination` in host order.
///
/// # Errors
/// [`Reason::NoRoute`].
#[inline(always)]
pub fn ipv4(destination: u32) -> Result<Match, Reason> {
    answer(leaf4(destination))
}

/// IPv6: `destination` in wire order.
///
/// # Errors
/// [`Reason::NoRoute`].
#[inline(always)]
pub fn ipv6(destination: &[u8; 16]) -> Result<Match, Reason> {
    answer(leaf6(destination))
}
