//! Punt protection: what goes up to the kernel is limited by class, so that a flood of one kind leaves the others alive.
//!
//! # What is limited
//! What its *sender* chose to make the kernel's business: a packet for the router, a TTL that ends here, options, an address
//! that nobody answers for. What the *operator* chose to leave to the kernel (tagged frames, an egress without XDP, a table that
//! is full) is ordinary forwarding there and never limited. [`kind`] says which reason is which, and does not compile without
//! having been told.
//!
//! # Who passes
//! 1. A packet of a TCP session that the router has with somebody ([`Flow`], written by the controller), within a share of
//!    its own that is large.
//! 2. Each source has a *share* of its class: whoever sends more loses the rest and nobody else does. Shares are counted in two
//!    rows of buckets, of which the emptier one counts, and both are filled by what passes alone: so a bucket holds no more
//!    than its part of the class's rate, however much is sent by however many.
//! 3. The class has a *rate*. While it is kept, sources are remembered; one that comes again a second later or more is
//!    *known* for five minutes from then on.
//! 4. When the rate is used up, by a flood from many sources or from none that exists, a known source that is quiet
//!    still passes, by a reserve as large as the rate. Nobody becomes known in such a time, so that a flood cannot
//!    fill the memory with itself. A known source is remembered with its TTL and interface: who forges the
//!    address from elsewhere must guess both (C. Jin, H. Wang and K. Shin, CCS 2003).
//!
//! What this cannot do: tell packets apart that are alike. A flood with the address, the TTL and the interface of a clean
//! source takes that source's share.
//!
//! A source is an IPv4 address and not a shorter prefix, because addresses cost a forger nothing, so that a prefix would only
//! let him take its other addresses down; an IPv6 /64, because whoever has one address has those, too, or the whole address of a
//! link-local one; and on the link itself, where addresses are asked for, a MAC address.

use crate::{
    limit::{TICKS, quantum},
    plain,
    reason::Reason,
};

/// Room for classes; a power of two.
pub const CLASSES: usize = 16;
/// Buckets of a row; a power of two.
pub const BUCKETS: usize = 16_384;
/// Rows.
pub const ROWS: usize = 2;
/// Sets of [`WAYS`] known sources; a power of two.
pub const SETS: usize = 16_384;
/// Known sources in a set: half a cache line.
pub const WAYS: usize = 4;
/// Stores of rates: a class's own, and behind those of all classes its reserve.
pub const LIMITERS: usize = 2 * CLASSES;
/// Entries of the map of [`Flow`]s.
pub const FLOWS: u32 = 8_192;

macro_rules! classes {
    ($($variant:ident, $name:literal, $reason:ident, $rate:literal / $share:literal, $help:literal;)+) => {
        /// What goes up to the kernel, in kinds that do not share a rate. The discriminant is its index everywhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Class { $(#[doc = $help] $variant),+ }

        impl Class {
            /// Every class, by index.
            pub const ALL: &'static [Class] = &[$(Class::$variant),+];

            /// Stable name: key of the configuration, JSON value.
            pub const fn name(self) -> &'static str {
                match self { $(Class::$variant => $name),+ }
            }

            /// What is in it, as a phrase.
            pub const fn help(self) -> &'static str {
                match self { $(Class::$variant => $help),+ }
            }

            /// What is too much of it leaves with this reason. A session's packet that is beyond its share is asked about again,
            /// as one of the class that it would have without a session.
            pub const fn limited(self) -> Reason {
                match self { $(Class::$variant => Reason::$reason),+ }
            }

            /// Packets a second by default: of all sources together, and of one of them.
            pub const fn default_rates(self) -> (u32, u32) {
                match self { $(Class::$variant => ($rate, $share)),+ }
            }
        }
    };
}

