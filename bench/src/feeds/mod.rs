//! `feeds`: a full table from a daemon to forwarding, beside what the daemon itself needs to say it; and updates on top.
//!
//! ```text
//! our speaker -> BIRD  -> BGP -> a parser that discards | the controller     churn: our speaker -> the controller
//! our speaker -> bgpd, zebra -> FPM -> a reader that counts | the controller
//! the kernel  -> netlink      -> the dump alone | the controller's start     (as `load`)
//! ```
//! A daemon takes its table once; each round it is told to connect again, and says all of it. The clock starts when its
//! connection stands, and stops when every prefix forwards as it should.

mod churn;
mod daemon;
mod reference;
mod speaker;
mod truth;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use xtask::bench::Options;
use xtask::interrupt;
use xtask::lab::run;
use xtask::progress::{Poll, wait};

use self::daemon::{Bird, CALLED, Frr};
use self::reference::Receiver;
use self::speaker::Speaker;
use self::truth::Truth;
use crate::load::Arena;
use crate::process::Controller;
use crate::report::{self, median, rounded};
use crate::router::{Router, configuration_with};
use crate::run::Taken;
use crate::table::{Family, GATEWAYS, Table};
use forwarder_history::plot::{Bar, Chart, Group};

/// Where the controller listens.
const BGP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 1179);
const FPM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2620);
/// Rounds of what a daemon takes a quarter of a minute for.
const SLOW: usize = 3;
/// How long a full table may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A row.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    feed: &'static str,
    candidate: &'static str,
    seconds: f64,
    /// Its seconds in the reference's.
    ratio: f64,
    /// Seconds on the CPU: of the whole process that received, without the daemon.
    cpu: f64,
    /// Part of a CPU that the controller took while updates came.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_share: Option<f64>,
    /// Octets of the controller's own memory with the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_anon: Option<u64>,
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A prefix is missing or leads elsewhere, or something else is missing.
pub fn bench(options: &Options) -> Result<()> {
    let tables = Table::both(&options.tables)?;
    let router = Router::bare()?;
    // The other end of the first cable gets an address, for the speaker to call from.
    router
        .world()
        .ip_around(&["address add 10.64.1.2/24 dev out0".to_owned()])?;
    let arena = Feeds {
        router: &router,
        tables: &tables,
        gateways: [Family::V4, Family::V6].map(|family| router.gateways(family).map(|via| via.address)),
        rounds: options.rounds as usize,
    };
    let wants =
        |feed: &str| options.only.is_empty() || options.only.split_whitespace().any(|word| word == feed);
    let mut rows = Vec::new();
    let mut notes = report::surroundings(&tables, None);
    notes.push(format!(
        "medians of {} interleaved rounds, of {} for fpm; ratio: parts of the reference's time",
        options.rounds,
        arena.slow()
    ));
    let fill = || {
        tables.iter().try_for_each(|table| {
            let gateways = router.gateways(table.family);
            router.install(table, 0, |prefix| Some(gateways[prefix.gateway()]))
        })
    };
    // Before any daemon is there that hears the kernel, too.
    if wants("kernel") {
        fill()?;
        rows.extend(arena.kernel()?);
        arena.empty_kernel()?;
    }
    let bird = (wants("bgp") || wants("memory"))
        .then(|| arena.bird())
        .transpose()?;
    if let Some((bird, _)) = bird.as_ref().filter(|_| wants("bgp")) {
        rows.extend(arena.bgp(bird)?);
    }
    if wants("churn") {
        let (more, settled) = arena.churn()?;
        rows.extend(more);
        notes.push(format!(
            "churn: {} updates a second for {} s from a speaker; the last was in force {:.0} ms after it was said",
            churn::RATE,
            churn::TIME,
            settled * 1e3
        ));
    }
    if let Some((bird, _)) = bird.as_ref().filter(|_| wants("memory")) {
        fill()?;
        let memory = arena.both(bird)?;
        notes.push(format!(
            "the controller's own memory with the table from BGP and from the kernel: {:.0} MB",
            memory as f64 / 1e6
        ));
        arena.empty_kernel()?;
    }
    drop(bird);
    if wants("fpm") {
        rows.extend(arena.fpm()?);
    }
    show(options, notes, &rows)
}

