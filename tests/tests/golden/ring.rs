//! Tags, bonds and virtual MACs: what the program does with them, byte for byte.
//!
//! The links are told and not made: the tables do not know the difference, and no kernel that has them is needed. The layout and
//! what is written for it are the controller's own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use forwarder::{
    config,
    daemon::stations,
    dataplane::Sizes,
    layout::{self, Layout, Takes},
    source::event::{Bond, BondMode, Detail, Event, HashPolicy, Link, MacvlanMode, Member, Vlan},
};
use forwarder_common::{
    interface::{FORWARD4, FORWARD6, Interface, MACS},
    nexthop::mac_bits,
    reason::Reason,
};
use forwarder_tests::{
    frame::{self, pad, routed, udp4, udp6, with},
    ledger::{Ledger, Name},
    routes::via,
    sandbox::{Sandbox, index_of, ip, mac, neighbour_mac},
};

/// A trunk with VLANs, and a bond of three with more; indices that no link of the namespace has.
pub const V10: u32 = 1010;
pub const V20: u32 = 1020;
pub const S30: u32 = 1030;
pub const S30C7: u32 = 1037;
pub const BOND: u32 = 1100;
pub const B10: u32 = 1110;
const GATEWAY: u32 = 1120;

const VRRP_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 7];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A tag: kind, priority bits and identifier.
type Tag = (u16, u16, u16);
/// The same without the bits.
type Kind = (u16, u16);
const C: u16 = 0x8100;
const S: u16 = 0x88a8;

/// The router with VLANs and a bond.
pub struct Ring {
    /// Tables and live program.
    pub sandbox: Sandbox,
    /// Every link that was told, by index.
    links: BTreeMap<u32, Link>,
    devices: BTreeMap<u32, u16>,
    layout: Layout,
    /// A device with VLANs.
    pub trunk: u32,
    /// One without.
    pub plain: u32,
    /// The bond's.
    pub members: [u32; 3],
    holds: bool,
    /// Devices that take frames in several buffers.
    several: BTreeSet<u32>,
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_string(),
        mac: mac(ifindex),
        ethernet: true,
        admin_up: true,
        carrier: true,
        running: true,
        mtu: 1500,
        mtu6: 1500,
        kind: "veth".to_string(),
        ..Link::default()
    }
}

fn vlan(ifindex: u32, name: &str, lower: u32, id: u16, service: bool) -> Link {
    Link {
        lower: Some(lower),
        detail: Detail::Vlan(Vlan {
            id,
            service,
            maps_priority: false,
        }),
        ..link(ifindex, name)
    }
}

fn bond(mode: BondMode, policy: HashPolicy) -> Link {
    Link {
        detail: Detail::Bond(Bond {
            mode,
            policy,
            active: None,
            aggregator: None,
        }),
        ..link(BOND, "bond0")
    }
}

fn member(ifindex: u32, name: &str, active: bool) -> Link {
    Link {
        master: Some(BOND),
        member: Some(Member {
            active,
            up: true,
            aggregator: Some(1),
        }),
        ..link(ifindex, name)
    }
}

const NAMES: [&str; 3] = ["m1", "m2", "m3"];

