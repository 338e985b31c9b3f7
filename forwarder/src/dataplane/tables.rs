//! Every map of the data path as typed memory, and how large each is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use forwarder_common::{
    account::{self, AccountEntry},
    counters::{Counter, EgressCounters, Pending, ReasonCounters},
    direct::{self, Addressed},
    directory::{GroupEntry, Meta, NEIGHBOURS, NextHopEntry, PortEntry, SOURCES, SlotEntry},
    fib::{BLOCK_LEN, ROOT4_LEN, ROOT6_LEN, walk4, walk6},
    filter::SourceTable,
    flow::SELF_WORDS,
    interface::{IFINDEX_MAX, Interface},
    lag::Lag,
    limit::Limiter,
    maps,
    nexthop::{Group, NextHop},
    origin::Origin,
    punt::{self, Punt, PuntStates},
    reason::Reason,
    rules::{self, Asked, RuleEntry, RuleSet, RuleState},
    sample::{self, SampleCounter},
    settings::Settings,
    vlan::{ROWS, Trunk, VID, row},
};

use super::{Array, Region};

/// Rule slots.
const SLOTS: u32 = rules::SLOTS as u32;
/// Where [`Pending::source`] stands.
const SOURCE_WORD: usize = std::mem::offset_of!(Pending, source);

/// Sizes of the tables. They come from the configuration when the maps are made and from the pins afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sizes {
    /// Counter slots: as many prefixes as the table holds, both families together.
    pub slots: u32,
    /// IPv4 blocks of 256: one for each /24 that holds longer prefixes.
    pub blocks4: u32,
    /// IPv6 blocks of 256.
    pub blocks6: u32,
    /// Next-hop groups.
    pub groups: u32,
    /// Next hops.
    pub nexthops: u32,
    /// Interfaces, plus one.
    pub ports: u32,
    /// Possible CPUs.
    pub cpus: u32,
    /// There are counters by source prefix.
    pub sources: bool,
}

impl Sizes {
    /// Sizes for tests: a few thousand prefixes, two CPUs.
    pub const SMALL: Sizes = Sizes {
        slots: 8192,
        blocks4: 2048,
        blocks6: 4096,
        groups: 2048,
        nexthops: 512,
        ports: 16,
        cpus: 2,
        sources: false,
    };

    /// The sizes that pinned maps have.
    pub const fn of(meta: &Meta) -> Sizes {
        Sizes {
            slots: meta.slots,
            blocks4: meta.blocks4,
            blocks6: meta.blocks6,
            groups: meta.groups,
            nexthops: meta.nexthops,
            ports: meta.ports,
            cpus: meta.cpus,
            sources: meta.features & SOURCES != 0,
        }
    }

