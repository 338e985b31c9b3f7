//! Every counter there is, read at once, so that a test can say exactly which moved.

use forwarder::dataplane::Tables;
use forwarder_common::{
    account::PAIRS,
    counters::{Counter, EgressCounters},
    reason::Reason,
};

/// A counter's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A port's counter of a reason's index.
    Reason(u32, usize),
    /// A port's count of what would have become of packets in a dry run, by a reason's index.
    Presumed(u32, usize),
    /// A prefix's slot.
    Slot(u32),
    /// A next hop's id.
    NextHop(u32),
    /// Forwarded to a port.
    Egress(u32),
    /// Anything that only the tracepoint programs write, of a port.
    Tracepoints(u32),
    /// A cell of the pairs of accounts.
    Pair(u32),
    /// Packets from a slot's prefix.
    Source(u32),
}

/// All counters, summed over the CPUs.
#[derive(Clone, PartialEq)]
pub struct Ledger {
    /// By port and reason index.
    pub reasons: Vec<[Counter; Reason::SLOTS]>,
    /// By port and reason index.
    pub presumed: Vec<[Counter; Reason::SLOTS]>,
    /// By slot.
    pub slots: Vec<Counter>,
    /// By next-hop id.
    pub nexthops: Vec<Counter>,
    /// By port.
    pub egress: Vec<EgressCounters>,
    /// By cell.
    pub pairs: Vec<Counter>,
    /// By slot.
    pub sources: Vec<Counter>,
}

impl Ledger {
    /// Reads them.
    pub fn read(tables: &Tables) -> Ledger {
        let sizes = tables.sizes;
        Ledger {
            reasons: (0..sizes.ports).map(|port| tables.reasons(port)).collect(),
            presumed: (0..sizes.ports).map(|port| tables.presumed(port)).collect(),
            slots: (0..sizes.slots).map(|slot| tables.slot_counter(slot)).collect(),
            nexthops: (0..sizes.nexthops).map(|id| tables.nexthop_counter(id)).collect(),
            egress: (0..sizes.ports).map(|port| tables.egress(port)).collect(),
            pairs: (0..PAIRS as u32).map(|cell| tables.pair_counter(cell)).collect(),
            sources: (0..sizes.slots)
                .map(|slot| tables.slot_source_counter(slot))
                .collect(),
        }
    }

    /// What moved since `before`, and by how much.
    pub fn since(&self, before: &Ledger) -> Vec<(Name, Counter)> {
        let mut moved = Vec::new();
        let mut note = |name, now: Counter, then: Counter| {
            if now != then {
                moved.push((name, now.since(then)));
            }
        };
        for (port, (now, then)) in self.reasons.iter().zip(&before.reasons).enumerate() {
            for index in 0..Reason::SLOTS {
                note(Name::Reason(port as u32, index), now[index], then[index]);
            }
        }
        for (port, (now, then)) in self.presumed.iter().zip(&before.presumed).enumerate() {
            for index in 0..Reason::SLOTS {
                note(Name::Presumed(port as u32, index), now[index], then[index]);
            }
        }
        for (slot, (now, then)) in self.slots.iter().zip(&before.slots).enumerate() {
            note(Name::Slot(slot as u32), *now, *then);
        }
        for (id, (now, then)) in self.nexthops.iter().zip(&before.nexthops).enumerate() {
            note(Name::NextHop(id as u32), *now, *then);
        }
        for (port, (now, then)) in self.egress.iter().zip(&before.egress).enumerate() {
            note(Name::Egress(port as u32), now.forwarded, then.forwarded);
            let rest = |all: &EgressCounters| Counter {
                packets: all.transmitted,
                bytes: all.redirect_errors.iter().chain(&all.transmit_errors).sum(),
            };
            note(Name::Tracepoints(port as u32), rest(now), rest(then));
        }
        for (cell, (now, then)) in self.pairs.iter().zip(&before.pairs).enumerate() {
            note(Name::Pair(cell as u32), *now, *then);
        }
        for (slot, (now, then)) in self.sources.iter().zip(&before.sources).enumerate() {
            note(Name::Source(slot as u32), *now, *then);
        }
        moved.sort_unstable_by_key(|(name, _)| *name);
        moved
    }

    /// The sums that law 2 compares: received, forwarded by reason, by prefix, by next hop, by egress.
    pub fn totals(&self) -> Totals {
        let sum =
            |counters: &mut dyn Iterator<Item = Counter>| counters.fold(Counter::default(), Counter::plus);
        let ports = self.reasons.iter();
        let reason = |reason: Reason| sum(&mut self.reasons.iter().map(|port| port[reason.index()]));
        let discarded = reason(Reason::Blackhole).plus(reason(Reason::BlackholeSource));
        Totals {
            received: sum(&mut ports.clone().flat_map(|port| port.iter().copied())),
            forwarded: sum(&mut ports.map(|port| port[Reason::Forwarded.index()])),
            prefixes: sum(&mut self.slots.iter().copied()),
            nexthops: sum(&mut self.nexthops.iter().copied()).since(discarded),
            egress: sum(&mut self.egress.iter().map(|egress| egress.forwarded)),
            pairs: sum(&mut self.pairs.iter().copied()),
            sources: sum(&mut self.sources.iter().copied()),
        }
    }
}

/// Sums over all counters of a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Totals {
    /// Every reason of every port.
    pub received: Counter,
    /// Reason "forwarded" of every port.
    pub forwarded: Counter,
    /// Every slot.
    pub prefixes: Counter,
    /// Every next hop, less what blackholes threw away.
    pub nexthops: Counter,
    /// Forwarded to every port.
    pub egress: Counter,
    /// Every pair of accounts.
    pub pairs: Counter,
    /// Every slot, by source.
    pub sources: Counter,
}
