//! Rates that all CPUs share (`forwarder_common::limit`).

use core::arch::asm;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use forwarder_common::limit::{Limiter, TICKS};

/// What a packet takes of a rate. All in [`TICKS`].
#[derive(Clone, Copy)]
pub struct Price {
    /// What the packet costs.
    pub cost: u64,
    /// What may come at once.
    pub burst: u64,
    /// What a CPU takes from the store at once.
    pub quantum: u64,
}

/// The clock, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no arguments and no side effects.
    unsafe { bpf_ktime_get_ns() }
}

/// Whether a packet is within a rate. `credit` and `until` are this CPU's.
///
/// A CPU spends its own credit, and takes some more from the common store when that is used up; where the store has none,
/// it knows until when, and asks it no sooner. A packet may leave a debt, which the next taking covers.
#[inline(always)]
pub fn within(
    price: Price,
    credit: &mut u64,
    until: &mut u64,
    store: impl FnOnce() -> Option<*mut Limiter>,
) -> bool {
    let Price { cost, burst, quantum } = price;
    if *credit as i64 > 0 {
        *credit = credit.wrapping_sub(cost);
        return true;
    }
    let now = now().wrapping_mul(TICKS);
    if (now.wrapping_sub(*until) as i64) < 0 {
        return false;
    }
    let Some(store) = store() else {
        return true;
    };
    let taken = quantum.wrapping_sub(*credit);
    // What is older than the burst is lost; but a debt must be payable.
    let most = if burst > taken { burst } else { taken };
    let oldest = now.wrapping_sub(most);
    for _ in 0..4 {
        // SAFETY: an aligned word of the map's.
        let given = unsafe { (&raw const (*store).given).read_volatile() };
        let from = if (given.wrapping_sub(oldest) as i64) < 0 {
            oldest
        } else {
            given
        };
        let next = from.wrapping_add(taken);
        if (next.wrapping_sub(now) as i64) > 0 {
            *until = next;
            return false;
        }
        if exchange(store, given, next) {
            *credit = quantum.wrapping_sub(cost);
            return true;
        }
    }
    // Four other CPUs were quicker; the packet goes on their account.
    *credit = credit.wrapping_sub(cost);
    true
}

/// Stores `next` if `given` still stands there.
#[inline(always)]
fn exchange(store: *mut Limiter, given: u64, next: u64) -> bool {
    let found: u64;
    // SAFETY: an aligned word of the map's; the instruction is atomic (since Linux 5.12).
    unsafe {
        asm!(
            "r0 = {given}",
            "r0 = cmpxchg_64({store} + 0, r0, {next})",
            "{found} = r0",
            given = in(reg) given,
            store = in(reg) store,
            next = in(reg) next,
            found = out(reg) found,
            out("r0") _,
            options(nostack)
        );
    }
    found == given
}
