//! Which filter rules are in force: those of the configuration, then those of FlowSpec neighbours. They are compiled whole
//! whenever one of them changes, and the set in force stays in force where that fails.

use std::collections::{BTreeMap, HashSet};

use forwarder_common::{
    interface::{RULES4, RULES6},
    rules::PROCEEDING,
};
use tracing::info;

use crate::{
    config::Config,
    dataplane::{Dataplane, Tables},
    filter::{
        compile::{self, CompileError, Router},
        flowspec::Refusal,
        install::install,
        order::{self, Applied, Assembled},
        rule::{Origin, Rule},
    },
    source::feed::FeedId,
    stats::{RuleRow, rules::ACTIVE},
};

use super::{
    engine::Engine,
    meter::Meter,
    rule_room::{Unwanted, applicable, fitting},
    rule_slots::{Slots, counts},
};

/// What the rules are made of: where any of it changes, they are made anew.
#[derive(Clone, Default, PartialEq)]
struct Made {
    flows: u64,
    routes: u64,
    ports: Vec<(String, u32)>,
}

/// FlowSpec rules of both families, and the numbers of the interfaces.
type Wanted = ([Vec<Applied>; 2], Vec<(String, u32)>);

/// How many rules of a session are in force, and how many are not for want of room, and because they cannot be applied.
#[derive(Default)]
struct Missing {
    active: usize,
    roomless: usize,
    refused: usize,
}

/// Those who may have sent FlowSpec rules.
pub struct Neighbours<'a> {
    /// What they are called.
    pub name: &'a dyn Fn(FeedId) -> Option<String>,
    /// Whether one of them has not said since the start which rules it asks for.
    pub awaited: bool,
}

/// The rules in force.
#[derive(Default)]
pub struct Rules {
    made: Option<Made>,
    /// What was asked for when the set in force was compiled, beside the configuration.
    asked: Option<Wanted>,
    /// What of it the set in force is made of.
    wanted: Option<Wanted>,
    /// What of it found no room, with why.
    unfit: Vec<(Rule, CompileError)>,
    /// By session, how many rules are not applied.
    missing: BTreeMap<String, Missing>,
    slots: Slots,
    rows: Vec<RuleRow>,
    meter: Meter<u32>,
    kept: bool,
    /// `RULES4` and `RULES6`, where there are any.
    pub flags: u32,
}

impl Rules {
    /// With the slots that an earlier controller gave out.
    pub fn adopt(tables: &Tables) -> Rules {
        Rules {
            slots: Slots::adopt(tables),
            // As interfaces have it at first.
            flags: RULES4 | RULES6,
            ..Rules::default()
        }
    }

    /// Whether what a controller before this one put in force is still there, for neighbours that have not spoken yet.
    pub fn keep_found(&self) -> bool {
        self.kept
    }

    /// Lists what is in force where that is not what is wanted: of these rules and sessions those that are among it, the
    /// others with why they `wait`; then what nobody has asked for since the start, whose names nobody knows, with how long
    /// it `stays`.
    fn list_standing<'a>(
        &mut self,
        asked: impl Iterator<Item = (&'a Rule, Option<String>)>,
        wait: &str,
        stays: &str,
    ) {
        let mut named = HashSet::new();
        let mut rows: Vec<RuleRow> = asked
            .map(|(rule, session)| {
                let slot = self.slots.known(rule).filter(|slot| self.slots.in_force(*slot));
                let row = RuleRow::of(rule, session);
                match slot {
                    Some(_) => {
                        named.extend(slot);
                        RuleRow {
                            slot,
                            state: ACTIVE.into(),
                            ..row
                        }
                    }
                    None => RuleRow {
                        why: Some(wait.into()),
                        ..row
                    },
                }
            })
            .collect();
        for (slot, announced) in self.slots.all_in_force() {
            if named.contains(&slot) {
                continue;
            }
            let origin = if announced { "flowspec" } else { "config" };
            rows.push(RuleRow {
                name: "found at the start".into(),
                origin: origin.into(),
                state: ACTIVE.into(),
                slot: Some(slot),
                why: Some(stays.into()),
                ..RuleRow::default()
            });
        }
        self.rows = rows;
    }