fn show(options: &Options, notes: Vec<String>, rows: &[Row]) -> Result<()> {
    let title = "Feeds: seconds for a daemon's whole table";
    let columns = [
        "bench",
        "feed",
        "candidate",
        "seconds",
        "ratio",
        "on the CPU",
        "share",
        "RssAnon MB",
    ];
    report::print(options.json, rows, title, &notes, &columns, |row| {
        vec![
            row.bench.to_owned(),
            row.feed.to_owned(),
            row.candidate.to_owned(),
            format!("{:.3}", row.seconds),
            format!("{:.2}", row.ratio),
            format!("{:.2}", row.cpu),
            row.cpu_share
                .map_or_else(String::new, |share| format!("{:.0} %", share * 100.0)),
            row.rss_anon
                .map_or_else(String::new, |octets| format!("{:.0}", octets as f64 / 1e6)),
        ]
    })?;
    let groups = rows.chunk_by(|one, other| (one.bench, one.feed) == (other.bench, other.feed));
    let groups = groups.map(|rows| Group {
        name: format!("{} {}", rows[0].bench, rows[0].feed),
        bars: rows
            .iter()
            .map(|row| Bar {
                name: row.candidate.to_owned(),
                value: row.seconds,
                label: format!("{:.2} s ({:.2}x)", row.seconds, row.ratio),
            })
            .collect(),
    });
    let chart = Chart {
        title: title.to_owned(),
        notes,
        groups: groups.collect(),
    };
    report::plot(options, "feeds", &chart)
}

/// The router, and what its daemons say.
struct Feeds<'a> {
    router: &'a Router,
    tables: &'a [Table; 2],
    gateways: [[IpAddr; GATEWAYS]; 2],
    rounds: usize,
}

/// What a run of the controller took.
struct Run {
    taken: Taken,
    memory: u64,
}