impl Ring {
    /// Builds it.
    pub fn new() -> Result<Ring> {
        let sandbox = Sandbox::new(Sizes {
            slots: 512,
            ..Sizes::SMALL
        })?;
        for name in ["trunk", "plain", "m1", "m2", "m3"] {
            ip(&format!("link add {name} type veth peer name {name}p"))?;
            ip(&format!("link set {name} up"))?;
            ip(&format!("link set {name}p up"))?;
        }
        // However long it takes.
        sandbox.stamp(0, 0);
        let (trunk, plain) = (index_of("trunk")?, index_of("plain")?);
        let members = [index_of("m1")?, index_of("m2")?, index_of("m3")?];
        let mut ring = Ring {
            sandbox,
            links: BTreeMap::new(),
            devices: BTreeMap::new(),
            layout: Layout::default(),
            trunk,
            plain,
            members,
            holds: false,
            several: BTreeSet::new(),
        };
        let gateway = Link {
            lower: Some(B10),
            mac: VRRP_MAC,
            detail: Detail::Macvlan(MacvlanMode::Private),
            ..link(GATEWAY, "vrrp.7")
        };
        for told in [
            link(trunk, "trunk"),
            link(plain, "plain"),
            vlan(V10, "trunk.10", trunk, 10, false),
            vlan(V20, "trunk.20", trunk, 20, false),
            vlan(S30, "trunk.30", trunk, 30, true),
            vlan(S30C7, "trunk.30.7", S30, 7, false),
            bond(BondMode::Lacp, HashPolicy::Layer34),
            vlan(B10, "bond0.10", BOND, 10, false),
            gateway,
        ] {
            ring.links.insert(told.ifindex, told);
        }
        for (ifindex, name) in members.iter().zip(NAMES) {
            ring.links.insert(*ifindex, member(*ifindex, name, true));
        }
        ring.tell()?;
        for (index, ifindex) in [plain, V10, V20, S30, S30C7, BOND, B10].into_iter().enumerate() {
            let (v4, v6) = (
                format!("203.0.113.{}", index + 1),
                format!("2a00:9::{}", index + 1),
            );
            ring.sandbox.neighbour(ifindex, &v4);
            ring.sandbox.neighbour(ifindex, &v6);
            ring.sandbox
                .announce(via(&format!("5.{}.0.0/16", index + 1), ifindex, &v4)?);
            ring.sandbox
                .announce(via(&format!("2a05:{}::/32", index + 1), ifindex, &v6)?);
        }
        Ok(ring)
    }

    /// Lays out what the links are now, as the controller does.
    fn tell(&mut self) -> Result<()> {
        let text: String = ["trunk", "plain", "bond0"]
            .iter()
            .map(|name| format!("[[interface]]\nname = \"{name}\"\n"))
            .collect();
        let interfaces = config::parse("ring", &text)?.interfaces;
        let holds = self.holds;
        self.layout = layout::of(&interfaces, self.links.values(), |ifindex| {
            holds && ifindex == GATEWAY
        });
        ensure!(self.layout.problems.is_empty(), "{:?}", self.layout.problems);
        let several = &self.several;
        self.layout.ask_egress(|ifindex, _| Takes {
            frames: true,
            several: several.contains(&ifindex),
        });
        for link in self.links.values() {
            self.sandbox
                .engine
                .apply(Event::Link(link.clone()), &mut Vec::new());
        }
        for ifindex in self.layout.devices.keys() {
            self.devices.entry(*ifindex).or_insert(0);
        }
        use forwarder::dataplane::Dataplane;
        for ifindex in self.layout.devices.keys() {
            self.sandbox.engine.dataplane.set_device(*ifindex, true)?;
        }
        let served = stations::claim(self.sandbox.engine.view(), &self.layout, &mut self.devices)?;
        for (ifindex, served) in &served {
            self.sandbox.engine.serve(*ifindex, Some(*served));
        }
        let tables = self.sandbox.engine.view();
        stations::write_bonds(tables, &self.layout, &self.devices);
        for (ifindex, station) in self
            .layout
            .stations
            .iter()
            .filter(|(_, station)| station.receives)
        {
            let mut macs = [mac_bits(self.links[ifindex].mac); MACS];
            if let Some((_, virtual_mac)) = station.virtual_macs.first() {
                macs[1] = mac_bits(*virtual_mac);
            }
            let entry = Interface {
                port: u32::from(served[ifindex].port),
                flags: FORWARD4 | FORWARD6,
                macs,
                ifindex: *ifindex,
                ..Interface::default()
            };
            stations::number(tables, &self.layout, &self.devices, (*ifindex, station), &entry);
            stations::write(tables, &self.layout, &self.devices, *ifindex, &entry);
        }
        self.sandbox.engine.served_changed();
        Ok(())
    }

    fn port(&self, ifindex: u32) -> u32 {
        self.sandbox
            .engine
            .world
            .links
            .served(ifindex)
            .map_or(0, |served| u32::from(served.port))
    }

