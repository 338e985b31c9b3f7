//! What the controller must find again after it was killed. No program reads these.
//!
//! A slot's entry is written before the leaf that names it and its state last, so that whatever moment the controller
//! died at, the next one knows which prefixes are whole and which to lay again.

use crate::{counters::Counter, plain};

/// Version of every layout in this crate.
pub const ABI_VERSION: u32 = 9;
/// First word of [`Meta`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"forwardr");

/// ABI version and sizes. This layout is frozen for all versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Meta {
    /// [`MAGIC`] once every map is complete.
    pub magic: u64,
    /// [`ABI_VERSION`] of the maps beside it.
    pub abi: u32,
    /// Counter slots.
    pub slots: u32,
    /// IPv4 blocks.
    pub blocks4: u32,
    /// IPv6 blocks.
    pub blocks6: u32,
    /// Next-hop groups.
    pub groups: u32,
    /// Next hops.
    pub nexthops: u32,
    /// Ports, including port 0.
    pub ports: u32,
    /// Possible CPUs.
    pub cpus: u32,
    /// Network namespace the maps belong to, inode number.
    pub netns: u64,
    /// [`SOURCES`], [`SEVERAL_BUFFERS`].
    pub features: u64,
    /// Which set of maps this is: drawn when they are made; 0 in those of earlier versions.
    pub set: u64,
}
plain!(Meta, 64);

/// There are counters by source prefix.
pub const SOURCES: u64 = 1;
/// The redirect map is one for programs that read frames in several buffers.
pub const SEVERAL_BUFFERS: u64 = 2;

/// State of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Never used, or read for the last time: may be given out.
    Free = 0,
    /// Leaves are being written.
    Installing = 1,
    /// Whole.
    Live = 2,
    /// Leaves are being taken away.
    Removing = 3,
    /// No leaf names it; waits for the grace period.
    Retired = 4,
}

impl State {
    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<State> {
        match number {
            0 => Some(State::Free),
            1 => Some(State::Installing),
            2 => Some(State::Live),
            3 => Some(State::Removing),
            4 => Some(State::Retired),
            _ => None,
        }
    }
}

/// Slot directory entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotEntry {
    /// Network address, octets in wire order; IPv4 in the first four.
    pub address: [u8; 16],
    /// Prefix length, bits.
    pub length: u8,
    /// 4 or 6.
    pub family: u8,
    /// [`State`].
    pub state: u8,
    /// [`COUNTING`].
    pub flags: u8,
    /// Next-hop group its leaves name.
    pub group: u32,
    /// Counts of earlier prefixes in this slot.
    pub baseline: Counter,
    /// AS the prefix comes from; 0 where nobody says.
    pub origin_as: u32,
    /// Number of the AS it is heard from in `NEIGHBOUR_ASES`; 0 where nobody says.
    pub neighbour: u16,
    /// Another one each time the slot is given out; 0: never.
    pub generation: u8,
    /// Routing protocol of the route (`RTPROT_*`), for display after an adoption.
    pub protocol: u8,
}
plain!(SlotEntry, 48);

/// Entries of `NEIGHBOUR_ASES`, the first of which names none.
pub const NEIGHBOURS: usize = 1 << 16;

/// There is no route for this prefix: it is laid so that an account's packets are counted, and does what covers it does.
pub const COUNTING: u8 = 1;

/// Next-hop directory entry: the identity of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NextHopEntry {
    /// Neighbour, octets in wire order; IPv4 in the first four. Of a blackhole's own next hop: the network.
    pub address: [u8; 16],
    /// Egress interface; 0 for a special next hop.
    pub ifindex: u32,
    /// Route MTU, 0 = the interface's. Of a blackhole's own next hop: the length of its prefix.
    pub mtu: u32,
    /// 4 or 6; 0 for a special next hop.
    pub family: u8,
    /// [`State`].
    pub state: u8,
    /// Reason of a special next hop.
    pub special: u8,
    /// Family of the packets (an IPv4 route may have an IPv6 neighbour, and MTUs differ): 4 or 6; 0 for a special next hop
    /// that is not a blackhole's own.
    pub packet_family: u8,
    /// Egress port.
    pub port: u32,
    /// Counts of earlier neighbours with this id.
    pub baseline: Counter,
}
plain!(NextHopEntry, 48);

/// Next hops of a backup that a group entry names; a backup may have more.
pub const BACKUP_SHOWN: usize = 16;

/// Group directory entry: what a group stands for, so that the next controller finds it again, and what takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GroupEntry {
    /// [`State`].
    pub state: u8,
    /// 4 or 6: family of `anchor`; 0: the group has none.
    pub anchor_family: u8,
    /// Length of `anchor`, bits.
    pub anchor_length: u8,
    /// 1 while the buckets name the backup, because the way of the route itself has failed.
    pub on_backup: u8,
    /// Zero.
    pub reserved: u32,
    /// Digest of the group's own ways: the route's, and the next best of the same prefix.
    pub digest: u64,
    /// Prefix whose next hops take over, octets in wire order; IPv4 in the first four.
    pub anchor: [u8; 16],
    /// Next hops of the backup as it stands, 0 behind the last; for display.
    pub backup: [u16; BACKUP_SHOWN],
}
plain!(GroupEntry, 64);

/// Port directory entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortEntry {
    /// Interface name, NUL-padded.
    pub name: [u8; 16],
    /// ifindex when it was last seen.
    pub ifindex: u32,
    /// 0 free, 1 attached native, 2 attached generic, 3 detached (counters stay), 4 stacked on devices.
    pub state: u32,
    /// The driver's `rx_packets` at the moment the program's sum was `received_baseline`.
    pub rx_baseline: u64,
    /// The program's sum at that moment.
    pub received_baseline: u64,
    /// Forwarded to it when the tracepoint programs began to watch.
    pub forwarded_baseline: u64,
    /// Their sum at that moment.
    pub transmitted_baseline: u64,
    /// Port of the device or bond whose sums it is part of, and which has the baselines; 0: it is such a one itself.
    pub root: u32,
    /// Packets by which the baselines of ingress and egress may be wrong, where they were read while packets came.
    pub slack: [u16; 2],
}
plain!(PortEntry, 64);
