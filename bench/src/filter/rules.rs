//! What rules cost a packet, from frame to verdict, as in `forward`. No packet is spared: the last rule of each set concerns every
//! destination, so that each is looked for in all of them.
//!
//! The others are what cuts an amplification attack: one destination, UDP, one source port. The last one matches every packet
//! of the trace and accepts it (`last-match`), or is for another port (`no-match`), so that all packets go the same way after it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use forwarder::dataplane::Tables;
use forwarder::filter::compile::{self, Placed, Router as Compiling};
use forwarder::filter::install::install;
use forwarder::filter::ranges::Ranges;
use forwarder::filter::rule::{Action, Family as Version, Match, Origin, Rule};
use forwarder_bench_ebpf::abi::{FRAME, TRACE_LEN, UDP};
use forwarder_common::interface::{RULES4, RULES6};
use forwarder_common::rules::{SLOTS, Set4, Set6};
use ipnet::IpNet;
use serde::Serialize;
use xtask::bench::Options;

use super::{print, verdict};
use crate::frame;
use crate::model::Model;
use crate::object::Object;
use crate::report::{median, rounded};
use crate::router::Router;
use crate::run::{self, WARM_UP};
use crate::table::{Family, Table};
use crate::trace::{Pattern, Trace};
use forwarder_history::plot::Bar;

/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;
/// Frames that are sent one by one before anything is timed.
const SAMPLE: usize = 1 << 12;
/// Sizes of the sets, but for none.
const SIZES: [usize; 3] = [10, 100, 1_000];
/// Ports of the bench's frames.
const PORTS: [u32; 2] = [50_000, 443];

/// What a packet costs with so many rules.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    bench: &'static str,
    family: Family,
    rules: usize,
    pattern: &'static str,
    /// Nanoseconds from frame to verdict: the median over the rounds, without the harness.
    ns: f64,
    #[serde(skip)]
    spread: f64,
}

/// Everything that was found.
pub struct Found {
    /// A row for each family, size and pattern.
    pub rows: Vec<Row>,
    notes: Vec<String>,
}

/// What the packets are to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// There are no rules.
    None,
    /// All look at it, none matches.
    NoMatch,
    /// The last one matches.
    LastMatch,
    /// No rule is for its destination.
    Elsewhere,
}

impl Meets {
    const fn name(self) -> &'static str {
        match self {
            Meets::None | Meets::NoMatch => "no-match",
            Meets::LastMatch => "last-match",
            Meets::Elsewhere => "elsewhere",
        }
    }
}

/// A set of rules, compiled.
struct Set {
    meets: Meets,
    rules: usize,
    v4: Box<Set4>,
    v6: Box<Set6>,
}

/// The program, and what it takes to run it.
pub struct Arena<'a> {
    router: &'a Router,
    ours: &'a Tables,
    shipped: &'a Xdp,
    object: &'a mut Object,
}