    /// Runs a frame; answers reason, frame and where it was counted.
    fn run(&self, ingress: u32, packet: &[u8]) -> Result<(Reason, Vec<u8>, Vec<Name>)> {
        let before = Ledger::read(self.sandbox.engine.view());
        let (_, out) = self.sandbox.programs.run(ingress, packet)?;
        let moved = Ledger::read(self.sandbox.engine.view()).since(&before);
        let wrong = moved
            .iter()
            .find(|(_, counter)| counter.packets != 1 || counter.bytes != packet.len() as u64);
        ensure!(
            wrong.is_none(),
            "{wrong:?}, and not one of {} octets",
            packet.len()
        );
        let reason = moved.iter().find_map(|(name, _)| match name {
            Name::Reason(_, index) => Reason::from_index(*index),
            _ => None,
        });
        let names = moved.into_iter().map(|(name, _)| name).collect();
        Ok((reason.context("no reason counted")?, out, names))
    }

    /// The device a frame leaves by, as the tracing instance says.
    fn device(
        &self,
        tracer: &mut forwarder::dataplane::tracer::Tracer,
        ingress: u32,
        packet: &[u8],
    ) -> Result<u32> {
        let traced = tracer.run(ingress, packet)?;
        ensure!(
            traced.trace.reason == Reason::Forwarded as u32,
            "{:?}",
            traced.trace
        );
        Ok(traced.trace.device)
    }
}

fn tagged(packet: &[u8], tags: &[Tag]) -> Vec<u8> {
    let mut out = packet[..12].to_vec();
    for (kind, priority, id) in tags {
        out.extend(kind.to_be_bytes());
        out.extend((priority | id).to_be_bytes());
    }
    out.extend(&packet[12..]);
    out
}

/// Every way in, every way out, both families: bytes, counters, priorities.
#[test]
fn tags_are_pushed_popped_and_rewritten() -> Result<()> {
    let ring = Ring::new()?;
    let (urgent, dei) = (0xa000, 0x1000);
    // Where it comes in, the interface that is, its tags, and what of their priority the outer and the inner tag get.
    let ways_in: [(u32, u32, Vec<Tag>, u16, u16); 7] = [
        (ring.plain, ring.plain, vec![], 0, 0),
        (ring.trunk, ring.trunk, vec![(C, urgent, 0)], urgent, urgent),
        (
            ring.trunk,
            V10,
            vec![(C, urgent | dei, 10)],
            urgent | dei,
            urgent | dei,
        ),
        (ring.trunk, S30, vec![(S, dei, 30)], dei, dei),
        (ring.trunk, S30C7, vec![(S, urgent, 30), (C, dei, 7)], urgent, dei),
        (ring.members[0], BOND, vec![], 0, 0),
        (ring.members[2], B10, vec![(C, 0x2000, 10)], 0x2000, 0x2000),
    ];
    let ways_out: [(u32, u8, Vec<Kind>); 7] = [
        (ring.plain, 1, vec![]),
        (V10, 2, vec![(C, 10)]),
        (V20, 3, vec![(C, 20)]),
        (S30, 4, vec![(S, 30)]),
        (S30C7, 5, vec![(S, 30), (C, 7)]),
        (BOND, 6, vec![]),
        (B10, 7, vec![(C, 10)]),
    ];
    for (ingress, interface, tags, outer, inner) in &ways_in {
        for (egress, network, expected) in &ways_out {
            if interface == egress {
                continue;
            }
            let macs = (mac(*interface), HOST);
            let neighbour = |family: &str| -> Result<[u8; 6]> {
                Ok(neighbour_mac(format!("{family}{network}").parse()?))
            };
            let six = format!("2a05:{network}::1").parse()?;
            let packets = [
                (udp4(macs, [5, *network, 2, 3], 64, 20), neighbour("203.0.113.")?),
                (udp6(macs, six, 64, 20), neighbour("2a00:9::")?),
            ];
            for (packet, to) in packets {
                let said = format!("in by {interface} with {tags:x?}, out by {egress}");
                let came = tagged(&packet, tags);
                let priorities = [*outer, *inner];
                let left: Vec<Tag> = expected
                    .iter()
                    .zip(priorities)
                    .map(|((kind, id), priority)| (*kind, priority, *id))
                    .collect();
                let wanted = tagged(&routed(&packet, to, mac(*egress), packet.len()), &left);
                let (reason, out, names) = ring.run(*ingress, &came)?;
                ensure!(reason == Reason::Forwarded, "{said}: {}", reason.name());
                ensure!(out == wanted, "{said}:\n{out:02x?}\n{wanted:02x?}");
                let counted = Name::Reason(ring.port(*interface), Reason::Forwarded.index());
                ensure!(names.contains(&counted), "{said}: {names:?}");
                ensure!(
                    names.contains(&Name::Egress(ring.port(*egress))),
                    "{said}: {names:?}"
                );
            }
        }
    }
    Ok(())
}

