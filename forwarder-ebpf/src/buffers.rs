//! Frames that are longer than a receive buffer lie in several (`xdp.frags`, Linux 5.18).
//!
//! `data..data_end` is the first buffer. Headers are read there and nowhere else; a frame whose headers are not in it goes up to
//! the kernel. Whatever is about the length of a frame needs that of all its buffers, which a helper tells in a nanosecond or two.
//! Small packets, of which there are many, do without: a driver fills the first buffer before it begins another, and none has
//! receive buffers below [`FULL`] octets (the smallest known are of 1,472, enetc's). Two kinds of frames begin with less and go on all the
//! same: those whose driver leaves the first buffer empty (mlx5 with a striding queue), and those whose headers hardware puts into a buffer
//! of their own (`ethtool -g`, TCP data split). Their IP packet is longer than the first buffer, so they never look sound, and the helper
//! is asked when they leave ([`crate::leave`]).

use aya_ebpf::{helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use forwarder_common::reason::Reason;

use crate::packet::Packet;

/// A first buffer with less in it is the whole frame, unless its packet is cut short.
const FULL: usize = 1024;

/// What a packet looks like of which the first buffer has only the beginning, or nothing, as bits.
const CUT_SHORT: u64 = bits(&[Reason::Truncated, Reason::BadTotalLength]);

/// Reasons found before the length of the packet was held against that of the frame, so that the first buffer may still be short.
const EARLY: u64 = CUT_SHORT
    | bits(&[
        Reason::Unconfigured,
        Reason::Tagged,
        Reason::MemberInactive,
        Reason::Arp,
        Reason::OtherProtocol,
        Reason::LinkMulticast,
        Reason::OtherMac,
        Reason::BadVersion,
        Reason::BadHeaderLength,
    ]);

const fn bits(reasons: &[Reason]) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < reasons.len() {
        bits |= 1 << reasons[index].index();
        index += 1;
    }
    bits
}

/// Octets of a frame, in all of its buffers. `first` is what is in the first.
#[inline(always)]
pub fn length(ctx: &XdpContext, first: &Packet) -> usize {
    let here = first.length();
    if here < FULL { here } else { all(ctx) }
}

/// The same of any frame.
#[inline(always)]
pub fn all(ctx: &XdpContext) -> usize {
    // SAFETY: the program's own context, which the helper reads.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}

/// Octets of a frame that leaves with this reason, and the reason, which is another one where only the first buffer is short.
#[inline(always)]
pub fn leaving(ctx: &XdpContext, first: &Packet, reason: usize) -> (usize, usize) {
    let here = first.length();
    let has = |bits: u64| bits >> (reason & (Reason::SLOTS - 1)) & 1 != 0;
    if here < FULL && !has(EARLY) {
        return (here, reason);
    }
    let length = all(ctx);
    if here < FULL && here != length && has(CUT_SHORT) {
        return (length, Reason::MultiBuffer.index());
    }
    (length, reason)
}
