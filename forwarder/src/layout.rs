//! Which devices carry the program, and which interfaces those serve: from the links there are and the configuration.
//!
//! An interface of the configuration is a device, a bond or a VLAN. A device carries the program itself; a bond's members do, so that
//! the program can choose among them; a VLAN is served by what it stands on, and so is every VLAN there that the configuration
//! does not name, with what is said of the interface it stands on. Pure: `daemon/interfaces.rs` makes it so.

use std::collections::BTreeMap;

use forwarder_common::{
    interface::IFINDEX_MAX,
    lag::{BY_ADDRESSES, BY_MAC, BY_PORTS},
    vlan::{MOST_TAGS, TAG},
};

use crate::{
    config::{InterfaceConfig, XdpMode},
    link::{Frame, Tag},
    source::event::{Bond, BondMode, Detail, HashPolicy, Ifindex, Link, MacvlanMode, Vlan},
};

/// A device that carries the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Attached in generic mode.
    pub generic: bool,
    /// The interface of the configuration for which it carries it: itself, or its bond.
    pub root: Ifindex,
    /// Its bond uses it now; so it is where there is no bond.
    pub active: bool,
    /// A network card, and no link that the kernel makes up.
    pub physical: bool,
}

/// An interface that packets come in or leave by, as routes name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its name.
    pub name: String,
    /// What is configured for it: its own section, or that of what it stands on.
    pub config: InterfaceConfig,
    /// The device or bond at the bottom.
    pub root: Ifindex,
    /// What it stands on, and its tag; `None` for a device or a bond.
    pub vlan: Option<(Ifindex, Tag)>,
    /// How frames leave. The port of a bond is not filled in.
    pub frame: Frame,
    /// Packets come in by it. They do not by a macvlan, whose frames come in by what it stands on.
    pub receives: bool,
    /// Virtual MAC addresses that it answers to, with the link that has each (VRRP).
    pub virtual_macs: Vec<(Ifindex, [u8; 6])>,
}

/// What a device takes from the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takes {
    /// Frames at all.
    pub frames: bool,
    /// Those in several buffers.
    pub several: bool,
}

/// How a bond sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// What of a packet chooses the member ([`forwarder_common::lag`]).
    pub policy: u32,
    /// Members that send now.
    pub members: Vec<Ifindex>,
}

/// A macvlan on an interface that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// The interface that it stands on.
    pub on: Ifindex,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// It is up and has an address.
    pub held: bool,
}

/// MAC addresses of VRRP begin with this, and 1 or 2 for the version of IP (RFC 5798 7.3).
const VRRP: [u8; 4] = [0, 0, 0x5e, 0];

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Devices that carry the program.
    pub devices: BTreeMap<Ifindex, Device>,
    /// Interfaces served.
    pub stations: BTreeMap<Ifindex, Station>,
    /// Bonds.
    pub aggregates: BTreeMap<Ifindex, Aggregate>,
    /// Macvlans with a virtual MAC address, by which hosts may reach us.
    pub gateways: Vec<Gateway>,
    /// Interfaces of the configuration that cannot be served, or not as a whole, and why; by name.
    pub problems: BTreeMap<String, String>,
}

/// Works it out. `links` are those of the network namespace; `holds` says whether an interface has an address by which hosts
/// could use it as their gateway.
pub fn of<'a>(
    interfaces: &[InterfaceConfig],
    links: impl Iterator<Item = &'a Link>,
    holds: impl Fn(Ifindex) -> bool,
) -> Layout {
    let links: BTreeMap<Ifindex, &Link> = links.map(|link| (link.ifindex, link)).collect();
    let mut layout = Layout::default();
    for interface in interfaces {
        let Some(link) = links.values().find(|link| link.name == interface.name) else {
            let why = "there is no such interface. `ip -br link` lists those there are";
            layout.problem(&interface.name, why.to_string());
            continue;
        };
        if !matches!(link.detail, Detail::Vlan(_))
            && let Err(why) = layout.add_root(interface, link, &links)
        {
            layout.problem(&interface.name, why);
        }
    }
    // What stands on others after what it stands on.
    for link in links.values().filter(|link| link.detail != Detail::Plain) {
        let named = interfaces.iter().any(|interface| interface.name == link.name);
        if named && !matches!(link.detail, Detail::Vlan(_)) {
            continue;
        }
        match layout.stand(link, interfaces, &links) {
            Ok(station) => drop(layout.stations.insert(link.ifindex, station)),
            // Worth a word where somebody asked for the interface by its name.
            Err(why) if named => layout.problem(&link.name, why),
            Err(_) => {}
        }
    }
    layout.add_virtual_macs(&links, holds);
    layout
}