/// Jumbo frames, in more than one buffer: tags are put on and taken off in the first. A bond sends them when all of its members do.
#[test]
fn tags_of_frames_in_several_buffers_are_pushed_and_popped() -> Result<()> {
    let mut ring = Ring::new()?;
    for link in ring.links.values_mut() {
        (link.mtu, link.mtu6) = (9000, 9000);
    }
    let [first, second, third] = ring.members;
    ring.several = [ring.trunk, first, second].into();
    ring.tell()?;
    let from = ring.plain;
    let by_plain = |network: u8, octets: usize| udp4((mac(from), HOST), [5, network, 2, 3], 64, octets - 28);
    let sent = |ring: &Ring, egress: u32, network: u8, octets: usize, tags: &[Tag]| -> Result<()> {
        let packet = by_plain(network, octets);
        let to = neighbour_mac(format!("203.0.113.{network}").parse()?);
        let wanted = tagged(&routed(&packet, to, mac(egress), packet.len()), tags);
        let (reason, out, _) = ring.run(from, &packet)?;
        ensure!(reason == Reason::Forwarded, "to {network}: {}", reason.name());
        ensure!(
            out == wanted,
            "to {network}: {} octets, other than wanted",
            out.len()
        );
        Ok(())
    };
    let goes_up = |ring: &Ring, network: u8, octets: usize| -> Result<Reason> {
        let packet = by_plain(network, octets);
        let (reason, out, _) = ring.run(from, &packet)?;
        ensure!(out == packet, "touched");
        Ok(reason)
    };
    sent(&ring, V10, 2, 9000, &[(C, 0, 10)])?;
    sent(&ring, S30, 4, 9000, &[(S, 0, 30)])?;
    // Two tags: 4 octets less.
    sent(&ring, S30C7, 5, 8996, &[(S, 0, 30), (C, 0, 7)])?;
    ensure!(goes_up(&ring, 5, 8997)? == Reason::TooBig);
    ensure!(goes_up(&ring, 2, 9001)? == Reason::TooBig);
    // In by a VLAN, out by another, and without a tag by what takes one buffer alone.
    let packet = udp4((mac(V10), HOST), [5, 3, 2, 3], 64, 8972);
    let (reason, out, _) = ring.run(ring.trunk, &tagged(&packet, &[(C, 0, 10)]))?;
    let wanted = routed(
        &packet,
        neighbour_mac("203.0.113.3".parse()?),
        mac(V20),
        packet.len(),
    );
    ensure!(reason == Reason::Forwarded && out == tagged(&wanted, &[(C, 0, 20)]));
    let up = tagged(&udp4((mac(V10), HOST), [5, 1, 2, 3], 64, 8972), &[(C, 0, 10)]);
    let (reason, out, _) = ring.run(ring.trunk, &up)?;
    ensure!(reason == Reason::MultiBuffer && out == up, "{}", reason.name());
    // The frame that does not fit a buffer with its tag does without.
    let octets = 4096 - 256 - 320 - 14;
    let close = tagged(
        &udp4((mac(V10), HOST), [5, 1, 2, 3], 64, octets - 28),
        &[(C, 0, 10)],
    );
    let (reason, ..) = ring.run(ring.trunk, &close)?;
    ensure!(reason == Reason::MultiBuffer, "{}", reason.name());

    ensure!(goes_up(&ring, 6, 9000)? == Reason::MultiBuffer);
    ring.several.insert(third);
    ring.tell()?;
    sent(&ring, BOND, 6, 9000, &[])?;
    sent(&ring, B10, 7, 9000, &[(C, 0, 10)])?;
    Ok(())
}

