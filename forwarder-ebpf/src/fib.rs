//! Longest-prefix match: one dependent load for most IPv4 packets, two to four for IPv6.

use forwarder_common::{
    fib::{Block, GROUP_INDIRECT, Leaf, walk4, walk6},
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

/// A word of the root; the mask or bound is what the verifier goes by.
#[inline(always)]
fn root<const LEN: usize>(root: &Array<[u32; LEN]>, index: usize) -> Option<u32> {
    root.get(0)?.get(index).copied()
}

#[inline(always)]
fn pool(pool: &Array<Block>, block: u32, octet: u8) -> Option<u32> {
    Some(pool.get(block)?[octet as usize])
}

/// What a leaf says.
///
/// # Errors
/// [`Reason::NoRoute`].
#[inline(always)]
pub fn answer(leaf: Option<Leaf>) -> Result<Match, Reason> {
    let leaf = leaf.ok_or(Reason::Internal)?;
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

/// The leaf for an IPv4 destination, host order.
#[inline(always)]
pub fn leaf4(destination: u32) -> Option<Leaf> {
    walk4(
        &destination.to_be_bytes(),
        |index| root(&maps::FIB4_ROOT, index),
        |block, octet| pool(&maps::FIB4_POOL, block, octet),
    )
}

/// The leaf for an IPv6 destination, wire order.
#[inline(always)]
pub fn leaf6(destination: &[u8; 16]) -> Option<Leaf> {
    walk6(
        destination,
        |index| root(&maps::FIB6_ROOT, index),
        |block, octet| pool(&maps::FIB6_POOL, block, octet),
    )
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
