//! Small tables with known figures, for tests.

use std::collections::BTreeMap;

use forwarder_common::{
    counters::{Counter, EgressCounters},
    directory::{GroupEntry, NextHopEntry, PortEntry, SlotEntry, State},
    fib::Leaf,
    nexthop::{Group, NextHop},
    reason::Reason,
    settings::Settings,
};

use super::LinkCounts;
use crate::{
    config::Role,
    dataplane::{Sizes, Tables},
    fib::slots::RESERVED,
};

/// Roles of the two interfaces.
pub fn roles() -> BTreeMap<String, Role> {
    [
        ("transit0".to_string(), Role::Transit),
        ("core0".to_string(), Role::Core),
    ]
    .into()
}

/// A link of 10 Gbit/s that has received so many packets and sent 700.
pub fn link(received_packets: u64) -> LinkCounts {
    LinkCounts {
        received_packets,
        received_bytes: received_packets * 100,
        sent_packets: 700,
        sent_bytes: 70_000,
        speed: Some(10_000_000_000),
    }
}

fn name(text: &str) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..text.len()].copy_from_slice(text.as_bytes());
    octets
}

fn count(packets: u64) -> Counter {
    Counter {
        packets,
        bytes: packets * 100,
    }
}

/// transit0 received 42 packets: 30 forwarded to 192.0.2.9 on core0, 5 dropped, 7 for the router. Of the 30, 17 went to
/// 198.51.100.0/24, 5 to 2001:db8:5::/48 (whose slot counted 3 for an earlier prefix), 5 to one that is withdrawn.
pub fn tables() -> Tables {
    let tables = Tables::heap(Sizes::SMALL);
    tables.settings.set(
        0,
        &Settings {
            heartbeat_ns: 99_000_000_000,
            max_age_ns: 30_000_000_000,
            ..Settings::default()
        },
    );
    let port = |state, ifindex, ifname| PortEntry {
        name: name(ifname),
        ifindex,
        state,
        rx_baseline: 1002,
        received_baseline: 2,
        ..PortEntry::default()
    };
    tables.port_directory.set(1, &port(1, 11, "transit0"));
    tables.port_directory.set(2, &port(1, 12, "core0"));
    tables.nexthops.set(
        3,
        &NextHop {
            destination: NextHop::destination_word([2, 0, 0, 0, 0, 9], Reason::Forwarded),
            source: NextHop::source_word([2, 0, 0, 0, 0, 1], 0),
            ifindex: 12,
            mtu: 1500,
            port: 2,
            flags: 0,
            device: 12,
            inner: 0,
        },
    );
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[192, 0, 2, 9]);
    tables.nexthop_directory.set(
        3,
        &NextHopEntry {
            address,
            ifindex: 12,
            family: 4,
            packet_family: 4,
            state: State::Live as u8,
            port: 2,
            ..NextHopEntry::default()
        },
    );
    tables.groups.set(5, &Group::single(3));
    let live = GroupEntry {
        state: State::Live as u8,
        backup: std::array::from_fn(|index| if index == 0 { 3 } else { 0 }),
        ..GroupEntry::default()
    };
    tables.group_directory.set(5, &live);
    prefixes(&tables);
    let stride = Reason::SLOTS;
    let ports = Sizes::SMALL.ports as usize;
    // Spread over both CPUs.
    let reason = |cpu: usize, reason: Reason, packets| {
        tables
            .reason_counters
            .set((cpu * ports + 1) * stride + reason.index(), &count(packets));
    };
    reason(0, Reason::Forwarded, 10);
    reason(1, Reason::Forwarded, 20);
    reason(0, Reason::BogonSource, 5);
    reason(1, Reason::Local, 7);
    tables.nexthop_counters.set(3, &count(10));
    tables
        .nexthop_counters
        .set(Sizes::SMALL.nexthops as usize + 3, &count(20));
    let mut egress = EgressCounters {
        forwarded: count(30),
        transmitted: 20,
        ..EgressCounters::default()
    };
    egress.redirect_errors[0] = 6;
    egress.transmit_errors[4] = 3;
    tables.egress_counters.set(ports + 2, &egress);
    tables
}

fn prefixes(tables: &Tables) {
    tables
        .neighbour_ases
        .u32(4)
        .store(64_501, std::sync::atomic::Ordering::Relaxed);
    let slot = |number: u32, octets: &[u8], length, family, state: State, baseline, counted: [u64; 2]| {
        let mut address = [0; 16];
        address[..octets.len()].copy_from_slice(octets);
        let index = (RESERVED + number) as usize;
        tables.slot_directory.set(
            index,
            &SlotEntry {
                address,
                length,
                family,
                state: state as u8,
                group: 5,
                baseline: count(baseline),
                generation: 1,
                protocol: 12,
                origin_as: if number == 0 { 64_510 } else { 0 },
                neighbour: u16::from(number == 0),
                ..SlotEntry::default()
            },
        );
        for (cpu, packets) in counted.into_iter().enumerate() {
            let at = cpu * Sizes::SMALL.slots as usize + index;
            tables.prefix_counters.set(at, &count(packets));
        }
    };
    slot(0, &[198, 51, 100], 24, 4, State::Live, 0, [7, 10]);
    slot(1, &[0x20, 1, 0xd, 0xb8, 0, 5], 48, 6, State::Live, 3, [8, 0]);
    slot(2, &[203, 0, 113], 24, 4, State::Retired, 0, [0, 5]);
    let leaf = Leaf::route(5, RESERVED);
    tables
        .fib4_root
        .u32((198 << 16 | 51 << 8 | 100) * 4)
        .store(leaf.0, std::sync::atomic::Ordering::Release);
}
