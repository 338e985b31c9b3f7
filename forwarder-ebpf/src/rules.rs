//! Filter rules: the first that matches decides, and each that matches counts (`forwarder_common::rules`).
//!
//! What most packets need stands in the caller: a flag and a bit of the bitmap of destinations. The rest is a function of
//! its own, so that the way of the others stays short.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use forwarder_common::{
    reason::Reason,
    rules::{
        Asked, Common, Dimension, LIMIT, MARK, PACKETS, PROCEED, PROCEEDING, RULES, RuleSet, RuleState,
        Verdict, WORDS, class_of_label, class4, class6, concern4, concern6, concerns,
    },
};

use crate::{
    Inlet, count,
    direct::opaque,
    fields::{self, Walk},
    limit::{self, Price},
    maps,
    notes::Notes,
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

    /// The same with the reason that the packet leaves with in the end, whoever gave it.
    #[inline(always)]
    pub fn with_reason(self, reason: usize) -> u32 {
        self.0 & !0xff | reason as u32
    }

    /// Back from there.
    #[inline(always)]
    pub fn read(answer: u32) -> Answer {
        Answer(answer)
    }

    /// Marks the packet where a rule wants that. `tags`: the octets of the tags that its frame has now.
    #[inline(always)]
    pub fn mark(self, ctx: &XdpContext, tags: usize) {
        if self.0 & MARKED != 0 {
            // SAFETY: data and data_end after everything else.
            let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
            mark(&frame.from(tags), (self.0 >> DSCP) as u8 & 63);
        }
    }
}

/// Room for the numbers of a call: the verifier takes five registers.
#[derive(Clone, Copy)]
pub struct Whence {
    /// CPU.
    pub cpu: u32,
    /// Interface, and tags.
    pub inlet: Inlet,
}

/// Which set is in force: 0 or 1. The compiler must not know that there are two, or the verifier looks at everything behind
/// it for each of them.
#[inline(always)]
fn active() -> u32 {
    opaque(maps::SETTINGS.get().active_rules as u64) as u32 & ACTIVE
}

#[inline(always)]
fn in_force(active: u32) -> &'static RuleSet {
    &maps::RULES.get()[active as usize & 1]
}

/// What the rules say of an IPv4 packet to `destination`, host order.
#[inline(always)]
pub fn ipv4<N: Notes>(ctx: &XdpContext, whence: Whence, bytes: usize, destination: u32) -> Answer {
    let bit = opaque(concern4(destination) as u64) as usize;
    if !concerns(&in_force(active()).v4.common, bit) {
        return Answer::NOTHING;
    }
    let answer = rules4(ctx.ctx, whence.cpu, whence.inlet.0, bytes as u32);
    note::<N>(whence.cpu);
    Answer(answer)
}

/// What they say of an IPv6 packet to `destination`, wire order.
#[inline(always)]
pub fn ipv6<N: Notes>(ctx: &XdpContext, whence: Whence, bytes: usize, destination: &[u8; 16]) -> Answer {
    let high = (u128::from_be_bytes(*destination) >> 64) as u64;
    let bit = opaque(concern6(high) as u64) as usize;
    if !concerns(&in_force(active()).v6.common, bit) {
        return Answer::NOTHING;
    }
    let answer = rules6(ctx.ctx, whence.cpu, whence.inlet.0, bytes as u32);
    note::<N>(whence.cpu);
    Answer(answer)
}

/// Notes the last rule met.
#[inline(always)]
fn note<N: Notes>(cpu: u32) {
    N::note(|t| {
        if let Some(asked) = asked(cpu) {
            (t.rule, t.rule_slot) = (asked.met, asked.slot);
        }
    });
}

/// Of a set that is asked: which one, and for which family.
const ACTIVE: u32 = 1;
const V6: u32 = 2;

/// What both families have, of the set asked.
#[inline(always)]
fn common(which: u32) -> &'static Common {
    let set = &maps::RULES.get()[opaque((which & ACTIVE) as u64) as usize & 1];
    let step = opaque((which >> 1 & 1) as u64) as usize * RuleSet::STEP;
    // SAFETY: of this set the one or the other. Arithmetic, or the verifier looks at everything behind it for each of the two.
    unsafe { &*(&raw const set.v4.common).byte_add(step) }
}

/// What the rules say of an IPv4 packet.
///
/// A function of its own to the verifier too, which knows nothing of its caller there and looks at it once (`BTF_FUNC_GLOBAL`);
/// so are the others below. What one leaves for the next stands in [`Asked`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rules4(ctx: *mut xdp_md, cpu: u32, inlet: u32, bytes: u32) -> u32 {
    let (ctx, inlet) = (XdpContext::new(ctx), Inlet(inlet));
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(inlet.tags());
    let (Some(head), Some(asked)) = (packet.head::<IPV4>(), asked(cpu)) else {
        return 0;
    };
    let which = active();
    let set = &in_force(which).v4;
    let (source, destination) = (u32::from_be(head.u32::<26>()), u32::from_be(head.u32::<30>()));
    asked.set(Dimension::Source as usize, class4(set, 1, source));
    asked.set(Dimension::Destination as usize, class4(set, 0, destination));
    asked.set(Dimension::FlowLabel as usize, 0);
    // Last: then nothing is kept of how far into the packet was looked.
    asked.key = fields::ipv4(&packet, head, inlet.port());
    forget();
    asked.classify(&set.common, guard);
    if !begin(asked, &set.common) {
        return 0;
    }
    search(which, cpu, bytes)
}

