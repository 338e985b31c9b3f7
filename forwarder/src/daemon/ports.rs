//! Ports: the numbers under which interfaces are counted, remembered in the pinned directory.
//!
//! A port belongs to a name, so that an interface that is made again (a re-plugged NIC, a new veth) goes on counting where it
//! stopped. Port 0 is for packets of interfaces that are not configured.

use anyhow::{Result, bail};
use forwarder_common::{directory::PortEntry, reason::Reason};

use crate::{dataplane::Tables, source::event::Ifindex};

/// `PortEntry::state`: never used.
pub const FREE: u32 = 0;
/// `PortEntry::state`: attached in native mode.
pub const NATIVE: u32 = 1;
/// `PortEntry::state`: attached in generic mode.
pub const GENERIC: u32 = 2;
/// `PortEntry::state`: no longer served; its counters stay.
pub const DETACHED: u32 = 3;

/// The name in an entry.
pub fn name(entry: &PortEntry) -> String {
    let end = entry
        .name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(entry.name.len());
    String::from_utf8_lossy(&entry.name[..end]).into_owned()
}

/// Every port that was ever used, with its number.
pub fn used(tables: &Tables) -> impl Iterator<Item = (u32, PortEntry)> {
    (1..tables.sizes.ports)
        .map(|port| (port, tables.port_directory.get(port as usize)))
        .filter(|(_, entry)| entry.state != FREE)
}

/// The port of an interface: the one its name has, or a free one.
///
/// # Errors
/// All ports are taken.
pub fn claim(tables: &Tables, ifname: &str, ifindex: Ifindex, generic: bool) -> Result<u16> {
    let known = used(tables)
        .find(|(_, entry)| name(entry) == ifname)
        .map(|(port, _)| port);
    let free =
        || (1..tables.sizes.ports).find(|port| tables.port_directory.get(*port as usize).state == FREE);
    let Some(port) = known.or_else(free) else {
        bail!(
            "{ifname}: all {} ports have been used; raise `interfaces` in [tables], then `forwarder detach` and start again",
            tables.sizes.ports - 1
        );
    };
    let old = tables.port_directory.get(port as usize);
    let mut octets = [0u8; 16];
    let length = ifname.len().min(15);
    octets[..length].copy_from_slice(&ifname.as_bytes()[..length]);
    let state = if generic { GENERIC } else { NATIVE };
    tables.port_directory.set(
        port as usize,
        &PortEntry {
            name: octets,
            ifindex,
            state,
            ..old
        },
    );
    Ok(port as u16)
}

/// The interface is no longer served.
pub fn release(tables: &Tables, port: u32) {
    let old = tables.port_directory.get(port as usize);
    tables.port_directory.set(
        port as usize,
        &PortEntry {
            state: DETACHED,
            ..old
        },
    );
}

/// Sets the ingress baseline: from now on the driver's count and ours must move together. `rx_packets` is the driver's.
pub fn rebase_ingress(tables: &Tables, port: u32, rx_packets: u64) {
    let old = tables.port_directory.get(port as usize);
    let received = received(tables, port);
    tables.port_directory.set(
        port as usize,
        &PortEntry {
            rx_baseline: rx_packets,
            received_baseline: received,
            ..old
        },
    );
}

/// Sets the egress baseline of every port: the tracepoint programs begin to watch.
pub fn rebase_egress(tables: &Tables) {
    for (port, old) in used(tables).collect::<Vec<_>>() {
        let egress = tables.egress(port);
        let errors: u64 = egress.redirect_errors.iter().chain(&egress.transmit_errors).sum();
        tables.port_directory.set(
            port as usize,
            &PortEntry {
                forwarded_baseline: egress.forwarded.packets,
                transmitted_baseline: egress.transmitted.wrapping_add(errors),
                ..old
            },
        );
    }
}

/// Packets the program saw on a port.
pub fn received(tables: &Tables, port: u32) -> u64 {
    tables.reasons(port)[..Reason::ALL.len()]
        .iter()
        .map(|counter| counter.packets)
        .sum()
}
