//! One frame through the program, and everything that must be so afterwards.

use std::{mem::offset_of, sync::atomic::Ordering};

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::Array;
use forwarder_common::{
    counters::Counter,
    interface::COUNT_PAIRS,
    reason::{Policy, Reason},
};
use forwarder_tests::ledger::{Ledger, Totals};

use super::{frames::Frame, sent, world::World};

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Looks at frames, one after the other.
pub struct Look<'a> {
    world: &'a World,
    /// Packets by port and reason, on the CPU that all runs on.
    reasons: Vec<u64>,
    /// The same of what a dry run presumes.
    presumed: Vec<u64>,
    /// By next hop.
    nexthops: Vec<u64>,
    before: Totals,
    forwarded: Counter,
    /// Of these, on interfaces where pairs are counted.
    paired: Counter,
    all: Counter,
}

impl<'a> Look<'a> {
    /// At what comes into this router.
    pub fn new(world: &'a World) -> Look<'a> {
        Look {
            world,
            reasons: Vec::new(),
            presumed: Vec::new(),
            nexthops: Vec::new(),
            before: Ledger::read(world.sandbox.engine.view()).totals(),
            forwarded: Counter::default(),
            paired: Counter::default(),
            all: Counter::default(),
        }
    }

    /// A batch begins.
    pub fn begin(&mut self) {
        let tables = self.world.sandbox.engine.view();
        let sizes = tables.sizes;
        let row = (sizes.ports as usize) * Reason::SLOTS;
        self.reasons = read(&tables.reason_counters, self.world.cpu as usize * row, row);
        self.presumed = read(&tables.presumed_counters, self.world.cpu as usize * row, row);
        let hops = sizes.nexthops as usize;
        self.nexthops = read(&tables.nexthop_counters, self.world.cpu as usize * hops, hops);
        self.before = Ledger::read(tables).totals();
        self.forwarded = Counter::default();
        self.paired = Counter::default();
        self.all = Counter::default();
    }

    /// Runs a frame. Answers the reason it left with.
    ///
    /// # Errors
    /// Something is not as it must be.
    pub fn at(&mut self, frame: &Frame) -> Result<Reason> {
        let tables = self.world.sandbox.engine.view();
        let programs = &self.world.sandbox.programs;
        let packet = &frame.octets;
        let (action, out) = programs
            .run_split(frame.ingress, packet, frame.first)
            .context("the run fails")?;
        let cpu = self.world.cpu as usize;
        let row = self.reasons.len();
        let reasons = moved(&mut self.reasons, &tables.reason_counters, cpu * row);
        let dry = tables.is_dry_run();
        let presumed = if dry {
            moved(&mut self.presumed, &tables.presumed_counters, cpu * row)
        } else {
            Vec::new()
        };
        let hops = self.nexthops.len();
        let nexthops = moved(&mut self.nexthops, &tables.nexthop_counters, cpu * hops);
        let [(place, 1)] = reasons[..] else {
            anyhow::bail!("verdict {action}, counted {:?}", names(&reasons));
        };
        let reason =
            Reason::from_index(place % Reason::SLOTS).context("counted under a reason that is none")?;
        let port = place / Reason::SLOTS;
        let verdict = match reason.policy() {
            Policy::Drop => DROP,
            Policy::Pass => PASS,
            Policy::Forward => REDIRECT,
        };
        ensure!(action == verdict, "verdict {action} for {}", reason.name());
        ensure!(reason != Reason::Internal, "the tables contradict each other");
        if reason == Reason::DryRun {
            let [(place, 1)] = presumed[..] else {
                anyhow::bail!("a dry run presumes {:?}", names(&presumed));
            };
            let would = Reason::from_index(place % Reason::SLOTS);
            ensure!(
                place / Reason::SLOTS == port && would.is_some_and(|would| would.policy() != Policy::Pass),
                "a dry run presumes {would:?} on port {}",
                place / Reason::SLOTS
            );
        } else {
            ensure!(presumed.is_empty(), "presumed {:?}", names(&presumed));
        }
        ensure!(!dry || action == PASS, "verdict {action} in a dry run");
        let once = Counter {
            packets: 1,
            bytes: packet.len() as u64,
        };
        self.all = self.all.plus(once);
        if action != REDIRECT {
            ensure!(
                out == *packet || !dry && sent::is_untouched(packet, &out),
                "{} and touched: {out:02x?}",
                reason.name()
            );
            let victim = matches!(reason, Reason::Blackhole | Reason::BlackholeSource);
            ensure!(
                nexthops.len() == usize::from(victim),
                "next hops count {nexthops:?} for {}",
                reason.name()
            );
            return Ok(reason);
        }
        let ids = sent::hop_of(self.world, packet, &out)?;
        let counted = matches!(nexthops[..], [(id, 1)] if ids.contains(&(id as u32)));
        ensure!(counted, "sent to {ids:?}, next hops count {nexthops:?}");
        self.forwarded = self.forwarded.plus(once);
        let flags = self.world.interfaces.iter().filter_map(|(ifindex, _)| {
            let entry = tables.interfaces.get(*ifindex as usize);
            (entry.port as usize == port).then_some(entry.flags)
        });
        if flags.into_iter().any(|flags| flags & COUNT_PAIRS != 0) {
            self.paired = self.paired.plus(once);
        }
        Ok(reason)
    }

    /// A batch ends: the sums of law 2, octets and what waits to be counted included.
    ///
    /// # Errors
    /// They do not close.
    pub fn end(&self) -> Result<()> {
        let now = Ledger::read(self.world.sandbox.engine.view()).totals();
        let before = &self.before;
        for (name, counted, wanted) in [
            ("received", now.received.since(before.received), self.all),
            ("forwarded", now.forwarded.since(before.forwarded), self.forwarded),
            ("prefixes", now.prefixes.since(before.prefixes), self.forwarded),
            ("next hops", now.nexthops.since(before.nexthops), self.forwarded),
            ("egress", now.egress.since(before.egress), self.forwarded),
            ("pairs of accounts", now.pairs.since(before.pairs), self.paired),
        ] {
            ensure!(counted == wanted, "{name} counted {counted:?}, not {wanted:?}");
        }
        // Outside a dry run nobody looked at these.
        let tables = self.world.sandbox.engine.view();
        let row = self.presumed.len();
        let now = read(&tables.presumed_counters, self.world.cpu as usize * row, row);
        ensure!(now == self.presumed, "something was presumed outside a dry run");
        Ok(())
    }
}

fn read(counters: &Array<Counter>, from: usize, count: usize) -> Vec<u64> {
    (from..from + count).map(|at| packets(counters, at)).collect()
}

fn packets(counters: &Array<Counter>, at: usize) -> u64 {
    counters
        .word(at, offset_of!(Counter, packets))
        .load(Ordering::Relaxed)
}

/// What moved since the last time, and by how much.
fn moved(known: &mut [u64], counters: &Array<Counter>, from: usize) -> Vec<(usize, u64)> {
    let mut all = Vec::new();
    for (at, known) in known.iter_mut().enumerate() {
        let now = packets(counters, from + at);
        if now != *known {
            all.push((at, now.wrapping_sub(*known)));
            *known = now;
        }
    }
    all
}

/// The same with the names of reasons, by port.
fn names(moved: &[(usize, u64)]) -> Vec<(usize, &'static str, u64)> {
    let name = |index: usize| Reason::from_index(index).map_or("none", Reason::name);
    moved
        .iter()
        .map(|(at, by)| (at / Reason::SLOTS, name(at % Reason::SLOTS), *by))
        .collect()
}
