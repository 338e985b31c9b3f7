//! The maps, with the sizes of a small table: the loader sets those of the configuration.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, DevMap, HashMap},
};
use forwarder_common::{
    counters::{Counter, EgressCounters, Pending, ReasonCounters},
    fib::{Block, Root4, Root6},
    filter::SourceTable,
    flow::SELF_WORDS,
    interface::{IFINDEX_MAX, Interface},
    nexthop::{Group, NextHop},
    settings::Settings,
    trace::Trace,
};

macro_rules! arrays {
    ($($name:ident: $type:ty = $entries:expr;)+) => {
        $(#[allow(missing_docs, reason = "forwarder_common::maps says what each is")]
        #[map]
        pub static $name: Array<$type> = Array::with_max_entries($entries, BPF_F_MMAPABLE);)+
    };
}

arrays! {
    FIB4_ROOT: Root4 = 1;
    FIB4_POOL: Block = 1024;
    FIB6_ROOT: Root6 = 1;
    FIB6_POOL: Block = 1024;
    SLOT_GROUP: u32 = 4096;
    GROUPS: Group = 64;
    NEXTHOPS: NextHop = 64;
    INTERFACES: Interface = IFINDEX_MAX;
    SETTINGS: Settings = 1;
    SOURCES: SourceTable = 2;
    SELF_BITS: [u64; SELF_WORDS] = 1;
    REASON_COUNTERS: ReasonCounters = 64;
    PREFIX_COUNTERS: Counter = 4096;
    PENDING: Pending = 64;
    NEXTHOP_COUNTERS: Counter = 64;
    EGRESS_COUNTERS: EgressCounters = 64;
    TRACE: Trace = 1;
    LOG_LIMIT: u64 = 1;
}

/// Egress devices by ifindex.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(IFINDEX_MAX, 0);

/// The router's own IPv4 addresses, host order.
#[map]
pub static SELF_ADDRESSES: HashMap<u32, u32> = HashMap::with_max_entries(4096, 0);

/// Counter slots: the stride of `PREFIX_COUNTERS` by CPU.
#[unsafe(no_mangle)]
pub static SLOTS: Global<u32> = Global::new(0);
/// Next hops: the stride of `NEXTHOP_COUNTERS` by CPU.
#[unsafe(no_mangle)]
pub static NEXTHOP_COUNT: Global<u32> = Global::new(0);
/// Ports: the stride of `REASON_COUNTERS` and `EGRESS_COUNTERS` by CPU.
#[unsafe(no_mangle)]
pub static PORTS: Global<u32> = Global::new(0);
/// 1 in a tracing instance.
#[unsafe(no_mangle)]
pub static TRACING: Global<u32> = Global::new(0);

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

/// Whether this is a tracing instance. Read-only for everybody, so the compiler may read it once.
#[inline(always)]
fn tracing() -> bool {
    #[cfg(target_arch = "bpf")]
    {
        let word: u64;
        // SAFETY: reads a word of the object's read-only data, which nothing writes once the program is loaded: `nomem`
        // says that the answer does not depend on what else the program does.
        unsafe {
            core::arch::asm!(
                "{word} = *(u32 *)({at} + 0)",
                word = out(reg) word, at = in(reg) &raw const TRACING,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        word != 0
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        TRACING.load() != 0
    }
}

/// Notes a step of a traced packet; compiled away in the live program, whose `TRACING` is a constant 0.
#[inline(always)]
pub fn trace(note: impl FnOnce(&mut Trace)) {
    if !tracing() {
        return;
    }
    if let Some(trace) = TRACE.get_ptr_mut(0) {
        // SAFETY: a tracing instance runs one packet at a time; its map is private to it.
        note(unsafe { &mut *trace });
    }
}
