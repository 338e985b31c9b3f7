//! The router that the golden packets cross: its interfaces, routes and neighbours, and how a record is held against it.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use forwarder::{
    config::Source,
    dataplane::{Dataplane, Sizes, tracer::Tracer},
    filter::sources::{self, Sources},
    source::{
        event::{Action, Event, Route},
        feed::{Batch, FeedEvent, FeedId, FeedRoute, Gateway, Target},
    },
};
use forwarder_common::{
    counters::Counter,
    interface::{COUNT_PAIRS, COUNT_SOURCES, FILTER_SOURCES, FORWARD4, FORWARD6, REDIRECTS4},
    reason::{Policy, Reason},
};
use forwarder_tests::{
    ledger::{Ledger, Name},
    routes::{hop, route, via},
    sandbox::{Sandbox, Spec, index_of, mac, neighbour_mac},
};
use ipnet::IpNet;

/// A BGP session of the house.
const FEED: FeedId = 1;

/// What must become of a packet.
#[derive(Clone, Debug)]
pub enum Expect {
    /// It leaves untouched, with this reason.
    Leaves(Reason),
    /// It is sent on.
    Forwarded {
        /// The prefix that counts it.
        prefix: &'static str,
        /// The interface it leaves by.
        egress: u32,
        /// The neighbour it goes to.
        neighbour: &'static str,
        /// The octets of it that are sent.
        length: usize,
    },
}

/// One packet and what must become of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is about.
    pub sentence: String,
    /// The interface it comes in on.
    pub ingress: u32,
    /// The frame.
    pub packet: Vec<u8>,
    /// What must become of it.
    pub expect: Expect,
}

/// A record.
pub fn record(sentence: &str, ingress: u32, packet: Vec<u8>, expect: Expect) -> Record {
    Record {
        sentence: sentence.into(),
        ingress,
        packet,
        expect,
    }
}

/// A record of a packet that leaves untouched.
pub fn leaves(sentence: &str, ingress: u32, packet: Vec<u8>, reason: Reason) -> Record {
    record(sentence, ingress, packet, Expect::Leaves(reason))
}

/// Every record that needs no more than the house as it was built.
pub fn records(house: &House) -> Vec<Record> {
    [
        super::ethernet::records(house),
        super::ipv4::records(house),
        super::ipv4_routes::records(house),
        super::ipv6::records(house),
    ]
    .concat()
}

/// Interfaces of the house, by index.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Ingress without a filter.
    pub inside: u32,
    /// Ingress where sources are filtered.
    pub edge: u32,
    /// Ingress where the kernel forwards nothing.
    pub off: u32,
    /// Ingress that owes ICMP redirects for IPv4.
    pub redirects: u32,
    /// Egress, virtual.
    pub out: u32,
    /// Egress, physical: its wire pads.
    pub nic: u32,
    /// Egress in generic mode.
    pub generic: u32,
    /// Egress whose link is down.
    pub down: u32,
    /// An interface that carries the program and is not configured.
    pub unknown: u32,
}

/// MTU of the "out" interface.
pub const MTU: usize = 1500;
/// The virtual egress' neighbour, both families.
pub const OUT4: &str = "203.0.113.1";
/// As above.
pub const OUT6: &str = "2a00:9::1";
/// The physical egress' neighbour.
pub const NIC4: &str = "203.0.113.9";
/// As above.
pub const NIC6: &str = "2a00:9::9";

/// The router.
pub struct House {
    /// Tables and live program.
    pub sandbox: Sandbox,
    /// The tracing instance on the same tables.
    pub tracer: Tracer,
    /// Its interfaces.
    pub ports: Ports,
    /// Every reason a packet left with.
    pub reached: BTreeSet<Reason>,
    /// What the packet held last has counted by account and by source.
    pub whose: Vec<(Name, Counter)>,
}

impl House {
    /// Builds it, with few slots: every one is looked at for every record.
    pub fn new() -> Result<House> {
        House::of(Sizes {
            slots: 512,
            ..Sizes::SMALL
        })
    }

