//! `load`: a full table from the kernel's dump to forwarding, beside the dump alone; the compile alone; and a restart that
//! finds everything pinned.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use forwarder::fib::{Fib, Outcome, Provenance};
use forwarder::netlink::dump::{Scope, dump, dump_tables};
use forwarder::source::route_tables::RouteTables;
use ipnet::IpNet;
use serde::Serialize;
use xtask::bench::Options;

use crate::inside;
use crate::process::Controller;
use crate::report::{self, median, rounded};
use crate::router::Router;
use crate::run::{self, Taken, clocked};
use crate::table::Table;
use crate::walk::Firsts;
use forwarder_history::plot::{Bar, Chart};

/// The group of prefixes without room, and that of the first gateway, where the compiler is alone.
const PUNT: u32 = 1;
const FIRST: u32 = 2;

/// A row.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    candidate: &'static str,
    seconds: f64,
    /// How many times better forwarder is: this candidate's seconds in forwarder's.
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes_per_s: Option<f64>,
    /// Octets of the controller's own memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_anon: Option<u64>,
}

/// What is timed in every round.
const CANDIDATES: [&str; 3] = ["dump", "forwarder", "compile"];

/// Runs the bench and prints what it found.
///
/// # Errors
/// A prefix is missing or leads elsewhere, or something else is missing.
pub fn bench(options: &Options) -> Result<()> {
    let tables = Table::both(&options.tables)?;
    let router = Router::with_routes(&tables)?;
    let arena = Arena::new(&router, &tables)?;
    // The controller reads the dump on one CPU and lays its routes on another, where it has two.
    let cpu = options.cpu.map(|cpu| run::pin(Some(cpu))).transpose()?;
    let mut seconds = [const { Vec::new() }; CANDIDATES.len()];
    let mut cpu_seconds = seconds.clone();
    for round in 0..options.rounds as usize {
        for turn in 0..CANDIDATES.len() {
            let at = (round + turn) % CANDIDATES.len();
            let candidate = CANDIDATES[at];
            eprintln!("load: round {} of {}, {candidate}", round + 1, options.rounds);
            let taken = match at {
                0 => arena.dump(),
                1 => arena.load(),
                _ => arena.compile(),
            };
            let taken = taken.with_context(|| format!("load, {candidate}"))?;
            seconds[at].push(taken.seconds);
            cpu_seconds[at].push(taken.cpu);
        }
    }
    let [alone, ours, compile] = seconds.each_ref().map(|seconds| median(seconds));
    let on_cpu = cpu_seconds.each_ref().map(|seconds| median(seconds));
    let restarts = arena.restarts(options.rounds)?;
    let count = arena.routes.len();
    let row = |candidate, seconds: f64| Row {
        bench: "load",
        candidate,
        seconds: rounded(seconds, 1000.0),
        ratio: rounded(seconds / ours, 100.0),
        routes_per_s: None,
        rss_anon: None,
    };
    let rows = [
        row("dump", alone),
        row("forwarder", ours),
        Row {
            routes_per_s: Some((count as f64 / on_cpu[2]).round()),
            ..row("compile", compile)
        },
        Row {
            rss_anon: Some(restarts.memory),
            ..row("restart", restarts.seconds)
        },
    ];
    let mut method = report::surroundings(&tables, cpu);
    method.extend([
        format!("medians of {} interleaved rounds; ratio: parts of forwarder's time", options.rounds),
        format!(
            "load takes {:.2} times the dump; by seconds on the CPU, {:.3} and {:.3}, {:.2} times",
            ours / alone,
            on_cpu[1],
            on_cpu[0],
            on_cpu[1] / on_cpu[0]
        ),
        format!("compile: {:.2} M routes a second on the CPU, routes in memory and sorted",
            count as f64 / on_cpu[2] / 1e6),
        format!(
            "restart: the process after SIGKILL, everything pinned, until in step: {:.2} s on the CPU; from nothing {:.2} s; \
             its own memory afterwards {:.0} MB",
            restarts.cpu,
            restarts.nothing,
            restarts.memory as f64 / 1e6
        ),
    ]);
    let title = "Load: seconds for the kernel's whole table";
    let columns = ["candidate", "seconds", "ratio"];
    report::print(options.json, &rows, title, &method, &columns, |row| {
        vec![
            row.candidate.to_owned(),
            format!("{:.3}", row.seconds),
            format!("{:.2}", row.ratio),
        ]
    })?;
    let bars = rows.iter().map(|row| Bar {
        name: row.candidate.to_owned(),
        value: row.seconds,
        label: format!("{:.2} s", row.seconds),
    });
    let chart = Chart::of(title, method, &format!("{count} routes"), bars);
    report::plot(options, "load", &chart)
}

