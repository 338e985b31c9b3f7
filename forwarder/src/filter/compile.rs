//! Tables out of rules (`forwarder_common::rules`): each dimension is cut into stretches in which the same rules hold, and
//! each different set of rules is a class.
//!
//! Pure: rules and numbers in, octets out. [`super::install`] puts them in force.

use std::{collections::HashMap, net::IpAddr};

use forwarder_common::{
    Plain,
    limit::{TICKS, quantum},
    reason::Reason,
    rules::{
        BLOCK, BLOCKS, CLASSES, CONCERNS, Common, LABEL_BLOCKS, LIMIT, MARK, NO_FLAGS, NO_ICMP, NO_PORT,
        NO_PROTOCOL, PACKETS, PROCEED, PROCEEDING, RULES, STRETCHES, Set4, Set6, Verdict, WORDS, concern6,
    },
};
use ipnet::IpNet;
use thiserror::Error;

use super::{
    ranges::Ranges,
    rule::{Action, Family, Match, Origin, Rate, Rule, Unit},
};

/// Why rules cannot be put in force together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// Too many.
    #[error("{0} rules of one family, and there is room for {RULES}")]
    Rules(usize),
    /// Too many that let others be asked.
    #[error("{0} rules of one family count or mark and let the next be asked, and {PROCEEDING} may")]
    Proceeding(usize),
    /// Too many different combinations of rules.
    #[error("the rules cut the packets into more than {CLASSES} classes: use fewer ranges and prefixes")]
    Classes,
    /// Too many IPv4 prefixes far from each other.
    #[error("the IPv4 prefixes of the rules need more than {BLOCKS} blocks: use fewer or shorter ones")]
    Blocks,
    /// Too many IPv6 prefixes.
    #[error(
        "the IPv6 prefixes of the rules cut the addresses into more than {STRETCHES} stretches: use fewer"
    )]
    Stretches,
    /// Too many flow labels far from each other.
    #[error("the flow labels of the rules need more than {LABEL_BLOCKS} blocks: use fewer ranges")]
    Labels,
}

/// A rule, and where it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Its slot.
    pub slot: u32,
}

/// What a compilation needs to know of the router.
#[derive(Clone, Copy)]
pub struct Router<'a> {
    /// Number of an interface's counters, by its name.
    pub port: &'a dyn Fn(&str) -> Option<u32>,
    /// CPUs that share a rate.
    pub cpus: u32,
}

/// A bit for each rule.
type Bits = [u64; WORDS];