impl Layout {
    fn problem(&mut self, name: &str, why: String) {
        self.problems.insert(name.to_string(), format!("{name}: {why}"));
    }

    /// A device or a bond of the configuration.
    fn add_root(
        &mut self,
        interface: &InterfaceConfig,
        link: &Link,
        links: &BTreeMap<Ifindex, &Link>,
    ) -> Result<(), String> {
        let generic = interface.xdp == XdpMode::Generic;
        if !link.ethernet || link.mac == [0; 6] {
            return Err("not an Ethernet interface: forwarder serves Ethernet only".to_string());
        }
        in_tables(link)?;
        if link.member.is_some() {
            let bond = link.master.and_then(|master| links.get(&master));
            let bond = bond.map_or("its bond", |bond| bond.name.as_str());
            return Err(format!(
                "is a member of {bond}: configure {bond} in its place, which serves all of its members"
            ));
        }
        let mut frame = Frame {
            device: link.ifindex as u16,
            exact: !link.kind.is_empty(),
            ..Frame::default()
        };
        match link.detail {
            // In generic mode the kernel hands a bond's frames over as the bond's.
            Detail::Bond(bond) if !generic => {
                let members: Vec<&&Link> = links
                    .values()
                    .filter(|member| member.member.is_some() && member.master == Some(link.ifindex))
                    .collect();
                let policy = policy(bond)?;
                if members.is_empty() {
                    return Err("the bond has no members: `ip link set NAME master` adds one".to_string());
                }
                let is_active = |member: &Link| {
                    let said = member
                        .member
                        .is_some_and(|as_member| as_member.active && as_member.up);
                    said && member.carrier && member.admin_up
                };
                for member in &members {
                    in_tables(member)?;
                    let device = Device {
                        name: member.name.clone(),
                        generic,
                        root: link.ifindex,
                        active: is_active(member),
                        physical: member.kind.is_empty(),
                    };
                    self.devices.insert(member.ifindex, device);
                }
                let sending = members.iter().filter(|member| is_active(member));
                let aggregate = Aggregate {
                    policy,
                    members: sending.map(|member| member.ifindex).collect(),
                };
                self.aggregates.insert(link.ifindex, aggregate);
                frame = Frame {
                    aggregated: true,
                    device: 0,
                    exact: members.iter().any(|member| !member.kind.is_empty()),
                    ..frame
                };
            }
            _ => {
                let device = Device {
                    name: link.name.clone(),
                    generic,
                    root: link.ifindex,
                    active: true,
                    physical: link.kind.is_empty(),
                };
                self.devices.insert(link.ifindex, device);
            }
        }
        let station = Station {
            name: link.name.clone(),
            config: interface.clone(),
            root: link.ifindex,
            vlan: None,
            frame,
            receives: true,
            virtual_macs: Vec::new(),
        };
        self.stations.insert(link.ifindex, station);
        Ok(())
    }

