//! The programs of the benches, by the names that user space knows them by.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

/// On the host there is nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
    use forwarder_bench_ebpf::{
        abi::EMPTY,
        counters::{ByAddress, Deferred, PerCpu, Shuffled, counted},
        forward, lookup, pipeline,
    };

    /// Says in the verdict whether the harness worked.
    #[inline(always)]
    fn verdict(done: Option<()>) -> u32 {
        done.map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_PASS)
    }

    macro_rules! arms {
        ($($name:ident: $run:ident($arm:expr);)+) => {
            $(#[xdp(frags)]
            pub fn $name(ctx: XdpContext) -> u32 {
                let arm: fn(&XdpContext, _) -> u64 = $arm;
                verdict(lookup::$run(|destination| arm(&ctx, destination)))
            })+
        };
    }

    arms! {
        fib_empty4: ipv4(|_, destination| lookup::empty4(destination));
        fib_empty6: ipv6(|_, destination| lookup::empty6(destination));
        fib_trie4: ipv4(|_, destination| lookup::trie4(destination));
        fib_trie6: ipv6(|_, destination| lookup::trie6(destination));
        fib_kernel4: ipv4(|ctx, destination| lookup::kernel4(ctx, destination));
        fib_kernel6: ipv6(|ctx, destination| lookup::kernel6(ctx, destination));
        fib_ours4: ipv4(|_, destination| lookup::forwarder4(destination));
        fib_ours6: ipv6(|_, destination| lookup::forwarder6(destination));
        count_address4: ipv4(|_, destination| counted::<ByAddress>(lookup::forwarder4(destination)));
        count_address6: ipv6(|_, destination| counted::<ByAddress>(lookup::forwarder6(destination)));
        count_shuffled4: ipv4(|_, destination| counted::<Shuffled>(lookup::forwarder4(destination)));
        count_shuffled6: ipv6(|_, destination| counted::<Shuffled>(lookup::forwarder6(destination)));
        count_percpu4: ipv4(|_, destination| counted::<PerCpu>(lookup::forwarder4(destination)));
        count_percpu6: ipv6(|_, destination| counted::<PerCpu>(lookup::forwarder6(destination)));
        count_deferred4: ipv4(|_, destination| counted::<Deferred>(lookup::forwarder4(destination)));
        count_deferred6: ipv6(|_, destination| counted::<Deferred>(lookup::forwarder6(destination)));
    }

    #[xdp(frags)]
    pub fn forward_harness4(ctx: XdpContext) -> u32 {
        if forward::restore4(&ctx).is_some() {
            forward::call(&ctx);
        }
        xdp_action::XDP_ABORTED
    }

    #[xdp(frags)]
    pub fn forward_harness6(ctx: XdpContext) -> u32 {
        if forward::restore6(&ctx).is_some() {
            forward::call(&ctx);
        }
        xdp_action::XDP_ABORTED
    }

    #[xdp(frags)]
    pub fn forward_empty(_ctx: XdpContext) -> u32 {
        EMPTY
    }

    #[xdp(frags)]
    pub fn forward_kernel(ctx: XdpContext) -> u32 {
        forward::kernel_fib(&ctx)
    }

    /// Out of the interface that the frame is said to have come in on.
    #[inline(always)]
    fn sent(done: Option<()>) -> u32 {
        done.map_or(xdp_action::XDP_ABORTED, |()| xdp_action::XDP_TX)
    }

    #[xdp(frags)]
    pub fn pipeline_source4(ctx: XdpContext) -> u32 {
        sent(pipeline::source4(&ctx))
    }

    #[xdp(frags)]
    pub fn pipeline_source6(ctx: XdpContext) -> u32 {
        sent(pipeline::source6(&ctx))
    }

    #[xdp(frags)]
    pub fn pipeline_sink(ctx: XdpContext) -> u32 {
        pipeline::sink(&ctx);
        xdp_action::XDP_DROP
    }

    #[xdp(frags)]
    pub fn flood_source4(ctx: XdpContext) -> u32 {
        sent(forward::spoof4(&ctx))
    }

    #[xdp(frags)]
    pub fn flood_drop(_ctx: XdpContext) -> u32 {
        pipeline::count();
        xdp_action::XDP_DROP
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
