//! `failover`: a million prefixes by carrier A, carrier B behind; A's link goes, until the last store is done.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forwarder::netlink::dump::dump_links;
use forwarder::source::event::{Event, Link};
use serde::Serialize;
use xtask::bench::Options;

use crate::frame;
use crate::inside::{self, Controller};
use crate::random::Random;
use crate::report::{self, median, rounded};
use crate::router::Router;
use crate::run;
use crate::table::{Family, Prefix, Table};
use crate::walk;
use forwarder_history::plot::{Bar, Chart};

/// Prefixes, if the tables have as many.
const PREFIXES: usize = 1_000_000;
/// The carriers' gateways; they are on two interfaces.
const A: usize = 0;
const B: usize = 1;
/// Prefixes that have a route of their own by B, one in so many, and its metric; the others have the default route.
const SECOND: usize = 3;
const METRIC: u32 = 4096;
/// Destinations whose frames go through the program after each loss.
const SAMPLE: usize = 16_384;
/// `XDP_REDIRECT`.
const REDIRECT: u32 = 4;

/// A row.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    prefixes: usize,
    ms: f64,
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A prefix does not lead where it should, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    let tables = million(Table::both(&options.tables)?);
    let router = Router::bare()?;
    for table in &tables {
        let family = table.family;
        let gateways = router.gateways(family);
        router.install(table, 0, |prefix| (prefix.length > 0).then_some(gateways[A]))?;
        let second = |prefix: &Prefix| prefix.length > 0 && prefix.hash().is_multiple_of(SECOND as u64);
        router.install(table, METRIC, |prefix| second(prefix).then_some(gateways[B]))?;
        let default = Table {
            family,
            prefixes: vec![Prefix {
                network: 0,
                length: 0,
            }],
            origins: vec![0],
        };
        router.install(&default, 0, |_| Some(gateways[B]))?;
    }
    let cpu = run::pin(options.cpu)?;
    let (mut controller, _) = inside::start(&router)?;
    let prefixes: usize = tables.iter().map(|table| table.prefixes.len()).sum();
    let laid = controller.engine.fib.len();
    ensure!(
        controller.engine.fib.refused() == (0, 0) && laid.0 + laid.1 >= prefixes,
        "forwarder laid {laid:?} of {prefixes} prefixes: its tables are too small"
    );
    let carrier = router.gateways(Family::V4)[A].ifindex;
    let links = dump_links()?;
    let link = links.into_iter().find(|link| link.ifindex == carrier);
    let link = link.context("carrier A's interface is gone")?;
    let arena = Arena {
        tables: &tables,
        router: &router,
    };
    arena.walk(&controller, A).context("before the loss")?;
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        eprintln!("failover: round {} of {}", round + 1, options.rounds);
        down.push(tell(&mut controller, &link, false).as_secs_f64() * 1e3);
        arena.walk(&controller, B).context("carrier A is lost")?;
        arena.send(&mut controller, B).context("carrier A is lost")?;
        up.push(tell(&mut controller, &link, true).as_secs_f64() * 1e3);
        arena.walk(&controller, A).context("carrier A is back")?;
    }
    let rows = [Row {
        bench: "failover",
        prefixes,
        ms: rounded(median(&down), 1000.0),
    }];
    let mut method = report::surroundings(&tables, Some(cpu));
    method.extend([
        format!(
            "medians of {} rounds; every prefix by carrier A, one in {SECOND} with a second route by B, the others with the \
             default route by B",
            options.rounds
        ),
        "from the event, as the watcher delivers it, to the last store; every prefix walked and frames sent to a sample \
         after each"
            .to_owned(),
        format!(
            "{} next-hop groups; the carrier is back after {:.3} ms",
            controller.engine.adjacencies.used().0,
            median(&up)
        ),
    ]);
    let title = "Failover: milliseconds from a carrier's loss until every prefix has its backup";
    report::print(options.json, &rows, title, &method, &["prefixes", "ms"], |row| {
        vec![row.prefixes.to_string(), format!("{:.3}", row.ms)]
    })?;
    let bars = [("lost", median(&down)), ("back", median(&up))].map(|(name, ms)| Bar {
        name: name.to_owned(),
        value: ms,
        label: format!("{ms:.3} ms"),
    });
    let chart = Chart::of(title, method, &format!("{prefixes} prefixes"), bars);
    report::plot(options, "failover", &chart)
}

/// The IPv4 table, and as much of the IPv6 one as makes a million.
fn million([mut v4, mut v6]: [Table; 2]) -> [Table; 2] {
    v4.prefixes.truncate(PREFIXES);
    let room = PREFIXES - v4.prefixes.len();
    if let Some(every) = v6.prefixes.len().checked_div(room) {
        // From all over the table.
        v6.prefixes = v6.prefixes.into_iter().step_by(every.max(1)).take(room).collect();
    } else {
        v6.prefixes.clear();
    }
    [v4, v6]
}

/// Tells that the carrier's link is up or down. Answers how long that took.
fn tell(controller: &mut Controller, link: &Link, up: bool) -> Duration {
    let event = Event::Link(Link {
        carrier: up,
        running: up,
        ..link.clone()
    });
    let mut demands = Vec::new();
    let clock = Instant::now();
    controller.engine.apply(event, &mut demands);
    clock.elapsed()
}

/// The tables, and where they lead.
struct Arena<'a> {
    tables: &'a [Table; 2],
    router: &'a Router,
}

impl Arena<'_> {
    /// Walks to the first and the last address of every prefix: whatever is found there must lead by a gateway.
    fn walk(&self, controller: &Controller, gateway: usize) -> Result<()> {
        let ours = controller.engine.view();
        for table in self.tables {
            let way = self.router.way_by(table.family, gateway);
            // Groups are few.
            let mut right: HashSet<u32> = HashSet::new();
            for prefix in table.prefixes.iter().filter(|prefix| prefix.length > 0) {
                for address in [prefix.network, prefix.last(table.family)] {
                    let address = table.family.address(address);
                    let (group, _) = walk::find(ours, address)?;
                    if !right.contains(&group) {
                        walk::leads(ours, group, &way).with_context(|| address.to_string())?;
                        right.insert(group);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends frames to a sample of the prefixes through the program; they must leave by a gateway.
    fn send(&self, controller: &mut Controller, gateway: usize) -> Result<()> {
        let all: usize = self.tables.iter().map(|table| table.prefixes.len()).sum();
        let mut random = Random::new(5);
        for table in self.tables {
            let way = self.router.way_by(table.family, gateway);
            for prefix in table.prefixes.iter().step_by((all / SAMPLE).max(1)) {
                let to = prefix.inside(table.family, &mut random);
                let sent = frame::incoming(table.family, to);
                let (verdict, got) = controller.interfaces.programs().run(self.router.ingress, &sent)?;
                let wanted = frame::outgoing(table.family, to, &way);
                ensure!(
                    verdict == REDIRECT && got == wanted,
                    "{}: verdict {verdict}, and the frame goes to {:02x?}",
                    table.family.address(to),
                    &got[..6]
                );
            }
        }
        Ok(())
    }
}