    /// Entries and octets of an entry for each mmapable table, by name.
    pub fn entries(&self) -> Vec<(&'static str, u32, u32)> {
        let size = |octets: usize| octets as u32;
        let (per_port, per_hop) = (self.cpus * self.ports, self.cpus * self.nexthops);
        let (source_counters, source_baselines) = self.by_source();
        let counter = size(size_of::<Counter>());
        let pairs = account::PAIRS as u32;
        vec![
            (maps::FIB4_ROOT, 1, size(ROOT4_LEN * 4)),
            (maps::FIB4_POOL, self.blocks4, size(BLOCK_LEN * 4)),
            (maps::FIB6_ROOT, 1, size(ROOT6_LEN * 4)),
            (maps::FIB6_POOL, self.blocks6, size(BLOCK_LEN * 4)),
            (maps::SLOT_GROUP, self.slots, 4),
            (maps::GROUPS, self.groups, size(size_of::<Group>())),
            (maps::ORIGINS, self.groups, size(size_of::<Origin>())),
            (maps::NEXTHOPS, self.nexthops, size(size_of::<NextHop>())),
            (maps::INTERFACES, IFINDEX_MAX, size(size_of::<Interface>())),
            (maps::TRUNKS, self.ports * ROWS, size(size_of::<Trunk>())),
            (maps::LAGS, self.ports, size(size_of::<Lag>())),
            (maps::SETTINGS, 1, size(size_of::<Settings>())),
            (maps::SOURCES, 2, size(size_of::<SourceTable>())),
            (maps::RULES, 2, size(size_of::<RuleSet>())),
            (maps::SELF_BITS, 1, size(SELF_WORDS * 8)),
            (maps::REASON_COUNTERS, per_port, size(size_of::<ReasonCounters>())),
            (
                maps::PRESUMED_COUNTERS,
                per_port,
                size(size_of::<ReasonCounters>()),
            ),
            (
                maps::PREFIX_COUNTERS,
                self.cpus * self.slots,
                size(size_of::<Counter>()),
            ),
            (maps::SOURCE_COUNTERS, source_counters, counter),
            (maps::PAIRS, self.cpus * pairs, counter),
            (maps::PENDING, self.cpus, size(size_of::<Pending>())),
            (maps::NEXTHOP_COUNTERS, per_hop, size(size_of::<Counter>())),
            (maps::EGRESS_COUNTERS, per_port, size(size_of::<EgressCounters>())),
            (maps::RULE_STATES, self.cpus * SLOTS, size(size_of::<RuleState>())),
            (maps::ASKED, self.cpus, size(size_of::<Asked>())),
            (maps::LIMITERS, SLOTS, size(size_of::<Limiter>())),
            (maps::PUNT, 1, size(size_of::<Punt>())),
            (maps::PUNT_STATES, self.cpus, size(size_of::<PuntStates>())),
            (
                maps::PUNT_LIMITERS,
                punt::LIMITERS as u32,
                size(size_of::<Limiter>()),
            ),
            (maps::PUNT_BUCKETS, (punt::ROWS * punt::BUCKETS) as u32, 8),
            (maps::PUNT_SEEN, punt::SETS as u32, size(punt::WAYS * 8)),
            (maps::SAMPLE_COUNTERS, per_port, size(size_of::<SampleCounter>())),
            (maps::SLOT_DIRECTORY, self.slots, size(size_of::<SlotEntry>())),
            (
                maps::NEXTHOP_DIRECTORY,
                self.nexthops,
                size(size_of::<NextHopEntry>()),
            ),
            (maps::GROUP_DIRECTORY, self.groups, size(size_of::<GroupEntry>())),
            (maps::PORT_DIRECTORY, self.ports, size(size_of::<PortEntry>())),
            (maps::RULE_DIRECTORY, SLOTS, size(size_of::<RuleEntry>())),
            (maps::SOURCE_BASELINES, source_baselines, counter),
            (
                maps::ACCOUNT_DIRECTORY,
                account::ACCOUNTS as u32,
                size(size_of::<AccountEntry>()),
            ),
            (maps::PAIR_BASELINES, pairs, counter),
            (maps::NEIGHBOUR_ASES, NEIGHBOURS as u32, 4),
            (maps::META, 1, size(size_of::<Meta>())),
        ]
    }

    /// Entries of the counters by source prefix, and of what was counted before; one where there are none, because a map has
    /// one at least.
    const fn by_source(&self) -> (u32, u32) {
        if self.sources {
            (self.cpus * self.slots, self.slots)
        } else {
            (1, 1)
        }
    }

    /// Elements and octets of an element for each mmapable map, by name. What the program addresses directly is one element
    /// with all entries (`forwarder_common::direct`).
    ///
    /// # Errors
    /// A table is too large for that.
    pub fn arrays(&self) -> Result<Vec<(&'static str, u32, u32)>, TooLarge> {
        let one = |(name, entries, size): (&'static str, u32, u32)| {
            let octets = entries as u64 * size as u64;
            let always = direct::addressed(name) == Addressed::Always;
            match is_one_element(name, octets) {
                true => Ok((name, 1, octets as u32)),
                false if always => Err(TooLarge { name, octets }),
                false => Ok((name, entries, size)),
            }
        };
        self.entries().into_iter().map(one).collect()
    }

    /// The length of a table by its name, as the program is told: 0 for one that it must ask the map for.
    pub fn length(&self, name: &str) -> u32 {
        let mut tables = self.entries().into_iter();
        let found = tables.find(|(known, ..)| *known == name);
        let reached = found.filter(|(name, entries, size)| {
            direct::addressed(name) != Addressed::WhereItFits
                || is_one_element(name, *entries as u64 * *size as u64)
        });
        reached.map_or(0, |(_, entries, _)| entries)
    }