#[test]
fn frames_of_no_vlan_of_ours_go_up_as_they_are() -> Result<()> {
    let ring = Ring::new()?;
    let packet = |interface: u32| udp4((mac(interface), HOST), [5, 1, 2, 3], 64, 20);
    let whole = tagged(&packet(V10), &[(C, 0, 10)]);
    let cases = [
        (
            "an unknown identifier",
            ring.trunk,
            tagged(&packet(V10), &[(C, 0, 11)]),
            Reason::Tagged,
        ),
        (
            "the other kind of tag",
            ring.trunk,
            tagged(&packet(V10), &[(S, 0, 10)]),
            Reason::Tagged,
        ),
        (
            "an inner tag of a VLAN that has none",
            ring.trunk,
            tagged(&packet(V10), &[(C, 0, 10), (C, 0, 7)]),
            Reason::Tagged,
        ),
        (
            "an unknown inner tag",
            ring.trunk,
            tagged(&packet(S30), &[(S, 0, 30), (C, 0, 8)]),
            Reason::Tagged,
        ),
        (
            "three tags",
            ring.trunk,
            tagged(&packet(S30C7), &[(S, 0, 30), (C, 0, 7), (C, 0, 7)]),
            Reason::Tagged,
        ),
        (
            "a VLAN of another link",
            ring.plain,
            tagged(&packet(V10), &[(C, 0, 10)]),
            Reason::Tagged,
        ),
        (
            "the parent's address is the VLAN's only where they are one",
            ring.trunk,
            tagged(&packet(ring.trunk), &[(C, 0, 10)]),
            Reason::OtherMac,
        ),
        ("half a tag", ring.trunk, whole[..16].to_vec(), Reason::Truncated),
        (
            "a tag and nothing behind",
            ring.trunk,
            whole[..18].to_vec(),
            Reason::Truncated,
        ),
        (
            "half of a second tag",
            ring.trunk,
            tagged(&packet(S30), &[(S, 0, 30), (C, 0, 7)])[..20].to_vec(),
            Reason::Truncated,
        ),
        (
            "an IPv4 header that is cut short",
            ring.trunk,
            whole[..37].to_vec(),
            Reason::Truncated,
        ),
        (
            "ARP in a VLAN",
            ring.trunk,
            with(whole.clone(), 16, &[8, 6]),
            Reason::Arp,
        ),
        (
            "a TTL that ends",
            ring.trunk,
            tagged(&udp4((mac(V10), HOST), [5, 1, 2, 3], 1, 20), &[(C, 0, 10)]),
            Reason::TtlExpired,
        ),
        (
            "a wrong checksum",
            ring.trunk,
            with(whole.clone(), 28, &[0, 0]),
            Reason::BadChecksum,
        ),
        (
            "LACP on a member",
            ring.members[1],
            pad(frame::ethernet([1, 0x80, 0xc2, 0, 0, 2], HOST, 0x8809), 60),
            Reason::OtherProtocol,
        ),
    ];
    for (what, ingress, came, wanted) in cases {
        let (reason, out, _) = ring.run(ingress, &came).with_context(|| what.to_string())?;
        ensure!(
            reason == wanted,
            "{what}: {}, not {}",
            reason.name(),
            wanted.name()
        );
        ensure!(out == came, "{what}: touched");
    }
    // Back where it came from: the kernel owes a redirect.
    let back = udp6((mac(V20), HOST), "2a05:3::1".parse()?, 64, 20);
    let (reason, ..) = ring.run(ring.trunk, &tagged(&back, &[(C, 0, 20)]))?;
    ensure!(reason == Reason::SameInterface, "{}", reason.name());
    Ok(())
}

