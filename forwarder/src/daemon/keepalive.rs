//! Neighbours stay true although the kernel does not see their traffic.
//!
//! A neighbour that is forwarded to in XDP only is never confirmed: it goes STALE and stays there, and when its machine is
//! swapped its packets go nowhere. So next hops of routes are *managed* (`NTF_EXT_MANAGED`: the kernel keeps them resolved),
//! and hosts on connected subnets are *used* when they are STALE and their counters move, which does what their packets would
//! have done in the kernel: DELAY, PROBE, and a confirmation or a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;
use ipnet::IpNet;
use tracing::{debug, warn};

use super::engine::Engine;
use crate::{
    dataplane::{
        Dataplane,
        pins::{Pins, network_namespace},
    },
    fib::path::{Key, key_of},
    netlink::{command::Commander, dump::dump_neighbours},
    source::event::Ifindex,
};

/// What is kept alive.
#[derive(Default)]
pub struct Keepalive {
    managed: BTreeSet<(Ifindex, IpAddr)>,
    /// Packets counted for a host when it was looked at last.
    seen: BTreeMap<(Ifindex, IpAddr), u64>,
    failures: u64,
}

impl Keepalive {
    /// Knowing what an earlier controller managed.
    pub fn new(managed: BTreeSet<(Ifindex, IpAddr)>) -> Keepalive {
        Keepalive {
            managed,
            ..Keepalive::default()
        }
    }

    /// Manages the gateways that are used now, and lets go of those that are not.
    pub fn gateways<D: Dataplane>(&mut self, engine: &mut Engine<D>, commands: &mut Commander) {
        if let Some(wanted) = engine.gateways() {
            for (ifindex, address) in self.managed.difference(&wanted).copied().collect::<Vec<_>>() {
                if let Err(why) = commands.unmanage_neighbour(ifindex, address) {
                    debug!("{address} on ifindex {ifindex}: {why}");
                }
            }
            self.managed.retain(|gateway| wanted.contains(gateway));
            for (ifindex, address) in wanted {
                if self.managed.insert((ifindex, address)) {
                    self.manage(commands, ifindex, address);
                }
            }
        }
    }

    /// Manages anew what somebody flushed (`ip neigh flush`).
    pub fn renew<D: Dataplane>(&mut self, engine: &Engine<D>, commands: &mut Commander) {
        for (ifindex, address) in self.managed.iter().copied().collect::<Vec<_>>() {
            let entry = engine.world.neighbours.get(ifindex, address);
            let link_up = engine.world.links.is_up(ifindex);
            if link_up && entry.is_none_or(|entry| !entry.managed) {
                self.manage(commands, ifindex, address);
            }
        }
    }

    fn manage(&mut self, commands: &mut Commander, ifindex: Ifindex, address: IpAddr) {
        if let Err(why) = commands.manage_neighbour(ifindex, address) {
            self.failures += 1;
            if self.failures.is_power_of_two() {
                warn!("the kernel does not keep the next hop {address} on ifindex {ifindex} resolved: {why}");
            }
        }
    }

    /// Uses STALE hosts whose packets moved since the last call.
    pub fn hosts<D: Dataplane>(&mut self, engine: &Engine<D>, commands: &mut Commander) {
        let mut seen = BTreeMap::new();
        for neighbour in engine
            .world
            .neighbours
            .iter()
            .filter(|n| n.stale && !n.managed && n.mac.is_some())
        {
            let Some(slot) = engine.fib.slot(engine.view(), IpNet::from(neighbour.address)) else {
                continue;
            };
            let packets = engine.view().slot_counter(slot).packets;
            let key = (neighbour.ifindex, neighbour.address);
            // The first look only notes: a host that went STALE long ago and is silent is left alone.
            if self.seen.get(&key).is_some_and(|before| *before != packets)
                && let Err(why) = commands.use_neighbour(neighbour.ifindex, neighbour.address)
            {
                debug!("{}: {why}", neighbour.address);
            }
            seen.insert(key, packets);
        }
        self.seen = seen;
    }
}

/// The neighbours that an earlier controller may have managed, from its pinned directory; none where the pins belong to
/// another network namespace.
///
/// # Errors
/// There are no pins that can be read.
pub fn gateways_of(pins: &Pins) -> Result<BTreeSet<(Ifindex, IpAddr)>> {
    if pins.meta()?.netns != network_namespace()? {
        return Ok(BTreeSet::new());
    }
    let tables = pins.open(false)?;
    let keys = (1..tables.sizes.nexthops as usize).filter_map(|id| key_of(&tables.nexthop_directory.get(id)));
    Ok(keys
        .filter_map(|key| match key {
            Key::Neighbour { ifindex, address, .. } => Some((ifindex, address)),
            Key::Special(_) | Key::Victim(_) => None,
        })
        .collect())
}

/// Makes managed neighbours ordinary ones again.
pub fn let_go(gateways: &BTreeSet<(Ifindex, IpAddr)>) {
    let (Ok(neighbours), Ok(mut commands)) = (dump_neighbours(), Commander::open()) else {
        return;
    };
    for neighbour in neighbours.into_iter().filter(|n| n.managed) {
        let (ifindex, address) = (neighbour.ifindex, neighbour.address);
        if gateways.contains(&(ifindex, address))
            && let Err(why) = commands.unmanage_neighbour(ifindex, address)
        {
            debug!("{address} on ifindex {ifindex}: {why}");
        }
    }
}