/// IPv4 tables of these rules, the first one first.
///
/// # Errors
/// [`CompileError`].
pub fn ipv4(rules: &[Placed<'_>], router: Router<'_>) -> Result<Box<Set4>, CompileError> {
    let mut set: Box<Set4> = zeroed();
    let mut compiler = Compiler::new(rules, router, Family::V4)?;
    compiler.common(&mut set.common)?;
    let mut blocks = 0;
    for which in 0..2 {
        let stretches = compiler.addresses(which)?;
        let mut lay =
            |first: u32, last: u32, class: u16| lay4(&mut set, &mut blocks, which, first, last, class);
        for (index, (first, class)) in stretches.iter().enumerate() {
            let last = stretches
                .get(index + 1)
                .map_or(u32::MAX, |(next, _)| *next as u32 - 1);
            lay(*first as u32, last, *class).ok_or(CompileError::Blocks)?;
        }
    }
    compiler.finish(&mut set.common)?;
    Ok(set)
}

/// IPv6 tables of these rules.
///
/// # Errors
/// [`CompileError`].
pub fn ipv6(rules: &[Placed<'_>], router: Router<'_>) -> Result<Box<Set6>, CompileError> {
    let mut set: Box<Set6> = zeroed();
    let mut compiler = Compiler::new(rules, router, Family::V6)?;
    compiler.common(&mut set.common)?;
    for which in 0..2 {
        let stretches = compiler.addresses(which)?;
        if stretches.len() > STRETCHES {
            return Err(CompileError::Stretches);
        }
        let last = stretches.last().map_or(0, |(_, class)| *class);
        for at in 0..STRETCHES {
            // Behind the last stretch stands the last address, which belongs to it.
            let (first, class) = stretches.get(at).copied().unwrap_or((u128::MAX, last));
            set.high[which][at] = (first >> 64) as u64;
            set.low[which][at] = first as u64;
            set.classes[which][at] = class;
        }
    }
    let labels = compiler.numbers(|when| when.flow_label.as_ref())?;
    let mut blocks = 0;
    for (root, at) in (0..1u32 << 20).step_by(1_024).enumerate() {
        let (first, later) = class_at(&labels, at);
        if later > at + 1_023 {
            set.label_root[root] = first;
            continue;
        }
        if blocks == LABEL_BLOCKS {
            return Err(CompileError::Labels);
        }
        set.label_root[root] = BLOCK | blocks as u16;
        for label in at..at + 1_024 {
            set.label_blocks[blocks][(label - at) as usize] = class_at(&labels, label).0;
        }
        blocks += 1;
    }
    compiler.finish(&mut set.common)?;
    Ok(set)
}

/// Has each of the rules that a set was compiled from counted in its slot.
pub fn count_in(common: &mut Common, slots: impl Iterator<Item = u32>) {
    for (verdict, slot) in common.verdicts.iter_mut().zip(slots) {
        verdict.slot = slot;
    }
}

/// The class of a number, and where the next stretch begins.
fn class_at(stretches: &[(u128, u16)], number: u32) -> (u16, u32) {
    let behind = stretches.partition_point(|(first, _)| *first <= number as u128);
    let next = stretches.get(behind).map_or(u32::MAX, |(first, _)| *first as u32);
    (stretches[behind - 1].1, next)
}

/// Zeroes on the heap: a set is too large for a stack.
fn zeroed<T: Plain>() -> Box<T> {
    // SAFETY: plain: every pattern of bits is a value.
    unsafe { Box::new_zeroed().assume_init() }
}

fn lay4(set: &mut Set4, blocks: &mut usize, which: usize, first: u32, last: u32, class: u16) -> Option<()> {
    let mut at = first as u64;
    while at <= last as u64 {
        let address = at as u32;
        let whole = |bits: u32| at & ((1u64 << bits) - 1) == 0 && at + (1u64 << bits) - 1 <= last as u64;
        let root = (address >> 16) as usize;
        if whole(16) {
            set.roots[which][root] = class;
            at += 1 << 16;
            continue;
        }
        let middle = child(&mut set.blocks, blocks, set.roots[which][root])?;
        set.roots[which][root] = BLOCK | middle as u16;
        let third = (address >> 8) as usize & 255;
        if whole(8) {
            set.blocks[middle][third] = class;
            at += 1 << 8;
            continue;
        }
        let inherited = set.blocks[middle][third];
        let lower = child(&mut set.blocks, blocks, inherited)?;
        set.blocks[middle][third] = BLOCK | lower as u16;
        let end = (last as u64).min(at | 255);
        set.blocks[lower][at as usize & 255..=end as usize & 255].fill(class);
        at = end + 1;
    }
    Some(())
}

/// The block an entry leads to, or a new one with the entry everywhere.
fn child(blocks: &mut [[u16; 256]; BLOCKS], used: &mut usize, entry: u16) -> Option<usize> {
    if entry & BLOCK != 0 {
        return Some(usize::from(entry & !BLOCK));
    }
    let new = *used;
    blocks.get_mut(new)?.fill(entry);
    *used += 1;
    Some(new)
}

struct Compiler<'a> {
    rules: &'a [Placed<'a>],
    router: Router<'a>,
    family: Family,
    classes: HashMap<Bits, u16, foldhash::fast::FixedState>,
    vectors: Vec<Bits>,
}

