//! Filter rules: the first that matches decides, and each that matches counts (`forwarder_common::rules`).
//!
//! What most packets need stands in the caller: a flag and a bit of the bitmap of destinations. The rest is a function of
//! its own, so that the way of the others stays short.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use forwarder_common::{
    reason::Reason,
    rules::{
        Classes, Common, Dimension, LIMIT, MARK, PACKETS, PROCEED, PROCEEDING, RULES, RuleSet, RuleState,
        Verdict, WORDS, class_of_label, class4, class6, classify, concern4, concern6, concerns, summary,
        word,
    },
};

use crate::{
    direct::opaque,
    fields,
    limit::{self, Price},
    maps,
    notes::{Notes, Silent, Traced},
    packet::Packet,
    parse::{ETHERNET, IPV4, IPV6},
};

/// What the rules say of a packet: the [`Reason`] to drop it with, or 0; above [`MARKED`], how to mark it.
#[derive(Clone, Copy)]
pub struct Answer(u32);

/// Set where the packet is to be marked; the DSCP stands below.
const MARKED: u32 = 1 << 16;
const DSCP: u32 = 8;

impl Answer {
    /// No rule has anything to say.
    pub const NOTHING: Answer = Answer(0);

    /// The index of the reason to drop the packet with; 0 where it goes on.
    #[inline(always)]
    pub fn reason(self) -> usize {
        (self.0 & 0xff) as usize
    }

    /// DSCP to write.
    #[inline(always)]
    pub fn mark(self) -> Option<u8> {
        if self.0 & MARKED != 0 {
            Some((self.0 >> DSCP) as u8 & 63)
        } else {
            None
        }
    }
}

/// Room for the numbers of a call: the verifier takes five registers.
#[derive(Clone, Copy)]
pub struct Whence {
    /// CPU.
    pub cpu: u32,
    /// Number of the interface.
    pub port: u32,
}

#[inline(always)]
fn in_force() -> &'static RuleSet {
    // Arithmetic, or the verifier looks at everything behind it for each of the two.
    let active = opaque(maps::SETTINGS.get().active_rules as u64) as usize & 1;
    &maps::RULES.get()[active]
}

/// What the rules say of an IPv4 packet to `destination`, host order.
#[inline(always)]
pub fn ipv4<N: Notes>(ctx: &XdpContext, whence: Whence, bytes: usize, destination: u32) -> Answer {
    if !concerns(
        &in_force().v4.common,
        opaque(concern4(destination) as u64) as usize,
    ) {
        return Answer::NOTHING;
    }
    Answer(if N::TAKEN {
        rules4_trace(ctx.ctx, whence.cpu, whence.port, bytes as u32)
    } else {
        rules4(ctx.ctx, whence.cpu, whence.port, bytes as u32)
    })
}

/// What they say of an IPv6 packet to `destination`, wire order.
#[inline(always)]
pub fn ipv6<N: Notes>(ctx: &XdpContext, whence: Whence, bytes: usize, destination: &[u8; 16]) -> Answer {
    let high = (u128::from_be_bytes(*destination) >> 64) as u64;
    if !concerns(&in_force().v6.common, opaque(concern6(high) as u64) as usize) {
        return Answer::NOTHING;
    }
    Answer(if N::TAKEN {
        rules6_trace(ctx.ctx, whence.cpu, whence.port, bytes as u32)
    } else {
        rules6(ctx.ctx, whence.cpu, whence.port, bytes as u32)
    })
}

macro_rules! functions {
    ($($name:ident: $decide:ident<$notes:ty>;)+) => {
        $(
            /// A function of its own to the verifier too, which knows nothing of its caller there and looks at it once
            /// (`BTF_FUNC_GLOBAL`): its loop, gone through anew for each way by which a packet can have come so far, would be
            /// beyond all bounds.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(ctx: *mut xdp_md, cpu: u32, port: u32, bytes: u32) -> u32 {
                $decide::<$notes>(ctx, cpu, port, bytes)
            }
        )+
    };
}

functions! {
    rules4: decide4<Silent>;
    rules6: decide6<Silent>;
    rules4_trace: decide4<Traced>;
    rules6_trace: decide6<Traced>;
}

