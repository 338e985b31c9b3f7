//! What every prefix and every network has forwarded since the last pass, exactly.
//!
//! A pass looks at every slot's counter, and at the directory only where it moved. The controller writes the directory at the
//! same time; what keeps the sums exact is the order: it leaves a [`Reading`] of a slot before the directory says that the
//! slot is another's, and a pass takes waiting readings between looking at the directory and using what it saw.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use forwarder_common::counters::Counter;
use ipnet::IpNet;

use super::anchors::Anchors;
use crate::{
    dataplane::Tables,
    fib::{Readings, family::prefix_of, readings::Reading, slots::RESERVED},
    stats::prefixes::entry,
};

/// What a prefix did in the last pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// The prefix.
    pub prefix: IpNet,
    /// Its network; 0 where nobody says.
    pub origin_as: u32,
    /// The network it is heard from.
    pub neighbour_as: u32,
    /// Forwarded to it.
    pub to: Counter,
    /// Forwarded from it, where packets are counted by source.
    pub from: Counter,
}

/// Forwarded to something, and from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both {
    /// It was the destination's.
    pub to: Counter,
    /// It was the source's.
    pub from: Counter,
}

impl Both {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Both) -> Both {
        Both {
            to: self.to.plus(other.to),
            from: self.from.plus(other.from),
        }
    }
}

/// A sum by key.
pub type Sums<K> = HashMap<K, Both, RandomState>;

/// Sums since the last commit.
#[derive(Default)]
pub struct Totals {
    /// By prefix.
    pub prefixes: Sums<IpNet>,
    /// By the network it comes from.
    pub origins: Sums<u32>,
    /// By the network it is heard from.
    pub neighbours: Sums<u32>,
    /// By the network it comes from and the way it was sent, as a place in `ways`.
    pub origins_by_way: HashMap<(u32, u16), Counter, RandomState>,
    /// Ports, in ascending order: one where a prefix has one way out, several where its packets are shared among them.
    pub ways: Vec<Vec<u16>>,
}

impl Totals {
    /// All of it.
    pub fn sum(&self) -> Both {
        self.prefixes
            .values()
            .fold(Both::default(), |sum, counter| sum.plus(*counter))
    }

    /// The place of a way; `None` where there are more than can be told apart.
    fn way(&mut self, ports: Vec<u16>) -> Option<u16> {
        let place = match self.ways.iter().position(|known| *known == ports) {
            Some(place) => place,
            None => {
                self.ways.push(ports);
                self.ways.len() - 1
            }
        };
        u16::try_from(place).ok()
    }
}

/// Adds up.
pub struct Prefixes {
    /// Up to where: of packets to prefixes, and of those from them; no slots where those are not counted.
    pub anchors: [Anchors; 2],
    /// Slots whose anchor moved since the last commit, a bit each.
    moved: Vec<u64>,
    /// Since then.
    pub totals: Totals,
    /// What moved in the last pass.
    pub active: Vec<Active>,
    /// What slots had counted that came to stand for something else.
    pub readings: Readings,
    /// CPUs that have forwarded anything.
    cpus: Vec<u32>,
    /// The way of each group, in this pass.
    ways: HashMap<u32, Option<u16>, RandomState>,
}

impl Prefixes {
    /// Nothing added up yet.
    pub fn new(tables: &Tables, readings: Readings) -> Prefixes {
        let slots = tables.sizes.slots;
        let from = if tables.sizes.sources { slots } else { 0 };
        Prefixes {
            anchors: [Anchors::new(slots), Anchors::new(from)],
            moved: vec![0; slots.div_ceil(64) as usize],
            totals: Totals::default(),
            active: Vec::new(),
            readings,
            cpus: Vec::new(),
            ways: HashMap::default(),
        }
    }

    /// Everything counted up to now is left out.
    pub fn begin_here(&mut self, tables: &Tables) {
        self.readings.take();
        for slot in RESERVED..tables.sizes.slots {
            let reading = read(tables, slot);
            if reading.entry.generation != 0 {
                self.set(&reading);
            }
        }
    }