impl<'a> Compiler<'a> {
    fn new(
        rules: &'a [Placed<'a>],
        router: Router<'a>,
        family: Family,
    ) -> Result<Compiler<'a>, CompileError> {
        if rules.len() > RULES {
            return Err(CompileError::Rules(rules.len()));
        }
        let proceeding = rules.iter().filter(|placed| placed.rule.proceed).count();
        if proceeding > PROCEEDING {
            return Err(CompileError::Proceeding(proceeding));
        }
        let mut compiler = Compiler {
            rules,
            router,
            family,
            classes: HashMap::default(),
            vectors: Vec::new(),
        };
        // Class 0 is where nobody asks: every rule is content. IPv4 has no flow labels.
        let mut all: Bits = [0; WORDS];
        (0..rules.len()).for_each(|rule| all[rule / 64] |= 1 << (rule % 64));
        compiler.class(&all)?;
        Ok(compiler)
    }

    fn class(&mut self, bits: &Bits) -> Result<u16, CompileError> {
        if let Some(class) = self.classes.get(bits) {
            return Ok(*class);
        }
        if self.vectors.len() == CLASSES {
            return Err(CompileError::Classes);
        }
        let class = self.vectors.len() as u16;
        self.vectors.push(*bits);
        self.classes.insert(*bits, class);
        Ok(class)
    }

    /// Cuts a dimension into stretches: where each begins, and its class. `wanted` answers what a rule wants there as closed
    /// ranges apart from each other, or nothing where it wants nothing. The last class is that of packets that have no
    /// value.
    fn cut(
        &mut self,
        most: u128,
        wanted: impl Fn(&Match) -> Option<Vec<(u128, u128)>>,
    ) -> Result<(Vec<(u128, u16)>, u16), CompileError> {
        let mut bits: Bits = [0; WORDS];
        let mut turns: Vec<(u128, usize)> = Vec::new();
        for (rule, placed) in self.rules.iter().enumerate() {
            match wanted(&placed.rule.when) {
                None => bits[rule / 64] |= 1 << (rule % 64),
                Some(ranges) => {
                    for (first, last) in ranges {
                        turns.push((first, rule));
                        if last < most {
                            turns.push((last + 1, rule));
                        }
                    }
                }
            }
        }
        let without = self.class(&bits)?;
        turns.sort_unstable();
        let mut stretches = Vec::new();
        let mut turns = turns.into_iter().peekable();
        let mut at = 0;
        loop {
            while let Some((_, rule)) = turns.next_if(|(here, _)| *here == at) {
                bits[rule / 64] ^= 1 << (rule % 64);
            }
            let class = self.class(&bits)?;
            if stretches.last().is_none_or(|(_, before)| *before != class) {
                stretches.push((at, class));
            }
            match turns.peek() {
                Some((next, _)) => at = *next,
                None => return Ok((stretches, without)),
            }
        }
    }

    fn numbers(
        &mut self,
        wanted: impl Fn(&Match) -> Option<&Ranges>,
    ) -> Result<Vec<(u128, u16)>, CompileError> {
        Ok(self.cut_numbers(wanted)?.0)
    }

    fn cut_numbers(
        &mut self,
        wanted: impl Fn(&Match) -> Option<&Ranges>,
    ) -> Result<(Vec<(u128, u16)>, u16), CompileError> {
        let pairs = |ranges: &Ranges| {
            let pair = |range: std::ops::RangeInclusive<u32>| (*range.start() as u128, *range.end() as u128);
            ranges.iter().map(pair).collect()
        };
        self.cut(u32::MAX.into(), |when| wanted(when).map(pairs))
    }

    /// Destinations (0) or sources (1).
    fn addresses(&mut self, which: usize) -> Result<Vec<(u128, u16)>, CompileError> {
        let family = self.family;
        let most = match family {
            Family::V4 => u32::MAX.into(),
            Family::V6 => u128::MAX,
        };
        let stretches = self.cut(most, |when| {
            // Nothing of this family is ever like that: no destination is.
            if !possible(when, family) {
                return Some(Vec::new());
            }
            let wanted = if which == 0 {
                &when.destination
            } else {
                &when.source
            };
            wanted.as_ref().map(|prefixes| joined(prefixes, family))
        });
        Ok(stretches?.0)
    }

    /// Fills a table by number; `none` is the index for packets without a value.
    fn fill(
        &mut self,
        table: &mut [u16],
        none: Option<u32>,
        wanted: impl Fn(&Match) -> Option<&Ranges>,
    ) -> Result<(), CompileError> {
        let (stretches, without) = self.cut_numbers(wanted)?;
        for (index, (first, class)) in stretches.iter().enumerate() {
            let end = stretches
                .get(index + 1)
                .map_or(table.len(), |(next, _)| *next as usize);
            let (first, end) = ((*first as usize).min(table.len()), end.min(table.len()));
            table[first..end].fill(*class);
        }
        if let Some(none) = none {
            table[none as usize..].fill(without);
        }
        Ok(())
    }

    fn common(&mut self, common: &mut Common) -> Result<(), CompileError> {
        self.fill(&mut common.source_ports, Some(NO_PORT), |w| {
            w.source_port.as_ref()
        })?;
        self.fill(&mut common.destination_ports, Some(NO_PORT), |w| {
            w.destination_port.as_ref()
        })?;
        self.fill(&mut common.ports, Some(NO_PORT), |w| w.port.as_ref())?;
        self.fill(&mut common.lengths, None, |w| w.length.as_ref())?;
        self.fill(&mut common.tcp_flags, Some(NO_FLAGS), |w| w.tcp_flags.as_ref())?;
        self.fill(&mut common.icmp_types, Some(NO_ICMP), |w| w.icmp_type.as_ref())?;
        self.fill(&mut common.icmp_codes, Some(NO_ICMP), |w| w.icmp_code.as_ref())?;
        self.fill(&mut common.protocols, Some(NO_PROTOCOL), |w| w.protocol.as_ref())?;
        self.fill(&mut common.dscps, None, |w| w.dscp.as_ref())?;
        self.fill(&mut common.fragments, None, |w| w.fragment.as_ref())?;
        let port = self.router.port;
        let (stretches, _) = self.cut(u32::MAX.into(), |when| {
            let names = when.interfaces.as_ref()?;
            let numbers = Ranges::of(names.iter().filter_map(|name| port(name)).map(|n| n..=n));
            Some(
                numbers
                    .iter()
                    .map(|n| ((*n.start()).into(), (*n.end()).into()))
                    .collect(),
            )
        })?;
        for (number, class) in common.interfaces.iter_mut().enumerate() {
            *class = class_at(&stretches, number as u32).0;
        }
        for placed in self.rules {
            concern(&mut common.concerns, &placed.rule.when, self.family);
        }
        Ok(())
    }

    /// What can be written when every class is known.
    fn finish(self, common: &mut Common) -> Result<(), CompileError> {
        for (class, bits) in self.vectors.iter().enumerate() {
            common.vectors[class] = *bits;
            let words = bits.iter().enumerate().filter(|(_, word)| **word != 0);
            common.summaries[class] = words.fold(0, |summary, (word, _)| summary | 1 << word);
        }
        for (index, placed) in self.rules.iter().enumerate() {
            common.verdicts[index] = verdict(placed.rule, placed.slot, self.router.cpus);
        }
        Ok(())
    }
}

