//! A million destinations: the data path's answer and a naive model's are the same next hop.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, Result, ensure};
use forwarder::{
    dataplane::{Sizes, tracer::Tracer},
    fib::family::Address,
    source::event::{Change, Dump, Event, Neighbour},
};
use forwarder_common::{
    directory::SlotEntry, fib::GROUP_INDIRECT, nexthop::NextHop, reason::Reason, trace::Stage,
};
use forwarder_tests::{
    frame,
    random::Random,
    routes::via,
    sandbox::{Sandbox, mac},
    table::{self, Model},
};
use ipnet::IpNet;

const PREFIXES4: usize = 20_000;
const PREFIXES6: usize = 5_000;
const DESTINATIONS: usize = 1_000_000;
/// Sent through the program itself.
const SAMPLE: usize = 25_000;
const GATEWAYS: u16 = 200;

/// The table in the kernel, and what it should say.
struct World {
    sandbox: Sandbox,
    inside: u32,
    prefixes: Vec<IpNet>,
    /// Gateway number by prefix.
    model: Model<u16>,
}

/// A gateway's MAC holds its number.
fn gateway_mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [0x02, 0xcc, 0, 0, high, low]
}

fn gateway(number: u16, v4: bool) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if v4 {
        IpAddr::from([203, 0, high, low])
    } else {
        IpAddr::from([0x3fff, 0, 0, 0, 0, 0, 1, number])
    }
}

impl World {
    fn new() -> Result<World> {
        let mut prefixes = table::v4(PREFIXES4)?;
        let v6 = table::v6(PREFIXES6)?;
        let sizes = Sizes {
            slots: ((prefixes.len() + v6.len()) * 5 / 4 + 4096) as u32,
            blocks4: 32_768,
            blocks6: 32_768.max(v6.len() as u32),
            ..Sizes::SMALL
        };
        prefixes.extend(v6);
        let mut sandbox = Sandbox::new(sizes)?;
        let inside = sandbox.interface("in0", 0, 1500)?;
        let out = sandbox.interface("out0", 0, 1500)?;
        let mut neighbours = Vec::new();
        for number in 0..GATEWAYS {
            for v4 in [true, false] {
                neighbours.push(Neighbour {
                    ifindex: out,
                    address: gateway(number, v4),
                    mac: Some(gateway_mac(number)),
                    failed: false,
                    stale: false,
                    managed: true,
                });
            }
        }
        let mut random = Random::new(200);
        let mut model = Model::default();
        let mut dump = Dump {
            neighbours,
            ..Dump::default()
        };
        let links = [inside, out].map(|ifindex| sandbox.engine.world.links.get(ifindex).cloned());
        dump.links.extend(links.into_iter().flatten());
        let mut later = Vec::new();
        for (at, prefix) in prefixes.iter().enumerate() {
            let number = random.below(GATEWAYS as usize) as u16;
            model.insert(*prefix, number);
            let to = gateway(number, prefix.addr().is_ipv4()).to_string();
            let route = via(&prefix.to_string(), out, &to)?;
            // A tenth of the table comes one by one, after the dump.
            if at % 10 == 0 {
                later.push(route);
            } else {
                dump.routes.push(route);
            }
        }
        sandbox.engine.load(dump);
        for route in later {
            let change = Change::Add;
            sandbox
                .engine
                .apply(Event::Route { route, change }, &mut Vec::new());
        }
        ensure!(
            sandbox.engine.fib.refused() == (0, 0),
            "the sizes are too small for this table"
        );
        Ok(World {
            sandbox,
            inside,
            prefixes,
            model,
        })
    }

