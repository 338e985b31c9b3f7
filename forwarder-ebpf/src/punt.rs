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
    class::{self, Sorted},
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
pub fn admit<N: Notes>(ctx: &XdpContext, cpu: u32, port: u32, reason: usize) -> usize {
    if maps::SETTINGS.get().limited >> (reason & (Reason::SLOTS - 1)) & 1 == 0 {
        return reason;
    }
    let reason = reason as u32;
    let answer = if N::TAKEN {
        punt_trace(ctx.ctx, cpu, port, reason)
    } else {
        punt(ctx.ctx, cpu, port, reason)
    };
    answer as usize & (Reason::SLOTS - 1)
}

macro_rules! functions {
    ($($name:ident<$notes:ty>;)+) => {
        $(
            /// A function of its own to the verifier too, as those of [`crate::rules`] are.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name(ctx: *mut xdp_md, cpu: u32, port: u32, reason: u32) -> u32 {
                decide::<$notes>(ctx, cpu, port, reason)
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
pub extern "C" fn punt_class(ctx: *mut xdp_md, cpu: u32, reason: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    // SAFETY: data and data_end of this packet.
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let ports = &maps::PUNT.get().control_ports;
    let control = |port: u16| ports[port as usize >> 6] >> (port & 63) & 1 != 0;
    let Some(sorted) = class::sort(&packet, kind_of(reason), control) else {
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
fn decide<N: Notes>(ctx: *mut xdp_md, cpu: u32, port: u32, reason: u32) -> u32 {
    let class = punt_class(ctx, cpu, reason);
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
    let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
    let now = limit::now();
    if sorted.local && is_exempt(&packet, &sorted, states, now) {
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
    if is_admitted(&packet, &sorted, port, allowed, state, now) {
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
fn is_exempt(packet: &Packet, sorted: &Sorted, states: *mut PuntStates, now: u64) -> bool {
    let (protocol, ports) = (sorted.protocol as u32, sorted.ports);
    if sorted.acknowledges() {
        let Some([remote, local]) = class::addresses(packet) else {
            return false;
        };
        let flow = Flow {
            remote,
            local,
            remote_port: ports.source,
            local_port: ports.destination,
            protocol,
        };
        return is_known(&flow) && in_session(remote[1], &flow, states, now);
    }
    if sorted.class != Class::LocalOther as u32 {
        return false;
    }
    let udp = sorted.protocol == IpProto::Udp as u8;
    is_known(&Flow::tunnel(protocol, if udp { ports.destination } else { 0 }))
}

/// Whether a session's packet is within its share.
#[inline(always)]
fn in_session(address: u64, flow: &Flow, states: *mut PuntStates, now: u64) -> bool {
    let class = Class::Session as usize;
    let ports = (flow.remote_port as u64) << 16 | flow.local_port as u64;
    let seed = maps::SETTINGS.get().hash_seed;
    let allowed = &maps::PUNT.get().classes[class];
    let Some(share) = Share::of(hash(seed, class as u32, address.rotate_left(32) ^ ports)) else {
        return true;
    };
    let Some(state) = state(states, class) else {
        return true;
    };
    if share.ahead(now) > allowed.share_burst {
        state.over_share = state.over_share.wrapping_add(1);
        return false;
    }
    share.charge(now, allowed.share_cost);
    state.passed = state.passed.wrapping_add(1);
    true
}

#[inline(always)]
fn is_known(flow: &Flow) -> bool {
    // SAFETY: the value is not looked at.
    unsafe { maps::PUNT_FLOWS.get(flow) }.is_some()
}

/// Whether a packet is within what its source and its class may send.
#[inline(always)]
fn is_admitted(
    packet: &Packet,
    sorted: &Sorted,
    port: u32,
    allowed: &Allowed,
    state: &mut PuntState,
    now: u64,
) -> bool {
    let class = opaque(sorted.class as u64) as u32 & (CLASSES as u32 - 1);
    let hash = hash(maps::SETTINGS.get().hash_seed, class, sorted.source);
    let Some(share) = Share::of(hash) else { return true };
    let ahead = share.ahead(now);
    if ahead > allowed.share_burst {
        state.over_share = state.over_share.wrapping_add(1);
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
        if !quiet || !(remembers(set, print, now) || is_peer(packet, sorted)) {
            state.dropped = state.dropped.wrapping_add(1);
            return false;
        }
        let reserve = || maps::PUNT_LIMITERS.get_ptr_mut(CLASSES as u32 + class);
        if !limit::within(
            price,
            &mut state.reserve_credit,
            &mut state.reserve_until,
            reserve,
        ) {
            state.dropped = state.dropped.wrapping_add(1);
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
fn is_peer(packet: &Packet, sorted: &Sorted) -> bool {
    let asks = sorted.class == Class::LocalControl as u32 || sorted.class == Class::LocalIcmp as u32;
    asks && class::addresses(packet).is_some_and(|[remote, _]| is_known(&Flow::peer(remote)))
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
