//! What the churner will do, and what every destination's answer is after each step: known before anything runs, by a
//! longest match that looks at every prefix.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, ensure};
use forwarder_common::reason::Reason;
use forwarder_tests::{random::Random, table};
use ipnet::IpNet;

/// Ways a prefix can be answered: two groups that fit a leaf and one that stands in `SLOT_GROUP`.
pub const VARIANTS: usize = 3;
/// Consecutive updates that stay in two regions, so that what one gives back the other takes.
const BURST: usize = 64;

const REGIONS: u32 = 8;
/// Default routes come and go this often in each family; each time is 2^24 words.
const DEFAULTS: usize = 2;
/// Group numbers and next-hop ids below are the engine's own.
const FIRST: u32 = 16;
/// First group of those that a leaf has no room for.
const FIRST_INDIRECT: u32 = 1100;

/// What a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Forwarded through this group.
    Group(u32),
    /// Left with this reason, untouched.
    Left(Reason),
}

/// One change of the table.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Which prefix.
    pub prefix: usize,
    /// What it gets; `None` takes it away.
    pub variant: Option<usize>,
}

/// An address that the reader asks for.
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// Its answer from so many updates on.
    history: Vec<(usize, Answer)>,
}

/// Everything that will happen.
pub struct Script {
    /// The prefixes that come and go.
    pub prefixes: Vec<IpNet>,
    /// In this order.
    pub updates: Vec<Update>,
    /// Edges and insides of the prefixes.
    pub destinations: Vec<Destination>,
    /// Destinations inside each prefix, by number.
    pub inside: Vec<Vec<usize>>,
}

/// The group of a prefix in one of its variants: no two prefixes share one, so an answer says whose it is.
pub const fn group(prefix: usize, variant: usize) -> u32 {
    if variant < VARIANTS - 1 {
        FIRST + (prefix * (VARIANTS - 1) + variant) as u32
    } else {
        FIRST_INDIRECT + prefix as u32
    }
}

/// The only next hop of that group.
pub const fn nexthop(prefix: usize, variant: usize) -> u32 {
    FIRST + (prefix * VARIANTS + variant) as u32
}

/// What packets of a prefix in this variant meet.
pub const fn answer(prefix: usize, variant: usize) -> Answer {
    match (prefix % 11, variant) {
        (4, 1) => Answer::Left(Reason::Blackhole),
        (9, 1) => Answer::Left(Reason::Unreachable),
        _ => Answer::Group(group(prefix, variant)),
    }
}

impl Destination {
    /// The answers it may get while between `first` and `last` updates are complete.
    pub fn permitted(&self, first: usize, last: usize) -> &[(usize, Answer)] {
        let upto = |state: usize| self.history.partition_point(|(from, _)| *from <= state);
        &self.history[upto(first) - 1..upto(last)]
    }
}

impl Script {
    /// A script of so many updates, or a few more.
    ///
    /// # Errors
    /// A prefix that is none.
    pub fn new(seed: u64, updates: usize) -> Result<Script> {
        let mut random = Random::new(seed);
        let mut regions = Vec::new();
        let mut prefixes = Vec::new();
        for v4 in [true, false] {
            for region in 0..REGIONS {
                let start = prefixes.len();
                prefixes.extend(if v4 { region4(region)? } else { region6(region)? });
                regions.push((v4, (start..prefixes.len()).collect::<Vec<_>>()));
            }
        }
        // What covers several regions belongs to each of them.
        for text in ["20.0.0.0/14", "20.4.0.0/14", "2a00::/17"] {
            let cover: IpNet = text.parse()?;
            for (_, members) in &mut regions {
                if cover.contains(&prefixes[members[0]]) {
                    members.push(prefixes.len());
                }
            }
            prefixes.push(cover);
        }
        let defaults = [prefixes.len(), prefixes.len() + 1];
        prefixes.extend(["0.0.0.0/0".parse::<IpNet>()?, "::/0".parse()?]);
        ensure!(prefixes.iter().collect::<BTreeSet<_>>().len() == prefixes.len());

        let addresses: BTreeSet<IpAddr> = prefixes
            .iter()
            .flat_map(|prefix| {
                let random = table::inside(&mut random, *prefix);
                table::edges(*prefix).into_iter().chain([random])
            })
            .filter(|address| table::forwardable(*address))
            .collect();
        let destinations: Vec<Destination> = addresses
            .into_iter()
            .map(|address| Destination {
                address,
                history: vec![(0, Answer::Left(Reason::NoRoute))],
            })
            .collect();
        let inside = prefixes
            .iter()
            .map(|prefix| {
                let all = destinations.iter().enumerate();
                all.filter(|(_, d)| prefix.contains(&d.address))
                    .map(|(number, _)| number)
                    .collect()
            })
            .collect();
        let mut script = Script {
            updates: plan(&mut random, &prefixes, &regions, defaults, updates),
            prefixes,
            destinations,
            inside,
        };
        script.foresee();
        Ok(script)
    }