    /// What stands on an interface that is served: a VLAN, or a macvlan by which routes lead. The error says why it is not ours.
    fn stand(
        &self,
        link: &Link,
        interfaces: &[InterfaceConfig],
        links: &BTreeMap<Ifindex, &Link>,
    ) -> Result<Station, String> {
        in_tables(link)?;
        let mut tags = Vec::new();
        let mut passed = Vec::new();
        let mut at = link;
        let mut wire = 0;
        // Down to what carries the program. A chain of links has no loops, but what is said of one may be half old.
        let root = loop {
            passed.push(at);
            if at.detail != Detail::Plain && at.member.is_none() && at.master.is_some() {
                return Err(format!(
                    "{} belongs to a bridge or a VRF, which only the kernel serves",
                    at.name
                ));
            }
            let lower = match (at.detail, at.lower) {
                (Detail::Vlan(vlan), Some(lower)) => {
                    if vlan.maps_priority {
                        return Err(format!(
                            "{} maps priorities, which only the kernel does: it forwards what belongs to it",
                            at.name
                        ));
                    }
                    tags.push(tag(vlan));
                    lower
                }
                (Detail::Macvlan(MacvlanMode::Private | MacvlanMode::Vepa), Some(lower))
                    if at.ifindex == link.ifindex =>
                {
                    wire = lower;
                    lower
                }
                (Detail::Vlan(_), None) => {
                    return Err("what it stands on is not in this network namespace".to_string());
                }
                _ => break at,
            };
            if tags.len() > MOST_TAGS {
                return Err(format!(
                    "more than {MOST_TAGS} tags: the kernel forwards what belongs to it"
                ));
            }
            match links.get(&lower) {
                Some(below) if !passed.iter().any(|link| link.ifindex == lower) => at = below,
                _ => return Err("what it stands on is not in this network namespace".to_string()),
            }
        };
        let Some(bottom) = self
            .stations
            .get(&root.ifindex)
            .filter(|station| station.vlan.is_none())
        else {
            let why = format!(
                "stands on {}, which is not served: configure {} too",
                root.name, root.name
            );
            return Err(why);
        };
        let vlan = match (link.detail, link.lower) {
            (Detail::Vlan(vlan), Some(lower)) => Some((lower, tag(vlan))),
            _ => None,
        };
        let section = |link: &&Link| interfaces.iter().find(|interface| interface.name == link.name);
        let config = passed.iter().find_map(section);
        tags.reverse();
        let mut both = [None; MOST_TAGS];
        for (place, tag) in both.iter_mut().zip(&tags) {
            *place = Some(*tag);
        }
        Ok(Station {
            name: link.name.clone(),
            config: config.unwrap_or(&bottom.config).clone(),
            root: root.ifindex,
            vlan,
            // The redirect lets a frame be longer than its device's MTU by an Ethernet header and one tag (`xdp_ok_fwd_dev`,
            // kernel/bpf/devmap.c).
            frame: Frame {
                tags: both,
                most: root.mtu + TAG - TAG * tags.len() as u32,
                wire,
                ..bottom.frame
            },
            receives: vlan.is_some(),
            virtual_macs: Vec::new(),
        })
    }

    /// keepalived's `use_vmac`: a macvlan with the virtual MAC is there on the backup, too, and has addresses on the master alone.
    fn add_virtual_macs(&mut self, links: &BTreeMap<Ifindex, &Link>, holds: impl Fn(Ifindex) -> bool) {
        for link in links.values() {
            let (Detail::Macvlan(_), Some(lower)) = (link.detail, link.lower) else {
                continue;
            };
            let Some(station) = self.stations.get_mut(&lower).filter(|station| station.receives) else {
                continue;
            };
            let held = link.admin_up && holds(link.ifindex);
            if held {
                station.virtual_macs.push((link.ifindex, link.mac));
            }
            if held || link.mac.starts_with(&VRRP) {
                self.gateways.push(Gateway {
                    name: link.name.clone(),
                    on: lower,
                    mac: link.mac,
                    held,
                });
            }
        }
    }

    /// Devices that carry the program for this interface of the configuration.
    pub fn devices_of(&self, root: Ifindex) -> impl Iterator<Item = (Ifindex, &Device)> {
        let all = self.devices.iter().map(|(ifindex, device)| (*ifindex, device));
        all.filter(move |(_, device)| device.root == root)
    }

    /// Takes out interfaces whose devices take tags off frames before the program sees them, as `strips` says: to the program a frame of
    /// a VLAN would be one of the link itself, with another role. Links that the kernel makes up do so for those who send to them,
    /// and are trusted where they have no VLANs.
    pub fn refuse_stripped(&mut self, strips: impl Fn(Ifindex) -> bool) {
        let tagged = |root: Ifindex| {
            let stations = self.stations.values();
            stations
                .filter(|station| station.root == root)
                .any(|station| station.vlan.is_some())
        };
        let matters = |device: &Device| device.physical || tagged(device.root);
        let refused: Vec<(Ifindex, String)> = self
            .devices
            .iter()
            .filter(|(ifindex, device)| matters(device) && strips(**ifindex))
            .map(|(_, device)| (device.root, device.name.clone()))
            .collect();
        for (root, device) in refused {
            let Some(name) = self.stations.get(&root).map(|station| station.name.clone()) else {
                continue;
            };
            let why = format!(
                "{device} takes VLAN tags off frames before the program can see them, so that it would take them for frames without: `ethtool \
                 -K {device} rxvlan off` (and `rx-vlan-stag-hw-parse off` where it is on)"
            );
            self.problem(&name, why);
            self.remove(root);
        }
    }

