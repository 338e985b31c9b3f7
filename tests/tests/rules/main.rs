//! Filter rules through the live program, compared with asking them one after the other (`forwarder::filter::naive`):
//! 100,000 packets of all shapes against 200 sets of rules. Every verdict, every mark and every counter of every rule must
//! be the same; and a tracing instance must say the same of each tenth packet, and which rule it met.

mod limits;
mod random_rules;

use anyhow::{Context, Result, ensure};
use forwarder::{
    dataplane::{Dataplane, Sizes, tracer::Tracer},
    filter::{
        compile::{self, Placed, Router},
        install::install,
        naive,
        rule::Rule,
    },
};
use forwarder_common::{
    counters::Counter,
    interface::{RULES4, RULES6},
    rules::SLOTS,
};
use forwarder_tests::{
    random::Random,
    sandbox::{Sandbox, mac},
};

/// Sets of rules, and packets for each.
const SETS: usize = 200;
const PACKETS: usize = 500;
/// One in so many is traced.
const TRACED: usize = 10;
/// `XDP_DROP`.
const DROP: u32 = 1;

/// The program with two interfaces that ask rules.
pub struct Bench {
    /// Tables and live program.
    pub sandbox: Sandbox,
    /// The interfaces, and the names that rules know them by.
    pub interfaces: [(u32, &'static str); 2],
}

impl Bench {
    /// Makes it.
    pub fn new() -> Result<Bench> {
        let mut sandbox = Sandbox::new(Sizes::SMALL)?;
        let flags = RULES4 | RULES6;
        let interfaces = [
            (sandbox.interface("left", flags, 1500)?, "left"),
            (sandbox.interface("right", flags, 1500)?, "right"),
        ];
        Ok(Bench { sandbox, interfaces })
    }

    /// Puts rules in force, the first one counted in slot `from`.
    pub fn rules(&self, rules: &[Rule], from: u32) -> Result<()> {
        let placed: Vec<Placed<'_>> = rules
            .iter()
            .zip(from..)
            .map(|(rule, slot)| Placed { rule, slot })
            .collect();
        let port = |name: &str| {
            let (ifindex, _) = self.interfaces.iter().find(|(_, known)| *known == name)?;
            Some(self.sandbox.engine.view().interfaces.get(*ifindex as usize).port)
        };
        let router = Router {
            port: &port,
            cpus: self.sandbox.engine.view().sizes.cpus,
        };
        let (v4, v6) = (compile::ipv4(&placed, router)?, compile::ipv6(&placed, router)?);
        self.sandbox.engine.dataplane.wait_grace();
        install(self.sandbox.engine.view(), &v4, &v6);
        Ok(())
    }

    /// What a slot counted: matched, and dropped of it.
    pub fn counted(&self, slot: u32) -> (Counter, Counter) {
        let view = self.sandbox.engine.view();
        (0..view.sizes.cpus as usize)
            .map(|cpu| view.rule_states.get(cpu * SLOTS + slot as usize))
            .fold(
                Default::default(),
                |(matched, dropped): (Counter, Counter), state| {
                    (matched.plus(state.matched), dropped.plus(state.dropped))
                },
            )
    }
}

#[test]
fn the_program_and_asking_one_rule_after_the_other_agree_on_every_packet() -> Result<()> {
    let bench = Bench::new()?;
    let mut tracer = Tracer::open(&bench.sandbox.pins)?;
    let mut random = Random::new(5);
    let (mut met, mut dropped, mut marked) = (0, 0, 0);
    for set in 0..SETS {
        let rules = random_rules::rules(&mut random, set);
        // Slots come round: what they count is compared from where they stood.
        let from = (set as u32 % 4) * 2_048;
        bench.rules(&rules, from).with_context(|| format!("set {set}"))?;
        let before: Vec<_> = (0..rules.len() as u32)
            .map(|rule| bench.counted(from + rule))
            .collect();
        let mut expected = before.clone();
        for packet in 0..PACKETS {
            let (ifindex, name) = bench.interfaces[random.below(2)];
            let frame = random_rules::frame(&mut random, (mac(ifindex), [2, 0, 0, 0, 0, 9]));
            let fields = naive::fields(&frame).context("a frame that no rule can be asked about")?;
            let outcome = naive::ask(&rules, &fields, name);
            let bytes = frame.len() as u64;
            for rule in &outcome.met {
                expected[*rule].0 = expected[*rule].0.plus(Counter { packets: 1, bytes });
            }
            if let (true, Some(last)) = (outcome.dropped, outcome.met.last()) {
                expected[*last].1 = expected[*last].1.plus(Counter { packets: 1, bytes });
            }
            let (action, out) = bench.sandbox.programs.run(ifindex, &frame)?;
            let words = || {
                let differ: Vec<_> = (0..rules.len())
                    .filter(|rule| bench.counted(from + *rule as u32) != expected[*rule])
                    .map(|rule| &rules[rule])
                    .collect();
                let met: Vec<_> = outcome.met.iter().map(|rule| &rules[*rule]).collect();
                format!(
                    "set {set}, packet {packet} on {name}: {fields:?}\n{frame:02x?}\nmet {:?}: {met:#?}\n\
                     counted otherwise: {differ:#?}",
                    outcome.met
                )
            };
            ensure!(
                (action == DROP) == outcome.dropped,
                "action {action}: {}",
                words()
            );
            let wanted = outcome
                .mark
                .map_or(frame.clone(), |dscp| random_rules::marked(&frame, dscp));
            ensure!(out == wanted, "came out as {out:02x?}: {}", words());
            if packet % TRACED == 0 {
                let traced = tracer.run(ifindex, &frame)?;
                let last = outcome.met.last().map_or(0, |rule| *rule as u32 + 1);
                ensure!(
                    (traced.action, &traced.packet, traced.trace.rule) == (action, &wanted, last),
                    "traced: {traced:?}, {}",
                    words()
                );
            }
            met += usize::from(!outcome.met.is_empty());
            dropped += usize::from(outcome.dropped);
            marked += usize::from(outcome.mark.is_some());
        }
        for (rule, expected) in expected.iter().enumerate() {
            let counted = bench.counted(from + rule as u32);
            ensure!(
                counted == *expected,
                "set {set}, rule {rule}: {counted:?}, not {expected:?}"
            );
        }
    }
    println!(
        "{met} of {} packets met a rule, {dropped} were dropped, {marked} marked",
        SETS * PACKETS
    );
    // A test in which little happens would prove little.
    ensure!(
        met > 20_000 && dropped > 5_000 && marked > 1_000,
        "too few packets met rules"
    );
    Ok(())
}
