//! What the program knows about the interface a packet came in on.

use crate::plain;

/// Interfaces are looked up by ifindex in an array this long; a larger ifindex is refused at attach.
pub const IFINDEX_MAX: u32 = 65_536;
/// MAC addresses an interface may answer to (its own, its bond's, virtual ones).
pub const MACS: usize = 4;

/// Drop sources in bogon ranges, and our own prefixes as sources.
pub const FILTER_SOURCES: u32 = 1;
/// IPv4 forwarding is on for this interface.
pub const FORWARD4: u32 = 2;
/// IPv6 forwarding is on.
pub const FORWARD6: u32 = 4;
/// The kernel sends ICMP redirects from this interface: IPv4 that would leave by it again passes.
pub const REDIRECTS4: u32 = 8;
/// The program runs in generic mode here.
pub const GENERIC_MODE: u32 = 16;

/// There are IPv4 rules.
pub const RULES4: u32 = 32;
/// There are IPv6 rules.
pub const RULES6: u32 = 64;
/// Sources must have a route ([`Interface::origin`] says by which interface).
pub const CHECK_SOURCES: u32 = 128;

/// There are accounts: what is forwarded is counted by pair of them ([`crate::account`]).
pub const COUNT_PAIRS: u32 = 256;
/// Sources are looked for, whether they are checked or not.
pub const COUNT_SOURCES: u32 = 512;
/// What is beyond it is not ours: transit or peer. The bit of [`crate::nexthop::OUTSIDE`].
pub const OUTSIDE: u32 = 1024;
/// A member that its bond does not use now. None of `macs` is an address then.
pub const INACTIVE: u32 = 2048;

/// An ingress interface: one cache line. `port` 0 means not configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Interface {
    /// Number of its counters; 0 = not configured. A member of a bond has the bond's.
    pub port: u32,
    /// `FILTER_SOURCES` and the like.
    pub flags: u32,
    /// MAC addresses it answers to, low 48 bits ([`crate::nexthop::mac_bits`]). Entries without use repeat the first, so
    /// that no frame to the all-zero address is taken for ours.
    pub macs: [u64; MACS],
    /// Where sources are looked for: the bit that a source's [`crate::origin::Origin`] must have, [`crate::origin::ANYWHERE`]
    /// or the port; or [`crate::origin::UNCHECKED`].
    pub origin: u32,
    /// Zero.
    pub reserved: u32,
    /// Zero, always: what the program takes for the answer where sources are not looked for, and for the tags of a frame that
    /// has none, so that its verifier need not follow both ways.
    pub nobody: u64,
    /// ifindex under which the kernel's routes know it: its own, or the bond's it is a member of.
    pub ifindex: u32,
    /// Number under which what leaves by this very device is counted: another than `port` for a member of a bond.
    pub device_port: u32,
}
plain!(Interface, 64);