impl Feeds<'_> {
    fn slow(&self) -> usize {
        self.rounds.min(SLOW)
    }

    fn counts(&self) -> [usize; 2] {
        self.tables.each_ref().map(|table| table.prefixes.len())
    }

    /// Calls a daemon from outside and says these routes; they are there for as long as the session is.
    fn fill(&self, to: SocketAddr, truth: &Truth<'_>) -> Result<Speaker> {
        let mut speaker = self.router.outside(|| Speaker::call(to))?;
        self.say(&mut speaker, truth)?;
        Ok(speaker)
    }

    fn say(&self, speaker: &mut Speaker, truth: &Truth<'_>) -> Result<()> {
        for family in 0..2 {
            let of = |at: usize| truth.gateways[family][at];
            speaker.table(&self.tables[family], &self.gateways[family], of)?;
        }
        Ok(())
    }

    fn bird(&self) -> Result<(Bird, Speaker)> {
        let bird = Bird::start(self.router)?;
        let speaker = self.fill(CALLED, &Truth::new(self.tables))?;
        bird.holds(self.counts().iter().sum())?;
        Ok((bird, speaker))
    }

    /// A controller that hears this feed, on empty maps, in step with the kernel.
    fn controller(&self, sources: &str, section: &str) -> Result<Controller> {
        if self.router.pins.exist() {
            self.router.pins.remove()?;
        }
        let routes = format!("sources = [{sources}]\n{section}");
        let mut controller = Controller::start_with(self.router, &configuration_with(&routes))?;
        controller.in_step(self.router)?;
        Ok(controller)
    }

    /// From the connection of a daemon until every prefix forwards.
    fn run(
        &self,
        name: &str,
        mut controller: Controller,
        at: SocketAddr,
        connect: impl FnOnce() -> Result<()>,
    ) -> Result<Run> {
        let truth = Truth::new(self.tables);
        let (ours, awaited) = (self.router.tables()?, truth.awaited());
        let before = controller.cpu()?;
        let start = std::thread::scope(|scope| {
            let begun = scope.spawn(|| connected(at));
            connect()?;
            begun
                .join()
                .map_err(|_| anyhow::anyhow!("the watch of the connection failed"))?
        })?;
        let end = awaited.settled(
            &format!("{name}, forwarder"),
            LIMIT,
            &ours,
            self.router,
            &mut controller,
        )?;
        let cpu = controller.cpu()? - before;
        truth.holds(&ours, self.router)?;
        Ok(Run {
            taken: Taken {
                seconds: end.duration_since(start).as_secs_f64(),
                cpu,
            },
            memory: controller.memory()?,
        })
    }

    fn bgp(&self, bird: &Bird) -> Result<[Row; 2]> {
        let _awake = bird.awake()?;
        let alone = || {
            let receiver = Receiver::listen(BGP)?;
            bird.connect()?;
            let taken = receiver.bgp(self.counts())?;
            bird.disconnect()?;
            Ok(taken)
        };
        let ours = || {
            let controller = self.controller("\"bgp\"", &bgp_section())?;
            let run = self.run("bgp", controller, BGP, || bird.connect())?;
            bird.disconnect()?;
            Ok(run)
        };
        interleaved("bgp", self.rounds, alone, ours)
    }

    fn fpm(&self) -> Result<[Row; 2]> {
        let mut frr = Frr::start(self.router)?;
        let _speaker = self.fill(CALLED, &Truth::new(self.tables))?;
        frr.holds(self.counts())?;
        let alone = || {
            let receiver = Receiver::listen(FPM)?;
            frr.connect()?;
            let taken = receiver.fpm(self.counts().iter().sum())?;
            frr.disconnect()?;
            Ok(taken)
        };
        let ours = || {
            let controller = self.controller("\"fpm\"", "[routes.fpm]\n")?;
            let run = self.run("fpm", controller, FPM, || frr.connect())?;
            frr.disconnect()?;
            Ok(run)
        };
        interleaved("fpm", self.slow(), alone, ours)
    }

    fn kernel(&self) -> Result<[Row; 2]> {
        let arena = Arena::new(self.router, self.tables)?;
        let ours = || {
            Ok(Run {
                taken: arena.load()?,
                memory: 0,
            })
        };
        interleaved("kernel", self.rounds, || arena.dump(), ours)
    }

    /// The controller's own memory with the whole table of BIRD and that of the kernel.
    fn both(&self, bird: &Bird) -> Result<u64> {
        eprintln!("feeds: the table from BGP and from the kernel");
        let controller = self.controller("\"bgp\", \"kernel\"", &bgp_section())?;
        let run = self.run_settled(controller, bird)?;
        bird.disconnect()?;
        Ok(run)
    }

    fn run_settled(&self, mut controller: Controller, bird: &Bird) -> Result<u64> {
        let wanted: usize = self.counts().iter().sum();
        bird.connect()?;
        wait(
            "BIRD's table beside the kernel's",
            LIMIT,
            Duration::from_millis(500),
            || {
                controller.alive()?;
                let routes = self.router.feed_routes("bgp")?;
                Ok(if routes == Some(wanted) {
                    Poll::Ready(())
                } else {
                    Poll::Waiting(format!("{routes:?} of {wanted}"))
                })
            },
        )?;
        Truth::new(self.tables).holds(&self.router.tables()?, self.router)?;
        controller.memory()
    }

    fn empty_kernel(&self) -> Result<()> {
        for family in ["-4", "-6"] {
            eprintln!("feeds: taking the table out of the kernel (ip {family})");
            run(Command::new("ip").args([family, "route", "flush", "proto", "bird"]))?;
            interrupt::check()?;
        }
        Ok(())
    }

    /// Updates on top of the full table. Answers also how long after the last was said it was in force.
    fn churn(&self) -> Result<([Row; 2], f64)> {
        eprintln!("feeds: {} updates a second for {} s", churn::RATE, churn::TIME);
        let mut truth = Truth::new(self.tables);
        churn::thin(&mut truth);
        let mut controller = self.controller("\"bgp\"", &bgp_section())?;
        let ours = self.router.tables()?;
        let mut speaker = Speaker::call(BGP)?;
        self.say(&mut speaker, &truth)?;
        let what = "churn, forwarder";
        truth
            .awaited()
            .settled(what, LIMIT, &ours, self.router, &mut controller)?;
        let before = controller.cpu()?;
        let begun = Instant::now();
        let (ended, last) = churn::churn(&mut speaker, self.tables, &self.gateways, &mut truth)?;
        let cpu = controller.cpu()? - before;
        let said = ended.duration_since(begun).as_secs_f64();
        // Updates are carried out in their order: with the last, all are.
        let settled = truth
            .one(last)
            .settled(what, LIMIT, &ours, self.router, &mut controller)?;
        let settled = settled.saturating_duration_since(ended).as_secs_f64();
        truth.holds(&ours, self.router).context("after the updates")?;
        let row = |candidate, seconds: f64| Row {
            bench: "feeds-churn",
            feed: "bgp",
            candidate,
            seconds: rounded(seconds, 1000.0),
            ratio: rounded(seconds / said, 100.0),
            cpu: 0.0,
            cpu_share: None,
            rss_anon: None,
        };
        let rows = [
            row("reference", said),
            Row {
                cpu: rounded(cpu, 100.0),
                cpu_share: Some(rounded(cpu / said, 1000.0)),
                rss_anon: Some(controller.memory()?),
                ..row("forwarder", said + settled)
            },
        ];
        Ok((rows, settled))
    }
}