    /// Octets of all mmapable maps together.
    pub fn memory(&self) -> u64 {
        self.entries()
            .iter()
            .map(|(_, entries, size)| *entries as u64 * *size as u64)
            .sum()
    }
}

/// Whether a table of so many octets is a map of one element.
fn is_one_element(name: &str, octets: u64) -> bool {
    direct::addressed(name) != Addressed::Never && octets <= direct::MAX_OCTETS
}

/// A table that the program cannot reach the end of.
#[derive(Debug, thiserror::Error)]
#[error(
    "the table {name} would have {} MiB, and the kernel lets a program reach {} MiB of one: make [tables] in the configuration smaller",
    octets >> 20, direct::MAX_OCTETS >> 20
)]
pub struct TooLarge {
    name: &'static str,
    octets: u64,
}

/// The maps.
pub struct Tables {
    /// What they were made for.
    pub sizes: Sizes,
    /// IPv4 root words.
    pub fib4_root: Region,
    /// IPv4 block words.
    pub fib4_pool: Region,
    /// IPv6 root words.
    pub fib6_root: Region,
    /// IPv6 block words.
    pub fib6_pool: Region,
    /// Groups of slots whose leaf is indirect.
    pub slot_group: Region,
    /// Next-hop groups.
    pub groups: Array<Group>,
    /// By which interfaces sources of each group may come in.
    pub origins: Array<Origin>,
    /// Next hops.
    pub nexthops: Array<NextHop>,
    /// Ingress interfaces by ifindex.
    pub interfaces: Array<Interface>,
    /// `[port][kind of tag][identifier]`: ifindexes of VLANs.
    pub trunks: Region,
    /// `[port]`: members of bonds.
    pub lags: Array<Lag>,
    /// Settings.
    pub settings: Array<Settings>,
    /// Two source tables.
    pub sources: Region,
    /// Two rule sets.
    pub rules: Region,
    /// `[cpu][rule slot]`.
    pub rule_states: Array<RuleState>,
    /// `[rule slot]`.
    pub limiters: Array<Limiter>,
    /// Rule directory.
    pub rule_directory: Array<RuleEntry>,
    /// Rates of what is passed up.
    pub punt: Array<Punt>,
    /// `[cpu]`.
    pub punt_states: Array<PuntStates>,
    /// `[class]`, and behind those the reserves.
    pub punt_limiters: Array<Limiter>,
    /// Own-address bitmap.
    pub self_bits: Region,
    /// `[cpu][port][reason]`.
    pub reason_counters: Array<Counter>,
    /// `[cpu][port][reason]`: what would have become of packets that passed because of a dry run.
    pub presumed_counters: Array<Counter>,
    /// `[cpu][slot]`.
    pub prefix_counters: Array<Counter>,
    /// `[cpu][slot]`, where packets are counted by source prefix.
    pub source_counters: Array<Counter>,
    /// `[slot]`, likewise.
    pub source_baselines: Array<Counter>,
    /// `[cpu][crossing][from][to]`.
    pub pairs: Array<Counter>,
    /// `[crossing][from][to]`.
    pub pair_baselines: Array<Counter>,
    /// Account directory.
    pub account_directory: Array<AccountEntry>,
    /// `[cpu]`.
    pub pending: Array<Pending>,
    /// `[cpu][next hop]`.
    pub nexthop_counters: Array<Counter>,
    /// `[cpu][port]`.
    pub egress_counters: Array<EgressCounters>,
    /// `[cpu][port]`.
    pub sample_counters: Array<SampleCounter>,
    /// Slot directory.
    pub slot_directory: Array<SlotEntry>,
    /// Next-hop directory.
    pub nexthop_directory: Array<NextHopEntry>,
    /// Group directory.
    pub group_directory: Array<GroupEntry>,
    /// Port directory.
    pub port_directory: Array<PortEntry>,
    /// AS numbers of neighbouring networks.
    pub neighbour_ases: Region,
    /// ABI and sizes.
    pub meta: Array<Meta>,
}

