//! What was found out about a machine: plain data, so that what is made of it can be tested without such a machine. `None` is "could not
//! be found out".

use std::collections::BTreeSet;

use crate::netlink::{
    command::{Rule, XdpMode},
    ethtool::{Channels, Driver, Rings},
    netdev::XdpFeatures,
    nftables::Chain,
};
use crate::source::event::{BondMode, Detail, HashPolicy, Member};
use crate::source::route_tables::RouteTables;

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Release of the kernel, such as "6.1.0-28-amd64".
    pub release: String,
    /// There is `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`.
    pub jit: Option<u32>,
    /// `kernel.bpf_stats_enabled`.
    pub program_statistics: Option<u32>,
    /// Where the pins are to be.
    pub bpffs: String,
    /// The nearest directory above that exists is on a BPF file system.
    pub bpffs_mounted: bool,
    /// Effective capabilities of this process.
    pub capabilities: Option<u64>,
    /// CPUs that are online.
    pub cpus: BTreeSet<u32>,
    /// Two threads share a core.
    pub smt: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub forwarding6: Option<bool>,
    /// The interfaces of the configuration, in its order.
    pub nics: Vec<Nic>,
    /// The kernel's tables that are followed.
    pub tables: RouteTables,
    /// Policy rules.
    pub rules: Option<Vec<Rule>>,
    /// Chains on the way of forwarded packets.
    pub chains: Option<Vec<Chain>>,
    /// Tables of the older iptables, such as "filter".
    pub legacy_tables: Vec<String>,
    /// systemd-networkd runs.
    pub networkd: bool,
    /// What its configuration says of routes of others (`ManageForeignRoutes`), where it says anything.
    pub manages_foreign_routes: Option<bool>,
    /// VLANs and the like on interfaces of the configuration.
    pub stacked: Vec<Stacked>,
    /// Links of which the configuration says nothing and by which routes lead, those with the most routes first.
    pub others: Vec<Other>,
}

/// An interface of the configuration, or a member of a bond that is one.
#[derive(Clone, Debug, Default)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// The configuration wants the program in the driver.
    pub native: bool,
    /// It exists; all that follows is told of one that does.
    pub exists: bool,
    /// Administratively up.
    pub admin_up: bool,
    /// It has a carrier.
    pub carrier: bool,
    /// Ethernet framing.
    pub ethernet: bool,
    /// "veth", "bond", "vlan"...; empty for a physical device.
    pub kind: String,
    /// What it does to frames, as a VLAN, bond or macvlan.
    pub detail: Detail,
    /// The device or bond it stands on, as a VLAN or the like.
    pub base: Option<String>,
    /// Of a bond, bridge or VRF: its name and kind.
    pub master: Option<(String, String)>,
    /// What its bond says of it.
    pub member: Option<Member>,
    /// Octets of an IP packet.
    pub mtu: u32,
    /// Bits each second.
    pub speed: Option<u64>,
    /// `net.ipv4.conf.NAME.forwarding`.
    pub forwarding4: Option<bool>,
    /// Who drives it.
    pub driver: Option<Driver>,
    /// What its XDP can (Linux 6.3).
    pub xdp: Option<XdpFeatures>,
    /// An XDP program is attached.
    pub attached: Option<XdpMode>,
    /// Descriptors.
    pub rings: Option<Rings>,
    /// Queues.
    pub channels: Option<Channels>,
    /// The receive queue of each row of the hash's table.
    pub spread: Option<Vec<u32>>,
    /// Names of features that are on.
    pub features: Option<BTreeSet<String>>,
    /// CPUs that take each of the device's interrupts.
    pub interrupts: Vec<BTreeSet<u32>>,
    /// Virtual functions that are in use (SR-IOV).
    pub virtual_functions: u32,
    /// What a bond says of itself.
    pub bond: Option<Bond>,
}

/// A bond.
#[derive(Clone, Debug)]
pub struct Bond {
    /// How it chooses a member.
    pub mode: BondMode,
    /// What it hashes for that.
    pub policy: HashPolicy,
    /// Of which members LACP made one link.
    pub aggregator: Option<u16>,
    /// It asks its LACP partner to speak up every 30 seconds, else every second.
    pub slow: Option<bool>,
    /// Its members.
    pub members: Vec<Nic>,
}

/// A link that stands on an interface of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// Its name.
    pub name: String,
    /// "vlan", "macvlan", "ipvlan"...
    pub kind: String,
    /// What it does to frames, then what the link below it does, down to the interface, which is not among them.
    pub chain: Vec<Detail>,
    /// The interface of the configuration, and its MTU.
    pub base: (String, u32),
    /// The link below, and its MTU.
    pub below: (String, u32),
    /// Octets of an IP packet.
    pub mtu: u32,
    /// `net.ipv4.conf.NAME.forwarding`.
    pub forwarding4: Option<bool>,
}

/// A link of which the configuration says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// "wireguard", "bridge"...; empty for a physical device.
    pub kind: String,
    /// The device or bond it stands on, as a VLAN or the like.
    pub base: Option<String>,
    /// Routes of the tables that are followed by which packets would leave there.
    pub routes: u64,
}
