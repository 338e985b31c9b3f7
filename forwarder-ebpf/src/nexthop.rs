//! From a group to the next hop of this flow, and everything that may still keep the packet from going there.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use forwarder_common::{
    interface::{GENERIC_MODE, Interface},
    nexthop::{GENERIC, NextHop, bucket},
    reason::Reason,
    settings::Settings,
};

use crate::{Exit, direct::opaque, maps};

/// A next hop with its id.
#[derive(Clone, Copy)]
pub struct Chosen {
    /// Id, for its counters.
    pub id: u32,
    /// Account of the group.
    pub account: u32,
    /// The entry.
    pub hop: &'static NextHop,
}

/// The member of `group` for a flow. `hash` is asked only where there is more than one member.
///
/// # Errors
/// [`Reason::Internal`] where the tables contradict each other.
#[inline(always)]
pub fn choose(group: u32, hash: impl FnOnce() -> u32) -> Result<Chosen, Reason> {
    let entry = maps::GROUPS.get(group).ok_or(Reason::Internal)?;
    let index = if entry.width <= 1 {
        0
    } else {
        // The compiler proves it to be in bounds, which the verifier of Linux 6.1 does not follow.
        opaque(bucket(hash(), entry.width) as u64) as usize
    };
    let id = *entry.buckets.get(index).ok_or(Reason::Internal)? as u32;
    let hop = maps::NEXTHOPS.get(id).ok_or(Reason::Internal)?;
    Ok(Chosen {
        id,
        account: entry.account,
        hop,
    })
}

/// Whether a packet may go there.
///
/// # Errors
/// The next hop's own reason, or the first that speaks against it in the order in which the kernel asks.
#[inline(always)]
pub fn usable(
    hop: &NextHop,
    interface: &Interface,
    forwarding: u32,
    ttl: impl Fn() -> u8,
    length: u32,
) -> Result<(), Exit> {
    // The order matters to the reason, not to whether there is one.
    if hop.state() == Reason::Forwarded.index()
        && hop.flags & GENERIC == 0
        && interface.flags & forwarding != 0
        && ttl() > 1
        && length <= hop.mtu
        && !stale(maps::SETTINGS.get())
    {
        return Ok(());
    }
    obstacle(hop, interface, forwarding, ttl(), length)
}

#[inline(always)]
fn obstacle(hop: &NextHop, interface: &Interface, forwarding: u32, ttl: u8, length: u32) -> Result<(), Exit> {
    let state = hop.state();
    // Delivery comes before forwarding: neither the sysctl nor the age of the routes matters to it.
    if state == Reason::Local.index() || state == Reason::Broadcast.index() {
        return Err(Exit(state));
    }
    if interface.flags & forwarding == 0 {
        return Err(Reason::ForwardingOff.into());
    }
    if stale(maps::SETTINGS.get()) {
        return Err(Reason::ControllerStale.into());
    }
    if state != Reason::Forwarded.index() {
        return Err(Exit(state));
    }
    if ttl <= 1 {
        return Err(Reason::TtlExpired.into());
    }
    if length > hop.mtu {
        return Err(Reason::TooBig.into());
    }
    if hop.flags & GENERIC != 0 && interface.flags & GENERIC_MODE == 0 {
        return Err(Reason::EgressWithoutXdp.into());
    }
    Ok(())
}

/// Whether the controller has been silent for too long (law 4). The coarse clock costs no clock-source read and is as
/// old as a tick at most.
#[inline(always)]
pub fn stale(settings: &Settings) -> bool {
    if settings.max_age_ns == 0 {
        return false;
    }
    // SAFETY: the helper has no arguments and no side effects.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // The coarse clock may be behind the heartbeat: then the difference is below 0.
    now.wrapping_sub(settings.heartbeat_ns) as i64 > settings.max_age_ns as i64
}
