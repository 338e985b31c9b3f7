//! Punt protection: whether a packet that the kernel should have may go up to it (`forwarder_common::punt`).
//!
//! Behind every decision of the pipeline, and only for what is about to be passed: what is forwarded never comes here, and
//! what is not limited leaves after one test of a bit.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use forwarder_common::{
    punt::{
        Allowed, CLASSES, Class, Flow, Kind, PuntState, PuntStates, Seen, WAYS, ahead, charged, fingerprint,
        hash, kind, places,
    },
    reason::Reason,
};
use network_types::ip::IpProto;

use crate::{
    Inlet,
    class::{self, Sorted},
    count,
    direct::opaque,
    limit::{self, Price},
    maps,
    notes::{Notes, Silent, Traced},
    packet::Packet,
};

/// Time without anything too much that makes a class calm, nanoseconds.
const CALM: u64 = 1_000_000_000;
/// How often it is noted that something is too much, nanoseconds: the CPUs share that word.
const NOTED: u64 = 100_000_000;
/// A source is quiet while it is ahead by less than this part of what it may be.
const QUIET_PART: u64 = 4;

/// Reasons that have a class of their own kind, as bits.
const fn bits(wanted: Kind) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < Reason::ALL.len() {
        if same(kind(Reason::ALL[index]), wanted) {
            bits |= 1 << index;
        }
        index += 1;
    }
    bits
}

const fn same(a: Kind, b: Kind) -> bool {
    match (a, b) {
        (Kind::Always(a), Kind::Always(b)) => a as u8 == b as u8,
        (Kind::Link, Kind::Link) | (Kind::Local, Kind::Local) | (Kind::TooBig, Kind::TooBig) => true,
        _ => false,
    }
}

/// Those whose reason says it all.
const BY_REASON: [(Class, u64); 6] = {
    let classes = [
        Class::Arp,
        Class::Nd,
        Class::TtlExpired,
        Class::Unresolved,
        Class::Options,
        Class::Malformed,
    ];
    let mut table = [(Class::Arp, 0); 6];
    let mut index = 0;
    while index < classes.len() {
        table[index] = (classes[index], bits(Kind::Always(classes[index])));
        index += 1;
    }
    table
};
const LINK: u64 = bits(Kind::Link);
const LOCAL: u64 = bits(Kind::Local);
const TOO_BIG: u64 = bits(Kind::TooBig);

/// No reason that has a class is missing above.
const _: () = {
    let mut found = LINK | LOCAL | TOO_BIG;
    let mut index = 0;
    while index < BY_REASON.len() {
        found |= BY_REASON[index].1;
        index += 1;
    }
    let mut index = 0;
    while index < Reason::ALL.len() {
        let never = matches!(kind(Reason::ALL[index]), Kind::Never);
        assert!(never == (found >> index & 1 == 0));
        index += 1;
    }
};

/// The reason to leave with of a packet that was about to leave with `reason`: the same, or that there is too much of it.
#[inline(always)]
pub fn admit<N: Notes>(ctx: &XdpContext, cpu: u32, inlet: Inlet, reason: usize) -> usize {
    if maps::SETTINGS.get().limited >> (reason & (Reason::SLOTS - 1)) & 1 == 0 {
        return reason;
    }
    // One after the other and not one within the other: a chain of functions has 512 octets of stack in all.
    let class = punt_class(ctx.ctx, cpu, reason as u32, inlet.0);
    if class == 0 {
        return reason;
    }
    let asked = reason as u32 | class << CLASS;
    let answer = if N::TAKEN {
        punt_trace(ctx.ctx, cpu, inlet.0, asked)
    } else {
        punt(ctx.ctx, cpu, inlet.0, asked)
    };
    answer as usize & (Reason::SLOTS - 1)
}

/// Where in the question of a call the class stands, one more than it; the reason is below.
const CLASS: u32 = 8;

macro_rules! functions {
    ($($name:ident<$notes:ty>;)+) => {
        $(
            /// A function of its own to the verifier too, as those of [`crate::rules`] are.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(ctx: *mut xdp_md, cpu: u32, inlet: u32, asked: u32) -> u32 {
                decide::<$notes>(ctx, cpu, Inlet(inlet), asked)
            }
        )+
    };
}

