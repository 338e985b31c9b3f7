//! The routers that frames come into: the one of the golden packets with routes of every kind, rules and jumbo frames, and the one with
//! VLANs and bonds.

use anyhow::Result;
use forwarder::{
    cpus,
    filter::{
        compile::{self, Placed, Router},
        install::install,
        ranges::Ranges,
        rule::{Action, Match, Origin, Rate, Rule, Unit},
    },
    source::event::Action as RouteAction,
    stats::prefixes,
};
use forwarder_common::interface::{IFINDEX_MAX, Interface};
use forwarder_tests::{
    routes::{hop, route},
    sandbox::{Sandbox, mac},
};
use ipnet::IpNet;

use super::super::{
    buffers,
    house::{House, NIC4, NIC6, OUT4, OUT6},
    ring::{self, Ring},
};

/// The DSCP that the rules mark with.
pub const DSCP: u8 = 46;

/// A way into a router: device, tags, and the address of the interface that this is.
#[derive(Clone, Debug)]
pub struct Way {
    /// The device.
    pub ingress: u32,
    /// Kind and identifier of each.
    pub tags: Vec<(u16, u16)>,
    /// Where frames are sent to.
    pub mac: [u8; 6],
}

impl Way {
    fn plain(ingress: u32) -> Way {
        Way::to(ingress, &[], ingress)
    }

    fn to(ingress: u32, tags: &[(u16, u16)], interface: u32) -> Way {
        Way {
            ingress,
            tags: tags.to_vec(),
            mac: mac(interface),
        }
    }
}

/// A router.
pub struct World {
    /// Its name in a line to replay.
    pub name: &'static str,
    /// Tables and program.
    pub sandbox: Sandbox,
    /// By which frames come in.
    pub ways: Vec<Way>,
    /// Interfaces that are known to the program, with the entries that they had first.
    pub interfaces: Vec<(u32, Interface)>,
    /// What is laid.
    pub prefixes: Vec<IpNet>,
    /// The CPU that all runs on.
    pub cpu: u32,
    /// The kernel's test run lays a frame in two buffers where it is told.
    pub splits: bool,
}

impl World {
    /// The router of the golden packets.
    pub fn house() -> Result<World> {
        let mut house = House::new()?;
        let big = buffers::furnish(&mut house)?;
        let p = house.ports;
        let fork = |v4: bool| -> Result<RouteAction> {
            let (out, nic) = if v4 { (OUT4, NIC4) } else { (OUT6, NIC6) };
            let mut heavy = hop(p.out, out)?;
            heavy.weight = 3;
            Ok(RouteAction::Hops(vec![heavy, hop(p.nic, nic)?]))
        };
        house.sandbox.announce(route("9.1.0.0/16", fork(true)?)?);
        house.sandbox.announce(route("2a09:1::/32", fork(false)?)?);
        let ingresses = [
            p.inside,
            p.edge,
            p.off,
            p.redirects,
            p.nic,
            p.generic,
            p.down,
            p.unknown,
        ];
        let ways = ingresses.into_iter().chain(big).map(Way::plain).collect();
        World::of("house", house.sandbox, ways)
    }

    /// The one with VLANs and bonds.
    pub fn ring() -> Result<World> {
        let ring = Ring::new()?;
        let (c, s) = (0x8100, 0x88a8);
        let mut ways = vec![
            Way::plain(ring.plain),
            Way::plain(ring.trunk),
            Way::to(ring.trunk, &[(c, 0)], ring.trunk),
            Way::to(ring.trunk, &[(c, 10)], ring::V10),
            Way::to(ring.trunk, &[(c, 20)], ring::V20),
            Way::to(ring.trunk, &[(s, 30)], ring::S30),
            Way::to(ring.trunk, &[(s, 30), (c, 7)], ring::S30C7),
        ];
        for member in ring.members {
            ways.push(Way::to(member, &[], ring::BOND));
            ways.push(Way::to(member, &[(c, 10)], ring::B10));
        }
        World::of("ring", ring.sandbox, ways)
    }

    fn of(name: &'static str, sandbox: Sandbox, ways: Vec<Way>) -> Result<World> {
        let tables = sandbox.engine.view();
        let interfaces = (0..IFINDEX_MAX)
            .map(|ifindex| (ifindex, tables.interfaces.get(ifindex as usize)))
            .filter(|(_, entry)| entry.port != 0)
            .collect();
        let prefixes = prefixes::laid(tables).map(|(_, prefix, _)| prefix).collect();
        let cpu = cpus::here().unwrap_or(0);
        cpus::tie(&[cpu])?;
        rules(&sandbox)?;
        let splits = sandbox
            .programs
            .run_split(ways[0].ingress, &[0; 200], 100)
            .is_ok();
        Ok(World {
            name,
            sandbox,
            ways,
            interfaces,
            prefixes,
            cpu: cpu as u32,
            splits,
        })
    }
}

/// Rules of every kind, which are asked while the interfaces say so.
fn rules(sandbox: &Sandbox) -> Result<()> {
    let rule = |name: &str, origin, when, action, proceed, mark| Rule {
        name: name.into(),
        origin,
        when,
        action,
        proceed,
        mark,
    };
    let to = |prefixes: &[&str]| -> Result<Match> {
        let parsed: Result<Vec<IpNet>, _> = prefixes.iter().map(|prefix| prefix.parse()).collect();
        Ok(Match {
            destination: Some(parsed?),
            ..Match::default()
        })
    };
    let rate = |unit, per_second| {
        Action::Limit(Rate {
            unit,
            per_second,
            burst: 1,
        })
    };
    let ports = Match {
        destination_port: Some(Ranges::of([53..=53, 1024..=2047])),
        ..to(&["5.0.0.0/8"])?
    };
    let fragments = Match {
        fragment: Some(Ranges::of([1..=15])),
        ..to(&["2a05::/32", "6.1.0.0/16"])?
    };
    let all = [
        rule(
            "mark",
            Origin::Config(1),
            to(&["5.0.0.0/9", "2a05::/33"])?,
            Action::Accept,
            true,
            Some(DSCP),
        ),
        rule("drop", Origin::Config(2), ports, Action::Drop, false, None),
        rule(
            "fragments",
            Origin::FlowSpec(1),
            fragments,
            Action::Drop,
            false,
            None,
        ),
        rule(
            "limit",
            Origin::Config(3),
            to(&["5.64.0.0/10"])?,
            rate(Unit::Bytes, 1),
            false,
            None,
        ),
        rule(
            "packets",
            Origin::Config(4),
            to(&["2a05:8000::/33", "5.2.0.0/16"])?,
            rate(Unit::Packets, 1),
            false,
            None,
        ),
    ];
    let placed: Vec<Placed<'_>> = (0..)
        .zip(&all)
        .map(|(slot, rule)| Placed { rule, slot })
        .collect();
    let router = Router {
        port: &|_| None,
        cpus: 1,
    };
    let (v4, v6) = (compile::ipv4(&placed, router)?, compile::ipv6(&placed, router)?);
    install(sandbox.engine.view(), &v4, &v6);
    Ok(())
}