    /// What the tables say of a destination: the prefix that counts it, and the next hop.
    fn answer(&self, address: IpAddr) -> Result<Option<(u8, NextHop)>> {
        let tables = self.sandbox.engine.view();
        let leaf = tables.lookup(address).context("a walk that ends")?;
        if leaf.is_none() {
            return Ok(None);
        }
        let group = match leaf.group() {
            GROUP_INDIRECT => tables
                .slot_group(leaf.slot())
                .load(std::sync::atomic::Ordering::Acquire),
            group => group,
        };
        let entry: SlotEntry = tables.slot_directory.get(leaf.slot() as usize);
        let counted = match entry.family {
            4 => u32::from_octets16(entry.address).prefix(entry.length),
            _ => u128::from_octets16(entry.address).prefix(entry.length),
        };
        let counted = counted.context("the slot names no prefix")?;
        ensure!(counted.contains(&address), "{address} is counted for {counted}");
        let id = tables.groups.get(group as usize).buckets[0];
        Ok(Some((entry.length, tables.nexthops.get(id as usize))))
    }

    fn check(&self, address: IpAddr) -> Result<()> {
        match (self.answer(address)?, self.model.lookup(address)) {
            (None, None) => Ok(()),
            (Some((length, hop)), Some((right, number))) if length == right => {
                ensure!(
                    hop.destination_mac() == gateway_mac(number) && hop.state() == 0,
                    "{address}: {hop:?}, not gateway {number}"
                );
                Ok(())
            }
            (data_path, model) => anyhow::bail!("{address}: {data_path:?}, the model says {model:?}"),
        }
    }
}

fn destinations(prefixes: &[IpNet]) -> impl Iterator<Item = IpAddr> {
    let mut random = Random::new(1_000_000);
    let edges = prefixes.iter().flat_map(|prefix| table::edges(*prefix));
    let more = (0..DESTINATIONS).map(move |number| match number % 4 {
        0 => IpAddr::V4((random.bits() as u32).into()),
        1 => IpAddr::V6(random.wide().into()),
        2 => table::unicast6(&mut random).into(),
        _ => table::inside(&mut random, prefixes[number / 4 % prefixes.len()]),
    });
    edges.chain(more)
}

#[test]
fn a_million_destinations_have_the_models_next_hop() -> Result<()> {
    let world = World::new()?;
    let mut asked = BTreeMap::from([(4, 0usize), (6, 0)]);
    for address in destinations(&world.prefixes) {
        world.check(address)?;
        *asked.entry(if address.is_ipv4() { 4 } else { 6 }).or_insert(0) += 1;
    }
    ensure!(asked.values().sum::<usize>() >= DESTINATIONS, "{asked:?}");
    println!("asked {asked:?} of {} prefixes", world.prefixes.len());

    // The same through the program itself: what it walks is what we walk.
    let mut tracer = Tracer::open(&world.sandbox.pins)?;
    let macs = (mac(world.inside), [2, 0, 0, 0, 0, 9]);
    let all: Vec<IpAddr> = destinations(&world.prefixes)
        .filter(|address| table::forwardable(*address))
        .collect();
    let (mut sent, mut forwarded) = (0, 0);
    for address in all.iter().step_by(all.len() / SAMPLE) {
        let packet = match address {
            IpAddr::V4(v4) => frame::udp4(macs, v4.octets(), 64, 8),
            IpAddr::V6(v6) => frame::udp6(macs, *v6, 64, 8),
        };
        let traced = tracer.run(world.inside, &packet)?;
        let leaf = world.sandbox.engine.view().lookup(*address).context("a leaf")?;
        ensure!(
            traced.trace.leaf == leaf.0,
            "{address}: the program found another leaf"
        );
        let (_, out) = world.sandbox.programs.run(world.inside, &packet)?;
        match world.model.lookup(*address) {
            Some((_, number)) => {
                ensure!(
                    traced.trace.stage == Stage::Rewrite as u32,
                    "{address}: {:?}",
                    traced.trace
                );
                ensure!(
                    out[..6] == gateway_mac(number),
                    "{address}: sent to {:02x?}",
                    &out[..6]
                );
                forwarded += 1;
            }
            None => ensure!(
                traced.trace.reason == Reason::NoRoute as u32 && out == packet,
                "{address}: {:?}",
                traced.trace
            ),
        }
        sent += 1;
    }
    println!("sent {sent}, forwarded {forwarded}");
    ensure!(
        sent >= 20_000 && forwarded >= sent / 4,
        "sent {sent}, forwarded {forwarded}"
    );
    Ok(())
}
