//! 1,000 rules of a FlowSpec neighbour for 1,000 others, with a program on the interface: from the news of the feed to the store
//! that puts the new set in force, by the functions that the controller calls. Then its parts, each by itself.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use aya::programs::Xdp;
use forwarder::config::{self, Config};
use forwarder::daemon::rules::{Neighbours, Rules};
use forwarder::dataplane::Dataplane;
use forwarder::filter::compile::{self, Placed, Router as Compiling};
use forwarder::filter::install::install;
use forwarder::filter::order;
use forwarder::source::feed::{Attributes, Batch, FeedEvent, FeedId, FeedTable, FlowRule};
use forwarder_common::interface::RULES4;
use serde::Serialize;
use xtask::bench::Options;

use super::{print, verdict};
use crate::frame;
use crate::inside::Controller;
use crate::report::{median, rounded};
use crate::router::{Router, configuration_with};
use crate::run;
use crate::table::{Family, bits};

/// Rules of a set.
const RULES: u16 = 1_000;
/// How often it is replaced in a round.
const TIMES: usize = 4;
/// `XDP_DROP`.
const DROP: u32 = 1;
/// The neighbour.
const FEED: FeedId = 1;

/// What it took, milliseconds: medians.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    bench: &'static str,
    rules: u16,
    pattern: &'static str,
    /// From the news to the store that puts the new set in force.
    ms: f64,
    /// The announcements put in their order and understood.
    order_ms: f64,
    /// The tables compiled.
    compile_ms: f64,
    /// The wait until no program uses the half that is written.
    grace_ms: f64,
    /// The tables copied, and the store.
    install_ms: f64,
}

/// Replaces the rules again and again.
///
/// # Errors
/// A set does not take effect.
pub fn measure(
    options: &Options,
    router: &Router,
    shipped: &Xdp,
    controller: &mut Controller,
) -> Result<Row> {
    let config = config::parse(
        "the bench's configuration",
        &configuration_with(
            "[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\nflowspec-validation = false\n",
        ),
    )?;
    controller.engine.register(FEED, forwarder::config::Source::Bgp);
    let mut rules = Rules::adopt(controller.engine.view());
    let mut taken: [Vec<f64>; 5] = Default::default();
    // The first set replaces nothing.
    replace(0, controller, &mut rules, &config)?;
    for number in 1..=options.rounds as usize * TIMES {
        let number = number as u8;
        taken[0].push(replace(number, controller, &mut rules, &config)?);
        let now = controller.engine.clock;
        let active = rules.rows(controller.engine.view(), now, 1.0);
        let active = active.iter().filter(|row| row.is_active()).count();
        ensure!(
            active == usize::from(RULES),
            "{active} rules of {RULES} are in force"
        );
        // By the program itself: the first and the last of this set, and none of the one before.
        for (set, rule, drops) in [
            (number, 0, true),
            (number, RULES - 1, true),
            (number - 1, 0, false),
        ] {
            let packet = frame::incoming(Family::V4, bits(victim(set, rule).into()));
            let (verdict, _) = run::once(shipped, router.ingress, &packet)?;
            ensure!(
                (verdict == DROP) == drops,
                "rule {rule} of set {set}: verdict {verdict}"
            );
        }
        for (sum, ms) in taken[1..].iter_mut().zip(parts(controller)?) {
            sum.push(ms);
        }
    }
    let [ms, order_ms, compile_ms, grace_ms, install_ms] = taken.map(|taken| rounded(median(&taken), 100.0));
    Ok(Row {
        bench: "filter",
        rules: RULES,
        pattern: "replace",
        ms,
        order_ms,
        compile_ms,
        grace_ms,
        install_ms,
    })
}

/// Prints what was found.
///
/// # Errors
/// Stdout cannot be written.
pub fn show(options: &Options, method: &[String], row: &Row) -> Result<()> {
    let mut method = method.to_vec();
    method.push(format!(
        "medians of {}; {:.1} ms of at most 50: {}",
        options.rounds as usize * TIMES,
        row.ms,
        verdict(row.ms <= 50.0)
    ));
    let title = "1,000 rules of a FlowSpec neighbour replaced by 1,000 others, milliseconds";
    let columns = ["rules", "replaced", "order", "compile", "grace", "install"];
    print(
        options,
        std::slice::from_ref(row),
        title,
        &method,
        &columns,
        |row| {
            vec![
                row.rules.to_string(),
                format!("{:.1}", row.ms),
                format!("{:.1}", row.order_ms),
                format!("{:.1}", row.compile_ms),
                format!("{:.1}", row.grace_ms),
                format!("{:.1}", row.install_ms),
            ]
        },
    )
}

/// Gives the controller another set; answers milliseconds until it is in force.
fn replace(number: u8, controller: &mut Controller, rules: &mut Rules, config: &Config) -> Result<f64> {
    let attributes = Arc::new(Attributes {
        // traffic-rate-bytes 0 (RFC 8955 7.1)
        extended: vec![[0x80, 6, 0, 0, 0, 0, 0, 0]],
        ..Attributes::default()
    });
    let gone =
        (0..RULES).map(|rule| FeedEvent::FlowGone(FeedTable::FlowSpec4, nlri(number.wrapping_sub(1), rule)));
    let new = (0..RULES).map(|rule| {
        FeedEvent::Flow(Arc::new(FlowRule {
            table: FeedTable::FlowSpec4,
            nlri: nlri(number, rule),
            attributes: Arc::clone(&attributes),
        }))
    });
    let events: Vec<FeedEvent> = gone.chain(new).collect();
    let neighbours = Neighbours {
        name: &|_| Some("bench".into()),
        awaited: false,
    };
    let start = Instant::now();
    controller.engine.apply_feed(Batch { feed: FEED, events });
    rules.turn(&controller.engine, config, &neighbours)?;
    let taken = milliseconds(start);
    ensure!(rules.flags & RULES4 != 0, "no rules are in force");
    Ok(taken)
}

/// What the parts take, with the set in force.
fn parts(controller: &Controller) -> Result<[f64; 4]> {
    let engine = &controller.engine;
    let start = Instant::now();
    let assembled = order::assemble(engine.flows.iter(), false, &engine.rib.feeds);
    let order = milliseconds(start);
    let placed: Vec<Placed<'_>> = assembled
        .v4
        .iter()
        .enumerate()
        .map(|(slot, applied)| Placed {
            rule: &applied.rule,
            slot: slot as u32,
        })
        .collect();
    let compiling = Compiling {
        port: &|_| None,
        cpus: engine.view().sizes.cpus,
    };
    let start = Instant::now();
    let (v4, v6) = (compile::ipv4(&placed, compiling)?, compile::ipv6(&[], compiling)?);
    let compile = milliseconds(start);
    let start = Instant::now();
    engine.dataplane.wait_grace();
    let grace = milliseconds(start);
    let start = Instant::now();
    install(engine.view(), &v4, &v6);
    Ok([order, compile, grace, milliseconds(start)])
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Whom a rule of a set protects.
fn victim(set: u8, rule: u16) -> std::net::Ipv4Addr {
    let [high, low] = rule.to_be_bytes();
    [20, set, high, low].into()
}

/// Destination, UDP, and the source port of the bench's frames (RFC 8955 4.2.2).
fn nlri(set: u8, rule: u16) -> Vec<u8> {
    let [a, b, c, d] = victim(set, rule).octets();
    vec![1, 32, a, b, c, d, 3, 0x81, 17, 6, 0x91, 0xc3, 0x50]
}