functions! {
    punt<Silent>;
    punt_trace<Traced>;
}

/// One more than the class of a packet, or 0 where it has none; what else there is to know of it is put down for this CPU.
///
/// A function of its own again: what follows is looked at once, and not for each way by which a class is found.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn punt_class(ctx: *mut xdp_md, cpu: u32, reason: u32, inlet: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let packet = frame.from(Inlet(inlet).tags());
    let ports = &maps::PUNT.get().control_ports;
    let control = |port: u16| ports[port as usize >> 6] >> (port & 63) & 1 != 0;
    let Some(sorted) = class::sort(&frame, &packet, kind_of(reason), control) else {
        return 0;
    };
    let Some(states) = states(cpu) else { return 0 };
    // SAFETY: this CPU's entry, and XDP does not nest on a CPU.
    unsafe {
        (*states).source = sorted.source;
        (*states).header = sorted.header();
    }
    sorted.class + 1
}

/// Which of its shapes a [`Flow`] is looked for in.
const SESSION: u32 = 0;
const TUNNEL: u32 = 1;
const PEER: u32 = 2;

/// Whether the controller knows the flow of the packet that this CPU has put down, in this shape: 1 or 0.
///
/// A function of its own again, for the stack: a chain of them has 512 octets in all, and the key takes its part.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn punt_known(ctx: *mut xdp_md, cpu: u32, inlet: u32, shape: u32) -> u32 {
    let Some(states) = states(cpu) else { return 0 };
    // SAFETY: this CPU's entry.
    let header = unsafe { (&raw const (*states).header).read_volatile() };
    let sorted = Sorted::read(0, 0, header);
    let (protocol, ports) = (sorted.protocol as u32, sorted.ports);
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(Inlet(inlet).tags());
    let Some([remote, local]) = class::addresses(&packet) else {
        return 0;
    };
    let udp = sorted.protocol == IpProto::Udp as u8;
    let flow = match shape {
        SESSION => Flow {
            remote,
            local,
            remote_port: ports.source,
            local_port: ports.destination,
            protocol,
        },
        TUNNEL => Flow::tunnel(protocol, if udp { ports.destination } else { 0 }),
        _ => Flow::peer(remote),
    };
    // SAFETY: the value is not looked at.
    u32::from(unsafe { maps::PUNT_FLOWS.get(flow) }.is_some())
}

#[inline(always)]
fn states(cpu: u32) -> Option<*mut PuntStates> {
    // In a tracing instance every CPU is the first, and strides are 0.
    let place = if maps::RULE_SLOTS.length() == 0 { 0 } else { cpu };
    maps::PUNT_STATES.get_ptr_mut(place)
}

#[inline(always)]
fn kind_of(reason: u32) -> Kind {
    let has = |bits: u64| bits >> (reason & 63) & 1 != 0;
    for (class, bits) in BY_REASON {
        if has(bits) {
            return Kind::Always(class);
        }
    }
    if has(LOCAL) {
        Kind::Local
    } else if has(LINK) {
        Kind::Link
    } else if has(TOO_BIG) {
        Kind::TooBig
    } else {
        Kind::Never
    }
}

/// What a packet that is too much counts for: nothing in a dry run, where it is let up all the same.
#[inline(always)]
fn refused() -> u64 {
    u64::from(!count::is_dry_run())
}

/// Drop reasons stand in the order of the classes.
const fn limited(class: u32) -> u32 {
    const {
        let mut index = 0;
        while index < Class::Session as usize {
            assert!(Class::ALL[index].limited() as usize == Reason::ArpLimited as usize + index);
            index += 1;
        }
    }
    Reason::ArpLimited as u32 + class
}