    /// Looks at every slot.
    pub fn pass(&mut self, tables: &Tables) {
        self.active.clear();
        self.ways.clear();
        self.take_readings(tables);
        let fresh = |cpu: &u32| !self.cpus.contains(cpu) && tables.has_counted(*cpu);
        let fresh: Vec<u32> = (0..tables.sizes.cpus).filter(fresh).collect();
        self.cpus.extend(fresh);
        let cpus = self.cpus.clone();
        let sources = tables.sizes.sources;
        for slot in RESERVED..tables.sizes.slots {
            let to = sum(&cpus, |cpu| tables.slot_counter_on(cpu, slot));
            let mut moved = !self.anchors[0].is_at(slot, to);
            if sources && !moved {
                let from = sum(&cpus, |cpu| tables.slot_source_counter_on(cpu, slot));
                moved = !self.anchors[1].is_at(slot, from);
            }
            if moved {
                self.look(tables, slot);
            }
        }
        self.take_readings(tables);
    }

    fn look(&mut self, tables: &Tables, slot: u32) {
        let mut reading = read(tables, slot);
        if self.readings.any() {
            self.take_readings(tables);
            reading = read(tables, slot);
        }
        self.add(tables, &reading);
    }

    /// Adds up what waits: between passes, too, where much does.
    pub fn take_readings(&mut self, tables: &Tables) {
        if self.readings.any() {
            for reading in self.readings.take() {
                self.add(tables, &reading);
            }
        }
    }

    fn add(&mut self, tables: &Tables, reading: &Reading) {
        let Some(more) = self.since(reading) else { return };
        let entry = &reading.entry;
        let Some(prefix) = prefix_of(entry.family, entry.address, entry.length) else {
            return;
        };
        self.set(reading);
        let (origin_as, neighbour_as) = (entry.origin_as, tables.neighbour_as(entry.neighbour));
        let totals = &mut self.totals;
        add(&mut totals.prefixes, prefix, more);
        add(&mut totals.origins, origin_as, more);
        add(&mut totals.neighbours, neighbour_as, more);
        let way = self
            .ways
            .entry(entry.group)
            .or_insert_with(|| totals.way(ports(tables, entry.group)?));
        // By which interface packets from there came in is not known.
        if let Some(way) = way.filter(|_| more.to != Counter::default()) {
            let sum = totals.origins_by_way.entry((origin_as, way)).or_default();
            *sum = sum.plus(more.to);
        }
        self.active.push(Active {
            prefix,
            origin_as,
            neighbour_as,
            to: more.to,
            from: more.from,
        });
    }

    /// What a slot has counted since it was read last; `None`: nothing, or it was read later already.
    fn since(&self, reading: &Reading) -> Option<Both> {
        let Reading { slot, entry, .. } = *reading;
        let generation = entry.generation.into();
        let [to, from] = &self.anchors;
        let from = match from.slots() {
            0 => Some(Counter::default()),
            _ => from.since(slot, generation, reading.from_baseline, reading.from),
        };
        let more = Both {
            to: to.since(slot, generation, entry.baseline, reading.to)?,
            from: from?,
        };
        (more != Both::default()).then_some(more)
    }

