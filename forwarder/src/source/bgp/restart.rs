//! What is kept of a neighbour's tables while its session is away, and for how long: the part of the helper in graceful
//! restart (RFC 4724 4.2), long-lived graceful restart (RFC 9494 4) and enhanced route refresh (RFC 7313 4).
//!
//! A table is synchronised by mark and sweep (see [`crate::source::feed`]). Marked is all of it when the session is lost;
//! swept is what was not said again
//!
//! - at once, when the neighbour offered no restart for this table, or forbade it (Hard Reset);
//! - at End-of-RIB, when it came back;
//! - when it came back and says that it did not go on forwarding (the F bit);
//! - when its restart time is over. If it offered a long-lived one, the routes are kept for that time too, but as the last
//!   choice;
//! - [`RESYNC_TIME`] after it came back, if it never gets to End-of-RIB.
//!
//! A neighbour that does not know graceful restart need not send End-of-RIB: then [`QUIET_TIME`] without news stands for it.

use std::time::{Duration, Instant};

use super::open::Terms;
use super::table::{PerTable, TABLES};
use crate::source::feed::{FeedEvent, FeedTable};

/// How long a neighbour that came back may take to its End-of-RIB.
pub const RESYNC_TIME: Duration = Duration::from_secs(360);
/// How long a table must be quiet to count as whole, where no End-of-RIB is promised.
pub const QUIET_TIME: Duration = Duration::from_secs(5);

/// How far a table is in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The session does not have it, or there is none.
    #[default]
    Away,
    /// Its routes are coming.
    Coming {
        /// When it counts as whole for want of news.
        quiet: Option<Instant>,
        /// When it counts as whole in any case.
        latest: Instant,
    },
    /// It is whole.
    Whole,
    /// It is whole and being said again.
    Again(Instant),
}

/// What is stale of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stale {
    /// How long it is kept.
    until: Instant,
    /// How long after that, as the last choice.
    then: Duration,
    /// It is the last choice already.
    long: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Table {
    phase: Phase,
    stale: Option<Stale>,
    /// Something of it may be known from a session.
    held: bool,
}

/// The tables of a neighbour.
#[derive(Debug, Default)]
pub struct Tables {
    tables: PerTable<Table>,
}

impl Tables {
    /// A session is up.
    pub fn established(&mut self, terms: &Terms, now: Instant, events: &mut Vec<FeedEvent>) {
        for table in TABLES {
            let at = table as usize;
            let entry = &mut self.tables[at];
            if let Some(stale) = &mut entry.stale {
                let forwarding = if stale.long {
                    terms.long_lived[at].is_some_and(|(forwarding, _)| forwarding)
                } else {
                    let graceful = terms.graceful.as_ref();
                    graceful.is_some_and(|graceful| graceful.tables[at] == Some(true))
                };
                if terms.tables[at] && forwarding {
                    // The long-lived time runs on until End-of-RIB (RFC 9494 4.2).
                    if !stale.long {
                        stale.until = now + RESYNC_TIME;
                        stale.then = Duration::ZERO;
                    }
                } else {
                    entry.stale = None;
                    events.push(FeedEvent::Sweep(table));
                }
            }
            if terms.tables[at] {
                entry.held = true;
                entry.phase = Phase::Coming {
                    quiet: terms.graceful.is_none().then_some(now + QUIET_TIME),
                    latest: now + RESYNC_TIME,
                };
            }
        }
    }

    /// The session is gone; `graceful` where the way it went allows for a restart. Its `terms` are those it had.
    pub fn lost(&mut self, graceful: bool, terms: &Terms, now: Instant, events: &mut Vec<FeedEvent>) {
        for table in TABLES {
            let at = table as usize;
            let entry = &mut self.tables[at];
            entry.phase = Phase::Away;
            if !entry.held {
                continue;
            }
            let restart = terms.graceful.as_ref().filter(|_| graceful);
            let short = restart
                .filter(|restart| restart.tables[at].is_some())
                .map_or(Duration::ZERO, |restart| restart.time);
            let long = restart
                .and(terms.long_lived[at])
                .map_or(Duration::ZERO, |(_, time)| time);
            let before = entry.stale.take();
            if before.is_some_and(|stale| !stale.long) {
                // Lost again before it was whole: what is stale from the first time is not kept twice (RFC 4724 4.2).
                events.push(FeedEvent::Sweep(table));
            }
            // A long time that runs is neither begun again nor left for a short one (RFC 9494 4.2).
            let running = before.filter(|stale| stale.long && !long.is_zero());
            let last_choice = running.is_some() || (short.is_zero() && !long.is_zero());
            events.push(FeedEvent::Mark {
                table,
                least_preferred: last_choice,
            });
            entry.stale = if last_choice {
                Some(Stale {
                    until: running.map_or(now + long, |stale| stale.until),
                    then: Duration::ZERO,
                    long: true,
                })
            } else if short.is_zero() {
                events.push(FeedEvent::Sweep(table));
                entry.held = false;
                None
            } else {
                Some(Stale {
                    until: now + short,
                    then: long,
                    long: false,
                })
            };
        }
    }

