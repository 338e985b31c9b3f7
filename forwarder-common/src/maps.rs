//! Names of the maps, as in the object and as pinned, so that each is spelt once.

/// IPv4 root: one element of [`crate::fib::ROOT4_LEN`] leaves.
pub const FIB4_ROOT: &str = "FIB4_ROOT";
/// IPv4 lower level: blocks of 256 leaves.
pub const FIB4_POOL: &str = "FIB4_POOL";
/// IPv6 root: one element of [`crate::fib::ROOT6_LEN`] leaves.
pub const FIB6_ROOT: &str = "FIB6_ROOT";
/// IPv6 lower levels: blocks of 256 leaves.
pub const FIB6_POOL: &str = "FIB6_POOL";
/// Group of a slot whose leaf says [`crate::fib::GROUP_INDIRECT`].
pub const SLOT_GROUP: &str = "SLOT_GROUP";
/// Next-hop groups.
pub const GROUPS: &str = "GROUPS";
/// By which interfaces sources of each next-hop group may come in.
pub const ORIGINS: &str = "ORIGINS";
/// Next hops (adjacencies).
pub const NEXTHOPS: &str = "NEXTHOPS";
/// Ingress interfaces by ifindex.
pub const INTERFACES: &str = "INTERFACES";
/// VLANs by their identifier, `[port][kind of tag]`.
pub const TRUNKS: &str = "TRUNKS";
/// Members of bonds, `[port]`.
pub const LAGS: &str = "LAGS";
/// Egress devices by ifindex.
pub const DEVICES: &str = "DEVICES";
/// One element: heartbeat, seed, active filter.
pub const SETTINGS: &str = "SETTINGS";
/// Two source tables; `Settings::active_filter` says which is in force.
pub const SOURCES: &str = "SOURCES";
/// Two rule sets; `Settings::active_rules` says which is in force.
pub const RULES: &str = "RULES";
/// What each rule counted, and what is left of its rate, `[cpu][rule slot]`.
pub const RULE_STATES: &str = "RULE_STATES";
/// The packet that each CPU is asking the rules about, `[cpu]`.
pub const ASKED: &str = "ASKED";
/// What is left of each rule's rate for all CPUs, `[rule slot]`.
pub const LIMITERS: &str = "LIMITERS";
/// Rates of what is passed up, by class, and which ports are control ports.
pub const PUNT: &str = "PUNT";
/// Sessions, peers and tunnels of the router's.
pub const PUNT_FLOWS: &str = "PUNT_FLOWS";
/// What each class counted, and what is left of its rate, `[cpu][class]`.
pub const PUNT_STATES: &str = "PUNT_STATES";
/// What is left of each class's rate for all CPUs, and of its reserve.
pub const PUNT_LIMITERS: &str = "PUNT_LIMITERS";
/// Shares of sources: two rows of buckets.
pub const PUNT_BUCKETS: &str = "PUNT_BUCKETS";
/// Sources that were seen.
pub const PUNT_SEEN: &str = "PUNT_SEEN";
/// Directory: rule slot to rule. Controller only.
pub const RULE_DIRECTORY: &str = "RULE_DIRECTORY";
/// Bitmap over hashes of the router's own IPv4 addresses.
pub const SELF_BITS: &str = "SELF_BITS";
/// The router's own IPv4 addresses.
pub const SELF_ADDRESSES: &str = "SELF_ADDRESSES";
/// Packets and bytes, `[cpu][port][reason]`.
pub const REASON_COUNTERS: &str = "REASON_COUNTERS";
/// What would have become of the packets that left with the reason `dry-run`: packets and bytes, `[cpu][port][reason]`.
pub const PRESUMED_COUNTERS: &str = "PRESUMED_COUNTERS";
/// Packets and bytes, `[cpu][slot]`.
pub const PREFIX_COUNTERS: &str = "PREFIX_COUNTERS";
/// Packets and bytes by the prefix their source is in, `[cpu][slot]`; one entry where that is not counted.
pub const SOURCE_COUNTERS: &str = "SOURCE_COUNTERS";
/// Packets and bytes between accounts, `[cpu][crossing][from][to]`.
pub const PAIRS: &str = "PAIRS";
/// The packet each CPU has yet to count by prefix, `[cpu]`.
pub const PENDING: &str = "PENDING";
/// Packets and bytes, `[cpu][next hop]`.
pub const NEXTHOP_COUNTERS: &str = "NEXTHOP_COUNTERS";
/// What was sent to, transmitted by and lost at an egress interface, `[cpu][port]`.
pub const EGRESS_COUNTERS: &str = "EGRESS_COUNTERS";
/// Samples of packets: a ring buffer.
pub const SAMPLES: &str = "SAMPLES";
/// How many samples were taken and lost, `[cpu][port]`.
pub const SAMPLE_COUNTERS: &str = "SAMPLE_COUNTERS";
/// Directory: slot to prefix. Controller only.
pub const SLOT_DIRECTORY: &str = "SLOT_DIRECTORY";
/// Counts by source of earlier prefixes in each slot; one entry where that is not counted. Controller only.
pub const SOURCE_BASELINES: &str = "SOURCE_BASELINES";
/// Directory: number to account. Controller only.
pub const ACCOUNT_DIRECTORY: &str = "ACCOUNT_DIRECTORY";
/// AS numbers of neighbouring networks, by the number that directory entries name them by.
pub const NEIGHBOUR_ASES: &str = "NEIGHBOUR_ASES";
/// Counts of earlier accounts in each cell of `PAIRS`. Controller only.
pub const PAIR_BASELINES: &str = "PAIR_BASELINES";
/// Directory: next-hop id to neighbour. Controller only.
pub const NEXTHOP_DIRECTORY: &str = "NEXTHOP_DIRECTORY";
/// Directory: group id to its definition's digest. Controller only.
pub const GROUP_DIRECTORY: &str = "GROUP_DIRECTORY";
/// Directory: port to interface. Controller only.
pub const PORT_DIRECTORY: &str = "PORT_DIRECTORY";
/// One element: ABI version and sizes. Its layout never changes.
pub const META: &str = "META";
/// One element: the steps of the last traced packet. Private to a tracing instance, never pinned.
pub const TRACE: &str = "TRACE";
/// One element: rate limiter of the program's log. Private to each loaded program.
pub const LOG_LIMIT: &str = "LOG_LIMIT";

