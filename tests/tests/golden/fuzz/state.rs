//! What changes about a router from batch to batch: how old its controller is, what is limited, checked, sampled and done at all.

use anyhow::Result;
use forwarder::{config::PuntConfig, punt};
use forwarder_common::{
    interface::{
        CHECK_SOURCES, COUNT_PAIRS, COUNT_SOURCES, FILTER_SOURCES, FORWARD4, FORWARD6, INACTIVE, Interface,
        OUTSIDE, REDIRECTS4, RULES4, RULES6,
    },
    origin::{ANYWHERE, UNCHECKED},
    punt::Class,
};
use forwarder_tests::{differential::chance, random::Random};

use super::world::World;

/// What a class may let up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    Off,
    Default,
    OneASecond,
}

/// A state.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// What interfaces draw their flags from.
    seed: u64,
    /// The heartbeat is too old.
    stale: bool,
    dry_run: bool,
    limits: Limits,
    rules: bool,
    checks: bool,
    /// Accounts and their pairs.
    accounts: bool,
    /// One in so many packets is sampled.
    samples: u32,
    /// Now and then an interface does not forward, filters, owes redirects, or is a member that is not used.
    odd: bool,
}

impl State {
    /// The state of a number.
    pub fn of(seed: u64) -> State {
        let mut r = Random::new(seed);
        State {
            seed,
            stale: chance(&mut r, 8),
            dry_run: chance(&mut r, 20),
            limits: *r.pick(&[Limits::Off, Limits::Default, Limits::OneASecond]),
            rules: chance(&mut r, 50),
            checks: chance(&mut r, 30),
            accounts: chance(&mut r, 30),
            samples: if chance(&mut r, 30) {
                1 + r.below(50) as u32
            } else {
                0
            },
            odd: chance(&mut r, 40),
        }
    }

    /// Nothing out of the ordinary.
    pub fn quiet() -> State {
        State {
            seed: 0,
            stale: false,
            dry_run: false,
            limits: Limits::Off,
            rules: false,
            checks: false,
            accounts: false,
            samples: 0,
            odd: false,
        }
    }

    /// Has the router in it.
    pub fn put(&self, world: &World) -> Result<()> {
        let tables = world.sandbox.engine.view();
        if self.stale {
            world.sandbox.stamp(1, 1);
        } else {
            world.sandbox.stamp(0, 0);
        }
        tables.set_dry_run(self.dry_run);
        tables.set_samples(self.samples, 64);
        let config = match self.limits {
            Limits::Default => PuntConfig::default(),
            Limits::Off => PuntConfig {
                enabled: false,
                ..PuntConfig::default()
            },
            Limits::OneASecond => PuntConfig {
                rates: [(1, 1); Class::ALL.len()],
                ..PuntConfig::default()
            },
        };
        punt::install(tables, &config, false);
        let mut r = Random::new(self.seed.rotate_left(7));
        for (ifindex, first) in &world.interfaces {
            tables
                .interfaces
                .set(*ifindex as usize, &self.interface(&mut r, first));
        }
        Ok(())
    }

    fn interface(&self, r: &mut Random, first: &Interface) -> Interface {
        let mut entry = *first;
        if self.rules {
            entry.flags |= RULES4 | RULES6;
        }
        if self.checks && chance(r, 70) {
            entry.flags |= CHECK_SOURCES;
            entry.origin = if chance(r, 50) { ANYWHERE } else { entry.port };
        }
        if self.accounts {
            entry.flags |= COUNT_PAIRS | COUNT_SOURCES;
            if chance(r, 50) {
                entry.flags |= OUTSIDE;
            }
            if entry.flags & CHECK_SOURCES == 0 {
                entry.origin = UNCHECKED;
            }
        }
        if self.odd {
            for (flag, percent) in [(FILTER_SOURCES, 30), (REDIRECTS4, 30), (INACTIVE, 10)] {
                if chance(r, percent) {
                    entry.flags |= flag;
                }
            }
            for flag in [FORWARD4, FORWARD6] {
                if chance(r, 15) {
                    entry.flags &= !flag;
                }
            }
        }
        entry
    }
}