impl<'a> Arena<'a> {
    /// Loads the harness.
    ///
    /// # Errors
    /// The verifier's refusal.
    pub fn open(
        router: &'a Router,
        ours: &'a Tables,
        shipped: &'a Xdp,
        object: &'a mut Object,
    ) -> Result<Arena<'a>> {
        for name in ["forward_harness4", "forward_harness6", "forward_empty"] {
            object.load_program(name)?;
        }
        Ok(Arena {
            router,
            ours,
            shipped,
            object,
        })
    }

    /// Makes a set the one in force.
    fn enforce(&self, set: &Set) {
        install(self.ours, &set.v4, &set.v6);
        let at = self.router.ingress as usize;
        let mut interface = self.ours.interfaces.get(at);
        interface.flags &= !(RULES4 | RULES6);
        if set.meets != Meets::None {
            interface.flags |= RULES4 | RULES6;
        }
        self.ours.interfaces.set(at, &interface);
    }

    fn choose(&mut self, empty: bool) -> Result<()> {
        let program = match empty {
            true => self.object.program("forward_empty")?.fd()?.try_clone()?,
            false => self.shipped.fd()?.try_clone()?,
        };
        self.object.set_candidate(&program)?;
        self.object.rewind();
        Ok(())
    }

    fn harness(&self, family: Family) -> Result<&Xdp> {
        self.object.program(match family {
            Family::V4 => "forward_harness4",
            Family::V6 => "forward_harness6",
        })
    }

    /// Sends the first frames of the trace one by one: each is forwarded and counted by the rule that it meets.
    fn verify(&mut self, family: Family, set: &Set) -> Result<()> {
        self.enforce(set);
        self.choose(false)?;
        let before = self.matched();
        for _ in 0..SAMPLE {
            let (verdict, _) = run::once(self.harness(family)?, self.router.ingress, &any(family))?;
            ensure!(verdict == REDIRECT, "verdict {verdict} and not {REDIRECT}");
        }
        self.moved(&before, set, SAMPLE)
    }

    /// Nanoseconds a run.
    fn time(&mut self, family: Family, set: Option<&Set>) -> Result<f64> {
        if let Some(set) = set {
            self.enforce(set);
        }
        self.choose(set.is_none())?;
        let before = self.matched();
        let timed = |runs| run::timed(self.harness(family)?, self.router.ingress, &any(family), runs);
        timed(WARM_UP)?;
        let (ns, verdict) = timed(TRACE_LEN)?;
        if let Some(set) = set {
            ensure!(verdict == REDIRECT, "verdict {verdict} and not {REDIRECT}");
            self.moved(&before, set, WARM_UP + TRACE_LEN)?;
        }
        Ok(ns)
    }

    /// Packets that each slot has matched.
    fn matched(&self) -> HashMap<usize, u64> {
        let cpus = self.ours.sizes.cpus as usize;
        let count = |slot: usize| -> u64 {
            let states = (0..cpus).map(|cpu| self.ours.rule_states.get(cpu * SLOTS + slot));
            states.map(|state| state.matched.packets).sum()
        };
        let largest = SIZES.iter().copied().max().unwrap_or(0);
        (0..largest).map(|slot| (slot, count(slot))).collect()
    }

    /// Checks that the rule which should has counted so many packets, and no other any.
    fn moved(&self, before: &HashMap<usize, u64>, set: &Set, packets: usize) -> Result<()> {
        for (slot, after) in self.matched() {
            let moved = after - before.get(&slot).copied().unwrap_or(0);
            let last = set.meets == Meets::LastMatch && slot + 1 == set.rules;
            let wanted = if last { packets as u64 } else { 0 };
            ensure!(
                moved == wanted,
                "{} {}: rule {} counted {moved} packets and not {wanted}",
                set.rules,
                set.meets.name(),
                slot + 1
            );
        }
        Ok(())
    }
}

/// Measures every set in turns.
///
/// # Errors
/// A packet is not treated as it should be.
pub fn measure(options: &Options, arena: &mut Arena<'_>, tables: &[Table; 2]) -> Result<Found> {
    let mut found = Found {
        rows: Vec::new(),
        notes: vec![format!(
            "medians of {} interleaved rounds, harness subtracted; 256 destinations; spread: highest minus lowest round",
            options.rounds
        )],
    };
    for table in tables {
        let family = table.family;
        let model = Model::new(&table.prefixes);
        let trace = Trace::new(table, &model, Pattern::Hot);
        arena.object.lay(family, &trace);
        let mut kinds = vec![(0, Meets::None)];
        for size in SIZES {
            kinds.extend([(size, Meets::NoMatch), (size, Meets::LastMatch)]);
        }
        kinds.extend(SIZES.last().map(|size| (*size, Meets::Elsewhere)));
        let sets: Vec<Set> = kinds
            .into_iter()
            .map(|(rules, meets)| set(arena.ours, family, &trace, rules, meets))
            .collect::<Result<_>>()?;
        for set in &sets {
            arena
                .verify(family, set)
                .with_context(|| format!("{family}, {} rules, {}", set.rules, set.meets.name()))?;
        }
        let mut costs: Vec<Vec<f64>> = vec![Vec::new(); sets.len()];
        for round in 0..options.rounds as usize {
            eprintln!("filter: rules, {family}, round {}", round + 1);
            let harness = arena.time(family, None)?;
            for turn in 0..sets.len() {
                let at = (round + turn) % sets.len();
                costs[at].push(arena.time(family, Some(&sets[at]))? - harness);
            }
        }
        found.add(family, &sets, &costs);
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, family: Family, sets: &[Set], costs: &[Vec<f64>]) {
        for (set, costs) in sets.iter().zip(costs) {
            let ns = median(costs);
            if set.meets == Meets::Elsewhere {
                let none = self.ns(family, 0, Meets::None);
                self.notes.push(format!(
                    "{family}: {} rules for other destinations cost {:.1} ns more than none",
                    set.rules,
                    ns - none
                ));
                continue;
            }
            let highest = costs.iter().copied().fold(f64::MIN, f64::max);
            let lowest = costs.iter().copied().fold(f64::MAX, f64::min);
            self.rows.push(Row {
                bench: "filter",
                family,
                rules: set.rules,
                pattern: set.meets.name(),
                ns: rounded(ns, 10.0),
                spread: (highest - lowest) / ns * 100.0,
            });
        }
        for meets in [Meets::NoMatch, Meets::LastMatch] {
            let [few, many] = [10, 1_000].map(|rules| self.ns(family, rules, meets));
            let none = self.ns(family, 0, Meets::None);
            self.notes.push(format!(
                "{family}, {}: 1,000 rules cost {:.2} times what 10 do (at most 1.5: {}); what rules add to none, {:.2} times",
                meets.name(),
                many / few,
                verdict(many <= few * 1.5),
                (many - none) / (few - none)
            ));
        }
    }

    fn ns(&self, family: Family, rules: usize, meets: Meets) -> f64 {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| (row.family, row.rules, row.pattern) == (family, rules, meets.name()));
        row.map_or(f64::NAN, |row| row.ns)
    }

    /// The bars of a family.
    pub fn bars(&self, family: Family) -> Vec<Bar> {
        let rows = self.rows.iter().filter(|row| row.family == family);
        rows.map(|row| Bar {
            name: format!("{} {}", row.rules, row.pattern),
            value: row.ns,
            label: format!("{:.1} ns", row.ns),
        })
        .collect()
    }
}

