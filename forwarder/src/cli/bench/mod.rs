//! `forwarder bench`: what a packet costs here, and how many cores fill the links.
//!
//! ```text
//! ingress (where packets seem to come in) -> course (which packets) -> measure (rounds) -> capacity (rows) -> screen
//! ```

mod capacity;
mod course;
mod ingress;
mod measure;
mod screen;

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;
use forwarder_common::settings::Settings;

use self::{capacity::Row, measure::Measured};
use super::output::{self, Paint};
use crate::{
    dataplane::{Tables, bencher::Bencher, pins::Pins},
    stats::prefixes,
};

/// What `forwarder bench` takes.
#[derive(Debug, Args)]
pub struct Words {
    /// How long to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The CPU to measure on [default: the one it starts on]
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,
    /// The interface that packets seem to come in on [default: the served one where most is asked of a packet]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Print a JSON array, one row on each line
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Report {
    /// The CPU and its make, the kernel.
    machine: String,
    /// Where packets seemed to come in, and what was asked of them there.
    ingress: String,
    /// The table and the rounds.
    method: String,
    rows: Vec<Row>,
    /// What a reader must know.
    notes: Vec<String>,
}

/// Measures and prints.
pub fn bench(words: &Words, bpffs: &Path) -> Result<bool> {
    let pins = Pins::new(bpffs);
    let tables = pins.open(false)?;
    let report = examine(words, &pins, &tables)?;
    if words.json {
        for note in &report.notes {
            output::warn(&format!("note: {note}"));
        }
        output::print_json(&report.rows)?;
    } else {
        output::print(&screen::screen(&report, Paint::stdout()))?;
    }
    Ok(true)
}

fn examine(words: &Words, pins: &Pins, tables: &Tables) -> Result<Report> {
    let (v4, v6) = prefixes::count(tables);
    if v4 + v6 == 0 {
        bail!(
            "the table is empty: there is nothing to forward to. `forwarder status` says what it waits for"
        );
    }
    let links = ingress::links(tables)?;
    let candidates = ingress::candidates(tables, &links, words.interface.as_deref())?;
    let cpu = measure::pin(words.cpu)?;
    let mut bencher = Bencher::open(pins, 2 * (course::COLD + course::HOT))?;
    let mut notes = Vec::new();
    let mut why_not = Vec::new();
    let mut found = None;
    for candidate in candidates {
        let courses = [false, true].map(|six| course::draw(&bencher, tables, &candidate, six));
        let any = courses.iter().any(Result::is_ok);
        why_not = courses
            .iter()
            .filter_map(|course| course.as_ref().err().map(ToString::to_string))
            .collect();
        if any {
            notes.append(&mut why_not);
            found = Some((candidate, courses));
            break;
        }
    }
    let Some((ingress, courses)) = found else {
        bail!(
            "no packet would be forwarded, so none was measured: {}",
            why_not.join("; ")
        );
    };
    let courses: Vec<_> = courses.into_iter().flatten().collect();
    let measured = measure::rounds(&mut bencher, &courses, ingress.ifindex, words.seconds)?;
    notes.extend(measured.notes.iter().cloned());
    notes.extend(courses.iter().filter_map(course::Course::note));
    let rows = rows(&ingress.name, cpu, &measured, &links);
    if links.iter().all(|link| link.speed.is_none()) {
        notes.push("no driver tells its link's speed, or all links are down".into());
    }
    Ok(Report {
        machine: measure::machine(cpu),
        ingress: ingress.told(tables.settings.get(0)),
        method: format!(
            "{} IPv4 and {} IPv6 prefixes; median of {} rounds, 5th and 95th percentile; the harness's own time is taken off",
            output::grouped(v4),
            output::grouped(v6),
            measured.rounds
        ),
        rows,
        notes,
    })
}

fn rows(ingress: &str, cpu: usize, measured: &Measured, links: &[ingress::Served]) -> Vec<Row> {
    let costs: Vec<_> = measured
        .costs
        .iter()
        .map(|cost| capacity::cost(ingress, cpu, measured.rounds, cost))
        .collect();
    let links = capacity::links(&costs, links);
    let costs = costs.into_iter().map(Row::Cost);
    costs.chain(links.into_iter().map(Row::Link)).collect()
}

/// What is asked of packets everywhere.
fn everywhere(settings: Settings) -> Option<String> {
    (settings.sample_rate != 0).then(|| format!("samples of one in {}", settings.sample_rate))
}
