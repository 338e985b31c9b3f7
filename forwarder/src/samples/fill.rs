//! From a sample to what a collector wants to know of it: networks, next hop, time.
//!
//! All of that stands in the tables and their directories, which anybody may read: what the program decided by for a packet that
//! was forwarded, and what it would find now for the rest.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use forwarder_common::{
    directory::{SlotEntry, State},
    reason::Reason,
    sample::Sample,
};

use super::packet::Packet;
use crate::{clock, dataplane::Tables};

/// The network that an address is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Length of the prefix that is laid for it, bits; 0 where there is none.
    pub length: u8,
    /// AS it comes from; 0 where nobody says, as for our own.
    pub origin_as: u32,
    /// AS it is heard from; 0 likewise.
    pub neighbour_as: u32,
}

/// A sample with everything that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As the program took it.
    pub sample: Sample,
    /// Why it left.
    pub reason: Reason,
    /// When, since 1970.
    pub at: Duration,
    /// What its octets say.
    pub packet: Packet,
    /// Where it was sent; `None` where it was not.
    pub next_hop: Option<IpAddr>,
    /// Of its source.
    pub source: Network,
    /// Of its destination.
    pub destination: Network,
}

impl Flow {
    /// The frame's first octets.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        let captured = usize::from(self.sample.captured).min(self.sample.header.len());
        &self.sample.header[..captured]
    }
}

/// What the monotonic clock was at 1970, as it seems now: so much is added to a sample's time.
#[must_use]
pub fn epoch() -> Duration {
    clock::since_1970().saturating_sub(Duration::from_nanos(clock::monotonic_ns()))
}

/// Looks up what there is to know.
#[must_use]
pub fn fill(tables: &Tables, sample: Sample, epoch: Duration) -> Flow {
    let captured = usize::from(sample.captured).min(sample.header.len());
    let packet = Packet::read(&sample.header[..captured]);
    let reason = Reason::from_index(sample.reason.into()).unwrap_or(Reason::Internal);
    let network = |slot: Option<u32>, address: IpAddr| {
        slot.and_then(|slot| entry(tables, slot, address))
            .or_else(|| entry(tables, found(tables, address)?, address))
            .map_or(Network::default(), |entry| Network {
                length: entry.length,
                origin_as: entry.origin_as,
                neighbour_as: tables.neighbour_as(entry.neighbour),
            })
    };
    let known = (sample.slot != 0).then_some(sample.slot);
    Flow {
        reason,
        at: epoch + Duration::from_nanos(sample.time_ns),
        next_hop: (reason == Reason::Forwarded)
            .then(|| next_hop(tables, &sample))
            .flatten(),
        source: packet
            .ip
            .map_or_else(Network::default, |ip| network(None, ip.source)),
        destination: packet
            .ip
            .map_or_else(Network::default, |ip| network(known, ip.destination)),
        packet,
        sample,
    }
}

/// The slot that the program finds for an address now.
fn found(tables: &Tables, address: IpAddr) -> Option<u32> {
    let leaf = tables.lookup(address)?;
    (!leaf.is_none()).then(|| leaf.slot())
}

/// What a slot is for, where that is the address's prefix: since the sample was taken it may have become another's.
fn entry(tables: &Tables, slot: u32, address: IpAddr) -> Option<SlotEntry> {
    if slot == 0 || slot >= tables.sizes.slots {
        return None;
    }
    let entry = tables.slot_directory.get(slot as usize);
    let laid = matches!(
        State::from_number(entry.state),
        Some(State::Installing | State::Live | State::Removing)
    );
    let (family, bits, address, network) = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d, ..] = entry.address;
            let network = u128::from(u32::from(Ipv4Addr::from([a, b, c, d])));
            (4, 32, u128::from(u32::from(address)), network)
        }
        IpAddr::V6(address) => (6, 128, u128::from(address), u128::from_be_bytes(entry.address)),
    };
    let behind = bits - u32::from(entry.length).min(bits);
    let apart = (address ^ network).checked_shr(behind).unwrap_or(0);
    (laid && entry.family == family && apart == 0).then_some(entry)
}

/// The neighbour that a forwarded packet was sent to; `None` where its next hop has become another's since.
fn next_hop(tables: &Tables, sample: &Sample) -> Option<IpAddr> {
    if sample.nexthop == 0 || sample.nexthop >= tables.sizes.nexthops {
        return None;
    }
    let entry = tables.nexthop_directory.get(sample.nexthop as usize);
    if entry.ifindex != sample.egress {
        return None;
    }
    match entry.family {
        4 => {
            let [a, b, c, d, ..] = entry.address;
            Some(IpAddr::V4(Ipv4Addr::from([a, b, c, d])))
        }
        6 => Some(IpAddr::V6(Ipv6Addr::from(entry.address))),
        _ => None,
    }
}