#[inline(always)]
fn decide<N: Notes>(ctx: *mut xdp_md, cpu: u32, inlet: Inlet, asked: u32) -> u32 {
    let (reason, class) = (asked & (Reason::SLOTS as u32 - 1), asked >> CLASS);
    let Some(states) = states(cpu).filter(|_| class != 0) else {
        return reason;
    };
    // SAFETY: this CPU's entry, and XDP does not nest on a CPU. Volatile: the function that was called has written it.
    let sorted = unsafe {
        Sorted::read(
            class - 1,
            (&raw const (*states).source).read_volatile(),
            (&raw const (*states).header).read_volatile(),
        )
    };
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) }.from(inlet.tags());
    let now = limit::now();
    let is_known = |shape| punt_known(ctx.ctx, cpu, inlet.0, shape) != 0;
    if sorted.local && is_exempt(&packet, &sorted, states, now, is_known) {
        return reason;
    }
    N::note(|t| t.punt_class = class);
    let class = opaque(sorted.class as u64) as usize & (CLASSES - 1);
    let allowed = &maps::PUNT.get().classes[class];
    if allowed.cost == 0 {
        return reason;
    }
    let Some(state) = state(states, class) else {
        return reason;
    };
    if is_admitted(&sorted, inlet.port(), allowed, state, now, is_known) {
        state.passed = state.passed.wrapping_add(1);
        reason
    } else {
        limited(class as u32)
    }
}

#[inline(always)]
fn state<'a>(states: *mut PuntStates, class: usize) -> Option<&'a mut PuntState> {
    // SAFETY: this CPU's entry, and XDP does not nest on a CPU.
    unsafe { (*states).classes.get_mut(class) }
}

/// Whether it belongs to a session, within that one's share, or to a tunnel that the kernel takes apart.
#[inline(always)]
fn is_exempt(
    packet: &Packet,
    sorted: &Sorted,
    states: *mut PuntStates,
    now: u64,
    is_known: impl Fn(u32) -> bool,
) -> bool {
    if sorted.acknowledges() {
        let Some([remote, _]) = class::addresses(packet) else {
            return false;
        };
        return is_known(SESSION) && in_session(remote[1], sorted, states, now);
    }
    sorted.class == Class::LocalOther as u32 && is_known(TUNNEL)
}

/// Whether a session's packet is within its share.
#[inline(always)]
fn in_session(address: u64, sorted: &Sorted, states: *mut PuntStates, now: u64) -> bool {
    let class = Class::Session as usize;
    let ports = (sorted.ports.source as u64) << 16 | sorted.ports.destination as u64;
    let seed = maps::SETTINGS.get().hash_seed;
    let allowed = &maps::PUNT.get().classes[class];
    let Some(share) = Share::of(hash(seed, class as u32, address.rotate_left(32) ^ ports)) else {
        return true;
    };
    let Some(state) = state(states, class) else {
        return true;
    };
    if share.ahead(now) > allowed.share_burst {
        state.over_share = state.over_share.wrapping_add(refused());
        return false;
    }
    share.charge(now, allowed.share_cost);
    state.passed = state.passed.wrapping_add(1);
    true
}

/// Whether a packet is within what its source and its class may send.
#[inline(always)]
fn is_admitted(
    sorted: &Sorted,
    port: u32,
    allowed: &Allowed,
    state: &mut PuntState,
    now: u64,
    is_known: impl Fn(u32) -> bool,
) -> bool {
    let class = opaque(sorted.class as u64) as u32 & (CLASSES as u32 - 1);
    let hash = hash(maps::SETTINGS.get().hash_seed, class, sorted.source);
    let Some(share) = Share::of(hash) else { return true };
    let ahead = share.ahead(now);
    if ahead > allowed.share_burst {
        state.over_share = state.over_share.wrapping_add(refused());
        return false;
    }
    let Some(store) = maps::PUNT_LIMITERS.get_ptr_mut(class) else {
        return true;
    };
    // SAFETY: an aligned word of the map's.
    let (overrun, noted) = unsafe {
        let overrun = &raw mut (*store).overrun_ns;
        (overrun, overrun.read_volatile())
    };
    // Another CPU may have noted it a moment later.
    let since = now.saturating_sub(noted);
    let (set, print) = fingerprint(hash, sorted.ttl, port);
    let Some(set) = maps::PUNT_SEEN.get_ptr_mut(set) else {
        return true;
    };
    let price = Price {
        cost: allowed.cost,
        burst: allowed.burst,
        quantum: allowed.quantum,
    };
    if limit::within(price, &mut state.credit, &mut state.until, || Some(store)) {
        remember(set, print, now, since > CALM);
    } else {
        if since > NOTED {
            // SAFETY: as above; two CPUs may both write, which does no harm.
            unsafe { overrun.write_volatile(now) };
        }
        let quiet = ahead <= allowed.share_burst / QUIET_PART;
        if !quiet || !(remembers(set, print, now) || is_peer(sorted, is_known)) {
            state.dropped = state.dropped.wrapping_add(refused());
            return false;
        }
        let reserve = || maps::PUNT_LIMITERS.get_ptr_mut(CLASSES as u32 + class);
        if !limit::within(
            price,
            &mut state.reserve_credit,
            &mut state.reserve_until,
            reserve,
        ) {
            state.dropped = state.dropped.wrapping_add(refused());
            return false;
        }
        state.reserved = state.reserved.wrapping_add(1);
        remember(set, print, now, false);
    }
    share.charge(now, allowed.share_cost);
    true
}

