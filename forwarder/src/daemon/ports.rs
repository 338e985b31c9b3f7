//! Ports: the numbers under which interfaces are counted, remembered in the pinned directory.
//!
//! A port belongs to a name, so that an interface that is made again (a re-plugged NIC, a new veth) goes on counting where it
//! stopped. Port 0 is for packets of interfaces that are not configured.

use std::time::Duration;

use anyhow::{Result, bail};
use forwarder_common::{counters::EgressCounters, directory::PortEntry, reason::Reason};

use crate::{dataplane::Tables, source::event::Ifindex, stats::residue::calibrate};

/// Between two samples of counters that become a baseline.
const MOMENT: Duration = Duration::from_micros(200);

/// `PortEntry::state`: never used.
pub const FREE: u32 = 0;
/// `PortEntry::state`: attached in native mode.
pub const NATIVE: u32 = 1;
/// `PortEntry::state`: attached in generic mode.
pub const GENERIC: u32 = 2;
/// `PortEntry::state`: no longer served; its counters stay.
pub const DETACHED: u32 = 3;
/// `PortEntry::state`: served by the devices it stands on: a VLAN, a bond, a macvlan.
pub const STACKED: u32 = 4;

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

/// What is to be counted under a number.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Name of the interface.
    pub name: &'a str,
    /// Its index.
    pub ifindex: Ifindex,
    /// [`NATIVE`], [`GENERIC`] or [`STACKED`].
    pub state: u32,
    /// Port of the device or bond whose sums it is part of; 0: its own.
    pub root: u32,
}

/// The port of an interface: the one its name has, or a free one.
///
/// # Errors
/// All ports are taken.
pub fn claim(tables: &Tables, claim: Claim<'_>) -> Result<u16> {
    let Claim {
        name: ifname,
        ifindex,
        state,
        root,
    } = claim;
    let known = used(tables)
        .find(|(_, entry)| name(entry) == ifname)
        .map(|(port, _)| port);
    let free =
        || (1..tables.sizes.ports).find(|port| tables.port_directory.get(*port as usize).state == FREE);
    let Some(port) = known.or_else(free) else {
        bail!(
            "{ifname}: all {} ports have been used; raise `interfaces` in [tables] and restart the controller",
            tables.sizes.ports - 1
        );
    };
    let old = tables.port_directory.get(port as usize);
    let mut octets = [0u8; 16];
    let length = ifname.len().min(15);
    octets[..length].copy_from_slice(&ifname.as_bytes()[..length]);
    let new = PortEntry {
        name: octets,
        ifindex,
        state,
        root,
        ..old
    };
    if new != old {
        tables.port_directory.set(port as usize, &new);
    }
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

/// The ports whose sums close together: a device or bond, its members and what stands on it. Of one that is part of another's
/// nothing.
pub fn group(tables: &Tables, root: u32) -> impl Iterator<Item = (u32, PortEntry)> {
    let own = tables.port_directory.get(root as usize);
    let mut all: Vec<(u32, PortEntry)> = Vec::new();
    if own.root == 0 && own.state != FREE {
        all.extend(
            used(tables)
                .filter(|(port, entry)| *port == root || entry.root == root && entry.state != DETACHED),
        );
    }
    all.into_iter()
}

/// Whether a port is a device that carries the program: else its ifindex may be another's by now.
pub const fn is_attached(entry: &PortEntry) -> bool {
    entry.state == NATIVE || entry.state == GENERIC
}

/// Sets the ingress baseline of a device or bond: from now on the drivers' counts and ours must move together. `rx_packets` reads the
/// sum of the drivers'.
pub fn rebase_ingress(tables: &Tables, root: u32, mut rx_packets: impl FnMut() -> u64) {
    let bounds = || {
        let before = received_together(tables, root);
        let driver = rx_packets();
        let after = received_together(tables, root);
        (driver.wrapping_sub(after), driver.wrapping_sub(before))
    };
    let (ahead, slack) = calibrate(between_packets(bounds));
    let received = received_together(tables, root);
    let old = tables.port_directory.get(root as usize);
    tables.port_directory.set(
        root as usize,
        &PortEntry {
            rx_baseline: received.wrapping_add(ahead),
            received_baseline: received,
            slack: [slack, old.slack[1]],
            ..old
        },
    );
}

/// Sets the egress baseline of every device or bond: the tracepoint programs begin to watch.
pub fn rebase_egress(tables: &Tables) {
    for (port, _) in used(tables).collect::<Vec<_>>() {
        rebase_egress_of(tables, port);
    }
}

/// The same of one, because the devices below it have changed.
pub fn rebase_egress_of(tables: &Tables, root: u32) {
    let bounds = || {
        let (first, second) = (egress_together(tables, root), egress_together(tables, root));
        (first.0.wrapping_sub(second.1), second.0.wrapping_sub(first.1))
    };
    let (ahead, slack) = calibrate(between_packets(bounds));
    let (_, gone) = egress_together(tables, root);
    let old = tables.port_directory.get(root as usize);
    tables.port_directory.set(
        root as usize,
        &PortEntry {
            forwarded_baseline: gone.wrapping_add(ahead),
            transmitted_baseline: gone,
            slack: [old.slack[0], slack],
            ..old
        },
    );
}

/// Reads again and again, with a moment between, in which a driver can end its batch.
fn between_packets(read: impl FnMut() -> (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let mut read = read;
    std::iter::from_fn(move || {
        std::thread::sleep(MOMENT);
        Some(read())
    })
}

/// What stands on a device or bond has joined its sums, or left them, while packets come: what it had counted by itself until then
/// is no part of them. It must not count at this moment.
pub fn shift_baselines(tables: &Tables, root: u32, part: u32, joins: bool) {
    let old = tables.port_directory.get(root as usize);
    let egress = tables.egress(part);
    let (forwarded, gone) = sums(&egress);
    let shift = |baseline: u64, by: u64| {
        if joins {
            baseline.wrapping_add(by)
        } else {
            baseline.wrapping_sub(by)
        }
    };
    tables.port_directory.set(
        root as usize,
        &PortEntry {
            received_baseline: shift(old.received_baseline, received(tables, part)),
            forwarded_baseline: shift(old.forwarded_baseline, forwarded),
            transmitted_baseline: shift(old.transmitted_baseline, gone),
            ..old
        },
    );
}

/// Packets sent to a device or bond and all that stands on it, and those of which the kernel says what became.
pub fn egress_together(tables: &Tables, root: u32) -> (u64, u64) {
    let ports = group(tables, root).map(|(port, _)| sums(&tables.egress(port)));
    ports.fold((0, 0), |(forwarded, gone): (u64, u64), (more, went)| {
        (forwarded.wrapping_add(more), gone.wrapping_add(went))
    })
}

/// Packets sent to a port, and those of which the kernel says what became.
fn sums(egress: &EgressCounters) -> (u64, u64) {
    let errors = egress.redirect_errors.iter().chain(&egress.transmit_errors);
    let lost: u64 = errors.fold(0, |sum, count| sum.wrapping_add(*count));
    (egress.forwarded.packets, egress.transmitted.wrapping_add(lost))
}

/// Packets the program saw on a device or bond and all that stands on it.
pub fn received_together(tables: &Tables, root: u32) -> u64 {
    group(tables, root).fold(0, |sum: u64, (port, _)| sum.wrapping_add(received(tables, port)))
}

/// Packets the program saw on a port.
pub fn received(tables: &Tables, port: u32) -> u64 {
    tables.reasons(port)[..Reason::ALL.len()]
        .iter()
        .map(|counter| counter.packets)
        .sum()
}