impl Tables {
    /// Builds the tables from one region per map.
    ///
    /// # Errors
    /// Whatever `open` answers; it gets a map's name and its octets.
    pub fn open<E>(
        sizes: Sizes,
        mut open: impl FnMut(&'static str, usize) -> Result<Region, E>,
    ) -> Result<Tables, E> {
        let lengths = sizes.entries();
        let mut region = |name: &'static str| {
            let (_, entries, size) = lengths
                .iter()
                .find(|(n, ..)| *n == name)
                .copied()
                .unwrap_or((name, 0, 0));
            open(name, entries as usize * size as usize)
        };
        let (slots, nexthops) = (sizes.slots as usize, sizes.nexthops as usize);
        let (ports, cpus) = (sizes.ports as usize, sizes.cpus as usize);
        let (source_counters, source_baselines) = sizes.by_source();
        Ok(Tables {
            sizes,
            fib4_root: region(maps::FIB4_ROOT)?,
            fib4_pool: region(maps::FIB4_POOL)?,
            fib6_root: region(maps::FIB6_ROOT)?,
            fib6_pool: region(maps::FIB6_POOL)?,
            slot_group: region(maps::SLOT_GROUP)?,
            groups: Array::new(region(maps::GROUPS)?, sizes.groups as usize),
            origins: Array::new(region(maps::ORIGINS)?, sizes.groups as usize),
            nexthops: Array::new(region(maps::NEXTHOPS)?, nexthops),
            interfaces: Array::new(region(maps::INTERFACES)?, IFINDEX_MAX as usize),
            trunks: region(maps::TRUNKS)?,
            lags: Array::new(region(maps::LAGS)?, ports),
            settings: Array::new(region(maps::SETTINGS)?, 1),
            sources: region(maps::SOURCES)?,
            rules: region(maps::RULES)?,
            rule_states: Array::new(region(maps::RULE_STATES)?, cpus * rules::SLOTS),
            limiters: Array::new(region(maps::LIMITERS)?, rules::SLOTS),
            rule_directory: Array::new(region(maps::RULE_DIRECTORY)?, rules::SLOTS),
            punt: Array::new(region(maps::PUNT)?, 1),
            punt_states: Array::new(region(maps::PUNT_STATES)?, cpus),
            punt_limiters: Array::new(region(maps::PUNT_LIMITERS)?, punt::LIMITERS),
            self_bits: region(maps::SELF_BITS)?,
            reason_counters: Array::new(region(maps::REASON_COUNTERS)?, cpus * ports * Reason::SLOTS),
            presumed_counters: Array::new(region(maps::PRESUMED_COUNTERS)?, cpus * ports * Reason::SLOTS),
            prefix_counters: Array::new(region(maps::PREFIX_COUNTERS)?, cpus * slots),
            source_counters: Array::new(region(maps::SOURCE_COUNTERS)?, source_counters as usize),
            source_baselines: Array::new(region(maps::SOURCE_BASELINES)?, source_baselines as usize),
            pairs: Array::new(region(maps::PAIRS)?, cpus * account::PAIRS),
            pair_baselines: Array::new(region(maps::PAIR_BASELINES)?, account::PAIRS),
            account_directory: Array::new(region(maps::ACCOUNT_DIRECTORY)?, account::ACCOUNTS),
            pending: Array::new(region(maps::PENDING)?, cpus),
            nexthop_counters: Array::new(region(maps::NEXTHOP_COUNTERS)?, cpus * nexthops),
            egress_counters: Array::new(region(maps::EGRESS_COUNTERS)?, cpus * ports),
            sample_counters: Array::new(region(maps::SAMPLE_COUNTERS)?, cpus * ports),
            slot_directory: Array::new(region(maps::SLOT_DIRECTORY)?, slots),
            nexthop_directory: Array::new(region(maps::NEXTHOP_DIRECTORY)?, nexthops),
            group_directory: Array::new(region(maps::GROUP_DIRECTORY)?, sizes.groups as usize),
            port_directory: Array::new(region(maps::PORT_DIRECTORY)?, ports),
            neighbour_ases: region(maps::NEIGHBOUR_ASES)?,
            meta: Array::new(region(maps::META)?, 1),
        })
    }

