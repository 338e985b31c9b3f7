//! `churn`: random announcements, replacements and withdrawals on the full table, one by one, by the clock.
//!
//! They go through the compiler on the maps of the data path, with grace periods begun and ended as the controller does it.
//! An update's latency is all that passes until the next one may begin, so what a grace period costs is in it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::Dataplane;
use forwarder::dataplane::kernel::KernelDataplane;
use forwarder::dataplane::pins::Pins;
use forwarder::fib::{Fib, Outcome, Provenance};
use ipnet::IpNet;
use serde::Serialize;
use xtask::bench::Options;
use xtask::interrupt;

use crate::inside;
use crate::model::Model;
use crate::random::Random;
use crate::report::{self, median, rounded};
use crate::run;
use crate::table::{Family, Table};
use crate::walk;
use crate::world::World;
use forwarder_history::plot::{Bar, Chart};

/// Updates in a round.
const UPDATES: usize = 1 << 20;
/// Updates between two looks at grace periods: the controller looks after every batch that it reads from the kernel.
const BATCH: usize = 64;
/// One prefix in so many is absent at the beginning.
const ABSENT: usize = 20;
/// Groups that prefixes are spread over, and the first of them.
const GROUPS: usize = 500;
const FIRST: u32 = 2;
/// The group of prefixes without room.
const PUNT: u32 = 1;
/// Addresses that are compared with the model afterwards.
const SAMPLE: usize = 1 << 18;

/// A row.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    family: Family,
    updates_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    #[serde(skip)]
    highest_us: f64,
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// An update is refused or an answer is wrong, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    interrupt::install()?;
    let tables = Table::both(&options.tables)?;
    let world = World::enter()?;
    let pins = Pins::new(&world.bpffs().join("forwarder"));
    let _lock = inside::fresh(&pins)?;
    let dataplane = KernelDataplane::open(&pins)?;
    // After the grace thread has started: it is not to wait for us.
    let cpu = run::pin(options.cpu)?;
    let mut compiler = Compiler {
        fib: Fib::new(dataplane.tables(), PUNT),
        dataplane,
    };
    let mut feeds = [Feed::new(&tables[0])?, Feed::new(&tables[1])?];
    for feed in &mut feeds {
        eprintln!("churn: {} prefixes laid", feed.table.family);
        for (prefix, group) in feed.prefixes.iter().zip(&feed.groups) {
            compiler.update(*prefix, *group)?;
        }
        for _ in 0..feed.prefixes.len() / ABSENT {
            let (at, _) = feed.withdrawn();
            compiler.update(feed.prefixes[at], None)?;
        }
    }
    let clock = Clock::new();
    let mut found = [const { Vec::new() }; 2];
    for round in 0..options.rounds {
        for (feed, found) in feeds.iter_mut().zip(&mut found) {
            eprintln!(
                "churn: round {} of {}, {}",
                round + 1,
                options.rounds,
                feed.table.family
            );
            found.push(compiler.round(feed, &clock)?);
            interrupt::check()?;
        }
    }
    for feed in &feeds {
        compiler.verify(feed)?;
    }
    let rows = feeds.iter().zip(&found).map(|(feed, rounds)| {
        let over = |value: fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
        Row {
            bench: "churn",
            family: feed.table.family,
            updates_per_s: over(|round| round.updates_per_s).round(),
            p50_us: rounded(over(|round| round.p50_us), 1000.0),
            p99_us: rounded(over(|round| round.p99_us), 1000.0),
            highest_us: over(|round| round.highest_us),
        }
    });
    let rows: Vec<Row> = rows.collect();
    let mut method = report::surroundings(&tables, Some(cpu));
    method.extend([
        format!(
            "medians of {} rounds of {UPDATES} updates of random prefixes: half replacements, a quarter announcements, a \
             quarter withdrawals",
            options.rounds
        ),
        format!("grace periods as in the controller, within the times; the clock's own {:.0} ns are not; the rate is per second on the CPU", clock.cost),
    ]);
    show(options, &method, &rows)
}