/// Rounds of both candidates, each the first in every other round.
fn interleaved(
    feed: &'static str,
    rounds: usize,
    reference: impl Fn() -> Result<Taken>,
    forwarder: impl Fn() -> Result<Run>,
) -> Result<[Row; 2]> {
    let (mut alone, mut ours) = (Vec::new(), Vec::new());
    let say = |round: usize, candidate: &str| {
        eprintln!("feeds: round {} of {rounds}, {feed}, {candidate}", round + 1);
    };
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                say(round, "reference");
                alone.push(reference()?);
            } else {
                say(round, "forwarder");
                ours.push(forwarder()?);
            }
        }
    }
    Ok(rows(feed, &alone, &ours))
}

fn bgp_section() -> String {
    format!("[routes.bgp]\nlisten = \"{BGP}\"\nlocal-as = {}\n", speaker::AS)
}

fn rows(feed: &'static str, alone: &[Taken], ours: &[Run]) -> [Row; 2] {
    let over = |values: Vec<f64>| median(&values);
    let reference = over(alone.iter().map(|taken| taken.seconds).collect());
    let row = |candidate, seconds: f64, cpu: f64| Row {
        bench: "feeds",
        feed,
        candidate,
        seconds: rounded(seconds, 1000.0),
        ratio: rounded(seconds / reference, 100.0),
        cpu: rounded(cpu, 100.0),
        cpu_share: None,
        rss_anon: None,
    };
    [
        row(
            "reference",
            reference,
            over(alone.iter().map(|taken| taken.cpu).collect()),
        ),
        Row {
            rss_anon: ours
                .iter()
                .map(|run| run.memory)
                .max()
                .filter(|octets| *octets > 0),
            ..row(
                "forwarder",
                over(ours.iter().map(|run| run.taken.seconds).collect()),
                over(ours.iter().map(|run| run.taken.cpu).collect()),
            )
        },
    ]
}

/// Waits until somebody's connection to a TCP address of this namespace stands, and answers when that was seen.
fn connected(at: SocketAddr) -> Result<Instant> {
    let SocketAddr::V4(at) = at else {
        anyhow::bail!("{at} is not IPv4")
    };
    // proc_net_tcp: addresses as the CPU reads them, and the state, of which 01 is ESTABLISHED.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = fs::read_to_string("/proc/thread-self/net/tcp").context("/proc/thread-self/net/tcp")?;
        let stands = text.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some(&local) && fields.nth(1) == Some("01")
        });
        if stands {
            return Ok(Instant::now());
        }
        ensure!(Instant::now() < until, "nobody connects to {at}");
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(2));
    }
}