    /// Zeroed tables on the heap.
    pub fn heap(sizes: Sizes) -> Tables {
        let built: Result<Tables, std::convert::Infallible> =
            Tables::open(sizes, |_, octets| Ok(Region::heap(octets)));
        match built {
            Ok(tables) => tables,
            Err(never) => match never {},
        }
    }

    /// Counts of a slot over all CPUs, as they stand.
    pub fn slot_counter(&self, slot: u32) -> Counter {
        (0..self.sizes.cpus).fold(Counter::default(), |sum, cpu| {
            sum.plus(self.slot_counter_on(cpu, slot))
        })
    }

    /// Counts of a slot on one CPU.
    pub fn slot_counter_on(&self, cpu: u32, slot: u32) -> Counter {
        let word = || self.pending.word(cpu as usize, 0).load(Ordering::Acquire);
        let counter = || self.prefix_counters.get((cpu * self.sizes.slots + slot) as usize);
        Pending::read(slot, word, counter)
    }

    /// Whether a CPU has ever forwarded a packet: its word changes with the first and is hardly ever zero again.
    pub fn has_counted(&self, cpu: u32) -> bool {
        self.pending.word(cpu as usize, 0).load(Ordering::Acquire) != 0
    }

    /// Counts of packets from a slot's prefix over all CPUs, as they stand; none where that is not counted.
    pub fn slot_source_counter(&self, slot: u32) -> Counter {
        if !self.sizes.sources {
            return Counter::default();
        }
        (0..self.sizes.cpus).fold(Counter::default(), |sum, cpu| {
            sum.plus(self.slot_source_counter_on(cpu, slot))
        })
    }

    /// The same on one CPU; only where they are counted.
    pub fn slot_source_counter_on(&self, cpu: u32, slot: u32) -> Counter {
        let word = || {
            self.pending
                .word(cpu as usize, SOURCE_WORD)
                .load(Ordering::Acquire)
        };
        let counter = || self.source_counters.get((cpu * self.sizes.slots + slot) as usize);
        Pending::read(slot, word, counter)
    }

    /// Counts of a cell of the pairs of accounts ([`account::pair`]) over all CPUs, as they stand.
    pub fn pair_counter(&self, cell: u32) -> Counter {
        self.sum(&self.pairs, account::PAIRS as u32, cell)
    }

    /// The AS that a directory entry names by this number; 0: none.
    pub fn neighbour_as(&self, number: u16) -> u32 {
        self.neighbour_ases
            .u32(usize::from(number) * 4)
            .load(Ordering::Acquire)
    }

    /// Counts of a next hop over all CPUs, as they stand.
    pub fn nexthop_counter(&self, id: u32) -> Counter {
        self.sum(&self.nexthop_counters, self.sizes.nexthops, id)
    }

    fn sum(&self, array: &Array<Counter>, stride: u32, index: u32) -> Counter {
        (0..self.sizes.cpus).fold(Counter::default(), |sum, cpu| {
            sum.plus(array.get((cpu * stride + index) as usize))
        })
    }

    /// Counts of a port by reason, over all CPUs.
    pub fn reasons(&self, port: u32) -> [Counter; Reason::SLOTS] {
        self.by_reason(&self.reason_counters, port)
    }

    /// What would have become of a port's packets that passed because of a dry run, by reason, over all CPUs: they are those
    /// that [`Self::reasons`] has under [`Reason::DryRun`].
    pub fn presumed(&self, port: u32) -> [Counter; Reason::SLOTS] {
        self.by_reason(&self.presumed_counters, port)
    }

    fn by_reason(&self, counters: &Array<Counter>, port: u32) -> [Counter; Reason::SLOTS] {
        let mut sums = [Counter::default(); Reason::SLOTS];
        for cpu in 0..self.sizes.cpus {
            let base = (cpu * self.sizes.ports + port) as usize * Reason::SLOTS;
            for (index, sum) in sums.iter_mut().enumerate() {
                *sum = sum.plus(counters.get(base + index));
            }
        }
        sums
    }