/// The redirect's own limit counts one tag, and not two.
#[test]
fn the_second_tag_is_taken_off_the_mtu() -> Result<()> {
    let ring = Ring::new()?;
    for (network, most) in [(1, 1500), (2, 1500), (5, 1496), (7, 1500)] {
        for (length, wanted) in [(most, Reason::Forwarded), (most + 1, Reason::TooBig)] {
            let packet = udp4((mac(BOND), HOST), [5, network, 2, 3], 64, length - 28);
            let (reason, ..) = ring.run(ring.members[0], &packet)?;
            ensure!(
                reason == wanted,
                "{length} octets to 5.{network}: {}",
                reason.name()
            );
        }
    }
    Ok(())
}

/// What pads a frame is taken off where it leaves by a device that does not pad, with tags and without.
#[test]
fn padding_does_not_become_part_of_the_packet() -> Result<()> {
    let ring = Ring::new()?;
    let packet = udp4((mac(V10), HOST), [5, 1, 2, 3], 64, 1);
    let came = pad(tagged(&packet, &[(C, 0, 10)]), 64);
    let (reason, out, _) = ring.run(ring.trunk, &came)?;
    ensure!(reason == Reason::Forwarded, "{}", reason.name());
    let to = neighbour_mac("203.0.113.1".parse()?);
    ensure!(
        out == routed(&packet, to, mac(ring.plain), packet.len()),
        "{out:02x?}"
    );
    Ok(())
}

fn flow(ring: &Ring, number: u32) -> Vec<u8> {
    let [_, a, b, c] = number.to_be_bytes();
    let payload = frame::udp(1024 + (number % 50_000) as u16, 443, 12);
    frame::ipv4(
        (mac(ring.plain), HOST),
        [192, a, b, c].into(),
        [5, 6, b, c].into(),
        17,
        64,
        &payload,
    )
}

const FLOWS: u32 = 10_000;

#[test]
fn a_bond_spreads_flows_and_a_lost_member_moves_its_own() -> Result<()> {
    let mut ring = Ring::new()?;
    let mut tracer = forwarder::dataplane::tracer::Tracer::open(&ring.sandbox.pins)?;
    let mut spread = |ring: &Ring| -> Result<Vec<u32>> {
        (0..FLOWS)
            .map(|number| ring.device(&mut tracer, ring.plain, &flow(ring, number)))
            .collect()
    };
    let before = spread(&ring)?;
    for member in ring.members {
        let share = before.iter().filter(|device| **device == member).count();
        println!("{share} of {FLOWS} flows by {member}");
        ensure!(
            share.abs_diff(FLOWS as usize / 3) < FLOWS as usize / 30,
            "{share} of {FLOWS}"
        );
    }
    let [first, second, third] = ring.members;
    ring.links.insert(second, member(second, NAMES[1], false));
    ring.tell()?;
    let without = spread(&ring)?;
    for (old, new) in before.iter().zip(&without) {
        ensure!(*new == first || *new == third, "{new}");
        ensure!(*old == second || old == new, "a flow of {old} moved to {new}");
    }
    // What comes in on the member that is not used is the kernel's.
    let packet = udp4((mac(BOND), HOST), [5, 1, 2, 3], 64, 20);
    for came in [
        packet.clone(),
        tagged(&packet, &[(C, 0, 10)]),
        tagged(&packet, &[(C, 0, 0)]),
    ] {
        let (reason, out, _) = ring.run(second, &came)?;
        ensure!(
            reason == Reason::MemberInactive && out == came,
            "{}",
            reason.name()
        );
    }
    ring.links.insert(second, member(second, NAMES[1], true));
    ring.tell()?;
    let back = spread(&ring)?;
    let moved = before.iter().zip(&back).filter(|(old, new)| old != new).count();
    println!("{moved} flows are elsewhere after it came back");
    ensure!(moved < FLOWS as usize / 2, "{moved}");
    for (ifindex, name) in ring.members.iter().zip(NAMES) {
        ring.links.insert(*ifindex, member(*ifindex, name, false));
    }
    ring.tell()?;
    let (reason, out, _) = ring.run(ring.plain, &flow(&ring, 1))?;
    ensure!(
        reason == Reason::NoDevice && out == flow(&ring, 1),
        "{}",
        reason.name()
    );
    Ok(())
}

