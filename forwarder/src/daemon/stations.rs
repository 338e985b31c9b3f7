//! From a layout to the tables of the program: the numbers of interfaces, where their frames come in, and how bonds send.

use std::collections::BTreeMap;

use anyhow::Result;
use forwarder_common::{
    directory::PortEntry,
    interface::{INACTIVE, Interface, MACS},
    lag::{BUCKETS, Lag},
    vlan::VLANS,
};

use super::{describe::is_outside, ports};
use crate::{
    config::SourceCheck,
    dataplane::Tables,
    fib::buckets,
    layout::{Layout, Station},
    link::{Frame, Served},
    source::event::Ifindex,
};

/// A MAC address that no frame is for: those of a member that its bond does not use.
const NOBODY: u64 = u64::MAX;

/// Gives every interface of the layout its number, and says how each is served; `devices` are those that carry the program, and get
/// theirs.
///
/// # Errors
/// There are more interfaces than numbers.
pub fn claim(
    tables: &Tables,
    layout: &Layout,
    devices: &mut BTreeMap<Ifindex, u16>,
) -> Result<BTreeMap<Ifindex, Served>> {
    let state = |ifindex: &Ifindex| match layout.devices.get(ifindex) {
        Some(device) if device.generic => ports::GENERIC,
        Some(_) => ports::NATIVE,
        None => ports::STACKED,
    };
    let mut numbers: BTreeMap<Ifindex, u16> = BTreeMap::new();
    // Roots first: what stands on them names their port.
    let mut stations: Vec<(&Ifindex, &Station)> = layout.stations.iter().collect();
    stations.sort_by_key(|(ifindex, station)| (**ifindex != station.root, **ifindex));
    let stations = stations
        .into_iter()
        .map(|(ifindex, station)| (ifindex, &station.name, station.root));
    let members = layout
        .devices
        .iter()
        .map(|(ifindex, device)| (ifindex, &device.name, device.root));
    for (ifindex, name, root) in stations.chain(members) {
        if numbers.contains_key(ifindex) {
            continue;
        }
        let claim = ports::Claim {
            name,
            ifindex: *ifindex,
            state: state(ifindex),
            root: numbers.get(&root).copied().map_or(0, u32::from),
        };
        numbers.insert(*ifindex, ports::claim(tables, claim)?);
    }
    for (ifindex, port) in devices {
        *port = numbers.get(ifindex).copied().unwrap_or(*port);
    }
    let number = |ifindex: &Ifindex| numbers.get(ifindex).copied().unwrap_or(0);
    let served = layout.stations.iter().map(|(ifindex, station)| {
        let frame = match station.frame.aggregated {
            true => Frame {
                device: number(&station.root),
                ..station.frame
            },
            false => station.frame,
        };
        let served = Served {
            port: number(ifindex),
            generic: layout.devices_of(station.root).any(|(_, device)| device.generic),
            feasible: station.config.source_check == SourceCheck::Feasible,
            outside: is_outside(&station.config),
            frame,
        };
        (*ifindex, served)
    });
    Ok(served.collect())
}

/// Where an interface's frames come in: at the device itself, or at each of its bond's, with what is its own there.
fn places(
    layout: &Layout,
    devices: &BTreeMap<Ifindex, u16>,
    ifindex: Ifindex,
    entry: &Interface,
) -> Vec<(Ifindex, Interface)> {
    let own = Interface {
        device_port: entry.port,
        ..*entry
    };
    let mut all = vec![(ifindex, own)];
    let members = layout
        .devices_of(ifindex)
        .filter(|(member, _)| *member != ifindex);
    for (member, device) in members {
        let Some(port) = devices.get(&member) else {
            continue;
        };
        let mut entry = Interface {
            device_port: u32::from(*port),
            ..*entry
        };
        if !device.active {
            // The kernel takes hardly anything from it (`bond_should_deliver_exact_match`).
            entry.flags |= INACTIVE;
            entry.macs = [NOBODY; MACS];
        }
        all.push((member, entry));
    }
    all
}

/// Writes an interface's entry to where its frames come in.
pub fn write(
    tables: &Tables,
    layout: &Layout,
    devices: &BTreeMap<Ifindex, u16>,
    ifindex: Ifindex,
    entry: &Interface,
) {
    for (at, entry) in places(layout, devices, ifindex, entry) {
        if tables.interfaces.get(at as usize) != entry {
            tables.interfaces.set(at as usize, &entry);
        }
    }
}

/// Gives an interface its number, as far as it has none: forwarding is still off. A VLAN's frames find it from then on.
pub fn number(
    tables: &Tables,
    layout: &Layout,
    devices: &BTreeMap<Ifindex, u16>,
    (ifindex, station): (Ifindex, &Station),
    entry: &Interface,
) {
    for (at, entry) in places(layout, devices, ifindex, entry) {
        if tables.interfaces.get(at as usize).port != entry.port {
            tables.interfaces.set(at as usize, &entry);
        }
    }
    if let Some((lower, tag)) = station.vlan {
        let below = tables.interfaces.get(lower as usize).port;
        if below != 0 && tables.vlan(below, tag.service, tag.id) != ifindex {
            tables.set_vlan(below, tag.service, tag.id, ifindex);
        }
    }
}

/// Takes out what was said of an interface that is served no longer, but for the entry of a device.
pub fn forget(tables: &Tables, ifindex: Ifindex, port: u32) {
    for row in 1..tables.sizes.ports {
        for service in [false, true] {
            for id in 0..VLANS as u16 {
                if tables.vlan(row, service, id) == ifindex {
                    tables.set_vlan(row, service, id, 0);
                }
            }
        }
    }
    tables.interfaces.set(ifindex as usize, &Interface::default());
    ports::release(tables, port);
}

/// Says by which members each bond sends. One that is lost moves its own flows.
pub fn write_bonds(tables: &Tables, layout: &Layout, devices: &BTreeMap<Ifindex, u16>) {
    for (bond, aggregate) in &layout.aggregates {
        let by_index =
            |(_, entry): &(u32, PortEntry)| entry.ifindex == *bond && entry.state == ports::STACKED;
        let Some((place, _)) = ports::used(tables).find(by_index) else {
            continue;
        };
        let place = place as usize;
        let carrying = aggregate
            .members
            .iter()
            .filter(|member| devices.contains_key(member));
        let members: Vec<(u16, u32)> = carrying.map(|member| (*member as u16, 1)).collect();
        let old = tables.lags.get(place);
        let new = Lag {
            policy: if members.len() > 1 { aggregate.policy } else { 0 },
            buckets: buckets::fill(&old.buckets, &members),
            ..old
        };
        if new != old {
            tables.lags.set(place, &new);
        }
    }
}

const _: () = assert!(BUCKETS == forwarder_common::nexthop::BUCKETS);