    /// Egress counts of a port, over all CPUs.
    pub fn egress(&self, port: u32) -> EgressCounters {
        let mut sum = EgressCounters::default();
        for cpu in 0..self.sizes.cpus {
            let one = self.egress_counters.get((cpu * self.sizes.ports + port) as usize);
            sum.forwarded = sum.forwarded.plus(one.forwarded);
            sum.transmitted = sum.transmitted.wrapping_add(one.transmitted);
            for kind in 0..one.redirect_errors.len() {
                sum.redirect_errors[kind] = sum.redirect_errors[kind].wrapping_add(one.redirect_errors[kind]);
                sum.transmit_errors[kind] = sum.transmit_errors[kind].wrapping_add(one.transmit_errors[kind]);
            }
        }
        sum
    }

    /// Samples of a port's packets, over all CPUs.
    pub fn samples(&self, port: u32) -> SampleCounter {
        let mut sum = SampleCounter::default();
        for cpu in 0..self.sizes.cpus {
            let one = self.sample_counters.get((cpu * self.sizes.ports + port) as usize);
            sum.taken = sum.taken.wrapping_add(one.taken);
            sum.lost = sum.lost.wrapping_add(one.lost);
        }
        sum
    }

    /// Has one packet in `rate` sampled from now on, with `octets` of its frame; none where `rate` is 0.
    pub fn set_samples(&self, rate: u32, octets: u32) {
        let word = self.settings.word(0, std::mem::offset_of!(Settings, sample_rate));
        word.store(sample::settings_word(rate, octets), Ordering::Release);
    }

    /// Whether packets are only decided about, and all passed to the kernel.
    pub fn is_dry_run(&self) -> bool {
        self.dry_run().load(Ordering::Acquire) != 0
    }

    /// Has packets only decided about from now on, or has done with them what is decided.
    pub fn set_dry_run(&self, dry: bool) {
        self.dry_run().store(u64::from(dry), Ordering::Release);
    }

    fn dry_run(&self) -> &AtomicU64 {
        self.settings.word(0, std::mem::offset_of!(Settings, dry_run))
    }

    /// The ifindex of a VLAN on a port; 0 where there is none.
    pub fn vlan(&self, port: u32, service: bool, id: u16) -> u32 {
        let (word, shift) = self.vlan_place(port, service, id);
        word.load(Ordering::Acquire) >> shift & 0xffff
    }

    /// Says where frames of a VLAN come in: the ifindex, 0 for nowhere.
    pub fn set_vlan(&self, port: u32, service: bool, id: u16, ifindex: u32) {
        let (word, shift) = self.vlan_place(port, service, id);
        // Nobody else writes, so nothing is lost between.
        let others = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(others | (ifindex & 0xffff) << shift, Ordering::Release);
    }

    /// Two identifiers share a word.
    fn vlan_place(&self, port: u32, service: bool, id: u16) -> (&AtomicU32, u32) {
        let place = row(port, service) as usize * size_of::<Trunk>() + usize::from(id & VID) * 2;
        (self.trunks.u32(place & !3), (place as u32 & 2) * 8)
    }

    /// The group word of a slot whose leaf is indirect.
    pub fn slot_group(&self, slot: u32) -> &AtomicU32 {
        self.slot_group.u32(slot as usize * 4)
    }

    /// The leaf the program finds for an address, by the program's own walk.
    pub fn lookup(&self, address: std::net::IpAddr) -> Option<forwarder_common::fib::Leaf> {
        let word = |region: &Region, index: usize| Some(region.u32(index * 4).load(Ordering::Acquire));
        let block = |region: &Region, block: u32, octet: u8| {
            word(region, block as usize * BLOCK_LEN + octet as usize)
        };
        match address {
            std::net::IpAddr::V4(address) => walk4(
                u32::from(address),
                |index| word(&self.fib4_root, index),
                |b, octet| block(&self.fib4_pool, b, octet),
            ),
            std::net::IpAddr::V6(address) => walk6(
                &address.octets(),
                |index| word(&self.fib6_root, index),
                |b, octet| block(&self.fib6_pool, b, octet),
            ),
        }
    }
}