// All rates together are 63,000 packets a second: what one core of a router's CPU does with a tenth to a fifth of its time,
// whatever is sent at however many gigabits.
classes! {
    Arp, "arp", ArpLimited, 5_000 / 500, "ARP";
    Nd, "nd", NdLimited, 5_000 / 500, "IPv6 neighbour discovery";
    LinkControl, "link-control", LinkControlLimited, 10_000 / 2_000,
        "Control packets only a neighbour can have sent: TTL 255 (VRRP, BFD, GTSM) or multicast of the link (OSPF, PIM, LDP)";
    Multicast, "multicast", MulticastLimited, 5_000 / 1_000, "Other multicast and broadcast";
    TtlExpired, "ttl-expired", TtlExpiredLimited, 2_000 / 200, "TTL or hop limit that ends here: the kernel answers";
    Unresolved, "unresolved", UnresolvedLimited, 5_000 / 500,
        "No route, next hop or neighbour, or too big: the kernel resolves or answers";
    Options, "options", OptionsLimited, 10_000 / 2_000,
        "IPv4 options, IPv6 extension headers, trailing octets, to be fragmented: the kernel forwards";
    Malformed, "malformed", MalformedLimited, 1_000 / 1_000, "Broken headers and martian addresses: the kernel counts and drops";
    LocalIcmp, "local-icmp", LocalIcmpLimited, 5_000 / 500, "ICMP for the router";
    LocalControl, "local-control", LocalControlLimited, 5_000 / 1_000,
        "BGP, SSH, multihop BFD, unicast OSPF and the control-ports of the configuration, for the router";
    LocalOther, "local-other", LocalOtherLimited, 10_000 / 2_000, "All else for the router";
    Session, "session", LocalControlLimited, 0 / 20_000, "Established TCP sessions on control ports: a share for each, no rate";
}

/// Whether what leaves with this reason is dropped for its rate: beyond that of a class, or of a rule.
pub fn is_rate_limit(reason: Reason) -> bool {
    reason == Reason::RateLimited || Class::ALL.iter().any(|class| class.limited() == reason)
}

/// How the class of a packet is found that is about to be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has none and is never limited.
    Never,
    /// By the reason alone.
    Always(Class),
    /// It is for us or for everybody on the link: by what it is.
    Link,
    /// It is for us: by what it is.
    Local,
    /// Too big for the egress: the kernel fragments it or answers.
    TooBig,
}

/// How the class is found of what is passed with this reason.
pub const fn kind(reason: Reason) -> Kind {
    match reason {
        Reason::Truncated
        | Reason::BadVersion
        | Reason::BadHeaderLength
        | Reason::BadTotalLength
        | Reason::BadChecksum
        | Reason::MartianAddress
        | Reason::OwnSource => Kind::Always(Class::Malformed),
        Reason::Arp => Kind::Always(Class::Arp),
        Reason::NeighbourDiscovery => Kind::Always(Class::Nd),
        Reason::LinkMulticast | Reason::Multicast | Reason::LinkLocal => Kind::Link,
        Reason::TrailingBytes | Reason::Options | Reason::ExtensionHeader => Kind::Always(Class::Options),
        Reason::TtlExpired => Kind::Always(Class::TtlExpired),
        Reason::NoRoute
        | Reason::NeighbourUnresolved
        | Reason::NextHopUnresolved
        | Reason::NextHopDown
        | Reason::GatewayUnresolved
        | Reason::Unreachable
        | Reason::Prohibit => Kind::Always(Class::Unresolved),
        Reason::TooBig => Kind::TooBig,
        Reason::Local | Reason::Broadcast => Kind::Local,
        // The operator left these to the kernel, and it forwards them.
        Reason::Unconfigured
        | Reason::Tagged
        | Reason::OtherMac
        | Reason::OtherProtocol
        | Reason::ForwardingOff
        | Reason::ControllerStale
        | Reason::EgressWithoutXdp
        | Reason::UnsupportedRoute
        | Reason::FibFull
        | Reason::SameInterface
        | Reason::SourceUndecided
        | Reason::NoDevice
        | Reason::MemberInactive
        | Reason::NoHeadroom
        | Reason::MultiBuffer
        | Reason::DryRun
        | Reason::Internal => Kind::Never,
        // These are not passed.
        Reason::Forwarded
        | Reason::BogonSource
        | Reason::SpoofedSource
        | Reason::Blackhole
        | Reason::Rule
        | Reason::FlowSpec
        | Reason::RateLimited
        | Reason::SourceNoRoute
        | Reason::SourceInterface
        | Reason::BlackholeSource
        | Reason::ArpLimited
        | Reason::NdLimited
        | Reason::LinkControlLimited
        | Reason::MulticastLimited
        | Reason::TtlExpiredLimited
        | Reason::UnresolvedLimited
        | Reason::OptionsLimited
        | Reason::MalformedLimited
        | Reason::LocalIcmpLimited
        | Reason::LocalControlLimited
        | Reason::LocalOtherLimited => Kind::Never,
    }
}