    fn set(&mut self, reading: &Reading) {
        let (slot, generation) = (reading.slot, reading.entry.generation.into());
        let [to, from] = &mut self.anchors;
        to.set(slot, generation, reading.to);
        if from.slots() > 0 {
            from.set(slot, generation, reading.from);
        }
        self.moved[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Slots whose anchors moved since the last commit.
    fn moved(&self) -> impl Iterator<Item = u32> + Clone {
        self.moved.iter().enumerate().flat_map(move |(index, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 != 0);
            bits.map(move |bit| index as u32 * 64 + bit)
        })
    }

    /// The anchors of one side that moved since the last commit.
    pub fn moved_anchors<'a>(&'a self, side: &'a Anchors) -> impl Iterator<Item = (u32, [u64; 2])> + 'a {
        let slots = self.moved().filter(|slot| *slot < side.slots());
        slots.map(|slot| (slot, side.get(slot)))
    }

    /// What was added up is kept.
    pub fn committed(&mut self) {
        self.moved.fill(0);
        // They are places in what goes here.
        self.ways.clear();
        // New maps: a flood of prefixes in one interval does not stay in memory for ever.
        self.totals = Totals::default();
    }
}

fn add<K: std::hash::Hash + Eq>(sums: &mut Sums<K>, key: K, more: Both) {
    let sum = sums.entry(key).or_default();
    *sum = sum.plus(more);
}

/// A slot's entry and its counters that belong together.
fn read(tables: &Tables, slot: u32) -> Reading {
    let mut seen = entry(tables, slot);
    loop {
        let reading = Reading::now(tables, slot, seen);
        let again = entry(tables, slot);
        if again == seen {
            return reading;
        }
        seen = again;
    }
}

fn sum(cpus: &[u32], counter: impl Fn(u32) -> Counter) -> Counter {
    cpus.iter()
        .fold(Counter::default(), |sum, cpu| sum.plus(counter(*cpu)))
}

/// The ports among which a group shares its packets, each once, in ascending order; `None` where one of them is not known.
fn ports(tables: &Tables, group: u32) -> Option<Vec<u16>> {
    if group >= tables.sizes.groups {
        return None;
    }
    let entry = tables.groups.get(group as usize);
    let used = match entry.width {
        0 | 1 => &entry.buckets[..1],
        _ => &entry.buckets[..],
    };
    let port = |id: &u16| {
        let known = u32::from(*id) < tables.sizes.nexthops;
        known
            .then(|| tables.nexthops.get(usize::from(*id)).port)
            .filter(|port| *port != 0)
    };
    let mut ports: Vec<u16> = used.iter().map(port).collect::<Option<_>>()?;
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        dataplane::Sizes,
        fib::{Fib, Provenance},
    };

    #[test]
    fn what_is_shared_among_ports_is_of_all_of_them_and_what_a_group_names_twice_is_there_once() {
        use forwarder_common::nexthop::{Group, NextHop};
        let tables = Tables::heap(SIZES);
        for (id, port) in [(1, 7), (2, 3), (3, 7), (4, 0)] {
            let hop = NextHop {
                port,
                ..tables.nexthops.get(id)
            };
            tables.nexthops.set(id, &hop);
        }
        let mut shared = Group::single(1);
        shared.width = shared.buckets.len() as u32;
        let ways = |buckets: &[u16], mut group: Group| {
            for (place, id) in group.buckets.iter_mut().zip(buckets.iter().cycle()) {
                *place = *id;
            }
            tables.groups.set(2, &group);
            ports(&tables, 2)
        };
        assert_eq!(ways(&[1, 2, 3], shared), Some(vec![3, 7]));
        assert_eq!(ways(&[1, 3], shared), Some(vec![7]));
        // Buckets behind the first are none of a group that has one way.
        assert_eq!(ways(&[1, 2], Group::single(1)), Some(vec![7]));
        // One of them is not known.
        assert_eq!(ways(&[1, 4], shared), None);
        assert_eq!(ports(&tables, tables.sizes.groups), None);

        let mut totals = Totals::default();
        let places = [vec![7], vec![3, 7], vec![7]].map(|ports| totals.way(ports));
        assert_eq!(places, [Some(0), Some(1), Some(0)]);
    }

    const PUNT: u32 = 1;
    const SIZES: Sizes = Sizes {
        slots: RESERVED + 6,
        ..Sizes::SMALL
    };