/// Maps shared through pins by every loaded program: tables and directories.
pub const SHARED_TABLES: &[&str] = &[
    FIB4_ROOT,
    FIB4_POOL,
    FIB6_ROOT,
    FIB6_POOL,
    SLOT_GROUP,
    GROUPS,
    ORIGINS,
    NEXTHOPS,
    INTERFACES,
    TRUNKS,
    LAGS,
    DEVICES,
    SETTINGS,
    SOURCES,
    RULES,
    SELF_BITS,
    SELF_ADDRESSES,
    PUNT,
    PUNT_FLOWS,
];
/// Maps the live program counts in. A tracing instance has its own, so that it leaves no mark.
pub const COUNTERS: &[&str] = &[
    REASON_COUNTERS,
    PRESUMED_COUNTERS,
    PREFIX_COUNTERS,
    SOURCE_COUNTERS,
    PAIRS,
    PENDING,
    NEXTHOP_COUNTERS,
    EGRESS_COUNTERS,
    RULE_STATES,
    LIMITERS,
    ASKED,
    PUNT_STATES,
    PUNT_LIMITERS,
    PUNT_BUCKETS,
    PUNT_SEEN,
    SAMPLES,
    SAMPLE_COUNTERS,
];
/// Maps no program looks at: what the controller must remember when it is killed.
pub const DIRECTORIES: &[&str] = &[
    SLOT_DIRECTORY,
    NEXTHOP_DIRECTORY,
    GROUP_DIRECTORY,
    PORT_DIRECTORY,
    RULE_DIRECTORY,
    SOURCE_BASELINES,
    ACCOUNT_DIRECTORY,
    NEIGHBOUR_ASES,
    PAIR_BASELINES,
    META,
];
