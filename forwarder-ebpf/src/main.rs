//! Entry and verdicts of the XDP program.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

/// On the host there is nothing to run: the library holds the parts that are tested there.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        bindings::xdp_action,
        macros::{raw_tracepoint, xdp},
        programs::{RawTracePointContext, XdpContext},
    };
    use forwarder_common::{
        flow,
        interface::{FORWARD4, FORWARD6, Interface, REDIRECTS4},
        nexthop::NextHop,
        reason::{Policy, Reason},
        trace::Stage,
    };
    use forwarder_ebpf::{
        Exit, count, egress, fib, filter, log, maps, nexthop,
        packet::{Head, Packet},
        parse::{self, ETHERNET, IPV4, IPV6, Ipv4, Ipv6, Network},
        redirect, rewrite,
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

    #[xdp]
    pub fn forwarder(ctx: XdpContext) -> u32 {
        // SAFETY: data and data_end of this packet; taken anew after the tail is moved.
        let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
        let bytes = packet.length();
        let ifindex = ctx.ingress_ifindex() as u32;
        let cpu = maps::cpu();
        match maps::INTERFACES.get(ifindex) {
            Some(interface) if interface.port != 0 => {
                let reason = match forward(&ctx, cpu, packet, ifindex, interface) {
                    Ok(()) => {
                        let forwarded = Reason::Forwarded;
                        maps::trace(|t| (t.port, t.reason) = (interface.port, forwarded as u32));
                        count::exit(cpu, interface.port, forwarded.index(), bytes);
                        return xdp_action::XDP_REDIRECT;
                    }
                    Err(Exit(reason)) => reason,
                };
                maps::trace(|t| (t.port, t.reason) = (interface.port, reason as u32));
                count::exit(cpu, interface.port, reason, bytes);
                if reason == Reason::Internal.index() {
                    log::internal(&ctx);
                }
                if DROP >> reason & 1 != 0 {
                    xdp_action::XDP_DROP
                } else {
                    xdp_action::XDP_PASS
                }
            }
            _ => {
                maps::trace(|t| (t.port, t.reason) = (0, Reason::Unconfigured as u32));
                count::exit(cpu, 0, Reason::Unconfigured.index(), bytes);
                xdp_action::XDP_PASS
            }
        }
    }

    #[inline(always)]
    fn stage(stage: Stage) {
        maps::trace(|t| t.stage = stage as u32);
    }

    #[inline(always)]
    fn forward(
        ctx: &XdpContext,
        cpu: u32,
        packet: Packet,
        ifindex: u32,
        interface: &Interface,
    ) -> Result<(), Exit> {
        match parse::network(&packet, interface)? {
            Network::V4 => ipv4(ctx, cpu, packet, ifindex, interface, &parse::ipv4(&packet)?),
            Network::V6 => ipv6(ctx, cpu, packet, ifindex, interface, &parse::ipv6(&packet)?),
        }
    }

    #[inline(always)]
    fn ipv4(
        ctx: &XdpContext,
        cpu: u32,
        packet: Packet,
        ifindex: u32,
        interface: &Interface,
        ip: &Ipv4,
    ) -> Result<(), Exit> {
        stage(Stage::Parse);
        // Both wait for memory, and neither for the other.
        let pending = count::settle(cpu);
        let leaf = fib::leaf4(ip.destination);
        filter::source(interface, &ip.source.to_be_bytes())?;
        stage(Stage::Filter);
        parse::forwardable4(ip)?;
        filter::own_source(ip.source)?;
        let found = fib::answer(leaf)?;
        stage(Stage::Fib);
        let chosen = nexthop::choose(found.group, || {
            let protocol = ip.head.u8::<23>();
            let ports = if parse::is_fragment(ip) {
                0
            } else {
                parse::ports::<IPV4, { IPV4 + 4 }>(&packet, protocol)
            };
            flow::hash(
                maps::SETTINGS.get().hash_seed,
                ip.source as u128,
                ip.destination as u128,
                protocol,
                ports,
            )
        })?;
        nexthop::usable(chosen.hop, interface, FORWARD4, ip.head.u8::<22>(), ip.length)?;
        if chosen.hop.ifindex == ifindex && interface.flags & REDIRECTS4 != 0 {
            return Err(Reason::SameInterface.into());
        }
        let place = count::Place { cpu, pending };
        send(
            ctx,
            place,
            packet,
            ip.length,
            found,
            chosen,
            ip.head,
            rewrite::ipv4,
        )
    }

    #[inline(always)]
    fn ipv6(
        ctx: &XdpContext,
        cpu: u32,
        packet: Packet,
        ifindex: u32,
        interface: &Interface,
        ip: &Ipv6,
    ) -> Result<(), Exit> {
        stage(Stage::Parse);
        let pending = count::settle(cpu);
        let leaf = fib::leaf6(&ip.destination);
        filter::source(interface, &ip.source)?;
        stage(Stage::Filter);
        parse::forwardable6(ip)?;
        let found = fib::answer(leaf)?;
        stage(Stage::Fib);
        let chosen = nexthop::choose(found.group, || {
            let protocol = ip.head.u8::<20>();
            let ports = parse::ports::<IPV6, { IPV6 + 4 }>(&packet, protocol);
            let (source, destination) = (
                u128::from_be_bytes(ip.source),
                u128::from_be_bytes(ip.destination),
            );
            flow::hash(
                maps::SETTINGS.get().hash_seed,
                source,
                destination,
                protocol,
                ports,
            )
        })?;
        nexthop::usable(chosen.hop, interface, FORWARD6, ip.head.u8::<21>(), ip.length)?;
        // ip6_forward sends a redirect whenever the packet would leave where it came in; no sysctl stops it.
        if chosen.hop.ifindex == ifindex {
            return Err(Reason::SameInterface.into());
        }
        let place = count::Place { cpu, pending };
        send(
            ctx,
            place,
            packet,
            ip.length,
            found,
            chosen,
            ip.head,
            rewrite::ipv6,
        )
    }

    /// The decision is made: asks for the redirect, then writes, then counts.
    #[inline(always)]
    fn send<const N: usize>(
        ctx: &XdpContext,
        place: count::Place,
        packet: Packet,
        length: u32,
        found: fib::Match,
        chosen: nexthop::Chosen,
        mut head: Head<N>,
        rewrite: impl FnOnce(Head<N>, &NextHop),
    ) -> Result<(), Exit> {
        let bytes = packet.length();
        let padding = redirect::padding(bytes, ETHERNET + length as usize, chosen.hop)?;
        stage(Stage::NextHop);
        redirect::ask(chosen.hop)?;
        stage(Stage::Redirect);
        if padding != 0 {
            redirect::cut(ctx, padding)?;
            // SAFETY: data and data_end after the tail moved.
            let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
            head = packet.head().ok_or(Reason::Internal)?;
        }
        rewrite(head, chosen.hop);
        stage(Stage::Rewrite);
        count::forwarded(place, found.slot, &chosen, bytes);
        Ok(())
    }

    #[raw_tracepoint(tracepoint = "xdp_redirect_err")]
    pub fn xdp_redirect_err(ctx: RawTracePointContext) -> i32 {
        egress::redirect_error(&ctx);
        0
    }

    #[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
    pub fn xdp_devmap_xmit(ctx: RawTracePointContext) -> i32 {
        egress::transmit(&ctx);
        0
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}