fn show(options: &Options, method: &[String], rows: &[Row]) -> Result<()> {
    let title = "Churn: updates a second on the full table";
    let columns = ["family", "updates/s", "p50 us", "p99 us", "highest us"];
    report::print(options.json, rows, title, method, &columns, |row| {
        vec![
            row.family.to_string(),
            format!("{:.0}", row.updates_per_s),
            format!("{:.2}", row.p50_us),
            format!("{:.2}", row.p99_us),
            format!("{:.0}", row.highest_us),
        ]
    })?;
    let bars = rows.iter().map(|row| Bar {
        name: row.family.to_string(),
        value: row.updates_per_s,
        label: format!("{:.2} M/s, p99 {:.1} us", row.updates_per_s / 1e6, row.p99_us),
    });
    let chart = Chart::of(title, method.to_vec(), "random updates", bars);
    report::plot(options, "churn", &chart)
}

/// What a round found.
struct Round {
    updates_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    highest_us: f64,
}

/// The compiler on the data path.
struct Compiler {
    dataplane: KernelDataplane,
    fib: Fib,
}

impl Compiler {
    /// Announces a prefix with a group, or withdraws it.
    fn update(&mut self, prefix: IpNet, group: Option<u32>) -> Result<()> {
        let tables = self.dataplane.tables();
        match group {
            Some(group) => {
                let outcome = self.fib.announce(tables, prefix, group, Provenance::default());
                ensure!(outcome == Outcome::Installed, "no room for {prefix}");
            }
            None => {
                let had = self.fib.withdraw(tables, prefix);
                ensure!(had.is_some(), "{prefix} was not there to withdraw");
            }
        }
        Ok(())
    }

    /// Grace periods, as `Engine::maintain` has them.
    fn maintain(&mut self) {
        if self.dataplane.grace_over() {
            self.fib.grace_over(self.dataplane.tables());
        }
        if self.fib.wants_grace() && !self.dataplane.grace_pending() {
            self.fib.grace_begins();
            self.dataplane.begin_grace();
        }
    }

    fn round(&mut self, feed: &mut Feed<'_>, clock: &Clock) -> Result<Round> {
        let updates: Vec<(IpNet, Option<u32>)> = (0..UPDATES)
            .map(|_| {
                let (at, group) = feed.next();
                (feed.prefixes[at], group)
            })
            .collect();
        let mut laps: Vec<u32> = Vec::with_capacity(UPDATES);
        // As elsewhere, what other processes take from us is not in the rate; latencies have it.
        let start = run::cpu_time()?;
        let mut last = Instant::now();
        for (number, (prefix, group)) in updates.into_iter().enumerate() {
            if number % BATCH == 0 {
                self.maintain();
            }
            self.update(prefix, group)?;
            let now = Instant::now();
            laps.push(now.duration_since(last).as_nanos().try_into().unwrap_or(u32::MAX));
            last = now;
        }
        let total = (run::cpu_time()? - start) as f64 - clock.cost * UPDATES as f64;
        laps.sort_unstable();
        let us = |part: f64| clock.net(laps[((laps.len() - 1) as f64 * part) as usize]) / 1e3;
        Ok(Round {
            updates_per_s: laps.len() as f64 / total * 1e9,
            p50_us: us(0.5),
            p99_us: us(0.99),
            highest_us: us(1.0),
        })
    }

