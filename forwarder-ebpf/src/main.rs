//! Entry and verdicts of the XDP program.
#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(target_arch = "bpf", no_main)]

/// On the host there is nothing to run: the library holds the parts that are tested there.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        bindings::{xdp_action, xdp_md},
        macros::{raw_tracepoint, xdp},
        programs::{RawTracePointContext, XdpContext},
    };
    use forwarder_common::{
        fib::Leaf,
        flow,
        interface::{FORWARD4, FORWARD6, Interface, REDIRECTS4, RULES4, RULES6},
        nexthop::NextHop,
        reason::Reason,
        trace::Stage,
    };
    use forwarder_ebpf::{
        Exit, Inlet, buffers, count, egress, fib, filter, lag, leave, maps,
        nexthop::{self, Chosen},
        notes::{Notes, Silent, Traced},
        origin::{self, Found},
        packet::{Head, Packet},
        parse::{self, ETHERNET, IPV4, IPV6, Network},
        redirect, rewrite,
        rules::{self, Answer, Whence},
        sample,
        tag::{self, Opened},
    };

    /// A packet, and where it came in.
    struct Arrival<'a> {
        ctx: &'a XdpContext,
        cpu: u32,
        /// Octets of the frame, in all of its buffers.
        bytes: usize,
        /// The frame behind its tags, as far as it is in the first buffer.
        packet: Packet,
        /// The device, the bond it is a member of, or the VLAN.
        interface: &'a Interface,
    }

    impl Arrival<'_> {
        /// The frame, tags included, as far as it is in the first buffer.
        #[inline(always)]
        fn frame(&self) -> Packet {
            // SAFETY: data and data_end of this packet, whose head has not moved.
            unsafe { Packet::new(self.ctx.data(), self.ctx.data_end()) }
        }

        /// Octets of the packet with an Ethernet header in front of it and what is behind it, in all buffers.
        #[inline(always)]
        fn length(&self) -> usize {
            self.bytes - self.tags()
        }

        /// Octets of its tags. Worked out where it is needed: it has no register to spare for.
        #[inline(always)]
        fn tags(&self) -> usize {
            self.packet.behind(&self.frame()) & 0xc
        }

        #[inline(always)]
        fn inlet(&self) -> Inlet {
            Inlet::new(self.interface.port, self.tags())
        }
    }

    /// Where a packet goes, and where that is counted.
    struct Departure {
        /// Octets of the IP packet.
        length: u32,
        slot: u32,
        source: Found,
        chosen: Chosen,
        place: count::Place,
    }

    #[xdp(frags)]
    pub fn forwarder(ctx: XdpContext) -> u32 {
        verdict::<Silent>(&ctx)
    }

    #[xdp(frags)]
    pub fn forwarder_trace(ctx: XdpContext) -> u32 {
        verdict::<Traced>(&ctx)
    }

    #[inline(always)]
    fn verdict<N: Notes>(ctx: &XdpContext) -> u32 {
        // SAFETY: data and data_end of this packet; taken anew after the tail is moved.
        let frame = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
        let bytes = buffers::length(ctx, &frame);
        let ifindex = ctx.ingress_ifindex() as u32;
        let cpu = maps::cpu();
        let Some(device) = maps::INTERFACES.get(ifindex).filter(|known| known.port != 0) else {
            return leave::ask::<N>(
                ctx,
                Inlet::new(0, 0),
                Reason::Unconfigured.into(),
                Answer::NOTHING,
            );
        };
        let Opened { interface, tags } = match tag::open(ctx, &frame, device) {
            Ok(opened) => opened,
            Err(exit) => {
                return leave::ask::<N>(ctx, Inlet::new(device.port, 0), exit, Answer::NOTHING);
            }
        };
        N::note(|t| t.interface = interface.ifindex);
        let arrival = Arrival {
            ctx,
            cpu,
            bytes,
            packet: frame.from(tags),
            interface,
        };
        let mut answer = Answer::NOTHING;
        let forwarded = match parse::network(&frame, &arrival.packet, interface) {
            Ok(Network::V4) => ipv4::<N>(&arrival, &mut answer),
            Ok(Network::V6) => ipv6::<N>(&arrival, &mut answer),
            Err(reason) => Err(reason.into()),
        };
        let tags = match forwarded {
            Ok(tags) => tags,
            Err(exit) => return leave::ask::<N>(ctx, arrival.inlet(), exit, answer),
        };
        let sent = Reason::Forwarded as u32;
        N::note(|t| (t.port, t.reason, t.decided) = (interface.port, sent, sent));
        count::exit(cpu, interface.port, Reason::Forwarded.index(), bytes);
        answer.mark(ctx, tags);
        xdp_action::XDP_REDIRECT
    }

    /// Asks the rules, where there are any for this interface and something concerns the packet.
    #[inline(always)]
    fn obey(
        arrival: &Arrival,
        flag: u32,
        answer: &mut Answer,
        ask: impl FnOnce(Whence) -> Answer,
    ) -> Result<(), Exit> {
        if arrival.interface.flags & flag == 0 {
            return Ok(());
        }
        *answer = ask(Whence {
            cpu: arrival.cpu,
            inlet: arrival.inlet(),
        });
        match answer.reason() {
            0 => Ok(()),
            reason => Err(Exit(reason)),
        }
    }

    #[inline(always)]
    fn ipv4<N: Notes>(arrival: &Arrival, answer: &mut Answer) -> Result<usize, Exit> {
        let (packet, interface) = (&arrival.packet, arrival.interface);
        let ip = parse::ipv4(packet, arrival.length())?;
        N::stage(Stage::Parse);
        // Both wait for memory, and neither for the other.
        let place = count::settle(arrival.cpu);
        let leaf = fib::leaf4(ip.destination);
        source::<N, 4>(interface, &ip.source.to_be_bytes())?;
        let from = origin::ipv4(interface, ip.source, arrival.bytes)?;
        N::stage(Stage::Origin);
        obey(arrival, RULES4, answer, |whence| {
            rules::ipv4::<N>(arrival.ctx, whence, arrival.bytes, ip.destination)
        })?;
        parse::forwardable4(&ip)?;
        filter::own_source(ip.source)?;
        let found = find::<N>(leaf)?;
        let chosen = choose::<N>(found.group, |seed| {
            let (protocol, ports) = parse::flow4(packet, ip.head);
            flow::hash(seed, ip.source as u128, ip.destination as u128, protocol, ports)
        })?;
        nexthop::usable(chosen.hop, interface, FORWARD4, || ip.head.u8::<22>(), ip.length)
            .inspect_err(|exit| discarded(arrival, *exit, chosen.id))?;
        if chosen.hop.ifindex == interface.ifindex && interface.flags & REDIRECTS4 != 0 {
            return Err(Reason::SameInterface.into());
        }
        let departure = Departure {
            length: ip.length,
            slot: found.slot,
            source: from,
            chosen,
            place,
        };
        send::<N, IPV4>(arrival, departure, ip.head, rewrite::ipv4, |ctx, id, tags| {
            tag::retag4(ctx, id, tags)
        })
    }

    #[inline(always)]
    fn ipv6<N: Notes>(arrival: &Arrival, answer: &mut Answer) -> Result<usize, Exit> {
        let (packet, interface) = (&arrival.packet, arrival.interface);
        let ip = parse::ipv6(packet, arrival.length())?;
        N::stage(Stage::Parse);
        let place = count::settle(arrival.cpu);
        let leaf = fib::leaf6(&ip.destination);
        source::<N, 16>(interface, &ip.source)?;
        let from = origin::ipv6(interface, &ip.source, arrival.bytes)?;
        N::stage(Stage::Origin);
        obey(arrival, RULES6, answer, |whence| {
            rules::ipv6::<N>(arrival.ctx, whence, arrival.bytes, &ip.destination)
        })?;
        parse::forwardable6(packet, &ip)?;
        let found = find::<N>(leaf)?;
        let chosen = choose::<N>(found.group, |seed| {
            let (protocol, ports) = parse::flow6(packet, ip.head);
            let (source, destination) = (
                u128::from_be_bytes(ip.source),
                u128::from_be_bytes(ip.destination),
            );
            flow::hash(seed, source, destination, protocol, ports)
        })?;
        nexthop::usable(chosen.hop, interface, FORWARD6, || ip.head.u8::<21>(), ip.length)
            .inspect_err(|exit| discarded(arrival, *exit, chosen.id))?;
        // ip6_forward sends a redirect whenever the packet would leave where it came in; no sysctl stops it.
        if chosen.hop.ifindex == interface.ifindex {
            return Err(Reason::SameInterface.into());
        }
        let departure = Departure {
            length: ip.length,
            slot: found.slot,
            source: from,
            chosen,
            place,
        };
        send::<N, IPV6>(arrival, departure, ip.head, rewrite::ipv6, |ctx, id, tags| {
            tag::retag6(ctx, id, tags)
        })
    }

    #[inline(always)]
    fn source<N: Notes, const OCTETS: usize>(
        interface: &Interface,
        address: &[u8; OCTETS],
    ) -> Result<(), Reason> {
        let class = filter::class(interface, address);
        N::note(|t| t.source_class = class);
        filter::admit(class)?;
        N::stage(Stage::Filter);
        Ok(())
    }

    #[inline(always)]
    fn find<N: Notes>(leaf: Leaf) -> Result<fib::Match, Reason> {
        N::note(|t| t.leaf = leaf.0);
        let found = fib::answer(leaf)?;
        N::note(|t| t.group = found.group);
        N::stage(Stage::Fib);
        Ok(found)
    }

    #[inline(always)]
    fn choose<N: Notes>(group: u32, hash: impl FnOnce(u32) -> u32) -> Result<Chosen, Reason> {
        let chosen = nexthop::choose(group, || {
            let hash = hash(maps::SETTINGS.get().hash_seed);
            N::note(|t| t.hash = hash);
            hash
        })?;
        N::note(|t| t.nexthop = chosen.id);
        Ok(chosen)
    }

    /// What a blackhole route throws away is counted for it.
    #[inline(always)]
    fn discarded(arrival: &Arrival, exit: Exit, id: u32) {
        if exit.0 == Reason::Blackhole.index() {
            count::discarded(arrival.cpu, id, arrival.bytes);
        }
    }

    /// The decision is made: asks for the redirect, then writes, then counts. Answers how many octets of tags the frame has now.
    #[inline(always)]
    fn send<N: Notes, const HEAD: usize>(
        arrival: &Arrival,
        departure: Departure,
        mut head: Head<HEAD>,
        rewrite: impl FnOnce(Head<HEAD>, &NextHop),
        retag: impl FnOnce(*mut xdp_md, u32, u32) -> u32,
    ) -> Result<usize, Exit> {
        let Departure {
            length,
            slot,
            source,
            chosen,
            place,
        } = departure;
        let bytes = arrival.bytes;
        let wanted = ETHERNET + length as usize;
        let padding = if arrival.frame().length() == bytes {
            redirect::padding(arrival.length(), wanted, chosen.hop)?
        } else {
            redirect::several(arrival.length(), wanted, chosen.hop)?;
            0
        };
        let device = lag::device(arrival.ctx, &chosen, arrival.inlet())?;
        N::stage(Stage::NextHop);
        N::note(|t| t.device = device);
        redirect::ask(device)?;
        N::stage(Stage::Redirect);
        // The last moment before the first write.
        if count::is_dry_run() {
            return Err(Reason::DryRun.into());
        }
        if padding != 0 {
            let ctx = arrival.ctx;
            redirect::cut(ctx, padding)?;
            // SAFETY: data and data_end after the tail moved.
            let packet = unsafe { Packet::new(ctx.data(), ctx.data_end()) };
            head = packet.from(arrival.tags()).head().ok_or(Reason::Internal)?;
        }
        if !N::TAKEN {
            let (exit, way) = (Reason::Forwarded.index(), (slot, chosen.id));
            sample::consider(arrival.ctx.ctx, place.pending, exit, way, bytes);
        }
        let (before, tags) = (arrival.tags(), chosen.hop.tags() as usize);
        if before | tags == 0 {
            rewrite(head, chosen.hop);
        } else {
            match retag(arrival.ctx.ctx, chosen.id, before as u32) {
                0 => {}
                refused => return Err(Exit(refused as usize)),
            }
        }
        N::stage(Stage::Rewrite);
        count::forwarded(arrival.cpu, place, slot, source, &chosen, bytes);
        count::pair(arrival.cpu, arrival.interface, source, &chosen, bytes);
        Ok(tags)
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