/// Prints what was found.
///
/// # Errors
/// Stdout cannot be written.
pub fn show(options: &Options, method: &[String], found: &Found) -> Result<()> {
    let method = [method, &found.notes].concat();
    let title = "Filter rules: nanoseconds a packet, from frame to verdict";
    let columns = ["family", "rules", "pattern", "ns", "spread"];
    print(options, &found.rows, title, &method, &columns, |row| {
        vec![
            row.family.to_string(),
            row.rules.to_string(),
            row.pattern.to_owned(),
            format!("{:.1}", row.ns),
            format!("{:.0} %", row.spread),
        ]
    })
}

/// So many rules, of which packets of the trace meet what they should. Each counts in the slot of its place.
fn set(ours: &Tables, family: Family, trace: &Trace, many: usize, meets: Meets) -> Result<Set> {
    let rules: Vec<Rule> = (0..many)
        .map(|number| {
            let last = number + 1 == many && meets != Meets::Elsewhere;
            match last {
                true => rule(
                    number,
                    None,
                    PORTS[1] + u32::from(meets == Meets::NoMatch),
                    Action::Accept,
                    family,
                ),
                false => {
                    // Never of the trace's, whose packets come from another port.
                    let address = match meets {
                        Meets::Elsewhere => family.address(elsewhere(family, number)),
                        _ => family.address(trace.destinations[number]),
                    };
                    rule(number, Some(address.into()), number as u32, Action::Drop, family)
                }
            }
        })
        .collect();
    let placed: Vec<Placed<'_>> = rules
        .iter()
        .enumerate()
        .map(|(slot, rule)| Placed {
            rule,
            slot: slot as u32,
        })
        .collect();
    let compiling = Compiling {
        port: &|_| None,
        cpus: ours.sizes.cpus,
    };
    let (four, six): (&[Placed<'_>], &[Placed<'_>]) = match family {
        Family::V4 => (&placed, &[]),
        Family::V6 => (&[], &placed),
    };
    Ok(Set {
        meets,
        rules: many,
        v4: compile::ipv4(four, compiling)?,
        v6: compile::ipv6(six, compiling)?,
    })
}

fn rule(number: usize, destination: Option<IpNet>, port: u32, action: Action, family: Family) -> Rule {
    let port = Some(Ranges::of([port..=port]));
    let (source_port, destination_port) = match destination {
        Some(_) => (port, None),
        None => (None, port),
    };
    Rule {
        name: format!("rule {}", number + 1),
        origin: Origin::Config(number + 1),
        when: Match {
            family: Some(match family {
                Family::V4 => Version::V4,
                Family::V6 => Version::V6,
            }),
            destination: destination.map(|net| vec![net]),
            protocol: Some(Ranges::of([u32::from(UDP)..=u32::from(UDP)])),
            source_port,
            destination_port,
            ..Match::default()
        },
        action,
        proceed: false,
        mark: None,
    }
}

/// An address that no packet of the bench is sent to.
fn elsewhere(family: Family, number: usize) -> u128 {
    match family {
        Family::V4 => (0xc633_6400 + number as u128) << 96,
        Family::V6 => 0x2001_0db8 << 96 | number as u128,
    }
}

/// A frame that the harness makes the next one of the trace.
fn any(family: Family) -> [u8; FRAME] {
    frame::incoming(family, elsewhere(family, 0))
}