    /// Builds it with tables of these sizes.
    pub fn of(sizes: Sizes) -> Result<House> {
        let mut sandbox = Sandbox::new(sizes)?;
        let both = FORWARD4 | FORWARD6;
        let mut make = |name, flags, kind, generic| {
            let mtu = MTU as u32;
            sandbox.interface_of(&Spec {
                name,
                flags,
                mtu,
                kind,
                generic,
                ..Spec::default()
            })
        };
        let ports = Ports {
            inside: make("in0", both, "veth", false)?,
            edge: make("edge0", both | FILTER_SOURCES, "veth", false)?,
            off: make("off0", 0, "veth", false)?,
            redirects: make("redir0", both | REDIRECTS4, "veth", false)?,
            out: make("out0", both, "veth", false)?,
            nic: make("nic0", both, "", false)?,
            generic: make("gen0", both, "veth", true)?,
            down: make("down0", both, "veth", false)?,
            unknown: index_of("in0p")?,
        };
        let tracer = Tracer::open(&sandbox.pins)?;
        let mut house = House {
            sandbox,
            tracer,
            ports,
            reached: BTreeSet::new(),
            whose: Vec::new(),
        };
        house.furnish()?;
        Ok(house)
    }

    fn furnish(&mut self) -> Result<()> {
        let p = self.ports;
        let down = Spec {
            name: "down0",
            ..Spec::default()
        };
        let mut down = down.link(p.down);
        down.carrier = false;
        self.sandbox.engine.apply(Event::Link(down), &mut Vec::new());
        for (ifindex, address) in [
            (p.out, OUT4),
            (p.out, OUT6),
            (p.nic, NIC4),
            (p.nic, NIC6),
            (p.inside, "203.0.113.2"),
            (p.inside, "2a00:9::2"),
            (p.redirects, "203.0.113.3"),
            (p.redirects, "2a00:9::3"),
            (p.generic, "203.0.113.4"),
            (p.generic, "2a00:9::4"),
            (p.down, "203.0.113.5"),
            (p.down, "2a00:9::5"),
            (p.out, "198.18.0.5"),
            (p.out, "2a00:18::5"),
        ] {
            self.sandbox.neighbour(ifindex, address);
        }
        for route in [
            via("5.0.0.0/8", p.out, OUT4)?,
            via("2a05::/32", p.out, OUT6)?,
            via("5.9.9.0/30", p.nic, NIC4)?,
            via("2a05:0:9::/62", p.nic, NIC6)?,
            // IPv4 by an IPv6 neighbour (RFC 8950).
            via("5.50.0.0/16", p.out, OUT6)?,
            via("6.1.0.0/16", p.inside, "203.0.113.2")?,
            via("2a06:1::/32", p.inside, "2a00:9::2")?,
            via("6.2.0.0/16", p.redirects, "203.0.113.3")?,
            via("2a06:2::/32", p.redirects, "2a00:9::3")?,
            via("6.3.0.0/16", p.generic, "203.0.113.4")?,
            via("2a06:3::/32", p.generic, "2a00:9::4")?,
            via("6.4.0.0/16", p.down, "203.0.113.5")?,
            via("2a06:4::/32", p.down, "2a00:9::5")?,
            via("6.5.0.0/16", p.out, "203.0.113.77")?,
            via("2a06:5::/32", p.out, "2a00:9::77")?,
            // The far end of a pair, which nobody serves.
            via("6.6.0.0/16", p.unknown, "203.0.113.78")?,
            via("2a06:6::/32", p.unknown, "2a00:9::78")?,
            // Connected subnets.
            via("198.18.0.0/24", p.out, "")?,
            via("2a00:18::/64", p.out, "")?,
            Route {
                mtu: Some(1400),
                ..via("6.7.0.0/16", p.out, OUT4)?
            },
            Route {
                mtu: Some(1400),
                ..via("2a06:7::/32", p.out, OUT6)?
            },
        ] {
            self.sandbox.announce(route);
        }
        let mut tunnel = hop(p.out, OUT4)?;
        tunnel.unsupported = true;
        for (v4, v6, action) in [
            ("7.1.0.0/16", "2a07:1::/32", Action::Local),
            ("7.2.0.0/16", "2a07:2::/32", Action::Broadcast),
            ("7.3.0.0/16", "2a07:3::/32", Action::Blackhole),
            ("7.4.0.0/16", "2a07:4::/32", Action::Unreachable),
            ("7.5.0.0/16", "2a07:5::/32", Action::Prohibit),
            ("7.6.0.0/16", "2a07:6::/32", Action::Unsupported),
            ("7.7.0.0/16", "2a07:7::/32", Action::Hops(vec![tunnel])),
            ("7.8.0.0/16", "2a07:8::/32", Action::Nexthop(4711)),
        ] {
            self.sandbox.announce(route(v4, action.clone())?);
            self.sandbox.announce(route(v6, action)?);
        }
        // By a gateway that nothing leads to.
        let engine = &mut self.sandbox.engine;
        let lost = |prefix: &str| -> Result<FeedEvent> {
            let gateway = Gateway {
                address: "192.0.2.99".parse()?,
                link_local: None,
                interface: None,
            };
            Ok(FeedEvent::Route {
                prefix: prefix.parse()?,
                path_id: 0,
                route: FeedRoute {
                    target: Target::Gateway(gateway),
                    attributes: Arc::default(),
                },
            })
        };
        engine.register(FEED, Source::Bgp);
        let events = vec![lost("7.9.0.0/16")?, lost("2a07:9::/32")?];
        engine.apply_feed(Batch { feed: FEED, events });
        let own = [u32::from_be_bytes([203, 0, 113, 254])].into();
        engine.dataplane.set_own_addresses(&own)?;
        let compiled = sources::compile(&Sources {
            bogons: true,
            own: vec!["198.51.100.0/24".parse()?, "2a0a::/32".parse()?],
            on_link: vec!["10.9.8.0/30".parse()?],
            ..Sources::default()
        })?;
        sources::install(engine.view(), &compiled);
        Ok(())
    }