#[inline(always)]
fn decide4<N: Notes>(ctx: *mut xdp_md, cpu: u32, port: u32, bytes: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let (Some(key), Some(head)) = (fields::ipv4(&packet, port), packet.head::<IPV4>()) else {
        return 0;
    };
    let Some(classes) = Found::of(cpu) else { return 0 };
    let set = &in_force().v4;
    classify(&set.common, &key, guard, |dimension, class| {
        classes.set(dimension, class)
    });
    classes.set(Dimension::FlowLabel as usize, 0);
    classes.set(
        Dimension::Source as usize,
        class4(set, 1, u32::from_be(head.u32::<26>())),
    );
    classes.set(
        Dimension::Destination as usize,
        class4(set, 0, u32::from_be(head.u32::<30>())),
    );
    first::<N>(&set.common, classes, cpu, bytes as usize)
}

#[inline(always)]
fn decide6<N: Notes>(ctx: *mut xdp_md, cpu: u32, port: u32, bytes: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let (Some(key), Some(head)) = (fields::ipv6(&packet, port), packet.head::<IPV6>()) else {
        return 0;
    };
    let Some(classes) = Found::of(cpu) else { return 0 };
    let set = &in_force().v6;
    classify(&set.common, &key, guard, |dimension, class| {
        classes.set(dimension, class)
    });
    classes.set(Dimension::FlowLabel as usize, class_of_label(set, key.label));
    let halves = |first: u64, second: u64| (u64::from_be(first), u64::from_be(second));
    let (high, low) = halves(head.u64::<22>(), head.u64::<30>());
    classes.set(Dimension::Source as usize, class6(set, 1, high, low));
    let (high, low) = halves(head.u64::<38>(), head.u64::<46>());
    classes.set(Dimension::Destination as usize, class6(set, 0, high, low));
    first::<N>(&set.common, classes, cpu, bytes as usize)
}

/// The same number, of which the compiler knows nothing.
#[inline(always)]
fn guard(number: u32) -> u32 {
    opaque(number as u64) as u32
}

/// Where the answer waits beside the classes: how to mark the packet.
const MARKING: usize = 15;
/// And in a tracing instance, one more than the number of the last rule met: its note is taken behind the loop, or the
/// verifier goes four times as far.
const MET: usize = 14;

/// The classes found for this CPU's packet.
#[derive(Clone, Copy)]
struct Found(*mut Classes);

impl Found {
    #[inline(always)]
    fn of(cpu: u32) -> Option<Found> {
        // In a tracing instance every CPU is the first, and strides are 0.
        let place = if maps::RULE_SLOTS.length() == 0 { 0 } else { cpu };
        maps::CLASSES.get_ptr_mut(place).map(Found)
    }

    #[inline(always)]
    fn set(self, dimension: usize, class: u32) {
        // SAFETY: this CPU's entry, and XDP does not nest on a CPU. Volatile, so that it is stored there indeed.
        unsafe { (&raw mut (*self.0).0[dimension & 15]).write_volatile(class) }
    }

    #[inline(always)]
    fn get(self, dimension: usize) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).0[dimension & 15]).read_volatile() }
    }
}

/// What the rules of the AND say, in their order, up to the first that drops the packet or ends the search.
#[inline(always)]
fn first<N: Notes>(common: &Common, classes: Found, cpu: u32, bytes: usize) -> u32 {
    if N::TAKEN {
        classes.set(MET, 0);
    }
    let said = ask::<N>(common, classes, cpu, bytes);
    N::note(|t| {
        t.rule = classes.get(MET);
        if t.rule != 0 {
            let verdict = &common.verdicts[opaque(t.rule as u64 - 1) as usize & (RULES - 1)];
            t.rule_slot = verdict.slot;
        }
    });
    said
}

