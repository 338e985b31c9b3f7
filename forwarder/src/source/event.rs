//! What sources say: routes, next-hop objects, links, addresses and neighbours, in our own types.

use std::net::IpAddr;

use ipnet::IpNet;

pub use super::stacked::{Bond, BondMode, Detail, HashPolicy, MacvlanMode, Member, Vlan};

/// Kernel interface index.
pub type Ifindex = u32;

/// `RTPROT_KERNEL` (include/uapi/linux/rtnetlink.h): routes that the kernel made itself, with an address or by
/// autoconfiguration's prefix.
pub const PROTOCOL_KERNEL: u8 = 2;
/// `RTPROT_BGP`: FRR's BGP routes in the kernel, and those of BGP sessions.
pub const PROTOCOL_BGP: u8 = 186;

/// One thing that is, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(Ifindex),
    /// An address is on an interface.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A neighbour entry appeared or changed.
    Neighbour(Neighbour),
    /// A neighbour entry is gone.
    NeighbourGone {
        /// Its interface.
        ifindex: Ifindex,
        /// Its address.
        address: IpAddr,
    },
    /// A next-hop object appeared or changed.
    Nexthop(NexthopObject),
    /// A next-hop object is gone.
    NexthopGone(u32),
    /// A route appeared or changed.
    Route {
        /// The route.
        route: Route,
        /// What the message did to routes of the same prefix and metric.
        change: Change,
    },
    /// A route is gone.
    RouteGone(Route),
    /// Forwarding or another per-interface sysctl changed: read them again.
    SysctlChanged,
    /// Messages were lost, or a change is known to be unannounced: dump again and diff.
    Resync,
}

/// What an announcement does to routes of the same prefix, table and metric (`NLM_F_*` of the notification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes the place of the first of them (`NLM_F_REPLACE`).
    Replace,
    /// Comes behind them (`NLM_F_APPEND`).
    Append,
    /// None of the two: a new one.
    Add,
}

/// A link, as far as forwarding is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub ifindex: Ifindex,
    /// Name.
    pub name: String,
    /// Hardware address; zero where it has none.
    pub mac: [u8; 6],
    /// Ethernet framing (`ARPHRD_ETHER`).
    pub ethernet: bool,
    /// Administratively up (`IFF_UP`).
    pub admin_up: bool,
    /// Carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Operational (`IFF_RUNNING`): follows the carrier once the kernel has acted on its change, routes included.
    pub running: bool,
    /// Device MTU, octets of the IP packet.
    pub mtu: u32,
    /// IPv6 MTU of the interface where the kernel tells, else the device's.
    pub mtu6: u32,
    /// `IFLA_INFO_KIND`: "veth", "bond", "vlan"...; empty for a physical device.
    pub kind: String,
    /// Bridge, bond or VRF it belongs to.
    pub master: Option<Ifindex>,
    /// The link below (`IFLA_LINK`) of one that is stacked on another of this network namespace: a VLAN's or macvlan's
    /// parent. A veth's peer and the device a tunnel is bound to are none; nor is a parent in another namespace
    /// (`IFLA_LINK_NETNSID`).
    pub lower: Option<Ifindex>,
    /// What it does to frames, where that is not nothing (`IFLA_INFO_DATA`).
    pub detail: Detail,
    /// As a member of a bond (`IFLA_INFO_SLAVE_DATA`).
    pub member: Option<Member>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Interface.
    pub ifindex: Ifindex,
    /// The address (`IFA_LOCAL` where present) with its prefix length.
    pub address: IpNet,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface.
    pub ifindex: Ifindex,
    /// Address.
    pub address: IpAddr,
    /// Its MAC, where the state is one in which the kernel would send to it.
    pub mac: Option<[u8; 6]>,
    /// FAILED: the kernel asked and nobody answered.
    pub failed: bool,
    /// STALE: valid, but unconfirmed.
    pub stale: bool,
    /// `NTF_EXT_MANAGED`: the kernel keeps it resolved.
    pub managed: bool,
}

/// One next hop of a route or next-hop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Egress interface; 0 where the kernel names none.
    pub ifindex: Ifindex,
    /// Gateway; `None` on a connected subnet. May be of the other family (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// Relative weight, 1 to 256.
    pub weight: u16,
    /// `RTNH_F_DEAD` or `RTNH_F_LINKDOWN`: the kernel does not use it now.
    pub dead: bool,
    /// Encapsulation or other attributes that only the kernel can carry out.
    pub unsupported: bool,
}

/// What a route does with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// One or more next hops.
    Hops(Vec<Hop>),
    /// A next-hop object or group.
    Nexthop(u32),
    /// For this router (`RTN_LOCAL`).
    Local,
    /// `RTN_BROADCAST`, `RTN_ANYCAST`.
    Broadcast,
    /// `RTN_BLACKHOLE`.
    Blackhole,
    /// `RTN_UNREACHABLE`.
    Unreachable,
    /// `RTN_PROHIBIT`.
    Prohibit,
    /// Anything else: the kernel must do it.
    Unsupported,
}

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Prefix.
    pub prefix: IpNet,
    /// Table: 254 main, 255 local.
    pub table: u32,
    /// Metric; the lowest wins. IPv6 default is 1024.
    pub metric: u32,
    /// `RTPROT_*`.
    pub protocol: u8,
    /// TOS; a route with one cannot be followed by destination alone.
    pub tos: u8,
    /// Route MTU, where it has one.
    pub mtu: Option<u32>,
    /// What it does.
    pub action: Action,
}

/// A next-hop object (`ip nexthop`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexthopObject {
    /// Id.
    pub id: u32,
    /// What it is.
    pub kind: NexthopKind,
}

/// Kinds of next-hop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NexthopKind {
    /// One next hop.
    Hop(Hop),
    /// A group of ids with weights 1 to 256.
    Group(Vec<(u32, u16)>),
    /// Drops.
    Blackhole,
    /// Encapsulation, fdb and other kinds that the kernel must do.
    Unsupported,
}

/// Everything, as dumped: what incremental events are reconciled with.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// Links.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Neighbours.
    pub neighbours: Vec<Neighbour>,
    /// Next-hop objects.
    pub nexthops: Vec<NexthopObject>,
    /// Routes of tables main and local, both families.
    pub routes: Vec<Route>,
}

/// Takes a dump as it is read: the surroundings, then every route.
pub trait DumpSink {
    /// Everything but the routes.
    fn surroundings(&mut self, dump: Dump);
    /// The next route, in the kernel's order.
    fn route(&mut self, route: Route);
}

impl DumpSink for Dump {
    fn surroundings(&mut self, dump: Dump) {
        *self = dump;
    }

    fn route(&mut self, route: Route) {
        self.routes.push(route);
    }
}