    /// The MACs of a frame that comes in there from host 9.
    pub fn macs(&self, ingress: u32) -> ([u8; 6], [u8; 6]) {
        (mac(ingress), [2, 0, 0, 0, 0, 9])
    }

    /// Holds a record against the tracing and the live program.
    pub fn hold(&mut self, record: &Record) -> Result<()> {
        let packet = &record.packet;
        let before = Ledger::read(self.sandbox.engine.view());
        let traced = self.tracer.run(record.ingress, packet)?;
        let untouched = Ledger::read(self.sandbox.engine.view());
        ensure!(
            untouched == before,
            "a trace moved {:?}",
            untouched.since(&before)
        );
        let (action, out) = self.sandbox.programs.run(record.ingress, packet)?;
        let moved = Ledger::read(self.sandbox.engine.view()).since(&before);
        let by_owner = |(name, _): &(Name, Counter)| matches!(name, Name::Pair(_) | Name::Source(_));
        let (whose, moved): (Vec<_>, Vec<_>) = moved.into_iter().partition(by_owner);
        let interface = self.sandbox.engine.view().interfaces.get(record.ingress as usize);
        ensure!(
            whose.is_empty() || interface.flags & (COUNT_PAIRS | COUNT_SOURCES) != 0,
            "counted {whose:?} where nobody asked"
        );
        self.whose = whose;
        ensure!(
            (traced.action, &traced.packet) == (action, &out),
            "trace: verdict {} {:02x?}\nlive: verdict {action} {out:02x?}",
            traced.action,
            traced.packet
        );
        let reason = Reason::from_index(traced.trace.reason as usize).context("the trace names no reason")?;
        let verdict = match reason.policy() {
            Policy::Forward => 4,
            Policy::Drop => 1,
            Policy::Pass => 2,
        };
        ensure!(
            verdict == action,
            "verdict {action}, although {} is {:?}",
            reason.name(),
            reason.policy()
        );
        self.reached.insert(reason);
        let once = Counter {
            packets: 1,
            bytes: packet.len() as u64,
        };
        let port = self
            .sandbox
            .engine
            .view()
            .interfaces
            .get(record.ingress as usize)
            .port;
        match &record.expect {
            Expect::Leaves(wanted) => {
                ensure!(
                    reason == *wanted,
                    "left as {}, not as {}",
                    reason.name(),
                    wanted.name()
                );
                ensure!(out == *packet, "touched: {out:02x?}\n     was {packet:02x?}");
                let expected = [(Name::Reason(port, wanted.index()), once)];
                let left = self.without_victim(*wanted, once, &moved)?;
                ensure!(left == expected, "counted {moved:?}, not {expected:?}");
            }
            Expect::Forwarded {
                prefix,
                egress,
                neighbour,
                length,
            } => {
                ensure!(
                    reason == Reason::Forwarded,
                    "left as {}, not forwarded",
                    reason.name()
                );
                let expected = forwarder_tests::frame::routed(
                    packet,
                    neighbour_mac(neighbour.parse()?),
                    mac(*egress),
                    *length,
                );
                ensure!(
                    out == expected,
                    "sent {out:02x?}\n not {expected:02x?}\n for {packet:02x?}"
                );
                let prefix: IpNet = prefix.parse()?;
                let slot = self
                    .sandbox
                    .engine
                    .fib
                    .slot(self.sandbox.engine.view(), prefix)
                    .context("the prefix is not laid")?;
                let Some(id) = self.nexthop(*egress, neighbour, packet[12] == 0x86)? else {
                    bail!("no next hop {neighbour}");
                };
                let to = self.sandbox.engine.view().interfaces.get(*egress as usize).port;
                let expected = [
                    (Name::Reason(port, Reason::Forwarded.index()), once),
                    (Name::Slot(slot), once),
                    (Name::NextHop(id), once),
                    (Name::Egress(to), once),
                ];
                ensure!(moved == expected, "counted {moved:?}, not {expected:?}");
                ensure!(
                    traced.trace.nexthop == id,
                    "traced next hop {}",
                    traced.trace.nexthop
                );
            }
        }
        Ok(())
    }

