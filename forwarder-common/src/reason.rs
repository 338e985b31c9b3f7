//! The one table of reasons: why a packet left the program, and what that means for it.
//!
//! Every packet leaves with exactly one reason, counted per ingress interface. A row gives the variant, its policy, the
//! name used in metrics and on screens, and the sentence an operator reads. Adding a row without a policy does not compile.

/// What happens to a packet that leaves with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// `XDP_REDIRECT`: sent out by the fast path.
    Forward,
    /// `XDP_PASS`: handed to the kernel, untouched.
    Pass,
    /// `XDP_DROP`.
    Drop,
}

impl Policy {
    /// The word used in `--json` and on screens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Policy::Forward => "forward",
            Policy::Pass => "pass",
            Policy::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident, $policy:ident, $name:literal, $help:literal;)+) => {
        /// Why a packet left the program. The discriminant is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $(#[doc = $help] $variant),+ }

        impl Reason {
            /// Every reason, in the order of its counter index.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// What happens to the packet.
            pub const fn policy(self) -> Policy {
                match self { $(Reason::$variant => Policy::$policy),+ }
            }

            /// Stable name: metric label, JSON value, column on a screen.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }

            /// One sentence for an operator.
            pub const fn help(self) -> &'static str {
                match self { $(Reason::$variant => $help),+ }
            }
        }
    };
}

