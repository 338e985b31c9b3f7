//! Words for numbers.

use crate::dataplane::Tables;

pub use crate::daemon::ports::{
    GENERIC as PORT_GENERIC, NATIVE as PORT_NATIVE, STACKED as PORT_STACKED, name as ifname, used as ports,
};

/// The word for a port's state.
pub const fn mode(state: u32) -> &'static str {
    match state {
        PORT_NATIVE => "native",
        PORT_GENERIC => "generic",
        PORT_STACKED => "stacked",
        _ => "detached",
    }
}

/// The interface of a port.
pub fn port_name(tables: &Tables, port: u32) -> Option<String> {
    if port == 0 || port >= tables.sizes.ports {
        return None;
    }
    let entry = tables.port_directory.get(port as usize);
    (entry.state != 0).then(|| ifname(&entry))
}

/// `RTPROT_*`, include/uapi/linux/rtnetlink.h and iproute2's etc/iproute2/rt_protos.
pub fn protocol(number: u32) -> String {
    let name = match number {
        0 => "neighbour",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        17 => "mrouted",
        18 => "keepalived",
        42 => "babel",
        84 => "ovn",
        99 => "openr",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        // FRR's own (zebra/rt_netlink.h), by its names for their daemons.
        190 => "ripng",
        191 => "nhrp",
        192 => "eigrp",
        193 => "ldp",
        194 => "sharp",
        195 => "pbr",
        196 => "zstatic",
        197 => "openfabric",
        198 => "srte",
        other => return other.to_string(),
    };
    name.to_string()
}

/// A MAC address as `ip link` prints it.
pub fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}