    /// What moved beside the counter of the blackhole that a packet met.
    fn without_victim(
        &self,
        reason: Reason,
        once: Counter,
        moved: &[(Name, Counter)],
    ) -> Result<Vec<(Name, Counter)>> {
        use forwarder::fib::path::{Key, key_of};
        if !matches!(reason, Reason::Blackhole | Reason::BlackholeSource) {
            return Ok(moved.to_vec());
        }
        let tables = self.sandbox.engine.view();
        let of_blackhole = |(name, counter): &&(Name, Counter)| match name {
            Name::NextHop(id) => {
                let key = key_of(&tables.nexthop_directory.get(*id as usize));
                *counter == once && matches!(key, Some(Key::Victim(_) | Key::Special(Reason::Blackhole)))
            }
            _ => false,
        };
        let (victims, left): (Vec<_>, Vec<_>) = moved.iter().partition(of_blackhole);
        ensure!(victims.len() == 1, "no blackhole counted it: {moved:?}");
        Ok(left)
    }

    /// The id of a next hop, from the pinned directory. Two of them differ only in the route's MTU; a test names the
    /// one without.
    fn nexthop(&self, egress: u32, neighbour: &str, v6: bool) -> Result<Option<u32>> {
        use forwarder::fib::path::{Key, key_of};
        let tables = self.sandbox.engine.view();
        let wanted = Key::Neighbour {
            ifindex: egress,
            address: neighbour.parse()?,
            family: if v6 { 6 } else { 4 },
            mtu: 0,
        };
        Ok((1..tables.sizes.nexthops)
            .find(|id| key_of(&tables.nexthop_directory.get(*id as usize)) == Some(wanted)))
    }

    /// Holds every record; all failures at once.
    pub fn hold_all(&mut self, records: &[Record]) -> Vec<String> {
        let mut failures = Vec::new();
        for record in records {
            if let Err(why) = self.hold(record) {
                failures.push(format!("{}: {why:#}", record.sentence));
            }
        }
        failures
    }
}