/// Whether a packet of a family can be like that, as far as that is plain to see.
pub(super) fn possible(when: &Match, family: Family) -> bool {
    when.family.is_none_or(|wanted| wanted == family) && (family == Family::V6 || when.flow_label.is_none())
}

/// The addresses of prefixes of a family as closed ranges apart from each other.
pub(super) fn joined(prefixes: &[IpNet], family: Family) -> Vec<(u128, u128)> {
    let mut ranges: Vec<(u128, u128)> = prefixes
        .iter()
        .filter_map(|prefix| match (prefix, family) {
            (IpNet::V4(net), Family::V4) => {
                Some((u32::from(net.network()).into(), u32::from(net.broadcast()).into()))
            }
            (IpNet::V6(net), Family::V6) => Some((net.network().into(), net.broadcast().into())),
            _ => None,
        })
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if *end == u128::MAX || first <= *end + 1 => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Sets the bits of the destinations that a rule concerns.
fn concern(bits: &mut [u64; CONCERNS / 64], when: &Match, family: Family) {
    if !possible(when, family) {
        return;
    }
    let Some(prefixes) = &when.destination else {
        return bits.fill(u64::MAX);
    };
    let mut set = |bit: usize| bits[bit % CONCERNS / 64] |= 1 << (bit % 64);
    for prefix in prefixes {
        let length = u32::from(prefix.prefix_len());
        match (prefix.network(), family) {
            (IpAddr::V4(address), Family::V4) => {
                let first = u32::from(address) >> 8;
                let count = 1usize << 24u32.saturating_sub(length).min(16);
                (0..count).for_each(|more| set(first as usize + more));
            }
            (IpAddr::V6(address), Family::V6) => {
                let high = (u128::from(address) >> 64) as u64;
                let count = 1u64 << 48u32.saturating_sub(length).min(16);
                (0..count).for_each(|more| set(concern6(high + (more << 16))));
            }
            _ => {}
        }
    }
}

/// What the program needs to know of a rule.
fn verdict(rule: &Rule, slot: u32, cpus: u32) -> Verdict {
    let mut verdict = Verdict {
        slot,
        ..Verdict::default()
    };
    if rule.proceed {
        verdict.flags |= PROCEED;
    }
    if let Some(dscp) = rule.mark {
        verdict.flags |= MARK;
        verdict.dscp = dscp & 63;
    }
    match rule.action {
        Action::Accept => {}
        Action::Drop => {
            verdict.reason = match rule.origin {
                Origin::Config(_) => Reason::Rule,
                Origin::FlowSpec(_) => Reason::FlowSpec,
            } as u8;
        }
        Action::Limit(rate) => limit(&mut verdict, rate, cpus),
    }
    verdict
}

fn limit(verdict: &mut Verdict, rate: Rate, cpus: u32) {
    /// Of a cost: so that it times the largest packet stays far below 64 bits.
    const COST: u128 = 1 << 46;
    const SECOND: u128 = 1_000_000_000 * TICKS as u128;
    let per_second = u128::from(rate.per_second.max(1));
    let shift = (0..=40)
        .rev()
        .find(|shift| (SECOND << shift) / per_second < COST)
        .unwrap_or(0);
    let ticks = |units: u64| u64::try_from(u128::from(units) * SECOND / per_second).unwrap_or(u64::MAX >> 2);
    verdict.flags |= LIMIT;
    if rate.unit == Unit::Packets {
        verdict.flags |= PACKETS;
    }
    verdict.shift = shift as u8;
    verdict.cost = ((SECOND << shift) / per_second) as u64;
    verdict.burst = ticks(rate.burst).min(u64::MAX >> 2);
    verdict.quantum = quantum(verdict.burst, cpus);
}