/// Whether the controller knows the source: a neighbour, or one that has had a session. Asked for what such a one begins with.
#[inline(always)]
fn is_peer(sorted: &Sorted, is_known: impl Fn(u32) -> bool) -> bool {
    let asks = sorted.class == Class::LocalControl as u32 || sorted.class == Class::LocalIcmp as u32;
    asks && is_known(PEER)
}

/// A source's two buckets. CPUs write them without waiting for each other: what is lost by that is a packet's worth now and then.
#[derive(Clone, Copy)]
struct Share {
    first: *mut u64,
    second: *mut u64,
}

impl Share {
    #[inline(always)]
    fn of(hash: u64) -> Option<Share> {
        let (first, second) = places(hash);
        Some(Share {
            first: maps::PUNT_BUCKETS.get_ptr_mut(first)?,
            second: maps::PUNT_BUCKETS.get_ptr_mut(second)?,
        })
    }

    #[inline(always)]
    fn hold(self) -> (u64, u64) {
        // SAFETY: aligned words of the map's.
        unsafe { (self.first.read_volatile(), self.second.read_volatile()) }
    }

    #[inline(always)]
    fn ahead(self, now: u64) -> u64 {
        ahead(self.hold(), now)
    }

    #[inline(always)]
    fn charge(self, now: u64, cost: u64) {
        let (first, second) = charged(self.hold(), now, cost);
        // SAFETY: aligned words of the map's.
        unsafe {
            self.first.write_volatile(first);
            self.second.write_volatile(second);
        }
    }
}

#[inline(always)]
fn seen(set: *mut [u64; WAYS], way: usize) -> *mut u64 {
    // SAFETY: inside the set.
    unsafe { (&raw mut (*set)[way]).cast() }
}

/// Whether a source is known.
#[inline(always)]
fn remembers(set: *mut [u64; WAYS], print: u32, now: u64) -> bool {
    for way in 0..WAYS {
        // SAFETY: an aligned word of the map's.
        let entry = Seen(unsafe { seen(set, way).read_volatile() });
        if entry.is(print) {
            return entry.known(now);
        }
    }
    false
}

/// Notes that a source came. One that is new takes the place of one that is remembered no more, while it is calm.
#[inline(always)]
fn remember(set: *mut [u64; WAYS], print: u32, now: u64, calm: bool) {
    let mut free = WAYS;
    for way in 0..WAYS {
        // SAFETY: an aligned word of the map's.
        let entry = Seen(unsafe { seen(set, way).read_volatile() });
        let lasts = entry.lasts(now);
        if lasts && entry.is(print) {
            let next = entry.again(now, calm);
            if next != entry {
                // SAFETY: as above.
                unsafe { seen(set, way).write_volatile(next.0) };
            }
            return;
        }
        if !lasts {
            free = way;
        }
    }
    if calm && free < WAYS {
        let place = opaque(free as u64) as usize & (WAYS - 1);
        // SAFETY: as above.
        unsafe { seen(set, place).write_volatile(Seen::first(print, now).0) };
    }
}
