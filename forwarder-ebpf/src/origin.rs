//! Source validation: whether a source may come in by this interface (`forwarder_common::origin`); and whose it is, for those
//! who count that (`forwarder_common::account`). One walk answers both.

use forwarder_common::{
    fib::{Leaf, SLOT_MAX},
    interface::{CHECK_SOURCES, COUNT_SOURCES, Interface},
    origin::UNCHECKED,
    reason::Reason,
};

use crate::{Exit, count, fib, maps, nexthop};

/// What the walk found: the reason why not (0: it may come in) in bits 0..8, the account in 8..16, the slot in 16..37. A word,
/// because that is what a function can answer to the verifier.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Found(u64);

impl Found {
    const ACCOUNT_SHIFT: u32 = 8;
    const SLOT_SHIFT: u32 = 16;

    #[inline(always)]
    const fn new(account: u8, slot: u32) -> Found {
        Found((account as u64) << Self::ACCOUNT_SHIFT | (slot as u64) << Self::SLOT_SHIFT)
    }

    #[inline(always)]
    const fn reason(self) -> usize {
        self.0 as u8 as usize
    }

    /// Account of the source; 0 for none.
    #[inline(always)]
    pub const fn account(self) -> u32 {
        (self.0 >> Self::ACCOUNT_SHIFT) as u8 as u32
    }

    /// Counter slot of the prefix that the source is in; 0 for none.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        (self.0 >> Self::SLOT_SHIFT) as u32 & SLOT_MAX
    }
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),+) = $leaf:expr;)+) => {
        $(
            /// A function of its own to the verifier too: it walks the table a second time, and each way by which it can end
            /// would double what comes behind it. Answers a [`Found`].
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: $type,)+ bit: u32, bytes: u32) -> u64 {
                match judge($leaf, bit, bytes as usize) {
                    Ok(found) => found.0,
                    Err(reason) => reason as u64,
                }
            }
        )+
    };
}

functions! {
    origin4(address: u32) = fib::leaf4(address);
    origin6(high: u64, low: u64) = fib::leaf6(&((high as u128) << 64 | low as u128).to_be_bytes());
}

/// IPv4: `address` in host order.
///
/// # Errors
/// Why the packet must not come in.
#[inline(always)]
pub fn ipv4(interface: &Interface, address: u32, bytes: usize) -> Result<Found, Exit> {
    if interface.flags & (CHECK_SOURCES | COUNT_SOURCES) == 0 {
        return Ok(Found(interface.nobody));
    }
    answer(origin4(address, interface.origin, bytes as u32))
}

/// IPv6: `address` in wire order.
///
/// # Errors
/// Why the packet must not come in.
#[inline(always)]
pub fn ipv6(interface: &Interface, address: &[u8; 16], bytes: usize) -> Result<Found, Exit> {
    if interface.flags & (CHECK_SOURCES | COUNT_SOURCES) == 0 {
        return Ok(Found(interface.nobody));
    }
    let address = u128::from_be_bytes(*address);
    let (high, low) = ((address >> 64) as u64, address as u64);
    answer(origin6(high, low, interface.origin, bytes as u32))
}

#[inline(always)]
fn answer(found: u64) -> Result<Found, Exit> {
    let found = Found(found);
    match found.reason() {
        0 => Ok(found),
        reason => Err(Exit(reason)),
    }
}

#[inline(always)]
fn judge(leaf: Leaf, bit: u32, bytes: usize) -> Result<Found, Reason> {
    let (group, reason) = match fib::answer(leaf) {
        Ok(found) => match maps::ORIGINS.get(found.group) {
            Some(origin) => {
                let whose = Found::new(origin.account(), found.slot);
                if bit == UNCHECKED {
                    return Ok(whose);
                }
                match origin.admits(bit) {
                    Ok(()) => return Ok(whose),
                    Err(reason) => (found.group, reason),
                }
            }
            None => (0, Reason::Internal),
        },
        Err(Reason::NoRoute) => (0, Reason::SourceNoRoute),
        Err(reason) => (0, reason),
    };
    // Who only counts speaks against nobody.
    if bit == UNCHECKED {
        return Ok(Found::new(0, 0));
    }
    // Only true routes may speak against a packet (law 4).
    if nexthop::stale(maps::SETTINGS.get()) {
        return Err(Reason::ControllerStale);
    }
    if reason == Reason::BlackholeSource {
        count::discarded_source(group, bytes);
    }
    Err(reason)
}
