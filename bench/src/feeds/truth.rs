//! What the forwarding table must say of every prefix, and waiting until it does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use forwarder::dataplane::Tables;
use xtask::interrupt;
use xtask::progress::Progress;

use crate::model::Model;
use crate::process::Controller;
use crate::random::Random;
use crate::router::Router;
use crate::table::{Prefix, Table};
use crate::walk;

/// Prefixes asked for between two looks at how many of them are right.
const SOME: usize = 1024;
/// One prefix in so many is waited for.
const PART: usize = 16;
/// How long to wait when few are.
const PAUSE: Duration = Duration::from_millis(5);

/// Both tables, and the gateway of each prefix.
pub struct Truth<'a> {
    tables: &'a [Table; 2],
    /// `None` of a prefix that is not announced.
    pub gateways: [Vec<Option<usize>>; 2],
}

/// A prefix, and what answers for its first address.
pub struct Place {
    /// Which table.
    pub family: usize,
    /// Its place there.
    pub at: usize,
    /// The place of the longest prefix that is announced and covers it.
    pub owner: Option<usize>,
}

impl<'a> Truth<'a> {
    /// Every prefix by its own gateway.
    pub fn new(tables: &'a [Table; 2]) -> Truth<'a> {
        let own = |table: &Table| {
            table
                .prefixes
                .iter()
                .map(|prefix| Some(prefix.gateway()))
                .collect()
        };
        Truth {
            tables,
            gateways: tables.each_ref().map(own),
        }
    }

    /// Every prefix of both, in no order: daemons have orders of their own.
    fn wanted(&self) -> VecDeque<Place> {
        let mut all: Vec<Place> = Vec::new();
        for (family, (table, gateways)) in self.tables.iter().zip(&self.gateways).enumerate() {
            let there: Vec<usize> = (0..gateways.len()).filter(|at| gateways[*at].is_some()).collect();
            let prefixes: Vec<Prefix> = there.iter().map(|at| table.prefixes[*at]).collect();
            let model = Model::new(&prefixes);
            all.extend(table.prefixes.iter().enumerate().map(|(at, prefix)| Place {
                family,
                at,
                owner: model.lookup(prefix.network).map(|place| there[place as usize]),
            }));
        }
        let mut random = Random::new(11);
        for last in (1..all.len()).rev() {
            all.swap(last, random.below(last + 1));
        }
        all.into()
    }

    fn check(&self, ours: &Tables, router: &Router, wanted: &Place) -> Result<()> {
        let table = &self.tables[wanted.family];
        let address = table.family.address(table.prefixes[wanted.at].network);
        let Some(owner) = wanted.owner else {
            let leaf = ours.lookup(address);
            ensure!(
                leaf.is_some_and(|leaf| leaf.is_none()),
                "{address} has a route, and nothing covers it"
            );
            return Ok(());
        };
        let prefix = &table.prefixes[owner];
        let gateway = self.gateways[wanted.family][owner].context("a prefix that is not announced")?;
        let (group, slot) = walk::find(ours, address)?;
        walk::counts_for(ours, table.family, prefix, slot)?;
        walk::leads(ours, group, &router.way_by(table.family, gateway)).with_context(|| {
            format!(
                "{address}, of {}/{}",
                table.family.address(prefix.network),
                prefix.length
            )
        })
    }

    /// What to wait for, where that is one prefix.
    pub fn one(&self, place: Place) -> Awaited<'_> {
        Awaited {
            truth: self,
            left: VecDeque::from([place]),
        }
    }

    /// What to wait for; to be made before the clock starts: one prefix in [`PART`]. To ask for all would take the controller's
    /// CPU; and when these are right, a few more than that are left, which take microseconds. Afterwards ask [`Self::holds`].
    pub fn awaited(&self) -> Awaited<'_> {
        let mut left = self.wanted();
        left.truncate((left.len() / PART).max(1));
        Awaited { truth: self, left }
    }

    /// Checks every prefix.
    ///
    /// # Errors
    /// The first wrong answer.
    pub fn holds(&self, ours: &Tables, router: &Router) -> Result<()> {
        let mut wanted = self.wanted();
        wanted
            .iter_mut()
            .try_for_each(|wanted| self.check(ours, router, wanted))
    }
}

/// Prefixes that were not seen right yet.
pub struct Awaited<'a> {
    truth: &'a Truth<'a>,
    left: VecDeque<Place>,
}

impl Awaited<'_> {
    /// Waits until each was right once, and answers when the last was. Those that are go from the list while others come, so
    /// the list is short at the end.
    ///
    /// # Errors
    /// The controller ends, or something is still wrong after `limit`.
    pub fn settled(
        mut self,
        what: &str,
        limit: Duration,
        ours: &Tables,
        router: &Router,
        controller: &mut Controller,
    ) -> Result<Instant> {
        let mut progress = Progress::new(what);
        let all = self.left.len();
        let until = Instant::now() + limit;
        loop {
            let mut right = 0;
            let some = SOME.min(self.left.len());
            for _ in 0..some {
                let Some(wanted) = self.left.pop_front() else {
                    break;
                };
                match self.truth.check(ours, router, &wanted) {
                    Ok(()) => right += 1,
                    Err(_) => self.left.push_back(wanted),
                }
            }
            if self.left.is_empty() {
                return Ok(Instant::now());
            }
            if right * 2 < some {
                controller.alive()?;
                interrupt::check()?;
                progress.detail(&format!("{} of {all} prefixes", all - self.left.len()));
                if Instant::now() > until {
                    let first = self
                        .left
                        .pop_front()
                        .map(|first| self.truth.check(ours, router, &first));
                    let left = self.left.len() + 1;
                    bail!(
                        "{left} prefixes are wrong after {} s, {first:?} among them",
                        limit.as_secs()
                    );
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}
