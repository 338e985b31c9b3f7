//! A router that is not left in peace: a table of routes that come and go, a carrier that loses its link, a controller that is killed, stopped,
//! started again and given other configurations, and packets to random prefixes all the while, with books of their own ([`books`]).
//!
//! The first half has all of it, the second only churn and lost links: there one process lives long enough for its memory to be looked at.
//! At the start, in the middle, at three quarters and at the end the routes are what they were at first, and [`measure`] looks at what is in use. [`events`] is what happens,
//! [`report`] what is said in the end and whether it holds.

pub mod books;
pub mod events;
pub mod measure;
pub mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::{interrupt, progress::Progress, table::Route};

use self::{
    books::{Books, Traffic},
    events::Scene,
    measure::Measure,
    report::Report,
};
use crate::{lab::Lab, operator, random::Random};

/// What to do.
pub struct Options {
    /// For how long, without what comes before and after.
    pub time: Duration,
    /// IPv4 and IPv6 routes.
    pub tables: [Vec<Route>; 2],
    /// Decides what happens when.
    pub seed: u64,
}

/// Interfaces that are served.
const INTERFACES: [&str; 3] = ["a", "b", "c"];

/// Does it.
///
/// # Errors
/// It cannot be done, or was interrupted. What does not hold is in the report.
pub fn run(options: &Options) -> Result<Report> {
    let [v4, v6] = &options.tables;
    eprintln!(
        "{} s with {} + {} routes, seed {}",
        options.time.as_secs(),
        v4.len(),
        v6.len(),
        options.seed
    );
    let lab = Lab::new()?;
    let mut scene = Scene::begin(&lab, &options.tables)?;
    let start = Measure::take(&lab, scene.controller()?)?;
    let counted = Counted::read(&lab)?;
    let traffic = Traffic::start(&lab, scene.prefixes())?;
    let mut progress = Progress::new("soaking");
    let began = Instant::now();
    let mut random = Random::new(options.seed);
    let mut until = |scene: &mut Scene<'_>, end: Duration, everything: bool| -> Result<()> {
        while began.elapsed() < end {
            interrupt::check()?;
            scene.event(&mut random, everything, &traffic.faults)?;
            let books = traffic.books();
            progress.detail(&format!(
                "{} s to go; {}; {books}",
                options.time.saturating_sub(began.elapsed()).as_secs(),
                scene.done
            ));
            anyhow::ensure!(!traffic.has_ended(), "the traffic has ended");
        }
        Ok(())
    };
    let result = (|| {
        until(&mut scene, options.time / 2, true)?;
        // A process of its own for what follows.
        scene.restart()?;
        scene.restore()?;
        let middle = Measure::take(&lab, scene.controller()?)?;
        until(&mut scene, options.time * 3 / 4, false)?;
        scene.restore()?;
        let late = Measure::take(&lab, scene.controller()?)?;
        until(&mut scene, options.time, false)?;
        scene.restore()?;
        let end = Measure::take(&lab, scene.controller()?)?;
        Ok::<_, anyhow::Error>([middle, late, end])
    })();
    drop(progress);
    // A packet that cannot be right is the reason of whatever came of it.
    let books = traffic.stop()?;
    let [middle, late, end] = match result {
        // Nothing is wrong with anything.
        Err(why) if interrupt::requested() => return Err(why),
        result => result.with_context(|| picture(&lab))?,
    };
    Ok(Report {
        seconds: began.elapsed().as_secs(),
        done: scene.done.clone(),
        measures: [start, middle, late, end],
        books,
        counted: Counted::read(&lab)?.since(&counted),
        residues: residues(&lab)?,
        verified: verify(&lab)?,
    })
}

/// What the program says of the packets that came in from host a, and of what left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Forwarded by the program.
    pub forwarded: i64,
    /// Passed to the kernel, for any reason.
    pub passed: i64,
    /// Forwarded and lost on the way out.
    pub lost: i64,
}

impl Counted {
    fn read(lab: &Lab) -> Result<Counted> {
        let mut counted = Counted::default();
        for ifname in INTERFACES {
            let row = operator::row(lab, "interfaces", "ifname", ifname)?;
            let figure = |key| operator::figure(&row, key);
            counted.lost += figure("redirect_errors")? + figure("transmit_errors")?;
            if ifname == "a" {
                counted.forwarded = figure("forwarded_packets")?;
                counted.passed = figure("passed_packets")?;
            }
        }
        Ok(counted)
    }

    fn since(self, before: &Counted) -> Counted {
        Counted {
            forwarded: self.forwarded - before.forwarded,
            passed: self.passed - before.passed,
            lost: self.lost - before.lost,
        }
    }
}

/// What the sums of law 2 are off by, by interface and direction, once nothing is under way.
fn residues(lab: &Lab) -> Result<Vec<(String, i64)>> {
    let read = || -> Result<Vec<(String, i64)>> {
        let mut all = Vec::new();
        for ifname in INTERFACES {
            let row = operator::row(lab, "interfaces", "ifname", ifname)?;
            for direction in ["ingress", "egress"] {
                let residue = operator::figure(&row, &format!("{direction}_residue"))?;
                all.push((format!("{ifname} {direction}"), residue));
            }
        }
        Ok(all)
    };
    // What is off now may be under way; what is off for as long as this is not.
    for _ in 0..20 {
        let all = read()?;
        if all.iter().all(|(_, residue)| *residue == 0) {
            return Ok(all);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    read()
}

/// As [`Lab::wait`], for longer: a full table takes a while on a small machine.
fn wait<T>(lab: &Lab, what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut result = lab.wait(what, &mut done);
    for _ in 0..8 {
        interrupt::check()?;
        if result.is_ok() {
            break;
        }
        result = lab.wait(what, &mut done);
    }
    result
}

/// What an operator would look at, but for a table of routes.
fn picture(lab: &Lab) -> String {
    let said = ["status", "interfaces", "drops"].map(|line| match lab.forwarder(line) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(why) => format!("forwarder {line}: {why:#}\n"),
    });
    said.concat()
}

/// What `forwarder verify` found, where it is not that all is well.
fn verify(lab: &Lab) -> Result<Option<String>> {
    let output = lab.forwarder("verify")?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((!output.status.success()).then_some(text))
}

/// The books as one line.
impl std::fmt::Display for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} sent, {} lost while a link was down, {} otherwise",
            self.sent,
            self.excused,
            self.lost.len()
        )
    }
}
