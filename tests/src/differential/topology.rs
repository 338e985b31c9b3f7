//! Two routers that differ in nothing but forwarder, and the wire between their ends.
//!
//! ```text
//!            in0  1500 | router | out0 1500     20.0.N.0/24 and 2a00:N::/64 on interface N, the router is .1,
//!            in1  1500 |        | out1 1300     its neighbours .2 to .11 are static, nobody else resolves
//!                      |        | out2 1500     (forwarder does not serve out2)
//! ```
//! The far ends of all cables stand in one namespace, `p-in0` for the plain router and `f-in0` for the fast one.

use anyhow::Result;

use super::netns::Namespace;

/// A router's interface.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Name, the same on both routers.
    pub name: &'static str,
    /// The third octet of its addresses and fifth of its MACs.
    pub number: u8,
    /// MTU, octets.
    pub mtu: u32,
    /// Whether forwarder serves it.
    pub served: bool,
}

const fn port(name: &'static str, number: u8, mtu: u32, served: bool) -> Port {
    Port {
        name,
        number,
        mtu,
        served,
    }
}

/// A router's interfaces.
pub const PORTS: [Port; 5] = [
    port("in0", 1, 1500, true),
    port("in1", 2, 1500, true),
    port("out0", 3, 1500, true),
    port("out1", 4, 1300, true),
    port("out2", 5, 1500, false),
];

/// How many of the first [`PORTS`] frames are sent into.
pub const INGRESSES: usize = 4;

/// Static neighbours on each port: the last octet of their addresses.
pub const NEIGHBOURS: [u8; 6] = [2, 3, 5, 9, 10, 11];

/// Neighbours that are members of ECMP groups and nothing else.
pub const ECMP_MEMBERS: [u8; 2] = [10, 11];