/// A class's rate and share, written by the controller: a cache line. All zero: it is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Allowed {
    /// Time that a packet takes of the rate, in [`TICKS`].
    pub cost: u64,
    /// Time's worth that may come at once, in [`TICKS`].
    pub burst: u64,
    /// Time's worth that a CPU takes from the common store at once, in [`TICKS`].
    pub quantum: u64,
    /// Time that a packet takes of its source's share, nanoseconds.
    pub share_cost: u64,
    /// Time's worth by which a source may be ahead when it sends one more, nanoseconds.
    pub share_burst: u64,
    /// Packets a second, for people.
    pub per_second: u32,
    /// Those of one source, for people.
    pub share_per_second: u32,
    /// Zero.
    pub reserved: [u64; 2],
}
plain!(Allowed, 64);

/// Highest rate, packets a second: all that ten 10G links can carry.
pub const MOST_PER_SECOND: u32 = 150_000_000;

/// What may come at once of a class, nanoseconds of its rate: a volley of a moment, and no flood.
const BURST: u64 = 200_000_000;
/// What may come at once from a source, nanoseconds of its share.
const SHARE_BURST: u64 = 500_000_000;

impl Allowed {
    /// A rate and a share of so many packets a second; 0: none.
    pub const fn of(per_second: u32, share_per_second: u32, cpus: u32) -> Allowed {
        const SECOND: u64 = 1_000_000_000;
        let mut allowed = Allowed {
            cost: 0,
            burst: 0,
            quantum: 0,
            share_cost: 0,
            share_burst: 0,
            per_second,
            share_per_second,
            reserved: [0; 2],
        };
        if per_second != 0 {
            allowed.cost = SECOND * TICKS / per_second as u64;
            allowed.burst = larger(BURST * TICKS, allowed.cost);
            allowed.quantum = quantum(allowed.burst, cpus);
        }
        if share_per_second != 0 {
            allowed.share_cost = SECOND / share_per_second as u64;
            allowed.share_burst = larger(SHARE_BURST, allowed.share_cost) - allowed.share_cost;
        }
        allowed
    }
}

const fn larger(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

/// What the controller says of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Punt {
    /// By [`Class`].
    pub classes: [Allowed; CLASSES],
    /// A bit for each port of TCP and UDP that control protocols use.
    pub control_ports: [u64; 1_024],
    /// Sessions that are known, for people.
    pub sessions: u32,
    /// Peers that are known, for people.
    pub peers: u32,
    /// Zero.
    pub reserved: [u64; 7],
}
plain!(Punt, 64 * CLASSES + 8_192 + 64);

/// What a class has counted on one CPU, and what that CPU may still let through: a cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PuntState {
    /// Packets passed.
    pub passed: u64,
    /// Of those, by the reserve.
    pub reserved: u64,
    /// Packets dropped because the rate was used up.
    pub dropped: u64,
    /// Packets dropped because their source's share was.
    pub over_share: u64,
    /// As [`crate::rules::RuleState::credit`], of the rate.
    pub credit: u64,
    /// As [`crate::rules::RuleState::until`].
    pub until: u64,
    /// The same of the reserve.
    pub reserve_credit: u64,
    /// The same.
    pub reserve_until: u64,
}
plain!(PuntState, 64);