reasons! {
    // Forwarded stays first: a next hop's state is the reason its packets leave with.
    Forwarded, Forward, "forwarded", "Sent out by the fast path";

    Unconfigured, Pass, "unconfigured", "The interface carries the program but is not configured yet";
    Truncated, Pass, "truncated", "Shorter than its Ethernet or IP header";
    Tagged, Pass, "tagged", "Carries the tag of a VLAN that is not served, or more than two tags";
    OtherMac, Pass, "other-mac", "Its destination MAC is not one of the interface's";
    LinkMulticast, Pass, "link-multicast", "Ethernet broadcast or multicast";
    Arp, Pass, "arp", "ARP";
    OtherProtocol, Pass, "other-protocol", "Neither IPv4 nor IPv6";
    BadVersion, Pass, "bad-version", "The IP version is not the EtherType's";
    BadHeaderLength, Pass, "bad-header-length", "IPv4 header length below 20 octets";
    BadTotalLength, Pass, "bad-total-length", "The IP length is shorter than the header or longer than the frame";
    TrailingBytes, Pass, "trailing-bytes", "The frame is longer than the packet by more than Ethernet padding";
    BadChecksum, Pass, "bad-checksum", "IPv4 header checksum wrong";
    Options, Pass, "options", "IPv4 options";
    ExtensionHeader, Pass, "extension-header", "IPv6 extension header";
    Multicast, Pass, "multicast", "Multicast source or destination";
    LinkLocal, Pass, "link-local", "Link-local source or destination";
    MartianAddress, Pass, "martian-address", "Loopback, unspecified or limited-broadcast source or destination";
    NeighbourDiscovery, Pass, "neighbour-discovery", "ICMPv6 neighbour discovery";
    ForwardingOff, Pass, "forwarding-off", "The kernel's forwarding sysctl is off for this interface";
    TtlExpired, Pass, "ttl-expired", "TTL or hop limit is 1 or 0";
    OwnSource, Pass, "own-source", "Its source is an own address of this router, or a broadcast address of its subnets";

    BogonSource, Drop, "bogon-source", "Source from a range that must not appear on the Internet";
    SpoofedSource, Drop, "spoofed-source", "Source from one of our own prefixes, arriving from outside";

    ControllerStale, Pass, "controller-stale", "The controller has not stamped its heartbeat for longer than max-age";
    NoRoute, Pass, "no-route", "No prefix covers the destination";
    Local, Pass, "local", "For this router";
    Broadcast, Pass, "broadcast", "For a subnet's broadcast or anycast address";
    NeighbourUnresolved, Pass, "neighbour-unresolved", "On a connected subnet, its neighbour not resolved yet";
    NextHopUnresolved, Pass, "next-hop-unresolved", "The next hop's MAC address is not known";
    NextHopDown, Pass, "next-hop-down", "The next hop's link is down";
    EgressWithoutXdp, Pass, "egress-without-xdp", "Its route leaves by an interface that forwarder does not serve";
    UnsupportedRoute, Pass, "unsupported-route", "A kind of route that only the kernel understands (encapsulation, throw, NAT)";
    FibFull, Pass, "fib-full", "Its prefix found no room in the forwarding table";
    Blackhole, Drop, "blackhole", "Blackhole route";
    Unreachable, Pass, "unreachable", "Unreachable route: the kernel answers with ICMP";
    Prohibit, Pass, "prohibit", "Prohibit route: the kernel answers with ICMP";
    TooBig, Pass, "too-big", "Larger than the egress MTU";
    SameInterface, Pass, "same-interface", "Would leave by the interface it came in on: the kernel may owe an ICMP redirect";
    NoDevice, Pass, "no-device", "The egress device is not in the redirect map";
    Internal, Pass, "internal", "A table entry that should exist does not: please report";

    // Behind all others: pinned counters and next hops know reasons by their number.
    GatewayUnresolved, Pass, "gateway-unresolved", "No route leads to the BGP gateway or next-hop object that its route names";
    Rule, Drop, "rule", "A rule of the configuration";
    FlowSpec, Drop, "flowspec", "A FlowSpec rule of a BGP neighbour";
    RateLimited, Drop, "rate-limited", "More than a rule's rate";
    SourceNoRoute, Drop, "source-no-route", "No route leads back to its source, or its source is this router itself";
    SourceInterface, Drop, "source-interface", "No route to its source leads by the interface it came in on";
    BlackholeSource, Drop, "blackhole-source", "A blackhole route covers its source";
    SourceUndecided, Pass, "source-undecided", "Only the kernel understands the route to its source";
    ArpLimited, Drop, "arp-limited", "More ARP than is let up to the kernel";
    NdLimited, Drop, "nd-limited", "More IPv6 neighbour discovery than is let up";
    LinkControlLimited, Drop, "link-control-limited", "More control packets of neighbours (VRRP, BFD, OSPF) than are let up";
    MulticastLimited, Drop, "multicast-limited", "More multicast and broadcast than is let up";
    TtlExpiredLimited, Drop, "ttl-expired-limited", "More packets whose TTL ends here than are let up";
    UnresolvedLimited, Drop, "unresolved-limited", "More without route, next hop or neighbour, or too big, than is let up";
    OptionsLimited, Drop, "options-limited", "More with options, extension headers, trailing octets or to be fragmented than is let up";
    MalformedLimited, Drop, "malformed-limited", "More with broken headers or martian addresses than is let up";
    LocalIcmpLimited, Drop, "local-icmp-limited", "More ICMP for this router than is let up";
    LocalControlLimited, Drop, "local-control-limited", "More for this router's control ports (BGP, SSH) than is let up";
    LocalOtherLimited, Drop, "local-other-limited", "More of all else for this router than is let up";
    MemberInactive, Pass, "member-inactive", "Came in on a link that its bond does not use now: the kernel knows what of that it takes";
    NoHeadroom, Pass, "no-headroom", "The driver leaves no room in front of the frame for its VLAN tag";
    MultiBuffer, Pass, "multi-buffer", "In several buffers, and its egress takes frames in one alone, or its headers are not in the first";
    DryRun, Pass, "dry-run", "Would have been forwarded or dropped: the controller runs with --dry-run, and the kernel does everything";
}

impl Reason {
    /// How many counters a port has: a power of two, so that the program can mask.
    pub const SLOTS: usize = 64;

    /// The index of its counter.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason with this counter index.
    pub const fn from_index(index: usize) -> Option<Reason> {
        if index < Self::ALL.len() {
            Some(Self::ALL[index])
        } else {
            None
        }
    }
}

const _: () = assert!(Reason::ALL.len() <= Reason::SLOTS);
const _: () = assert!(Reason::Forwarded as u8 == 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_names_and_help_are_unique_and_well_formed() {
        let mut names = std::collections::HashSet::new();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::from_index(index), Some(*reason));
            assert!(names.insert(reason.name()), "{} twice", reason.name());
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            assert!(
                !reason.help().ends_with('.'),
                "{}: help is a phrase",
                reason.name()
            );
        }
        assert_eq!(Reason::from_index(Reason::ALL.len()), None);
    }
}