    /// Says of every interface what may be sent by it: what each of the devices takes by which frames leave there.
    pub fn ask_egress(&mut self, takes: impl Fn(Ifindex, &Device) -> Takes) {
        let roots: Vec<Ifindex> = self.devices.values().map(|device| device.root).collect();
        for root in roots {
            let sending = self.devices_of(root).filter(|(_, device)| device.active);
            let taken: Vec<Takes> = sending.map(|(ifindex, device)| takes(ifindex, device)).collect();
            let closed = taken.iter().any(|device| !device.frames);
            let several = !taken.is_empty() && taken.iter().all(|device| device.several);
            for station in self.stations.values_mut().filter(|station| station.root == root) {
                (station.frame.closed, station.frame.several) = (closed, several);
            }
        }
    }

    /// Interfaces of the configuration by which nothing may be sent.
    pub fn closed(&self) -> Vec<&str> {
        let stations = self.stations.iter();
        let roots = stations.filter(|(ifindex, station)| **ifindex == station.root && station.frame.closed);
        roots.map(|(_, station)| station.name.as_str()).collect()
    }

    /// A device or bond by its name, with the devices that carry the program for it; `None` for a VLAN.
    pub fn root(&self, name: &str) -> Option<(Ifindex, Vec<(Ifindex, Device)>)> {
        let (root, _) = self
            .stations
            .iter()
            .find(|(_, station)| station.name == name && station.vlan.is_none())?;
        let devices = self.devices_of(*root);
        Some((
            *root,
            devices
                .map(|(ifindex, device)| (ifindex, device.clone()))
                .collect(),
        ))
    }

    /// Takes an interface out, and what stands on it.
    pub fn remove(&mut self, root: Ifindex) {
        self.devices.retain(|_, device| device.root != root);
        self.stations.retain(|_, station| station.root != root);
        self.aggregates.remove(&root);
        self.gateways
            .retain(|gateway| self.stations.contains_key(&gateway.on));
    }
}

/// Whether the tables, which are indexed by ifindex, have room for a link.
fn in_tables(link: &Link) -> Result<(), String> {
    if link.ifindex < IFINDEX_MAX {
        return Ok(());
    }
    Err(format!(
        "the index of {}, {}, is beyond {IFINDEX_MAX}, the most that forwarder's tables hold",
        link.name, link.ifindex
    ))
}

const fn tag(vlan: Vlan) -> Tag {
    Tag {
        id: vlan.id,
        service: vlan.service,
    }
}

/// What chooses the member, by the bond's own policy.
fn policy(bond: Bond) -> Result<u32, String> {
    let kernel = "only the kernel sends";
    match bond.mode {
        BondMode::ActiveBackup => return Ok(0),
        // Frame by frame would reorder flows: by flow.
        BondMode::RoundRobin => return Ok(BY_ADDRESSES | BY_PORTS),
        BondMode::Xor | BondMode::Lacp => {}
        other => {
            return Err(format!(
                "{kernel} by a bond in mode {}: `ip link set NAME type bond mode 802.3ad` (or active-backup, balance-xor, balance-rr), with \
                 the bond down",
                other.name()
            ));
        }
    }
    match bond.policy {
        HashPolicy::Layer2 => Ok(BY_MAC),
        HashPolicy::Layer23 | HashPolicy::Encap23 => Ok(BY_MAC | BY_ADDRESSES),
        HashPolicy::Layer34 | HashPolicy::Encap34 => Ok(BY_ADDRESSES | BY_PORTS),
        other => Err(format!(
            "{kernel} by a bond with transmit hash policy {}: `ip link set NAME type bond xmit_hash_policy layer3+4`",
            other.name()
        )),
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