#[inline(always)]
fn ask<N: Notes>(common: &Common, classes: Found, cpu: u32, bytes: usize) -> u32 {
    let mut left = summary(common, |dimension| classes.get(dimension));
    let (mut bits, mut base) = (0u64, 0u32);
    classes.set(MARKING, 0);
    // A turn for each word, for each rule that lets others be asked, and for the last.
    for _ in 0..WORDS + PROCEEDING + 1 {
        if bits == 0 {
            if left == 0 {
                break;
            }
            let number = lowest(left as u64);
            left &= left - 1;
            bits = word(common, |dimension| classes.get(dimension), number as usize);
            base = number * 64;
            continue;
        }
        let rule = base + lowest(bits);
        bits &= bits - 1;
        let verdict = &common.verdicts[opaque(rule as u64) as usize & (RULES - 1)];
        if N::TAKEN {
            classes.set(MET, rule + 1);
        }
        let dropped = meet(verdict, cpu, bytes);
        if dropped != 0 {
            return dropped;
        }
        if verdict.flags & MARK != 0 {
            classes.set(MARKING, MARKED | (verdict.dscp as u32) << DSCP);
        }
        if verdict.flags & PROCEED == 0 {
            break;
        }
    }
    classes.get(MARKING)
}

/// Position of the lowest bit of a word that is not zero. BPF has no instruction for it, and the compiler's way is a table.
#[inline(always)]
fn lowest(word: u64) -> u32 {
    // Ones below the lowest bit, counted.
    let mut x = opaque(!word & word.wrapping_sub(1));
    x -= x >> 1 & 0x5555_5555_5555_5555;
    x = (x & 0x3333_3333_3333_3333) + (x >> 2 & 0x3333_3333_3333_3333);
    x = (x + (x >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (opaque(x).wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

/// Counts the packet for a rule. Answers the reason to drop it with, or 0.
#[inline(always)]
fn meet(verdict: &Verdict, cpu: u32, bytes: usize) -> u32 {
    let slot = verdict.slot;
    let Some(state) = maps::RULE_STATES.get_ptr_mut(cpu * maps::RULE_SLOTS.length() + slot) else {
        return verdict.reason as u32;
    };
    // SAFETY: this CPU's entry, and XDP does not nest on a CPU.
    let state = unsafe { &mut *state };
    state.matched.packets = state.matched.packets.wrapping_add(1);
    state.matched.bytes = state.matched.bytes.wrapping_add(bytes as u64);
    let dropped = if verdict.flags & LIMIT == 0 {
        verdict.reason as u32
    } else if within(verdict, state, bytes) {
        0
    } else {
        Reason::RateLimited as u32
    };
    if dropped != 0 {
        state.dropped.packets = state.dropped.packets.wrapping_add(1);
        state.dropped.bytes = state.dropped.bytes.wrapping_add(bytes as u64);
    }
    dropped
}

/// Whether a packet is within its rule's rate.
#[inline(always)]
fn within(verdict: &Verdict, state: &mut RuleState, bytes: usize) -> bool {
    let units = if verdict.flags & PACKETS != 0 {
        1
    } else {
        bytes as u64
    };
    let price = Price {
        cost: units.wrapping_mul(verdict.cost) >> (verdict.shift & 63),
        burst: verdict.burst,
        quantum: verdict.quantum,
    };
    limit::within(price, &mut state.credit, &mut state.until, || {
        maps::LIMITERS.get_ptr_mut(verdict.slot)
    })
}

/// Writes a DSCP into a packet and mends the checksum (RFC 1624); congestion bits stay.
#[inline(always)]
pub fn mark(packet: &Packet, dscp: u8) {
    let Some(head) = packet.head::<IPV4>() else { return };
    let version = head.u8::<ETHERNET>() >> 4;
    if version == 4 {
        let old = head.u8::<15>();
        let new = old & 3 | dscp << 2;
        // HC' = ~(~HC + ~m + m'), in one's complement; m is the first word.
        let first = head.u8::<14>() as u32;
        let (was, is) = (first << 8 | old as u32, first << 8 | new as u32);
        let mut sum = (!u16::from_be(head.u16::<24>()) as u32) + (!was & 0xffff) + is;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        head.set_u8::<15>(new);
        head.set_u16::<24>((!sum as u16).to_be());
    } else {
        let word = u16::from_be(head.u16::<14>());
        head.set_u16::<14>((word & 0xf03f | (dscp as u16) << 6).to_be());
    }
}