    /// Makes the rules anew where something has changed. Answers whether `flags` did. While a neighbour is awaited, rules that
    /// were found stay as they are, unless all of them have been asked for again.
    ///
    /// # Errors
    /// The rules of the configuration cannot be put in force; those that are stay.
    pub fn turn<D: Dataplane>(
        &mut self,
        engine: &Engine<D>,
        config: &Config,
        neighbours: &Neighbours<'_>,
    ) -> Result<bool, CompileError> {
        let links = &engine.world.links;
        let name = |ifindex| links.get(ifindex).map(|link| link.name.clone());
        let mut ports: Vec<(String, u32)> = links
            .all_served()
            .filter_map(|(ifindex, served)| Some((name(ifindex)?, u32::from(served.port))))
            .collect();
        ports.sort_unstable();
        let made = Made {
            flows: engine.flows.version(),
            // What routes say matters to FlowSpec alone.
            routes: match engine.flows.iter().next() {
                Some(_) => engine.rib.feeds.version(),
                None => 0,
            },
            ports,
        };
        if self.made.as_ref() == Some(&made) {
            return Ok(false);
        }
        let validation = config
            .routes
            .bgp
            .as_ref()
            .is_none_or(|bgp| bgp.flowspec_validation);
        let announced = order::assemble(engine.flows.iter(), validation, &engine.rib.feeds);
        let before = self.flags;
        self.force(engine, config, &made, announced, neighbours)?;
        if !self.kept {
            self.made = Some(made);
        }
        Ok(self.flags != before)
    }

