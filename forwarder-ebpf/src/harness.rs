//! The harness of `forwarder bench` (`forwarder_common::harness`): an object of its own, so that the program that forwards has
//! none of it, nor it of the program.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

// Not by the library: all that the program exports from there would come with it.
#[cfg(target_arch = "bpf")]
#[allow(dead_code, reason = "the program needs more of it")]
mod packet;

/// On the host there is nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::{BPF_F_MMAPABLE, xdp_action},
        macros::{map, xdp},
        maps::{Array, ProgramArray},
        programs::XdpContext,
    };
    use forwarder_common::harness::{Course, Packet, TTL};

    use super::packet::{self, Head};

    /// Octets of an Ethernet and an IPv4 header.
    const IPV4: usize = 34;
    /// Octets of an Ethernet and an IPv6 header.
    const IPV6: usize = 54;

    /// As many as the courses have.
    #[map]
    static PACKETS: Array<Packet> = Array::with_max_entries(1, BPF_F_MMAPABLE);

    #[map]
    static COURSE: Array<Course> = Array::with_max_entries(1, BPF_F_MMAPABLE);

    #[map]
    static CALLED: ProgramArray = ProgramArray::with_max_entries(1, 0);

    #[xdp(frags)]
    pub fn harness4(ctx: XdpContext) -> u32 {
        call(&ctx, restore4(&ctx))
    }

    #[xdp(frags)]
    pub fn harness6(ctx: XdpContext) -> u32 {
        call(&ctx, restore6(&ctx))
    }

    /// Answers what the program never does, so that its time is not taken for that of packets.
    #[xdp(frags)]
    pub fn idle(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_TX
    }

    /// Comes back only where there is nothing to call.
    #[inline(always)]
    fn call(ctx: &XdpContext, restored: Option<()>) -> u32 {
        if restored.is_some() {
            // SAFETY: nothing here is left to drop.
            unsafe { CALLED.tail_call(ctx, 0) };
        }
        xdp_action::XDP_ABORTED
    }

    /// The next packet, its frame's first octets written: those addresses the run before has changed.
    ///
    /// A load that spans two stores which are still on their way to the cache waits for both, and no frame from a NIC is in that
    /// state. So here, and below, what the program reads as one word is written as one.
    #[inline(always)]
    fn next<const N: usize>(ctx: &XdpContext) -> Option<(&'static Packet, Head<N>)> {
        let course = COURSE.get_ptr_mut(0)?;
        // SAFETY: a map value; one run at a time, and nobody else writes meanwhile.
        let (course, come) = unsafe {
            let come = (*course).come;
            (*course).come = come.wrapping_add(1);
            (&*course, come)
        };
        let packet = PACKETS.get((course.first + (come & course.mask)) as u32)?;
        // SAFETY: data and data_end of this frame.
        let frame = unsafe { packet::Packet::new(ctx.data(), ctx.data_end()) };
        let head = frame.head::<N>()?;
        head.set_u64::<0>(course.to);
        head.set_u32::<8>(course.from as u32);
        Some((packet, head))
    }

    #[inline(always)]
    fn restore4(ctx: &XdpContext) -> Option<()> {
        let (packet, head) = next::<IPV4>(ctx)?;
        head.set_u32::<22>(packet.words[0] as u32);
        head.set_u32::<26>((packet.words[0] >> 32) as u32);
        head.set_u32::<30>(packet.words[1] as u32);
        Some(())
    }

    #[inline(always)]
    fn restore6(ctx: &XdpContext) -> Option<()> {
        let (packet, head) = next::<IPV6>(ctx)?;
        head.set_u8::<21>(TTL);
        head.set_u64::<22>(packet.words[0]);
        head.set_u64::<30>(packet.words[1]);
        head.set_u64::<38>(packet.words[2]);
        head.set_u64::<46>(packet.words[3]);
        Some(())
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