/// The MAC of a host on a port; 1 is the router.
pub const fn mac(number: u8, host: u8) -> [u8; 6] {
    [2, 0, 0, 0, number, host]
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Routes of both routers; each kind there is. A gateway that does not answer has a blackhole behind it: with any other
/// backup the fast path would do more than the kernel, which goes on asking.
const ROUTES: &str = "
route add default via 20.0.3.9 dev out0
route add 30.0.0.0/8 via 20.0.3.2 dev out0
route add 30.1.0.0/16 via 20.0.4.2 dev out1
route add 30.1.2.0/24 via 20.0.3.3 dev out0
route add blackhole 30.1.2.128/25
route add 30.1.2.200/32 via 20.0.2.2 dev in1
route add unreachable 31.0.0.0/16
route add prohibit 31.1.0.0/16
route add blackhole 31.2.0.0/16
route add throw 31.3.0.0/16
route add 32.0.0.0/16 nexthop via 20.0.3.10 dev out0 nexthop via 20.0.3.11 dev out0 weight 3
route add 32.1.0.0/16 nexthop via 20.0.3.10 dev out0 nexthop via 20.0.5.10 dev out2
route add 33.0.0.0/16 via 20.0.1.3 dev in0
route add 34.0.0.0/16 via 20.0.3.77 dev out0
route add blackhole 34.0.0.0/16 metric 9999
route add 35.0.0.0/16 dev out0 scope link
neigh add 35.0.0.2 lladdr 02:00:00:00:03:23 dev out0 nud permanent
route add 36.0.0.0/16 via 20.0.3.2 dev out0 mtu 1400
route add 36.1.0.0/16 via 20.0.3.2 dev out0 mtu lock 1400
route add 37.0.0.0/16 via inet6 fe80::2 dev out0
nexthop add id 7 via 20.0.3.3 dev out0
nexthop add id 8 blackhole
route add 38.0.0.0/16 nhid 7
route add 38.1.0.0/16 nhid 8
route add 39.0.0.0/16 via 20.0.5.2 dev out2
route add 40.0.0.0/16 via 20.0.3.2 dev out0
route add 40.0.0.0/16 tos 0x10 via 20.0.4.2 dev out1
route add 41.0.0.0/16 via 20.0.3.2 dev out0 metric 10
route add 41.0.0.0/16 via 20.0.4.2 dev out1 metric 20
route add 50.0.0.0/8 via 20.0.1.2 dev in0
route add 51.0.0.0/8 via 20.0.2.2 dev in1
route add 240.1.0.0/16 via 20.0.3.2 dev out0
route add ::/0 via 2a00:3::9 dev out0
route add 2a30::/16 via 2a00:3::2 dev out0
route add 2a30:1::/32 via 2a00:4::2 dev out1
route add 2a30:1:2::/48 via fe80::3 dev out0
route add blackhole 2a30:1:2:8000::/49
route add 2a30:1:2:8000::c8/128 via 2a00:2::2 dev in1
route add unreachable 2a31::/32
route add prohibit 2a31:1::/32
route add blackhole 2a31:2::/32
route add throw 2a31:3::/32
route add 2a32::/32 nexthop via 2a00:3::10 dev out0 nexthop via 2a00:3::11 dev out0 weight 3
route add 2a32:1::/32 nexthop via 2a00:3::10 dev out0 nexthop via 2a00:5::10 dev out2
route add 2a33::/32 via fe80::3 dev in0
route add 2a34::/32 via 2a00:3::77 dev out0
route add blackhole 2a34::/32 metric 9999
route add 2a35::/32 dev out0
neigh add 2a35::2 lladdr 02:00:00:00:03:23 dev out0 nud permanent
route add 2a36::/32 via 2a00:3::2 dev out0 mtu 1400
route add 2a36:1::/32 via 2a00:3::2 dev out0 mtu lock 1400
nexthop add id 9 via 2a00:3::3 dev out0
route add 2a38::/32 nhid 9
route add 2a39::/32 via 2a00:5::2 dev out2
route add 2a41::/32 via 2a00:3::2 dev out0 metric 10
route add 2a41::/32 via 2a00:4::2 dev out1 metric 20
route add 2a50::/16 via 2a00:1::2 dev in0
route add 2a51::/16 via 2a00:2::2 dev in1
";

/// What the kernel may do on its own is switched off: probing, limits, timers, flow labels.
const SYSCTLS: &str = "
ipv4/ip_forward=1
ipv6/conf/all/forwarding=1
ipv4/conf/all/rp_filter=0
ipv4/conf/default/rp_filter=0
ipv6/conf/all/accept_dad=0
ipv6/conf/default/accept_dad=0
ipv6/conf/all/accept_ra=0
ipv6/conf/default/accept_ra=0
ipv6/conf/all/router_solicitations=0
ipv6/conf/default/router_solicitations=0
ipv4/icmp_ratelimit=0
ipv4/icmp_ratemask=0
ipv4/icmp_msgs_per_sec?=10000000
ipv4/icmp_msgs_burst?=10000000
ipv6/icmp/ratelimit=0
ipv6/icmp/ratemask=
ipv6/auto_flowlabels=0
ipv4/ipfrag_time=3600
ipv6/ip6frag_time=3600
";

/// Builds a router whose cables end in `wire` with a prefix to their names.
///
/// # Errors
/// Not root, or the kernel's refusal.
pub fn router(wire: &Namespace, prefix: &str) -> Result<Namespace> {
    let router = Namespace::new()?;
    router.sysctls(SYSCTLS)?;
    router.ip("link set lo up\n")?;
    for port in PORTS {
        let Port {
            name, number, mtu, ..
        } = port;
        let own = text(mac(number, 1));
        wire.ip(&format!(
            "link add name {prefix}{name} mtu 2000 type veth peer name {name} address {own} mtu {mtu} netns {}\n",
            router.path()
        ))?;
        wire.ethtool(&format!("{prefix}{name}"), "tx off txvlan off rxvlan off")?;
        wire.ip(&format!("link set {prefix}{name} up\n"))?;
        for family in ["ipv4", "ipv6"] {
            for (key, value) in [
                ("mcast_solicit", 0),
                ("ucast_solicit", 0),
                ("app_solicit", 0),
                ("delay_first_probe_time", 100_000),
            ] {
                router.sysctls(&format!("{family}/neigh/{name}/{key}={value}"))?;
            }
        }
        router.ethtool(name, "tx off txvlan off rxvlan off gro off")?;
        let mut lines = format!(
            "addr add 20.0.{number}.1/24 brd + dev {name}\naddr add 2a00:{number}::1/64 dev {name} nodad\n\
             link set {name} up\n"
        );
        for host in NEIGHBOURS {
            let lladdr = text(mac(number, host));
            for address in [
                format!("20.0.{number}.{host}"),
                format!("2a00:{number}::{host}"),
                format!("fe80::{host}"),
            ] {
                lines += &format!("neigh add {address} lladdr {lladdr} dev {name} nud permanent\n");
            }
        }
        // The way of the markers (see `wire`).
        lines += &format!("route add 60.0.{number}.0/24 via 20.0.{number}.2 dev {name}\n");
        router.ip(&lines)?;
    }
    router.ip(ROUTES)?;
    Ok(router)
}