/// What one CPU knows of all classes, and of the packet that it is asking about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct PuntStates {
    /// By [`Class`].
    pub classes: [PuntState; CLASSES - 1],
    /// Whose share it takes.
    pub source: u64,
    /// Source port, destination port, IP protocol, TTL, TCP's flags and whether it is for the router by unicast, from the lowest bits
    /// up: 16, 16, 8, 8, 8, 1.
    pub header: u64,
    /// Zero.
    pub reserved: [u64; 6],
}
plain!(PuntStates, 64 * CLASSES);

/// A key of the map of exemptions. Three shapes are in it:
///
/// - a *session*: everything is said;
/// - a *peer*: the remote address alone. It is a neighbour, or has had a session, and is known without having been seen;
/// - a *tunnel*: the protocol, and with UDP the local port. The kernel's own decapsulation takes these packets, which are
///   traffic to be forwarded and not limited.
///
/// IPv4 addresses are mapped (`::ffff:0:0/96`), as sockets that take both have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Flow {
    /// Remote address, [`words`].
    pub remote: [u64; 2],
    /// The router's address.
    pub local: [u64; 2],
    /// Remote port.
    pub remote_port: u16,
    /// The router's port.
    pub local_port: u16,
    /// IP protocol.
    pub protocol: u32,
}
plain!(Flow, 40);

/// The octets of an address, in wire order, as two words in memory.
pub const fn words(octets: [u8; 16]) -> [u64; 2] {
    let all = u128::from_le_bytes(octets);
    [all as u64, (all >> 64) as u64]
}

/// An IPv4 address, in wire order as it lies in memory, as a mapped one.
#[inline(always)]
pub const fn mapped(address: u32) -> [u64; 2] {
    [0, (address as u64) << 32 | 0xffff_0000]
}

impl Flow {
    /// A peer.
    #[inline(always)]
    pub const fn peer(remote: [u64; 2]) -> Flow {
        Flow {
            remote,
            local: [0; 2],
            remote_port: 0,
            local_port: 0,
            protocol: 0,
        }
    }

    /// A tunnel; `local_port` is 0 but with UDP.
    #[inline(always)]
    pub const fn tunnel(protocol: u32, local_port: u16) -> Flow {
        Flow {
            remote: [0; 2],
            local: [0; 2],
            remote_port: 0,
            local_port,
            protocol,
        }
    }
}