/// What of a packet chooses the member is the bond's own policy.
#[test]
fn the_policy_of_the_bond_says_what_chooses() -> Result<()> {
    let mut ring = Ring::new()?;
    let mut tracer = forwarder::dataplane::tracer::Tracer::open(&ring.sandbox.pins)?;
    let mut members = |ring: &Ring, vary: &dyn Fn(u32) -> Vec<u8>| -> Result<usize> {
        let all: Result<BTreeSet<u32>> = (0..200)
            .map(|n| ring.device(&mut tracer, ring.plain, &vary(n)))
            .collect();
        Ok(all?.len())
    };
    let macs = (mac(ring.plain), HOST);
    let ports = |n: u32| {
        frame::ipv4(
            macs,
            [192, 0, 2, 1].into(),
            [5, 6, 1, 1].into(),
            17,
            64,
            &frame::udp(1024 + n as u16, 53, 8),
        )
    };
    // Later fragments show no ports: all of a packet go one way.
    let fragments = |n: u32| with(ports(n), 20, &[0x20, 0]);
    let addresses = |n: u32| udp4(macs, [5, 6, 1, n as u8], 64, 20);
    let six = |n: u32| udp6(macs, (0x2a05_0006u128 << 96 | u128::from(n)).into(), 64, 20);
    use HashPolicy::{Layer2, Layer23, Layer34};
    for (mode, policy, by_ports, by_addresses) in [
        (BondMode::Lacp, Layer34, 3, 3),
        (BondMode::Xor, Layer23, 1, 3),
        (BondMode::Lacp, Layer2, 1, 1),
        (BondMode::RoundRobin, Layer2, 3, 3),
        (BondMode::ActiveBackup, Layer34, 1, 1),
    ] {
        ring.links.insert(BOND, bond(mode, policy));
        if mode == BondMode::ActiveBackup {
            for (at, (ifindex, name)) in ring.members.iter().zip(NAMES).enumerate() {
                ring.links.insert(*ifindex, member(*ifindex, name, at == 1));
            }
        }
        ring.tell()?;
        let said = format!("{} {}", mode.name(), policy.name());
        let found = members(&ring, &ports)?;
        ensure!(found == by_ports, "{said}: ports of one pair by {found} members");
        let found = members(&ring, &addresses)?;
        ensure!(found == by_addresses, "{said}: addresses by {found} members");
        ensure!(members(&ring, &six)? == by_addresses, "{said}: IPv6");
        ensure!(members(&ring, &fragments)? == 1, "{said}: fragments");
    }
    let only = ring.device(&mut tracer, ring.plain, &addresses(1))?;
    ensure!(only == ring.members[1], "active-backup sends by {only}");
    Ok(())
}

/// A virtual MAC is ours while we hold the address, in the VLAN that the gateway is in.
#[test]
fn a_virtual_mac_is_ours_only_while_the_address_is_held() -> Result<()> {
    let mut ring = Ring::new()?;
    let packet = udp4((VRRP_MAC, HOST), [5, 1, 2, 3], 64, 20);
    let came = tagged(&packet, &[(C, 0, 10)]);
    let elsewhere = [(ring.members[0], packet.clone()), (ring.trunk, came.clone())];
    for held in [false, true, false] {
        ring.holds = held;
        ring.tell()?;
        let wanted = if held { Reason::Forwarded } else { Reason::OtherMac };
        for member in ring.members {
            let (reason, ..) = ring.run(member, &came)?;
            ensure!(reason == wanted, "held: {held}: {}", reason.name());
        }
        for (ingress, packet) in &elsewhere {
            let (reason, ..) = ring.run(*ingress, packet)?;
            ensure!(reason == Reason::OtherMac, "{}", reason.name());
        }
    }
    Ok(())
}
