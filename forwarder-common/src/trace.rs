//! The steps of one traced packet, written by a tracing instance of the program.

use crate::plain;

/// How far a packet came, in the order of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Stage {
    /// Not yet looked at.
    Start = 0,
    /// Ethernet and IP headers.
    Parse = 1,
    /// Source filter.
    Filter = 2,
    /// Source validation.
    Origin = 3,
    /// Longest-prefix match.
    Fib = 4,
    /// Group and next hop.
    NextHop = 5,
    /// The redirect was asked for.
    Redirect = 6,
    /// The packet was rewritten.
    Rewrite = 7,
}

impl Stage {
    /// The stage with this number.
    pub const fn from_number(number: u32) -> Stage {
        match number {
            1 => Stage::Parse,
            2 => Stage::Filter,
            3 => Stage::Origin,
            4 => Stage::Fib,
            5 => Stage::NextHop,
            6 => Stage::Redirect,
            7 => Stage::Rewrite,
            _ => Stage::Start,
        }
    }
}

/// What the program found on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trace {
    /// Last [`Stage`] that was finished.
    pub stage: u32,
    /// [`crate::reason::Reason`] the packet left with.
    pub reason: u32,
    /// Port it came in on.
    pub port: u32,
    /// Source class word.
    pub source_class: u32,
    /// FIB leaf.
    pub leaf: u32,
    /// Next-hop group, after indirection.
    pub group: u32,
    /// Flow hash; 0 where the group has one member.
    pub hash: u32,
    /// Next-hop id.
    pub nexthop: u32,
    /// One more than the number of the last rule it met in the set in force; 0 where it met none.
    pub rule: u32,
    /// Slot of that rule.
    pub rule_slot: u32,
    /// One more than the [`crate::punt::Class`] that it is limited by; 0 where it is not.
    pub punt_class: u32,
    /// ifindex of the VLAN or bond it came in on, or of the device.
    pub interface: u32,
    /// ifindex of the device it is sent out by.
    pub device: u32,
    /// Reason that was decided on: another than `reason` in a dry run, where the packet passes all the same.
    pub decided: u32,
}
plain!(Trace, 56);
