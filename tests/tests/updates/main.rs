//! A million random updates for each family: after every one the compiler's table says what a model says that shares
//! nothing with it. On the heap, without root.

mod model;
mod universe;

use std::{collections::HashMap, net::IpAddr, sync::atomic::Ordering};

use anyhow::{Context, Result, ensure};
use forwarder::{
    dataplane::{Sizes, Tables},
    fib::{Fib, Outcome, Provenance, Usage, family::prefix_of, slots::RESERVED},
};
use forwarder_common::{directory::State, fib::GROUP_INDIRECT};
use forwarder_tests::{random::Random, table};
use ipnet::IpNet;

use self::{
    model::{Trie, bits},
    universe::{UNIVERSE, WIDEST, universe},
};

const UPDATES: usize = 1_000_000;
const SEED: u64 = 0x5eed;
/// Updates between two looks at every prefix.
const FULL_CHECK: usize = 200_000;
/// A grace period begins every so many updates, and lasts for half as many.
const GRACE: usize = 94;
/// The group of what found no room.
const PUNT: u32 = 1;
/// Groups on either side of what a leaf has room for.
const GROUPS: usize = 1200;

/// One of [`WIDEST`] is updated every so many updates.
const WIDE: usize = 50_000;

/// The largest word that an address is in, and the bits it stands for: 24, or 16 outside 2000::/3.
fn word(address: IpAddr) -> (u128, u8) {
    let length = match address {
        IpAddr::V6(v6) if v6.segments()[0] >> 13 != 1 => 16,
        _ => 24,
    };
    (bits(address) >> (128 - length), length)
}

/// What became of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Laid(u32),
    Refused,
}

struct World {
    tables: Tables,
    fib: Fib,
    random: Random,
    prefixes: Vec<IpNet>,
    standing: Vec<Standing>,
    model: Trie,
    /// How many refused prefixes are longer than their largest word: such a one may take the whole of it with it.
    crowded: HashMap<(u128, u8), u32>,
    refusals: usize,
}

impl World {
    fn new(v4: bool, seed: u64, sizes: Sizes) -> World {
        let mut random = Random::new(seed);
        let prefixes = universe(v4, &mut random);
        let tables = Tables::heap(sizes);
        World {
            fib: Fib::new(&tables, PUNT),
            tables,
            random,
            standing: vec![Standing::Absent; prefixes.len()],
            prefixes,
            model: Trie::default(),
            crowded: HashMap::new(),
            refusals: 0,
        }
    }

    /// One update of one prefix, and what it must have left at the edges.
    fn update(&mut self, index: usize) -> Result<()> {
        let number = if index % WIDE == WIDE / 2 {
            index / WIDE % WIDEST.len()
        } else {
            self.random.below(self.prefixes.len() - WIDEST.len()) + WIDEST.len()
        };
        let withdraw = match self.standing[number] {
            Standing::Absent => self.random.below(10) == 0,
            _ => self.random.below(5) < 2,
        };
        if withdraw {
            self.withdraw(number)?;
        } else {
            self.announce(number)?;
        }
        self.check(number)
    }

    fn announce(&mut self, number: usize) -> Result<()> {
        let prefix = self.prefixes[number];
        let group = 2 + self.random.below(GROUPS) as u32;
        let outcome = self
            .fib
            .announce(&self.tables, prefix, group, Provenance::default());
        let standing = match outcome {
            Outcome::Installed => Standing::Laid(group),
            Outcome::Refused => Standing::Refused,
        };
        ensure!(
            outcome == Outcome::Installed || !matches!(self.standing[number], Standing::Laid(_)),
            "{prefix} was there and was refused"
        );
        self.stand(number, standing);
        Ok(())
    }

    fn withdraw(&mut self, number: usize) -> Result<()> {
        let prefix = self.prefixes[number];
        let had = self.fib.withdraw(&self.tables, prefix);
        let right = match self.standing[number] {
            Standing::Laid(group) => Some(group),
            _ => None,
        };
        ensure!(had == right, "{prefix} had {had:?} and not {right:?}");
        self.stand(number, Standing::Absent);
        Ok(())
    }

    fn stand(&mut self, number: usize, now: Standing) {
        let prefix = self.prefixes[number];
        let before = std::mem::replace(&mut self.standing[number], now);
        let word = word(prefix.network());
        if before != now && prefix.prefix_len() > word.1 {
            let place = self.crowded.entry(word).or_default();
            *place -= u32::from(before == Standing::Refused);
            *place += u32::from(now == Standing::Refused);
        }
        self.refusals += usize::from(now == Standing::Refused && before != now);
        self.model
            .set(prefix, (now != Standing::Absent).then_some(number));
    }

    /// First and last address of a prefix, the one below and the one above.
    fn check(&self, number: usize) -> Result<()> {
        for address in table::edges(self.prefixes[number]) {
            self.check_address(address)
                .with_context(|| format!("{address}, at an edge of {}", self.prefixes[number]))?;
        }
        Ok(())
    }

