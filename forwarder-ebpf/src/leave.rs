//! How a packet leaves that is not forwarded: dropped, or up to the kernel as far as punt protection lets it.
//!
//! A function of its own, to the verifier too: however many reasons there are, it looks at this once, and the way of the packets
//! that are forwarded does not have to keep registers free for it.

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    programs::XdpContext,
};
use forwarder_common::reason::{Policy, Reason};

use crate::{
    Exit, Inlet, buffers, count, log, maps,
    notes::{Notes, Silent, Traced},
    packet::Packet,
    punt,
    rules::Answer,
    sample,
};

/// Reasons as bits, by policy: the verdict is two shifts instead of a table in memory.
const fn bits(policy: Policy) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < Reason::ALL.len() {
        if Reason::ALL[index].policy() as u8 == policy as u8 {
            bits |= 1 << index;
        }
        index += 1;
    }
    bits
}
const DROP: u64 = bits(Policy::Drop);

/// What becomes of a packet with this reason not to forward it, and with this answer of the rules. Counts it.
#[inline(always)]
pub fn ask<N: Notes>(ctx: &XdpContext, inlet: Inlet, exit: Exit, answer: Answer) -> u32 {
    let answer = answer.with_reason(exit.0);
    if N::TAKEN {
        leave_trace(ctx.ctx, inlet.0, answer)
    } else {
        leave(ctx.ctx, inlet.0, answer)
    }
}

macro_rules! functions {
    ($($name:ident<$notes:ty>;)+) => {
        $(
            /// A function of its own to the verifier too, as those of [`crate::rules`] are. Answers an XDP action.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(ctx: *mut xdp_md, inlet: u32, answer: u32) -> u32 {
                decide::<$notes>(ctx, Inlet(inlet), Answer::read(answer))
            }
        )+
    };
}

functions! {
    leave<Silent>;
    leave_trace<Traced>;
}

/// What was decided, where a packet comes here with this reason: [`Reason::DryRun`] stands for a packet that would be forwarded.
#[inline(always)]
fn presumption(reason: usize) -> usize {
    if reason == Reason::DryRun.index() {
        Reason::Forwarded.index()
    } else {
        reason
    }
}

/// The reason to leave with of a packet that was about to leave with `reason`. In a dry run nothing is dropped; what would have
/// been, or would have been forwarded, is counted as that beside the reason that it truly leaves with.
#[inline(always)]
fn presume(cpu: u32, port: u32, reason: usize, bytes: usize) -> usize {
    let would_be_sent = reason == Reason::DryRun.index();
    let would_be_dropped = DROP >> (reason & (Reason::SLOTS - 1)) & 1 != 0 && count::is_dry_run();
    if !(would_be_sent || would_be_dropped) {
        return reason;
    }
    count::presumed(cpu, port, presumption(reason), bytes);
    Reason::DryRun.index()
}

#[inline(always)]
fn decide<N: Notes>(ctx: *mut xdp_md, inlet: Inlet, answer: Answer) -> u32 {
    let port = inlet.port();
    let ctx = &XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let (bytes, reason) = buffers::leaving(ctx, &frame, answer.reason());
    let cpu = maps::cpu();
    if reason == Reason::Internal.index() {
        log::internal(ctx);
    }
    let decided = punt::admit::<N>(ctx, cpu, inlet, reason);
    let reason = presume(cpu, port, decided, bytes);
    N::note(|t| (t.port, t.reason, t.decided) = (port, reason as u32, presumption(decided) as u32));
    count::exit(cpu, port, reason, bytes);
    // What comes in by an interface without a port is nobody's to sample.
    if !N::TAKEN && port != 0 {
        let pending = maps::PENDING.get_ptr_mut(cpu).unwrap_or(core::ptr::null_mut());
        sample::consider(ctx.ctx, pending, reason, (0, 0), bytes);
    }
    // Whichever way it goes on: a rule that marks is no business of the routes. In a dry run nothing is written.
    if !count::is_dry_run() {
        answer.mark(ctx, inlet.tags());
    }
    if DROP >> reason & 1 != 0 {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}
