//! The arms of `fib`: each takes the next destination from the trace, looks it up and notes the answer.

use aya_ebpf::{bindings::bpf_fib_lookup as Params, maps::lpm_trie::Key, programs::XdpContext};
use forwarder_ebpf::fib;

use crate::{
    abi::{FRAME, NOTHING, SOURCE4, SOURCE6, kernel_answer, our_answer},
    maps, params,
};

/// Octets of the packets that the kernel is asked about.
const LENGTH: u16 = FRAME as u16 - 14;

/// `struct bpf_lpm_trie_key`, aligned: aya's is packed, and would be written octet by octet.
#[repr(C)]
struct Aligned<const WORDS: usize> {
    length: u32,
    address: [u32; WORDS],
}

/// Runs an arm on the next IPv4 destination, octets in wire order.
#[inline(always)]
pub fn ipv4(arm: impl FnOnce(u32) -> u64) -> Option<()> {
    let at = maps::position()?;
    let destination = maps::DESTINATIONS4.get(0)?[at] as u32;
    done(at, arm(destination))
}

/// Runs an arm on the next IPv6 destination, two words in wire order.
#[inline(always)]
pub fn ipv6(arm: impl FnOnce([u64; 2]) -> u64) -> Option<()> {
    let at = maps::position()?;
    let destination = maps::DESTINATIONS6.get(0)?[at];
    done(at, arm(destination))
}

/// Notes the answer and goes on, to where depends on it: by one, since no right answer has the top bit.
///
/// Otherwise the CPU would look up several destinations at once, out of order, and the more of them the shorter an arm is.
/// Between the lookups of a router lie whole packets, which leave no room for that: what counts is how long one takes.
#[inline(always)]
fn done(at: usize, answer: u64) -> Option<()> {
    maps::answer(at, answer);
    maps::advance(1 + (answer >> 63));
    Some(())
}

/// Harness alone.
#[inline(always)]
pub fn empty4(destination: u32) -> u64 {
    destination as u64
}

/// Harness alone.
#[inline(always)]
pub fn empty6(destination: [u64; 2]) -> u64 {
    (destination[0] ^ destination[1]) >> 1
}

/// `BPF_MAP_TYPE_LPM_TRIE`.
#[inline(always)]
pub fn trie4(destination: u32) -> u64 {
    let key = Aligned {
        length: 32,
        address: [destination],
    };
    // SAFETY: the same fields in the same places, and of a stricter alignment.
    let key = unsafe { &*(&raw const key).cast::<Key<u32>>() };
    maps::LPM4.get(key).map_or(NOTHING, |value| *value as u64)
}

/// `BPF_MAP_TYPE_LPM_TRIE`.
#[inline(always)]
pub fn trie6(destination: [u64; 2]) -> u64 {
    let key = Aligned {
        length: 128,
        address: words(destination),
    };
    // SAFETY: the same fields in the same places, and of a stricter alignment.
    let key = unsafe { &*(&raw const key).cast::<Key<[u32; 4]>>() };
    maps::LPM6.get(key).map_or(NOTHING, |value| *value as u64)
}

/// The kernel's FIB, neighbour included: there is no flag to leave it out before Linux 6.3.
#[inline(always)]
pub fn kernel4(ctx: &XdpContext, destination: u32) -> u64 {
    let mut params = params::ipv4(ctx, u32::from_ne_bytes(SOURCE4), destination, LENGTH);
    let found = params::ask(ctx, &mut params);
    kernel(found, &params)
}

/// The kernel's FIB.
#[inline(always)]
pub fn kernel6(ctx: &XdpContext, destination: [u64; 2]) -> u64 {
    let source = u128::from_ne_bytes(SOURCE6);
    let source = words([source as u64, (source >> 64) as u64]);
    let mut params = params::ipv6(ctx, source, words(destination), LENGTH);
    let found = params::ask(ctx, &mut params);
    kernel(found, &params)
}

#[inline(always)]
fn kernel(found: bool, params: &Params) -> u64 {
    if found {
        kernel_answer(params.ifindex, params.dmac)
    } else {
        NOTHING
    }
}

/// The shipped program's lookup.
#[inline(always)]
pub fn forwarder4(destination: u32) -> u64 {
    ours(fib::ipv4(u32::from_be(destination)))
}

/// The shipped program's lookup.
#[inline(always)]
pub fn forwarder6(destination: [u64; 2]) -> u64 {
    let octets = (destination[0] as u128 | (destination[1] as u128) << 64).to_le_bytes();
    ours(fib::ipv6(&octets))
}

#[inline(always)]
fn ours<E>(found: Result<fib::Match, E>) -> u64 {
    found.map_or(NOTHING, |found| our_answer(found.group, found.slot))
}

#[inline(always)]
fn words(address: [u64; 2]) -> [u32; 4] {
    [
        address[0] as u32,
        (address[0] >> 32) as u32,
        address[1] as u32,
        (address[1] >> 32) as u32,
    ]
}