/// The router with its table in the kernel.
pub struct Arena<'a> {
    router: &'a Router,
    /// Every prefix with a group.
    routes: Vec<(IpNet, u32)>,
    firsts: [Firsts<'a>; 2],
}

impl<'a> Arena<'a> {
    /// A router that has these tables.
    ///
    /// # Errors
    /// A prefix is none.
    pub fn new(router: &'a Router, tables: &'a [Table; 2]) -> Result<Arena<'a>> {
        let routes = tables.iter().flat_map(|table| {
            let laid = |prefix| Ok((table.net(prefix)?, FIRST + prefix.gateway() as u32));
            table.prefixes.iter().map(laid)
        });
        Ok(Arena {
            router,
            routes: routes.collect::<Result<_>>()?,
            firsts: [Firsts::new(&tables[0]), Firsts::new(&tables[1])],
        })
    }

    /// The dump that the controller makes, every route received, parsed and thrown away.
    ///
    /// # Errors
    /// The kernel's, or routes are missing.
    pub fn dump(&self) -> Result<Taken> {
        let mut count = 0;
        let ((), taken) = clocked(|| {
            black_box(dump(Scope::WITHOUT_ROUTES)?);
            dump_tables(&RouteTables::default(), &mut |route| {
                black_box(route);
                count += 1;
            })?;
            Ok(())
        })?;
        let wanted = self.routes.len();
        ensure!(count >= wanted, "the dump held {count} of {wanted} routes");
        Ok(taken)
    }

    /// From the dump to forwarding, on empty maps.
    ///
    /// # Errors
    /// What the controller would end with, or a prefix does not forward as it should.
    pub fn load(&self) -> Result<Taken> {
        let (controller, taken) = inside::start(self.router)?;
        let (refused, laid) = (controller.engine.fib.refused(), controller.engine.fib.len());
        ensure!(
            refused == (0, 0) && laid.0 + laid.1 >= self.routes.len(),
            "forwarder laid {laid:?} prefixes and refused {refused:?}: its tables are too small for this one"
        );
        for firsts in &self.firsts {
            firsts.forward(controller.engine.view(), self.router)?;
        }
        Ok(taken)
    }

    /// The compiler alone, on empty maps.
    fn compile(&self) -> Result<Taken> {
        let _lock = inside::fresh(&self.router.pins)?;
        let tables = self.router.pins.open(true)?;
        let ((), taken) = clocked(|| {
            let mut fib = Fib::new(&tables, PUNT);
            for (prefix, group) in &self.routes {
                let outcome = fib.announce(&tables, *prefix, *group, Provenance::default());
                ensure!(outcome == Outcome::Installed, "no room for {prefix}");
            }
            Ok(())
        })?;
        for firsts in &self.firsts {
            firsts.check(&tables, |prefix, group| {
                let right = FIRST + prefix.gateway() as u32;
                ensure!(group == right, "group {group} and not {right}");
                Ok(())
            })?;
        }
        Ok(taken)
    }

    /// The real process, started on nothing and then on what it left.
    fn restarts(&self, rounds: u32) -> Result<Restarts> {
        self.router.pins.remove()?;
        let nothing = Controller::start(self.router)?.in_step(self.router)?;
        let (mut seconds, mut cpu, mut memory) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            eprintln!("load: restart {} of {rounds}", round + 1);
            let mut controller = Controller::start(self.router)?;
            seconds.push(controller.in_step(self.router)?.as_secs_f64());
            cpu.push(controller.cpu()?);
            memory = controller.memory()?;
        }
        let ours = self.router.tables()?;
        for firsts in &self.firsts {
            firsts.forward(&ours, self.router).context("after a restart")?;
        }
        Ok(Restarts {
            nothing: nothing.as_secs_f64(),
            seconds: median(&seconds),
            cpu: median(&cpu),
            memory,
        })
    }
}

/// What starts of the real process took.
struct Restarts {
    /// Seconds from nothing.
    nothing: f64,
    /// Seconds with everything pinned.
    seconds: f64,
    /// Of these on a CPU.
    cpu: f64,
    /// Octets of its own memory afterwards.
    memory: u64,
}