/// Mixes a word (the 64-bit finaliser of MurmurHash3): every bit of the answer depends on every bit.
#[inline(always)]
const fn mix(word: u64) -> u64 {
    let x = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// Hash of a source in a class. `seed` is not known outside, so that nobody can aim at a bucket.
#[inline(always)]
pub const fn hash(seed: u32, class: u32, source: u64) -> u64 {
    mix(source ^ mix((class as u64) << 32 | seed as u64))
}

/// Places of a source's two buckets.
#[inline(always)]
pub const fn places(hash: u64) -> (u32, u32) {
    let mask = BUCKETS as u32 - 1;
    (hash as u32 & mask, BUCKETS as u32 | (hash >> 32) as u32 & mask)
}

/// Time that a source is ahead of its share, nanoseconds. A bucket holds the time up to which its sources have been served.
#[inline(always)]
pub const fn ahead(buckets: (u64, u64), now: u64) -> u64 {
    let least = if buckets.0 < buckets.1 {
        buckets.0
    } else {
        buckets.1
    };
    least.saturating_sub(now)
}

/// What the buckets hold after a packet: the emptier one grows, and the other only where it has become that.
#[inline(always)]
pub const fn charged(buckets: (u64, u64), now: u64, cost: u64) -> (u64, u64) {
    let served = now + ahead(buckets, now) + cost;
    (larger(buckets.0, served), larger(buckets.1, served))
}

/// Set and fingerprint of a source, by its hash, its TTL and the interface's number.
#[inline(always)]
pub const fn fingerprint(hash: u64, ttl: u8, port: u32) -> (u32, u32) {
    let mixed = mix(hash ^ ((port as u64) << 8 | ttl as u64) << 40);
    // Zero is nobody's.
    (mixed as u32 & (SETS as u32 - 1), (mixed >> 32) as u32 | 1)
}

/// A source that was seen: fingerprint, when last, and whether it had come again by then.
///
/// ```text
/// bits 0..32 fingerprint (0: none), 32..48 when, 48 came again
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(pub u64);

impl Seen {
    /// A unit of time is that many bits of nanoseconds: a second and a little.
    const UNIT: u32 = 30;
    const AGAIN: u64 = 1 << 48;
    /// How long one is remembered that has come once, and one that has come again.
    const ONCE: u16 = 15;
    const FIVE_MINUTES: u16 = 280;

    /// The moment, in units that come round after 19 hours.
    #[inline(always)]
    const fn moment(now: u64) -> u16 {
        (now >> Self::UNIT) as u16
    }

    #[inline(always)]
    const fn age(self, now: u64) -> u16 {
        match Self::moment(now).wrapping_sub((self.0 >> 32) as u16) {
            // Another CPU's clock was read a moment later.
            u16::MAX => 0,
            age => age,
        }
    }

    /// A source that comes for the first time.
    #[inline(always)]
    pub const fn first(fingerprint: u32, now: u64) -> Seen {
        Seen(fingerprint as u64 | (Self::moment(now) as u64) << 32)
    }

    /// Whether it is remembered still.
    #[inline(always)]
    pub const fn lasts(self, now: u64) -> bool {
        let most = if self.0 & Self::AGAIN != 0 {
            Self::FIVE_MINUTES
        } else {
            Self::ONCE
        };
        self.0 as u32 != 0 && self.age(now) <= most
    }

    /// Whether it is this one.
    #[inline(always)]
    pub const fn is(self, fingerprint: u32) -> bool {
        self.0 as u32 == fingerprint
    }

    /// Whether it is known: it came again, in time.
    #[inline(always)]
    pub const fn known(self, now: u64) -> bool {
        self.0 & Self::AGAIN != 0 && self.lasts(now)
    }

    /// It comes once more. Only while nothing is too much does it become known by that.
    #[inline(always)]
    pub const fn again(self, now: u64, calm: bool) -> Seen {
        let more = if calm && self.age(now) > 0 { Self::AGAIN } else { 0 };
        let rest = self.0 & (Self::AGAIN | u32::MAX as u64);
        Seen(rest | more | (Self::moment(now) as u64) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Policy;

    #[test]
    fn a_class_has_a_name_of_its_own_and_drops_by_a_reason_of_its_own() {
        let mut names = std::collections::HashSet::new();
        let mut reasons = std::collections::HashSet::new();
        for (index, class) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, index);
            assert!(names.insert(class.name()));
            assert_eq!(class.limited().policy(), Policy::Drop);
            assert!(!class.help().ends_with('.'));
            if *class != Class::Session {
                assert!(reasons.insert(class.limited()));
                assert_eq!(class.limited().name(), format!("{}-limited", class.name()));
                let (rate, share) = class.default_rates();
                assert!(share > 0 && share <= rate && rate <= MOST_PER_SECOND);
            }
        }
        assert!(Class::ALL.len() < CLASSES);
    }

    #[test]
    fn only_what_is_passed_has_a_class() {
        for reason in Reason::ALL {
            assert!(
                kind(*reason) == Kind::Never || reason.policy() == Policy::Pass,
                "{}",
                reason.name()
            );
        }
    }

    #[test]
    fn a_source_may_send_its_burst_at_once_and_then_its_share() {
        let allowed = Allowed::of(1_000, 100, 2);
        let mut buckets = (0, 0);
        let mut passed = 0;
        let start = 7_000_000_000u64;
        // 10,000 packets in ten seconds.
        for packet in 0..10_000 {
            let now = start + packet * 1_000_000;
            if ahead(buckets, now) <= allowed.share_burst {
                buckets = charged(buckets, now, allowed.share_cost);
                passed += 1;
            }
        }
        // 50 at once, and 100 a second.
        assert!((1_047..=1_051).contains(&passed), "{passed}");
        // Silence is not saved up beyond the burst.
        assert_eq!(ahead(buckets, start + 60_000_000_000), 0);
    }

    #[test]
    fn one_full_bucket_does_not_hold_up_a_source_that_has_another() {
        let full = 9_000_000_000;
        assert_eq!(ahead((full, 0), 1_000), 0);
        let (first, second) = charged((full, 0), 1_000, 10);
        assert_eq!((first, second), (full, 1_010));
    }

    #[test]
    fn no_rate_means_no_limit_and_rates_cost_what_they_should() {
        assert_eq!(Allowed::of(0, 0, 4), Allowed::default());
        let allowed = Allowed::of(5_000, 500, 4);
        assert_eq!((allowed.cost, allowed.share_cost), (200_000 * TICKS, 2_000_000));
        assert_eq!(allowed.burst, 1_000 * allowed.cost);
        let slow = Allowed::of(1, 1, 4);
        assert!(slow.burst >= slow.cost && slow.share_burst == 0, "one at a time");
        assert!(Allowed::of(MOST_PER_SECOND, MOST_PER_SECOND, 4).share_cost > 0);
    }

    #[test]
    fn hashes_of_neighbouring_sources_meet_in_both_rows_about_never() {
        let source = |number: u64| hash(7, 8, 0x0a00_0000 + number);
        let mut both = std::collections::HashSet::new();
        let mut twice = 0;
        for number in 0..16_384 {
            let (first, second) = places(source(number));
            assert!((first as usize) < BUCKETS && (BUCKETS..2 * BUCKETS).contains(&(second as usize)));
            twice += u32::from(!both.insert((first, second)));
        }
        assert!(twice <= 4, "{twice}");
        assert_ne!(hash(7, 8, 1), hash(7, 9, 1));
        assert_ne!(hash(7, 8, 1), hash(8, 8, 1));
        assert_ne!(fingerprint(1, 64, 1), fingerprint(1, 63, 1));
        assert_ne!(fingerprint(1, 64, 1), fingerprint(1, 64, 2));
    }

    #[test]
    fn an_ipv4_address_is_the_mapped_one() {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 1);
        let lies = u32::from_le_bytes(address.octets());
        assert_eq!(mapped(lies), words(address.to_ipv6_mapped().octets()));
    }

    #[test]
    fn who_comes_again_in_calm_is_known_and_for_how_long() {
        let second = 1u64 << 30;
        let now = 1_000 * second;
        let seen = Seen::first(77, now);
        assert!(seen.is(77) && seen.lasts(now) && !seen.known(now));
        assert!(seen.lasts(now + 15 * second) && !seen.lasts(now + 16 * second));
        // At once, or in a flood: it is not known by that.
        assert!(!seen.again(now, true).known(now));
        assert!(!seen.again(now + second, false).known(now + second));
        let known = seen.again(now + second, true);
        assert!(known.is(77) && known.known(now + second));
        assert!(known.known(now + 281 * second) && !known.known(now + 282 * second));
        // It stays known in a flood as long as it comes.
        let later = now + 280 * second;
        assert!(known.again(later, false).known(later + 280 * second));
        assert!(!Seen(0).lasts(0));
        assert!(known.known(now), "noted by a CPU that was a moment ahead");
        // Units come round.
        let late = 65_535 * second;
        assert!(
            Seen::first(5, late)
                .again(late + second, true)
                .known(late + 2 * second)
        );
    }
}