    fn force<D: Dataplane>(
        &mut self,
        engine: &Engine<D>,
        config: &Config,
        made: &Made,
        mut announced: Assembled,
        neighbours: &Neighbours<'_>,
    ) -> Result<(), CompileError> {
        let session = neighbours.name;
        let tables = engine.dataplane.tables();
        let own = &config.filter.rules;
        let mut unapplied: Vec<RuleRow> = Vec::new();
        // Of which sessions rules found no room, each as often.
        let mut roomless: Vec<FeedId> = Vec::new();
        let refused = |rule: &Rule, why: String| RuleRow {
            why: Some(why),
            ..RuleRow::of(rule, session_of(rule, session))
        };
        let flows = [&mut announced.v4, &mut announced.v6].map(|half| {
            let room = PROCEEDING - own.iter().filter(|rule| rule.proceed).count().min(PROCEEDING);
            applicable(std::mem::take(half), config, room, |rule, why| {
                if let Unwanted::NoTurn = why {
                    roomless.extend(feed_of(rule));
                }
                unapplied.push(refused(rule, why.to_string()));
            })
        });
        self.kept = neighbours.awaited && self.made.is_none() && self.slots.misses(&flows);
        if self.kept {
            self.list_standing(
                own.iter().map(|rule| (rule, None)),
                "those found at the start stay until their neighbours have spoken",
                "until its neighbour has spoken",
            );
            return Ok(());
        }
        let port = |name: &str| {
            made.ports
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, port)| *port)
        };
        let router = Router {
            port: &port,
            cpus: tables.sizes.cpus,
        };
        let wanted: Wanted = (flows, made.ports.clone());
        if self.asked.as_ref() != Some(&wanted) {
            let four = fitting(own, &wanted.0[0], |rules| compile::ipv4(rules, router));
            let six = fitting(own, &wanted.0[1], |rules| compile::ipv6(rules, router));
            let (four, six) = match four.and_then(|four| Ok((four, six?))) {
                Ok(both) => both,
                // Not even those of the configuration fit, which `check` refuses. Nothing changes, and that is what is listed.
                Err(why) => {
                    let announced = wanted.0.iter().flatten().map(|applied| &applied.rule);
                    let asked = own.iter().chain(announced);
                    self.list_standing(
                        asked.map(|rule| (rule, session_of(rule, session))),
                        &format!("the set before it stays: {why}"),
                        "until the rules fit",
                    );
                    return Err(why);
                }
            };
            self.unfit = four.unfit.into_iter().chain(six.unfit).collect();
            let in_force: Wanted = ([four.fit, six.fit], made.ports.clone());
            if self.wanted.as_ref() != Some(&in_force) {
                let mut slots = self.slots.clone();
                slots.begin();
                let (mut v4, mut v6) = (four.set, six.set);
                let commons = [&mut v4.common, &mut v6.common];
                for (common, half) in commons.into_iter().zip(&in_force.0) {
                    let rules = own.iter().chain(half.iter().map(|applied| &applied.rule));
                    compile::count_in(common, rules.map(|rule| slots.of(tables, rule)));
                }
                slots.write(tables);
                self.slots = slots;
                // The half about to be written may have been in force a moment ago.
                engine.dataplane.wait_grace();
                install(tables, &v4, &v6);
                let [four, six] = [0, 1].map(|half| own.len() + in_force.0[half].len());
                let before = self.wanted.replace(in_force);
                if before.is_some() || four + six > 0 {
                    info!(ipv4 = four, ipv6 = six, "filter rules in force");
                }
            }
            self.asked = Some(wanted);
        }
        roomless.extend(self.unfit.iter().filter_map(|(rule, _)| feed_of(rule)));
        unapplied.extend(
            self.unfit
                .iter()
                .map(|(rule, why)| refused(rule, why.to_string())),
        );
        let none = Default::default();
        let flows = self.wanted.as_ref().map_or(&none, |(flows, _)| flows);
        let any = |half: &[Applied], flag: u32| {
            if own.is_empty() && half.is_empty() {
                0
            } else {
                flag
            }
        };
        self.flags = any(&flows[0], RULES4) | any(&flows[1], RULES6);
        let active = |rule: &Rule, order: usize| RuleRow {
            order: Some(order as u32 + 1),
            slot: self.slots.known(rule),
            state: ACTIVE.into(),
            ..RuleRow::of(rule, session_of(rule, session))
        };
        let mut rows: Vec<RuleRow> = own
            .iter()
            .enumerate()
            .map(|(at, rule)| active(rule, at))
            .collect();
        for half in flows {
            rows.extend(
                half.iter()
                    .enumerate()
                    .map(|(at, applied)| active(&applied.rule, own.len() + at)),
            );
        }
        self.count_missing(&rows, roomless, &announced, session);
        rows.extend(unapplied);
        rows.extend(
            announced.not_applied.iter().map(|flow| {
                RuleRow::refused(flow.family, &flow.name, flow.why.to_string(), session(flow.feed))
            }),
        );
        self.rows = rows;
        Ok(())
    }

    /// Counts by session what is not in force and was asked for. What another session's announcement of the same rule does, and
    /// what the configuration does not want, is not missing.
    fn count_missing(
        &mut self,
        active: &[RuleRow],
        roomless: Vec<FeedId>,
        announced: &Assembled,
        session: &dyn Fn(FeedId) -> Option<String>,
    ) {
        let name = |feed| session(feed).unwrap_or_else(|| "a session that is gone".into());
        let mut missing: BTreeMap<String, Missing> = BTreeMap::new();
        for feed in roomless {
            missing.entry(name(feed)).or_default().roomless += 1;
        }
        for flow in &announced.not_applied {
            let entry = missing.entry(name(flow.feed)).or_default();
            match flow.why {
                Refusal::Lost(_) => {}
                Refusal::TooMany(_) => entry.roomless += 1,
                _ => entry.refused += 1,
            }
        }
        for row in active {
            if let Some(entry) = row.session.as_ref().and_then(|session| missing.get_mut(session)) {
                entry.active += 1;
            }
        }
        missing.retain(|_, entry| entry.roomless + entry.refused > 0);
        self.missing = missing;
    }

    /// A sentence for each session of which rules are not applied.
    pub fn problems(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|(session, missing)| {
            let not = missing.roomless + missing.refused;
            let room = match missing.roomless {
                0 => String::new(),
                count if count == not => ", for want of room".into(),
                count => format!(", {count} of them for want of room"),
            };
            format!(
                "FlowSpec: of {} rules of {session} {not} are not applied{room}: `forwarder filter show` says which and why",
                not + missing.active
            )
        })
    }

    /// What each rule has counted; `elapsed` seconds after this was asked last.
    pub fn rows(&mut self, tables: &Tables, now: u32, elapsed: f64) -> Vec<RuleRow> {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            let Some(slot) = row.slot else { continue };
            let (matched, dropped) = counts(tables, slot);
            let entry = tables.rule_directory.get(slot as usize);
            let (matched, dropped) = (matched.since(entry.matched), dropped.since(entry.dropped));
            let pace = self.meter.read(slot, matched, now, elapsed);
            (row.packets, row.bytes) = (matched.packets, matched.bytes);
            (row.dropped_packets, row.dropped_bytes) = (dropped.packets, dropped.bytes);
            row.packets_per_second = pace.packets;
            row.bytes_per_second = pace.bytes;
            row.last_hit_seconds_ago = pace.last_hit;
        }
        rows
    }
}

fn feed_of(rule: &Rule) -> Option<FeedId> {
    match rule.origin {
        Origin::Config(_) => None,
        Origin::FlowSpec(feed) => Some(feed),
    }
}

fn session_of(rule: &Rule, session: &dyn Fn(FeedId) -> Option<String>) -> Option<String> {
    feed_of(rule).and_then(session)
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
