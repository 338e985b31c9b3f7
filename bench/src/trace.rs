//! Traces: which destinations come, in which order.

use anyhow::Result;
use forwarder_bench_ebpf::abi::TRACE_LEN;
use serde::Serialize;
use xtask::bench::Options;

use crate::model::Model;
use crate::random::Random;
use crate::table::{Family, Table};

/// How destinations are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// 256 destinations: everything is in the first caches.
    Hot,
    /// 20,000 destinations.
    Spread20k,
    /// 65,536 destinations: what `pipeline` sends to.
    Spread64k,
    /// Every packet to a prefix chosen uniformly: nothing stays in a cache.
    Uniform,
    /// Prefixes by Zipf's law with exponent 1, in random order: what traffic looks like.
    Zipf,
}

impl Pattern {
    /// Those that single packets are measured with.
    pub const ALL: [Pattern; 4] = [Pattern::Hot, Pattern::Spread20k, Pattern::Uniform, Pattern::Zipf];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Pattern::Hot => "hot",
            Pattern::Spread20k => "spread20k",
            Pattern::Spread64k => "spread64k",
            Pattern::Uniform => "uniform",
            Pattern::Zipf => "zipf",
        }
    }
}

/// Calls `run` with the trace of every table and pattern that the options want.
///
/// # Errors
/// Those of `run`.
pub fn each<'a>(
    bench: &str,
    options: &Options,
    tables: &'a [Table; 2],
    mut run: impl FnMut(&'a Table, Pattern, &Trace) -> Result<()>,
) -> Result<()> {
    for table in tables {
        let model = Model::new(&table.prefixes);
        for pattern in Pattern::ALL {
            if options.wants(table.family.name(), pattern.name()) {
                eprintln!("{bench}: {} {}", table.family, pattern.name());
                run(table, pattern, &Trace::new(table, &model, pattern))?;
            }
        }
    }
    Ok(())
}

/// Addresses drawn from a prefix before one that a longer prefix owns is taken: some prefixes are covered whole.
const DRAWS: usize = 32;

/// [`TRACE_LEN`] destinations of one family.
pub struct Trace {
    /// Destinations, see [`crate::table::bits`].
    pub destinations: Vec<u128>,
    /// The position of each one's longest prefix in the table, by the model.
    pub expected: Vec<u32>,
}

impl Trace {
    /// Makes the trace of a pattern: always the same one for the same table.
    pub fn new(table: &Table, model: &Model, pattern: Pattern) -> Trace {
        let mut random = Random::new(u64::from(table.family.number()) << 8 | pattern as u64);
        let count = table.prefixes.len();
        let pairs: Vec<(u128, u32)> = match pattern {
            Pattern::Hot => few(table, model, &mut random, 256),
            Pattern::Spread20k => few(table, model, &mut random, 20_000),
            Pattern::Spread64k => few(table, model, &mut random, 65_536),
            Pattern::Uniform => (0..TRACE_LEN)
                .map(|_| draw(table, model, &mut random, |random| random.below(count)))
                .collect(),
            Pattern::Zipf => {
                let zipf = Zipf::new(count, &mut random);
                (0..TRACE_LEN)
                    .map(|_| draw(table, model, &mut random, |random| zipf.draw(random)))
                    .collect()
            }
        };
        let (destinations, expected) = pairs.into_iter().unzip();
        Trace {
            destinations,
            expected,
        }
    }
}

/// A trace over so many destinations.
fn few(table: &Table, model: &Model, random: &mut Random, count: usize) -> Vec<(u128, u32)> {
    let destinations: Vec<_> = (0..count)
        .map(|_| draw(table, model, random, |random| random.below(table.prefixes.len())))
        .collect();
    (0..TRACE_LEN)
        .map(|_| destinations[random.below(count)])
        .collect()
}

/// An address in a prefix that `choose` picks, and the position of its longest prefix: the chosen one where possible.
fn draw(
    table: &Table,
    model: &Model,
    random: &mut Random,
    choose: impl Fn(&mut Random) -> usize,
) -> (u128, u32) {
    loop {
        let chosen = choose(random);
        let prefix = table.prefixes[chosen];
        let mut owned = None;
        for _ in 0..DRAWS {
            let address = prefix.inside(table.family, random);
            if !forwardable(table.family, address) {
                continue;
            }
            owned = model.lookup(address).map(|position| (address, position));
            if owned.is_some_and(|(_, position)| position as usize == chosen) {
                break;
            }
        }
        if let Some(pair) = owned {
            return pair;
        }
    }
}

/// Whether a router forwards packets there at all, and the table alone says where: the bench's own networks are in
/// 10.0.0.0/8 and fd00::/8.
fn forwardable(family: Family, address: u128) -> bool {
    let first = (address >> 120) as u8;
    match family {
        Family::V4 => !matches!(first, 0 | 10 | 127 | 224..) && address >> 112 != 0xa9fe,
        Family::V6 => first >> 5 == 1,
    }
}

/// Zipf's law with exponent 1.
struct Zipf {
    /// Sum of the weights up to each rank.
    sums: Vec<f64>,
    /// The prefix of each rank.
    prefixes: Vec<u32>,
}

impl Zipf {
    fn new(count: usize, random: &mut Random) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        let sums = sums.collect();
        let mut prefixes: Vec<u32> = (0..count as u32).collect();
        for at in (1..count).rev() {
            prefixes.swap(at, random.below(at + 1));
        }
        Zipf { sums, prefixes }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit() * self.sums.last().copied().unwrap_or(0.0);
        let rank = self.sums.partition_point(|sum| *sum <= at);
        self.prefixes[rank.min(self.prefixes.len() - 1)] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Prefix;

    #[test]
    fn the_first_rank_comes_twice_as_often_as_the_second() {
        let mut random = Random::new(1);
        let zipf = Zipf::new(1000, &mut random);
        let mut hits = vec![0u32; 1000];
        for _ in 0..200_000 {
            hits[zipf.draw(&mut random)] += 1;
        }
        let of = |rank: usize| f64::from(hits[zipf.prefixes[rank] as usize]);
        assert!((1.8..2.2).contains(&(of(0) / of(1))), "{} and {}", of(0), of(1));
    }

    #[test]
    fn a_destination_belongs_to_the_prefix_it_was_drawn_for_unless_that_one_is_covered() {
        let prefix = |network: u128, length| Prefix {
            network: network << 96,
            length,
        };
        // The /23 is covered by its halves, the /16 is not.
        let prefixes = vec![
            prefix(0x1400_0000, 16),
            prefix(0x1400_0200, 23),
            prefix(0x1400_0200, 24),
            prefix(0x1400_0300, 24),
        ];
        let table = Table {
            family: Family::V4,
            origins: vec![0; prefixes.len()],
            prefixes,
        };
        let model = Model::new(&table.prefixes);
        let mut random = Random::new(1);
        for chosen in [0, 2, 3] {
            let (address, position) = draw(&table, &model, &mut random, |_| chosen);
            assert_eq!((position as usize, address & u128::from(u64::MAX)), (chosen, 0));
        }
        let (_, position) = draw(&table, &model, &mut random, |_| 1);
        assert!(matches!(position, 2 | 3), "{position}");
    }
}
