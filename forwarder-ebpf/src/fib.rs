//! Longest-prefix match: one dependent load for most IPv4 packets, two to four for IPv6.

use forwarder_common::{
    fib::{Block, GROUP_INDIRECT, Leaf, Root, walk},
    reason::Reason,
};

use crate::maps;
use aya_ebpf::maps::Array;

/// What the table says of a destination.
#[derive(Clone, Copy)]
pub struct Match {
    /// Next-hop group.
    pub group: u32,
    /// Counter slot of the prefix.
    pub slot: u32,
}

#[inline(always)]
fn lookup<const OCTETS: usize>(
    root: &Array<Root>,
    pool: &Array<Block>,
    address: &[u8; OCTETS],
) -> Result<Match, Reason> {
    let root = root.get(0).ok_or(Reason::Internal)?;
    let leaf: Leaf = walk(
        address,
        |index| Some(root[(index & 0x00ff_ffff) as usize]),
        |block, octet| pool.get(block).map(|block| block[octet as usize]),
    )
    .ok_or(Reason::Internal)?;
    maps::trace(|t| t.leaf = leaf.0);
    if leaf.is_none() {
        return Err(Reason::NoRoute);
    }
    let slot = leaf.slot();
    let group = match leaf.group() {
        GROUP_INDIRECT => *maps::SLOT_GROUP.get(slot).ok_or(Reason::Internal)?,
        group => group,
    };
    maps::trace(|t| t.group = group);
    Ok(Match { group, slot })
}

/// IPv4: `destination` in host order.
///
/// # Errors
/// [`Reason::NoRoute`].
#[inline(always)]
pub fn ipv4(destination: u32) -> Result<Match, Reason> {
    lookup(&maps::FIB4_ROOT, &maps::FIB4_POOL, &destination.to_be_bytes())
}

/// IPv6: `destination` in wire order.
///
/// # Errors
/// [`Reason::NoRoute`].
#[inline(always)]
pub fn ipv6(destination: &[u8; 16]) -> Result<Match, Reason> {
    lookup(&maps::FIB6_ROOT, &maps::FIB6_POOL, destination)
}
