//! Rare events, at most one line a second: nothing here runs for a packet that meets what it should.

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::XdpContext};
use aya_log_ebpf::warn;

use crate::maps;

const INTERVAL_NS: u64 = 1_000_000_000;

/// Tells that a table entry that should exist does not.
#[inline(never)]
pub fn internal(ctx: &XdpContext) {
    let Some(last) = maps::LOG_LIMIT.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: no arguments, no side effects.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: an aligned word of the program's own map; two CPUs may both log once, which does no harm.
    unsafe {
        if now.wrapping_sub(last.read_volatile()) < INTERVAL_NS {
            return;
        }
        last.write_volatile(now);
    }
    warn!(
        ctx,
        "table entry missing for a packet from ifindex {}: passed to the kernel",
        ctx.ingress_ifindex()
    );
}