    /// Notes from which update on each destination has which answer.
    fn foresee(&mut self) {
        let mut covers: Vec<Vec<usize>> = vec![Vec::new(); self.destinations.len()];
        for (prefix, inside) in self.inside.iter().enumerate() {
            for destination in inside {
                covers[*destination].push(prefix);
            }
        }
        for prefixes in &mut covers {
            prefixes.sort_by_key(|prefix| std::cmp::Reverse(self.prefixes[*prefix].prefix_len()));
        }
        let mut laid: Vec<Option<usize>> = vec![None; self.prefixes.len()];
        for (index, update) in self.updates.iter().enumerate() {
            laid[update.prefix] = update.variant;
            for number in &self.inside[update.prefix] {
                let found = covers[*number]
                    .iter()
                    .find_map(|prefix| laid[*prefix].map(|variant| answer(*prefix, variant)));
                let now = found.unwrap_or(Answer::Left(Reason::NoRoute));
                let history = &mut self.destinations[*number].history;
                if history.last().is_some_and(|(_, before)| *before != now) {
                    history.push((index + 1, now));
                }
            }
        }
    }
}

/// Updates in the making.
struct Plan<'a> {
    random: &'a mut Random,
    prefixes: &'a [IpNet],
    laid: Vec<Option<usize>>,
    updates: Vec<Update>,
}

impl Plan<'_> {
    fn put(&mut self, prefix: usize, variant: Option<usize>) {
        self.laid[prefix] = variant;
        self.updates.push(Update { prefix, variant });
    }

    /// Lays what is not there; takes away, or gives another group, what is.
    fn change(&mut self, prefix: usize) {
        let variant = match self.laid[prefix] {
            Some(_) if self.random.below(2) == 0 => None,
            Some(old) => Some((old + 1 + self.random.below(VARIANTS - 1)) % VARIANTS),
            None => Some(self.random.below(VARIANTS)),
        };
        self.put(prefix, variant);
    }

    /// Anything may happen in two regions.
    fn mix(&mut self, near: &[usize]) {
        for _ in 0..BURST {
            let prefix = *self.random.pick(near);
            self.change(prefix);
        }
    }

    /// Two prefixes that need blocks take turns, and nothing else is there that needs them: what the one gives back is
    /// what the other would take next, if it were let.
    fn exchange(&mut self, near: &[usize]) {
        let (long, short): (Vec<usize>, Vec<usize>) = near
            .iter()
            .partition(|prefix| self.prefixes[**prefix].prefix_len() > 24);
        for prefix in &long {
            if self.laid[*prefix].is_some() {
                self.put(*prefix, None);
            }
        }
        for prefix in short {
            if self.laid[prefix].is_none() {
                self.change(prefix);
            }
        }
        let pair = [*self.random.pick(&long), *self.random.pick(&long)];
        for turn in 0..BURST {
            let prefix = pair[turn / 2 % 2];
            let variant = self.random.below(VARIANTS);
            self.put(prefix, (turn % 2 == 0).then_some(variant));
        }
    }
}

fn plan(
    random: &mut Random,
    prefixes: &[IpNet],
    regions: &[(bool, Vec<usize>)],
    defaults: [usize; 2],
    updates: usize,
) -> Vec<Update> {
    let mut plan = Plan {
        random,
        prefixes,
        laid: vec![None; prefixes.len()],
        updates: Vec::with_capacity(updates + 2 * BURST),
    };
    let mut turn = 0;
    while plan.updates.len() < updates {
        let (v4, mut near) = plan.random.pick(regions).clone();
        let (other_v4, other) = plan.random.pick(regions);
        if v4 == *other_v4 {
            near.extend(other);
        }
        if plan.random.below(2) == 0 {
            plan.mix(&near);
        } else {
            plan.exchange(&near);
        }
        if plan.updates.len() > (2 * turn + 1) * updates / (4 * DEFAULTS) {
            plan.change(defaults[turn % 2]);
            turn += 1;
        }
    }
    plan.updates
}

/// Prefixes that nest within one /16; all longer than 24 bits but one share a block.
fn region4(number: u32) -> Result<Vec<IpNet>> {
    let base = [20, number as u8];
    [
        (0, 0, 16),
        (0, 0, 20),
        (0, 0, 22),
        (5, 0, 24),
        (5, 0, 25),
        (5, 96, 27),
        (5, 104, 29),
        (5, 105, 32),
        (5, 254, 31),
        (5, 255, 32),
        (6, 64, 26),
    ]
    .into_iter()
    .map(|(third, fourth, length)| {
        let address = IpAddr::from([base[0], base[1], third, fourth]);
        Ok(IpNet::new(address, length)?.trunc())
    })
    .collect()
}

/// Prefixes along the way to one address, through every level of the table, and one that leaves it half way.
fn region6(number: u32) -> Result<Vec<IpNet>> {
    let address = 0x2a00_00c7_5ab1_93d4_6e0f_b728_41e9_5c80 | u128::from(number) << 104;
    let beside = address ^ 1 << 82;
    let lengths = [24, 29, 32, 36, 44, 48, 56, 64, 96, 127, 128];
    lengths
        .into_iter()
        .map(|length| (address, length))
        .chain([(beside, 128)])
        .map(|(address, length)| Ok(IpNet::new(IpAddr::V6(address.into()), length)?.trunc()))
        .collect()
}
