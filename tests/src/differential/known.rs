//! What forwarder does otherwise than a plain router on purpose, beyond the [freedoms](super::normalise::FREEDOMS) of two
//! kernels: what frames the tests leave out for it, and where else it is tested.

use super::generate::Case;

/// A difference that is meant to be, and that the comparison cannot see or leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Sources that no route leads back to.
    SourceFirst,
    /// IPv6 sources.
    SourceOfIpv6,
    /// What an operator has dropped.
    Filters,
    /// What goes up to the kernel is limited.
    Limits,
    /// What takes over from a way that is dead.
    Backup,
    /// Routes that the kernel does not have.
    Feeds,
    /// News reach forwarder behind the kernel.
    Later,
    /// What else the kernel does with forwarded packets.
    Bypass,
    /// Priority in VLAN tags.
    VlanPriority,
    /// Which member of a bond.
    BondMember,
}

/// Each with its reason, and how it is held.
pub const KNOWN: &[(Known, &str)] = &[
    (
        Known::SourceFirst,
        "forwarder asks for the source before the destination: where no route leads to the destination, `rp_filter` comes \
         too late for the kernel's ICMP error. Frames to routes that say no are left out where sources are validated",
    ),
    (
        Known::SourceOfIpv6,
        "the kernel validates no IPv6 sources: left out where sources are validated, the golden records hold what is right",
    ),
    (
        Known::Filters,
        "bogons, own prefixes, rules and FlowSpec are for dropping: dropped frames go into the router with forwarder alone, \
         which must count each of them, and all others must come out alike",
    ),
    (
        Known::Limits,
        "what goes up to the kernel is limited by the clock: limits are off here, and have tests of their own",
    ),
    (
        Known::Backup,
        "a gateway that does not answer is left for the next best route, where the kernel goes on sending to it: never \
         provoked, the end-to-end test of failover holds it",
    ),
    (
        Known::Feeds,
        "routes of BGP and FPM sessions need not be in the kernel: only its own are used here, end-to-end tests hold the others",
    ),
    (
        Known::Later,
        "forwarder hears of routes and neighbours by netlink, after the kernel changed: nothing changes while frames are \
         sent, and no ARP frame teaches a neighbour",
    ),
    (
        Known::Bypass,
        "netfilter, conntrack, traffic control, rules with selectors and the kernel's own counters do not see what the fast \
         path forwards: none of them is set up here",
    ),
    (
        Known::VlanPriority,
        "priority and drop eligibility go with the packet, the kernel sends 0 unless it has a map: these routers have no \
         VLANs, the golden records of rings hold it",
    ),
    (
        Known::BondMember,
        "124 buckets choose the member of a bond, the kernel takes a remainder: these routers have no bonds, the tests of \
         rings hold it",
    ),
];

/// Whether a frame goes to a route that says no, or that throws it away, where [`Known::SourceFirst`] is left out: with
/// broken options the kernel answers what goes into a blackhole, too.
pub fn refused(case: &Case) -> bool {
    let kinds = ["(unreachable", "(prohibit", "(throw", "(blackhole"];
    kinds.iter().any(|kind| case.story.contains(kind))
}

/// Whether a frame comes from the local prefix that [`super::normalise::Freedom::LocalPrefix`] is about.
pub fn from_local_prefix(case: &Case) -> bool {
    case.frame[12..14] == [8, 0] && case.frame.get(26..29) == Some(&[42, 0, 0])
}