    /// Compares random addresses of random prefixes, laid or not, with the model.
    fn verify(&self, feed: &Feed<'_>) -> Result<()> {
        let (tables, family) = (self.dataplane.tables(), feed.table.family);
        let laid: Vec<usize> = (0..feed.prefixes.len())
            .filter(|at| feed.groups[*at].is_some())
            .collect();
        let prefixes: Vec<_> = laid.iter().map(|at| feed.table.prefixes[*at]).collect();
        let model = Model::new(&prefixes);
        let mut random = Random::new(3);
        for _ in 0..SAMPLE {
            let prefix = feed.table.prefixes[random.below(feed.prefixes.len())];
            let inside = prefix.inside(family, &mut random);
            let address = family.address(inside);
            let Some(right) = model.lookup(inside) else {
                ensure!(
                    walk::find(tables, address).is_err(),
                    "{address} has a route, and nothing covers it"
                );
                continue;
            };
            let (group, slot) = walk::find(tables, address)?;
            walk::counts_for(tables, family, &prefixes[right as usize], slot)
                .with_context(|| format!("wrong answer for {address}"))?;
            let wanted = feed.groups[laid[right as usize]];
            ensure!(
                wanted == Some(group),
                "{address} has group {group} and not {wanted:?}"
            );
        }
        Ok(())
    }
}

/// Random updates, and what they leave.
struct Feed<'a> {
    table: &'a Table,
    prefixes: Vec<IpNet>,
    /// The group of each prefix; `None` while it is withdrawn.
    groups: Vec<Option<u32>>,
    /// Positions of prefixes: first those that are laid, then those that are not.
    order: Vec<u32>,
    laid: usize,
    random: Random,
}

impl<'a> Feed<'a> {
    fn new(table: &'a Table) -> Result<Feed<'a>> {
        let mut random = Random::new(table.family.number().into());
        let prefixes: Vec<IpNet> = table
            .prefixes
            .iter()
            .map(|prefix| table.net(prefix))
            .collect::<Result<_>>()?;
        ensure!(
            prefixes.len() >= ABSENT,
            "churn needs {ABSENT} {} prefixes at least",
            table.family
        );
        let any = |_: &IpNet| Some(FIRST + random.below(GROUPS) as u32);
        Ok(Feed {
            groups: prefixes.iter().map(any).collect(),
            order: (0..prefixes.len() as u32).collect(),
            laid: prefixes.len(),
            table,
            prefixes,
            random,
        })
    }

    /// The next update: which prefix, and its group from then on.
    fn next(&mut self) -> (usize, Option<u32>) {
        match self.random.below(4) {
            0 if self.laid < self.order.len() => {
                let at = self.laid + self.random.below(self.order.len() - self.laid);
                self.order.swap(self.laid, at);
                self.laid += 1;
                self.given(self.laid - 1)
            }
            1 if self.laid > 1 => self.withdrawn(),
            _ => {
                let at = self.random.below(self.laid);
                self.given(at)
            }
        }
    }

    /// Gives the prefix at a place of the order a group that it does not have.
    fn given(&mut self, place: usize) -> (usize, Option<u32>) {
        let at = self.order[place] as usize;
        let old = self.groups[at].unwrap_or(FIRST) - FIRST;
        let further = 1 + self.random.below(GROUPS - 1) as u32;
        self.groups[at] = Some(FIRST + (old + further) % GROUPS as u32);
        (at, self.groups[at])
    }

    /// Withdraws any.
    fn withdrawn(&mut self) -> (usize, Option<u32>) {
        let place = self.random.below(self.laid);
        self.laid -= 1;
        self.order.swap(place, self.laid);
        let at = self.order[self.laid] as usize;
        self.groups[at] = None;
        (at, None)
    }
}

/// The clock, and what a look at it costs.
struct Clock {
    cost: f64,
}

impl Clock {
    fn new() -> Clock {
        let mut last = Instant::now();
        let looks = (0..1 << 16).map(|_| {
            let now = Instant::now();
            now.duration_since(std::mem::replace(&mut last, now)).as_nanos() as f64
        });
        let looks: Vec<f64> = looks.collect();
        Clock { cost: median(&looks) }
    }

    /// A lap without it, nanoseconds.
    fn net(&self, lap: u32) -> f64 {
        (f64::from(lap) - self.cost).max(0.0)
    }
}
