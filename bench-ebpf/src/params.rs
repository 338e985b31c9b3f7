//! Asking the kernel's FIB.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext, bindings::bpf_fib_lookup as Params, helpers::generated::bpf_fib_lookup, programs::XdpContext,
};

const _: () = assert!(size_of::<Params>().is_multiple_of(8));

/// `AF_INET`.
const INET: u8 = 2;
/// `AF_INET6`.
const INET6: u8 = 10;

/// An empty question about a packet that came in where this one did.
#[inline(always)]
fn params(ctx: &XdpContext, family: u8, length: u16) -> Params {
    let mut params = MaybeUninit::<Params>::uninit();
    let words = params.as_mut_ptr().cast::<u64>();
    for word in 0..size_of::<Params>() / 8 {
        // SAFETY: inside, and aligned as the structure is. Volatile: the compiler would make a call of it, and the candidate
        // pay thirty nanoseconds that no C program pays.
        unsafe { words.add(word).write_volatile(0) };
    }
    // SAFETY: integers only, each of them 0.
    let mut params = unsafe { params.assume_init() };
    params.family = family;
    params.ifindex = ctx.ingress_ifindex() as u32;
    params.__bindgen_anon_1.tot_len = length;
    params
}

/// The question for an IPv4 packet: addresses as they stand in it, length in octets.
#[inline(always)]
pub fn ipv4(ctx: &XdpContext, source: u32, destination: u32, length: u16) -> Params {
    let mut params = params(ctx, INET, length);
    params.__bindgen_anon_3.ipv4_src = source;
    params.__bindgen_anon_4.ipv4_dst = destination;
    params
}

/// The question for an IPv6 packet.
#[inline(always)]
pub fn ipv6(ctx: &XdpContext, source: [u32; 4], destination: [u32; 4], length: u16) -> Params {
    let mut params = params(ctx, INET6, length);
    params.__bindgen_anon_3.ipv6_src = source;
    params.__bindgen_anon_4.ipv6_dst = destination;
    params
}

/// Asks; whether there is a route with a resolved neighbour, which then stands in `params`.
#[inline(always)]
pub fn ask(ctx: &XdpContext, params: &mut Params) -> bool {
    let length = size_of::<Params>() as i32;
    // SAFETY: the context is the program's own; the helper writes within the length given.
    unsafe { bpf_fib_lookup(ctx.as_ptr(), params, length, 0) == 0 }
}