    #[derive(Clone, Debug)]
    enum Step {
        Announce(usize, u32, u32),
        Withdraw(usize),
        Grace,
        Forward(usize, u32, u64),
        Pass,
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..9usize, 0..3u32, 2..5u32).prop_map(|(at, asn, group)| Step::Announce(at, asn, group)),
            2 => (0..9usize).prop_map(Step::Withdraw),
            2 => Just(Step::Grace),
            6 => (0..9usize, 0..2u32, 1..9u64).prop_map(|(at, cpu, packets)| Step::Forward(at, cpu, packets)),
            1 => Just(Step::Pass),
            1 => Just(Step::Commit),
        ]
    }

    fn prefix(at: usize) -> IpNet {
        match at {
            0..6 => format!("10.{at}.0.0/16").parse().expect("prefix"),
            _ => format!("2001:db8:{at}::/48").parse().expect("prefix"),
        }
    }

    /// What the program does: the packet before is counted, and this one is put down.
    fn forward(tables: &Tables, cpu: u32, slot: u32) {
        use forwarder_common::counters::Pending;
        let place = tables.pending.word(cpu as usize, 0);
        let before = place.load(std::sync::atomic::Ordering::Relaxed);
        let pending = Pending::slot(before);
        if pending != 0 {
            let at = (cpu * SIZES.slots + pending) as usize;
            let counter = tables.prefix_counters.get(at).plus(Counter {
                packets: 1,
                bytes: Pending::bytes(before),
            });
            tables.prefix_counters.set(at, &counter);
        }
        let word = Pending::packet(Pending::none(before), slot, 100);
        place.store(word, std::sync::atomic::Ordering::Relaxed);
    }

    fn grow<K: Copy + Ord>(sums: &mut std::collections::BTreeMap<K, u64>, key: K, packets: u64) {
        *sums.entry(key).or_default() += packets;
    }

    fn packets<K: Copy + Ord>(sums: &Sums<K>) -> Vec<(K, u64)> {
        let mut list: Vec<_> = sums.iter().map(|(key, sum)| (*key, sum.to.packets)).collect();
        list.sort_unstable();
        list
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// With six slots for nine prefixes most are reused, often several times between two passes.
        #[test]
        fn whatever_routes_do_every_packet_is_added_up_once_and_where_it_belongs(
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let tables = Tables::heap(SIZES);
            let readings = Readings::default();
            let mut fib = Fib::new(&tables, PUNT);
            fib.leave_readings(readings.clone());
            let mut sampler = Prefixes::new(&tables, readings);
            let (mut by_prefix, mut by_as) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
            let mut laid = HashMap::new();
            let mut kept = Totals::default();
            let mut live = 0;
            let keep = |kept: &mut Totals, sampler: &mut Prefixes| {
                for (prefix, sum) in &sampler.totals.prefixes {
                    add(&mut kept.prefixes, *prefix, *sum);
                }
                for (asn, sum) in &sampler.totals.origins {
                    add(&mut kept.origins, *asn, *sum);
                }
                sampler.committed();
            };
            for step in steps {
                match step {
                    Step::Announce(at, origin_as, group) => {
                        let provenance = Provenance { origin_as, ..Provenance::default() };
                        if fib.announce(&tables, prefix(at), group, provenance) == crate::fib::Outcome::Installed {
                            laid.insert(at, origin_as);
                        }
                    }
                    Step::Withdraw(at) => {
                        fib.withdraw(&tables, prefix(at));
                        laid.remove(&at);
                    }
                    Step::Grace => {
                        fib.grace_begins();
                        fib.grace_over(&tables);
                    }
                    Step::Forward(at, cpu, count) => {
                        let slot = fib.slot(&tables, prefix(at));
                        if let (Some(asn), Some(slot)) = (laid.get(&at), slot) {
                            (0..count).for_each(|_| forward(&tables, cpu, slot));
                            grow(&mut by_prefix, prefix(at), count);
                            grow(&mut by_as, *asn, count);
                        }
                    }
                    Step::Pass => {
                        sampler.pass(&tables);
                        live += sampler.active.iter().map(|active| active.to.packets).sum::<u64>();
                    }
                    Step::Commit => keep(&mut kept, &mut sampler),
                }
            }
            sampler.pass(&tables);
            live += sampler.active.iter().map(|active| active.to.packets).sum::<u64>();
            keep(&mut kept, &mut sampler);
            prop_assert_eq!(packets(&kept.prefixes), by_prefix.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(packets(&kept.origins), by_as.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(live, by_prefix.values().sum::<u64>());
            prop_assert_eq!(kept.sum().to.bytes, live * 100);
        }
    }
}
