//! The tables, whose addresses and lengths the loader writes into the program, and the maps.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, DevMap, HashMap, RingBuf},
};
use forwarder_common::{
    counters::{Counter, EgressCounters, Pending, ReasonCounters},
    direct::number,
    directory::{NextHopEntry, PortEntry, SlotEntry},
    fib::{Block, Root4, Root6},
    filter::SourceTable,
    flow::SELF_WORDS,
    interface::{IFINDEX_MAX, Interface},
    lag::Lag,
    limit::Limiter,
    maps as names,
    nexthop::{Group, NextHop},
    origin::Origin,
    punt::{FLOWS, Flow, Punt, PuntStates, WAYS},
    rules::{Asked, RuleEntry, RuleSet, RuleState},
    sample::{RING_OCTETS, SampleCounter},
    settings::Settings,
    trace::Trace,
    vlan::Trunk,
};

use crate::direct::{Single, Table};

macro_rules! direct {
    ($($name:ident: $kind:ident<$type:ty>;)+) => {
        $(#[allow(missing_docs, reason = "forwarder_common::maps says what each is")]
        pub static $name: $kind<$type, { number(names::$name) }> = $kind::new();)+
    };
}

direct! {
    FIB4_ROOT: Single<Root4>;
    FIB4_POOL: Table<Block>;
    FIB6_ROOT: Single<Root6>;
    FIB6_POOL: Table<Block>;
    SLOT_GROUP: Table<u32>;
    GROUPS: Table<Group>;
    ORIGINS: Table<Origin>;
    NEXTHOPS: Table<NextHop>;
    INTERFACES: Table<Interface>;
    TRUNKS: Table<Trunk>;
    LAGS: Table<Lag>;
    SETTINGS: Single<Settings>;
    SOURCES: Single<[SourceTable; 2]>;
    RULES: Single<[RuleSet; 2]>;
    RULE_STATES: Table<RuleState>;
    LIMITERS: Table<Limiter>;
    ASKED: Table<Asked>;
    SELF_BITS: Single<[u64; SELF_WORDS]>;
    REASON_COUNTERS: Table<ReasonCounters>;
    PRESUMED_COUNTERS: Table<ReasonCounters>;
    PAIRS: Table<Counter>;
    PENDING: Table<Pending>;
    NEXTHOP_COUNTERS: Table<Counter>;
    EGRESS_COUNTERS: Table<EgressCounters>;
    PUNT: Single<Punt>;
    PUNT_STATES: Table<PuntStates>;
    PUNT_LIMITERS: Table<Limiter>;
    PUNT_BUCKETS: Table<u64>;
    PUNT_SEEN: Table<[u64; WAYS]>;
    SAMPLE_COUNTERS: Table<SampleCounter>;
}

/// `PREFIX_COUNTERS` where it is one element; else as long as nothing, and the map is asked.
pub static PREFIX_COUNTERS_DIRECT: Table<Counter, { number(names::PREFIX_COUNTERS) }> = Table::new();
/// `SOURCE_COUNTERS` likewise; of a single entry where sources are not counted.
pub static SOURCE_COUNTERS_DIRECT: Table<Counter, { number(names::SOURCE_COUNTERS) }> = Table::new();
/// Counter slots: the stride of `PREFIX_COUNTERS` by CPU.
pub static SLOTS: Table<SlotEntry, { number(names::SLOT_DIRECTORY) }> = Table::new();
/// Next hops: the stride of `NEXTHOP_COUNTERS` by CPU.
pub static NEXTHOP_COUNT: Table<NextHopEntry, { number(names::NEXTHOP_DIRECTORY) }> = Table::new();
/// Rule slots: the stride of `RULE_STATES` by CPU.
pub static RULE_SLOTS: Table<RuleEntry, { number(names::RULE_DIRECTORY) }> = Table::new();
/// Ports: the stride of `REASON_COUNTERS` and `EGRESS_COUNTERS` by CPU.
pub static PORTS: Table<PortEntry, { number(names::PORT_DIRECTORY) }> = Table::new();

macro_rules! arrays {
    ($($name:ident: $type:ty = $entries:expr;)+) => {
        $(#[allow(missing_docs, reason = "forwarder_common::maps says what each is")]
        #[map]
        pub static $name: Array<$type> = Array::with_max_entries($entries, BPF_F_MMAPABLE);)+
    };
}

arrays! {
    PREFIX_COUNTERS: Counter = 4096;
    SOURCE_COUNTERS: Counter = 4096;
    TRACE: Trace = 1;
    LOG_LIMIT: u64 = 1;
}

/// Egress devices by ifindex.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(IFINDEX_MAX, 0);

/// The router's own IPv4 addresses, host order.
#[map]
pub static SELF_ADDRESSES: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// Sessions, peers and tunnels of the router's.
#[map]
pub static PUNT_FLOWS: HashMap<Flow, u32> = HashMap::with_max_entries(FLOWS, 0);

/// Samples of packets.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(RING_OCTETS, 0);

/// Offset of `net_device.ifindex`, from BTF.
#[unsafe(no_mangle)]
pub static OFFSET_IFINDEX: Global<u32> = Global::new(0);
/// Offset of `net_device.nd_net.net`, from BTF.
#[unsafe(no_mangle)]
pub static OFFSET_NET: Global<u32> = Global::new(0);
/// Offset of `net.ns.inum`, from BTF.
#[unsafe(no_mangle)]
pub static OFFSET_INUM: Global<u32> = Global::new(0);
/// Inode number of our network namespace.
#[unsafe(no_mangle)]
pub static NETNS: Global<u32> = Global::new(0);
/// Map id of `DEVICES`.
#[unsafe(no_mangle)]
pub static DEVICES_ID: Global<u32> = Global::new(0);

/// The CPU whose counters are written.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: no arguments, no side effects.
    unsafe { bpf_get_smp_processor_id() }
}