/// What they say of an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rules6(ctx: *mut xdp_md, cpu: u32, inlet: u32, bytes: u32) -> u32 {
    let inner = ctx;
    let (ctx, inlet) = (XdpContext::new(ctx), Inlet(inlet));
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(inlet.tags());
    // A call for each, or the verifier goes through every header after every other.
    let step = |walk: Walk| Walk(rules6_header(inner, walk.0, inlet.0));
    let (Some(head), Some(asked)) = (packet.head::<IPV6>(), asked(cpu)) else {
        return 0;
    };
    let which = active();
    let set = &in_force(which).v6;
    let halves = |first: u64, second: u64| (u64::from_be(first), u64::from_be(second));
    let (high, low) = halves(head.u64::<22>(), head.u64::<30>());
    asked.set(Dimension::Source as usize, class6(set, 1, high, low, opaque));
    let (high, low) = halves(head.u64::<38>(), head.u64::<46>());
    asked.set(Dimension::Destination as usize, class6(set, 0, high, low, opaque));
    asked.key = fields::ipv6(&packet, head, inlet.port(), step);
    forget();
    asked.set(
        Dimension::FlowLabel as usize,
        class_of_label(set, asked.key.label),
    );
    asked.classify(&set.common, guard);
    if !begin(asked, &set.common) {
        return 0;
    }
    search(which | V6, cpu, bytes)
}

/// A step over an extension header: [`fields::step`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rules6_header(ctx: *mut xdp_md, walk: u64, inlet: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(Inlet(inlet).tags());
    fields::step(&packet, Walk(walk)).0
}

/// The same number, of which the compiler knows nothing.
#[inline(always)]
fn guard(number: u32) -> u32 {
    opaque(number as u64) as u32
}

/// What the compiler knows of memory that is not the function's own it forgets: what was written is written, and is read
/// again.
#[inline(always)]
fn forget() {
    // SAFETY: nothing.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// What is known of the packet that this CPU asks about.
#[inline(always)]
fn asked(cpu: u32) -> Option<&'static mut Asked> {
    // In a tracing instance every CPU is the first, and strides are 0.
    let place = if maps::RULE_SLOTS.length() == 0 { 0 } else { cpu };
    // SAFETY: this CPU's entry, and XDP does not nest on a CPU. No function holds it while it calls another that does.
    maps::ASKED.get_ptr_mut(place).map(|asked| unsafe { &mut *asked })
}

/// Set in the answer of a turn: there may be another.
const AGAIN: u32 = 1 << 31;

/// Finds the words in which something may be. Answers whether there is any.
#[inline(always)]
fn begin(asked: &mut Asked, common: &Common) -> bool {
    let left = asked.summary(common);
    (asked.left, asked.bits, asked.marking, asked.met) = (left, 0, 0, 0);
    left != 0
}

/// What the rules of the AND say, in their order, up to the first that drops the packet or ends the search.
#[inline(always)]
fn search(which: u32, cpu: u32, bytes: u32) -> u32 {
    forget();
    // One for each word without any, for each rule that lets others be asked, and for the last.
    for _ in 0..WORDS + PROCEEDING + 1 {
        let said = rules_turn(which, cpu, bytes);
        if said & AGAIN == 0 {
            return said;
        }
    }
    0
}

/// The next rule that matches, if there is one in the word that is looked at or in the next.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rules_turn(which: u32, cpu: u32, bytes: u32) -> u32 {
    let Some(asked) = asked(cpu) else { return 0 };
    let common = common(which);
    if asked.bits == 0 {
        let left = asked.left;
        if left == 0 {
            return asked.marking;
        }
        let number = lowest(left as u64);
        asked.left = left & (left - 1);
        asked.base = number * 64;
        asked.bits = asked.word(common, number);
        if asked.bits == 0 {
            return AGAIN;
        }
    }
    let rule = asked.base + lowest(asked.bits);
    asked.bits &= asked.bits - 1;
    let verdict = &common.verdicts[opaque(rule as u64) as usize & (RULES - 1)];
    (asked.met, asked.slot) = (rule + 1, verdict.slot);
    let dropped = meet(verdict, cpu, bytes as usize);
    if dropped != 0 {
        return dropped;
    }
    if verdict.flags & MARK != 0 {
        asked.marking = MARKED | (verdict.dscp as u32) << DSCP;
    }
    if verdict.flags & PROCEED == 0 {
        return asked.marking;
    }
    AGAIN
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
    if dropped != 0 && !count::is_dry_run() {
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
fn mark(packet: &Packet, dscp: u8) {
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