    /// News of a table.
    pub fn heard(&mut self, table: FeedTable, now: Instant) {
        if let Phase::Coming {
            quiet: Some(quiet), ..
        } = &mut self.tables[table as usize].phase
        {
            *quiet = now + QUIET_TIME;
        }
    }

    /// End-of-RIB.
    pub fn end_of_rib(&mut self, table: FeedTable, events: &mut Vec<FeedEvent>) {
        let entry = &mut self.tables[table as usize];
        if matches!(entry.phase, Phase::Coming { .. }) {
            entry.phase = Phase::Whole;
            if entry.stale.take().is_some() {
                events.push(FeedEvent::Sweep(table));
            }
            events.push(FeedEvent::Synchronised(table));
        }
    }

    /// A whole table is going to be said again. Before its End-of-RIB that means nothing (RFC 7313 4). Answers whether it
    /// was taken.
    pub fn refresh_begins(&mut self, table: FeedTable, now: Instant, events: &mut Vec<FeedEvent>) -> bool {
        let entry = &mut self.tables[table as usize];
        let whole = matches!(entry.phase, Phase::Whole | Phase::Again(_));
        if whole {
            entry.phase = Phase::Again(now + RESYNC_TIME);
            events.push(FeedEvent::Mark {
                table,
                least_preferred: false,
            });
        }
        whole
    }

    /// It has been said again.
    pub fn refresh_ends(&mut self, table: FeedTable, events: &mut Vec<FeedEvent>) -> bool {
        let entry = &mut self.tables[table as usize];
        let again = matches!(entry.phase, Phase::Again(_));
        if again {
            entry.phase = Phase::Whole;
            events.push(FeedEvent::Sweep(table));
        }
        again
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, events: &mut Vec<FeedEvent>) {
        for table in TABLES {
            let entry = &mut self.tables[table as usize];
            if let Phase::Coming { quiet, latest } = entry.phase
                && (now >= latest || quiet.is_some_and(|quiet| now >= quiet))
            {
                self.end_of_rib(table, events);
                continue;
            }
            if matches!(entry.phase, Phase::Again(latest) if now >= latest) {
                self.refresh_ends(table, events);
                continue;
            }
            let Some(stale) = entry.stale.filter(|stale| now >= stale.until) else {
                continue;
            };
            if stale.then.is_zero() {
                entry.stale = None;
                entry.held = entry.phase != Phase::Away;
                events.push(FeedEvent::Sweep(table));
            } else {
                entry.stale = Some(Stale {
                    until: now + stale.then,
                    then: Duration::ZERO,
                    long: true,
                });
                events.push(FeedEvent::Mark {
                    table,
                    least_preferred: true,
                });
            }
        }
    }

    /// When [`Tables::tick`] has something to do.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let phases = self.tables.iter().flat_map(|entry| match entry.phase {
            Phase::Coming { quiet, latest } => [quiet, Some(latest)],
            Phase::Again(latest) => [Some(latest), None],
            Phase::Away | Phase::Whole => [None, None],
        });
        let stale = self
            .tables
            .iter()
            .map(|entry| entry.stale.map(|stale| stale.until));
        phases.chain(stale).flatten().min()
    }

    /// Whether every table of the session is whole.
    #[must_use]
    pub fn whole(&self) -> bool {
        !self
            .tables
            .iter()
            .any(|entry| matches!(entry.phase, Phase::Coming { .. }))
    }

    /// Whether anything stale is kept.
    #[must_use]
    pub fn stale(&self) -> bool {
        self.tables.iter().any(|entry| entry.stale.is_some())
    }
}

#[cfg(test)]
#[path = "restart_tests.rs"]
mod tests;
