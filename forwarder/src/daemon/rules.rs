//! Which filter rules are in force: those of the configuration, then those of FlowSpec neighbours. They are compiled whole
//! whenever one of them changes, and the set in force stays in force where that fails.

use std::collections::HashSet;

use forwarder_common::{
    interface::{RULES4, RULES6},
    rules::PROCEEDING,
};
use tracing::info;

use crate::{
    config::Config,
    dataplane::{Dataplane, Tables},
    filter::{
        compile::{self, CompileError, Placed, Router},
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
    /// What the set in force was compiled from, beside the configuration.
    wanted: Option<Wanted>,
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
        let refused = |rule: &Rule, why: String| RuleRow {
            why: Some(why),
            ..RuleRow::of(rule, session_of(rule, session))
        };
        let mut flows = [&mut announced.v4, &mut announced.v6].map(|half| {
            let room = PROCEEDING - own.iter().filter(|rule| rule.proceed).count().min(PROCEEDING);
            applicable(std::mem::take(half), config, room, |rule, why| {
                unapplied.push(refused(rule, why));
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
        let all = flows.clone();
        // Where neighbours ask for more than fits, those that are asked last are left out, half of them at a time.
        while self.wanted.as_ref() != Some(&(flows.clone(), made.ports.clone())) {
            let mut slots = self.slots.clone();
            slots.begin();
            let [four, six] = [&flows[0], &flows[1]].map(|half| {
                let rules = own.iter().chain(half.iter().map(|applied| &applied.rule));
                let placed = rules.map(|rule| (rule, slots.of(tables, rule)));
                placed
                    .map(|(rule, slot)| Placed { rule, slot })
                    .collect::<Vec<_>>()
            });
            let compiled = match (compile::ipv4(&four, router), compile::ipv6(&six, router)) {
                (Ok(v4), Ok(v6)) => Ok((v4, v6)),
                (Err(why), _) => Err((0, why)),
                (_, Err(why)) => Err((1, why)),
            };
            match compiled {
                Ok((v4, v6)) => {
                    slots.write(tables);
                    self.slots = slots;
                    // The half about to be written may have been in force a moment ago.
                    engine.dataplane.wait_grace();
                    install(tables, &v4, &v6);
                    let before = self.wanted.replace((flows.clone(), made.ports.clone()));
                    if before.is_some() || four.len() + six.len() > 0 {
                        info!(ipv4 = four.len(), ipv6 = six.len(), "filter rules in force");
                    }
                }
                // Not even those of the configuration fit, which `check` refuses. Nothing changes, and that is what is listed.
                Err((half, why)) if flows[half].is_empty() => {
                    let announced = all.iter().flatten().map(|applied| &applied.rule);
                    let asked = own.iter().chain(announced);
                    self.list_standing(
                        asked.map(|rule| (rule, session_of(rule, session))),
                        &format!("the set before it stays: {why}"),
                        "until the rules fit",
                    );
                    return Err(why);
                }
                Err((half, why)) => {
                    let keep = flows[half].len() / 2;
                    for applied in flows[half].split_off(keep) {
                        unapplied.push(refused(&applied.rule, why.to_string()));
                    }
                }
            }
        }
        let any = |half: &[Applied], flag: u32| {
            if own.is_empty() && half.is_empty() {
                0
            } else {
                flag
            }
        };
        self.flags = any(&flows[0], RULES4) | any(&flows[1], RULES6);
        let active = |rule: &Rule, order: usize, note: Option<&str>| RuleRow {
            order: Some(order as u32 + 1),
            slot: self.slots.known(rule),
            state: ACTIVE.into(),
            why: note.map(Into::into),
            ..RuleRow::of(rule, session_of(rule, session))
        };
        let mut rows: Vec<RuleRow> = own
            .iter()
            .enumerate()
            .map(|(at, rule)| active(rule, at, None))
            .collect();
        for half in &flows {
            rows.extend(
                half.iter()
                    .enumerate()
                    .map(|(at, applied)| active(&applied.rule, own.len() + at, applied.note)),
            );
        }
        rows.extend(unapplied);
        rows.extend(
            announced.not_applied.iter().map(|flow| {
                RuleRow::refused(flow.family, &flow.name, flow.why.to_string(), session(flow.feed))
            }),
        );
        self.rows = rows;
        Ok(())
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

fn session_of(rule: &Rule, session: &dyn Fn(FeedId) -> Option<String>) -> Option<String> {
    match rule.origin {
        Origin::Config(_) => None,
        Origin::FlowSpec(feed) => session(feed),
    }
}

/// The FlowSpec rules that may be applied here: on interfaces that take them, and no more that let the next be asked than the
/// program takes turns for.
fn applicable(
    half: Vec<Applied>,
    config: &Config,
    mut room: usize,
    mut refuse: impl FnMut(&Rule, String),
) -> Vec<Applied> {
    let takes: Vec<String> = config
        .interfaces
        .iter()
        .filter(|interface| interface.flowspec)
        .map(|interface| interface.name.clone())
        .collect();
    let everywhere = takes.len() == config.interfaces.len();
    let mut applied = Vec::new();
    for mut flow in half {
        if !config.filter.flowspec || takes.is_empty() {
            refuse(&flow.rule, "the configuration says flowspec = false".into());
            continue;
        }
        if flow.rule.proceed {
            if room == 0 {
                refuse(
                    &flow.rule,
                    format!("more than {PROCEEDING} rules let the next one be asked"),
                );
                continue;
            }
            room -= 1;
        }
        if !everywhere {
            flow.rule.when.interfaces = Some(takes.clone());
        }
        applied.push(flow);
    }
    applied
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
