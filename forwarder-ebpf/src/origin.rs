//! Source validation: whether a source may come in by this interface (`forwarder_common::origin`).

use forwarder_common::{
    fib::Leaf,
    interface::{CHECK_SOURCES, Interface},
    reason::Reason,
};

use crate::{Exit, count, fib, maps, nexthop};

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),+) = $leaf:expr;)+) => {
        $(
            /// A function of its own to the verifier too: it walks the table a second time, and each way by which it can end
            /// would double what comes behind it. Answers the [`Reason`] why not; 0: it may.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: $type,)+ bit: u32, bytes: u32) -> u32 {
                match judge($leaf, bit, bytes as usize) {
                    Ok(()) => 0,
                    Err(reason) => reason as u32,
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
pub fn ipv4(interface: &Interface, address: u32, bytes: usize) -> Result<(), Exit> {
    if interface.flags & CHECK_SOURCES == 0 {
        return Ok(());
    }
    answer(origin4(address, interface.origin, bytes as u32))
}

/// IPv6: `address` in wire order.
///
/// # Errors
/// Why the packet must not come in.
#[inline(always)]
pub fn ipv6(interface: &Interface, address: &[u8; 16], bytes: usize) -> Result<(), Exit> {
    if interface.flags & CHECK_SOURCES == 0 {
        return Ok(());
    }
    let address = u128::from_be_bytes(*address);
    let (high, low) = ((address >> 64) as u64, address as u64);
    answer(origin6(high, low, interface.origin, bytes as u32))
}

#[inline(always)]
fn answer(reason: u32) -> Result<(), Exit> {
    match reason {
        0 => Ok(()),
        reason => Err(Exit(reason as usize)),
    }
}

#[inline(always)]
fn judge(leaf: Leaf, bit: u32, bytes: usize) -> Result<(), Reason> {
    let (group, reason) = match fib::answer(leaf) {
        Ok(found) => {
            let origin = maps::ORIGINS.get(found.group).ok_or(Reason::Internal)?;
            match origin.admits(bit) {
                Ok(()) => return Ok(()),
                Err(reason) => (found.group, reason),
            }
        }
        Err(Reason::NoRoute) => (0, Reason::SourceNoRoute),
        Err(reason) => (0, reason),
    };
    // Only true routes may speak against a packet (law 4).
    if nexthop::stale(maps::SETTINGS.get()) {
        return Err(Reason::ControllerStale);
    }
    if reason == Reason::BlackholeSource {
        count::discarded_source(group, bytes);
    }
    Err(reason)
}