    fn check_address(&self, address: IpAddr) -> Result<()> {
        let leaf = self.tables.lookup(address).context("the walk does not end")?;
        let group = match leaf.group() {
            GROUP_INDIRECT => self.tables.slot_group(leaf.slot()).load(Ordering::Relaxed),
            group => group,
        };
        let crowded = || {
            self.crowded
                .get(&word(address))
                .is_some_and(|refused| *refused > 0)
        };
        let punted = !leaf.is_none() && group == PUNT;
        let Some(number) = self.model.find(address) else {
            ensure!(
                leaf.is_none() || punted && crowded(),
                "{leaf:?}, and nothing covers it"
            );
            return Ok(());
        };
        let prefix = self.prefixes[number];
        match self.standing[number] {
            Standing::Laid(right) => {
                let own = group == right && self.counts(leaf.slot(), prefix);
                ensure!(
                    own || punted && crowded(),
                    "group {group}, slot {}: not {prefix}'s {right}",
                    leaf.slot()
                );
            }
            standing => ensure!(punted, "group {group}, and {prefix} is {standing:?}"),
        }
        Ok(())
    }

    /// Whether a slot is a prefix's.
    fn counts(&self, slot: u32, prefix: IpNet) -> bool {
        let entry = self.tables.slot_directory.get(slot as usize);
        prefix_of(entry.family, entry.address, entry.length) == Some(prefix)
            && State::from_number(entry.state) == Some(State::Live)
    }

    /// Every prefix, and the counts.
    fn check_all(&mut self) -> Result<()> {
        for number in 0..self.prefixes.len() {
            self.check(number)?;
        }
        // Twice: a period may be under way, which what was retired since does not belong to.
        for _ in 0..2 {
            self.fib.grace_begins();
            self.fib.grace_over(&self.tables);
        }
        let count = |wanted: fn(&Standing) -> bool| self.standing.iter().filter(|s| wanted(s)).count();
        let laid = count(|s| matches!(s, Standing::Laid(_)));
        let refused = count(|s| *s == Standing::Refused);
        let usage = self.fib.usage();
        let (laid4, laid6) = self.fib.len();
        let (refused4, refused6) = self.fib.refused();
        ensure!(
            (usage.slots, laid4 + laid6, refused4 + refused6) == (laid, laid, refused),
            "{usage:?}, {} laid, {} refused, where {laid} and {refused} are right",
            laid4 + laid6,
            refused4 + refused6
        );
        Ok(())
    }

    /// Refused prefixes get another try, as the controller gives them one after a grace period.
    fn retry(&mut self, numbers: &HashMap<IpNet, usize>) -> Result<()> {
        for prefix in self.fib.take_refused(16) {
            let number = numbers[&prefix];
            self.announce(number)?;
            self.check(number)?;
        }
        Ok(())
    }

    fn run(&mut self, updates: usize) -> Result<()> {
        let numbers = self.prefixes.iter().copied().zip(0..).collect();
        for index in 0..updates {
            self.update(index).with_context(|| format!("update {index}"))?;
            match index % GRACE {
                0 => self.fib.grace_begins(),
                at if at == GRACE / 2 => {
                    self.fib.grace_over(&self.tables);
                    self.retry(&numbers)
                        .with_context(|| format!("after update {index}"))?;
                }
                _ => {}
            }
            if index % FULL_CHECK == FULL_CHECK - 1 {
                self.check_all()
                    .with_context(|| format!("after update {index}"))?;
            }
        }
        Ok(())
    }

    /// Takes everything away: nothing may be left.
    fn clear(&mut self) -> Result<()> {
        for number in 0..self.prefixes.len() {
            self.withdraw(number)?;
            self.check(number)?;
        }
        self.check_all()?;
        let nothing = Usage {
            slots: 0,
            blocks4: 0,
            blocks6: 0,
        };
        ensure!(self.fib.usage() == nothing, "left in use: {:?}", self.fib.usage());
        Ok(())
    }
}

fn seed() -> Result<u64> {
    let seed = match std::env::var("FORWARDER_TEST_SEED") {
        Ok(text) => text.parse().context("FORWARDER_TEST_SEED")?,
        Err(_) => SEED,
    };
    println!("FORWARDER_TEST_SEED={seed}");
    Ok(seed)
}

fn ample() -> Sizes {
    Sizes {
        slots: RESERVED + UNIVERSE as u32 + GRACE as u32 * 2,
        blocks4: 1 << 16,
        blocks6: 1 << 18,
        ..Sizes::SMALL
    }
}

/// Too small for a third of the prefixes.
fn tight() -> Sizes {
    Sizes {
        slots: RESERVED + UNIVERSE as u32 / 2,
        blocks4: 1 << 10,
        blocks6: 1 << 14,
        ..Sizes::SMALL
    }
}

fn full(v4: bool) -> Result<()> {
    let mut world = World::new(v4, seed()?, tight());
    world.run(UPDATES / 10)?;
    println!(
        "{} refusals, {:?}, {:?}",
        world.refusals,
        world.fib.usage(),
        world.fib.refused()
    );
    ensure!(world.refusals > UPDATES / 100, "only {} refused", world.refusals);
    world.clear()
}

fn million(v4: bool) -> Result<()> {
    let mut world = World::new(v4, seed()?, ample());
    world.run(UPDATES)?;
    println!("{:?}", world.fib.usage());
    ensure!(
        world.refusals == 0,
        "{} refused, with room for all",
        world.refusals
    );
    world.clear()
}

#[test]
fn a_million_ipv4_updates_leave_what_the_model_says() -> Result<()> {
    million(true)
}

#[test]
fn a_million_ipv6_updates_leave_what_the_model_says() -> Result<()> {
    million(false)
}

#[test]
fn a_full_ipv4_table_keeps_what_it_has_and_punts_what_it_refused() -> Result<()> {
    full(true)
}

#[test]
fn a_full_ipv6_table_keeps_what_it_has_and_punts_what_it_refused() -> Result<()> {
    full(false)
}
