//! `pipeline`: frames through the whole of a router. A generator, the router and a sink, all on one CPU: every frame is
//! made and sent, received, looked up, rewritten, sent on, received and dropped there.
//!
//! Rounds are by the clock on the wall, because much of the work is done by softirqs, whose time kernels account for in
//! different ways; this thread has the highest priority that leaves softirqs theirs.

mod candidate;
mod lane;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use forwarder::dataplane::program::XDP;
use serde::Serialize;
use xtask::bench::Options;

use self::candidate::Candidate;
use self::lane::{Lane, Passed};
use crate::model::Model;
use crate::object::{Object, Room};
use crate::report;
use crate::router::Router;
use crate::run;
use crate::table::{Family, Table};
use crate::trace::{Pattern, Trace};
use forwarder_history::plot::{Bar, Chart, Group};

/// Frames of a round: eight for each destination.
const FRAMES: usize = 1 << 19;
/// Frames before the clock starts.
const WARM_UP: usize = 1 << 16;
/// Frames whose every octet that a router writes is looked at, before anything is timed.
const SAMPLE: usize = 1 << 17;
/// Part of the frames that may be lost in front of the sink before a result says nothing.
const LOSS: f64 = 0.01;

/// What a candidate gets through.
#[derive(Clone, Debug, Serialize)]
struct Row {
    bench: &'static str,
    family: Family,
    pattern: Pattern,
    candidate: &'static str,
    /// Frames a second that reached the sink: the median over the rounds.
    pps: f64,
    /// How many times forwarder's rate that is, the other way round: the median over the rounds' pairs.
    ratio: f64,
    /// How far the rounds lie apart, percent of the median.
    #[serde(skip)]
    spread: f64,
    /// Frames lost on the way, percent.
    #[serde(skip)]
    lost: f64,
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A candidate forwards wrongly, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    let tables = Table::both(&options.tables)?;
    let router = Router::start(&tables)?;
    let mut shipped = Xdp::from_pin(router.pins.programs().join(XDP), XdpAttachType::Interface)
        .context("cannot open forwarder's pinned program")?;
    // From now on the interfaces carry whatever is being measured.
    router.detach()?;
    let mut object = Object::load(&router.pins, &tables, Room::None)?;
    let cpu = run::pin(options.cpu)?;
    run::first_in_line()?;
    let candidates = Candidate::present();
    let lane = Lane::open(&router, &mut object)?;
    let mut rows = Vec::new();
    let mut alone = Vec::new();
    for table in &tables {
        let model = Model::new(&table.prefixes);
        let trace = Trace::new(table, &model, Pattern::Spread64k);
        object.lay(table.family, &trace);
        for candidate in candidates.iter().copied().filter(|c| *c != Candidate::Drop) {
            eprintln!("pipeline: {}, {}: verifying", table.family, candidate.name());
            let _armed = candidate.arm(&router, &mut object, &mut shipped)?;
            lane.verify(&object, table, &trace)
                .with_context(|| format!("{}, {}", candidate.name(), table.family))?;
        }
        let mut passed: Vec<Vec<Passed>> = vec![Vec::new(); candidates.len()];
        for round in 0..options.rounds as usize {
            eprintln!("pipeline: {}, round {}", table.family, round + 1);
            for turn in 0..candidates.len() {
                let at = (round + turn) % candidates.len();
                let candidate = candidates[at];
                let _armed = candidate.arm(&router, &mut object, &mut shipped)?;
                lane.send(&object, table.family, WARM_UP)?;
                let one = lane.send(&object, table.family, FRAMES)?;
                ensure!(
                    one.loss() <= LOSS,
                    "{}, {}: {} of {} frames were lost: the rate says nothing",
                    candidate.name(),
                    table.family,
                    one.sent - one.arrived,
                    one.sent
                );
                passed[at].push(one);
            }
        }
        let sentence = sentence(table.family, &candidates, &passed);
        eprintln!("pipeline: {sentence}");
        alone.push(sentence);
        rows.extend(rows_of(table.family, &candidates, &passed));
    }
    let mut method = report::method(options, &tables, cpu);
    method.pop();
    method.push(format!(
        "medians of {} interleaved rounds of {FRAMES} frames, each in slices; ratio: forwarder's rate over the candidate's, pair by pair; \
         spread: highest minus lowest round",
        options.rounds
    ));
    method.extend(alone);
    show(options, &method, &rows)
}

/// What the generator takes of it all.
fn sentence(family: Family, candidates: &[Candidate], passed: &[Vec<Passed>]) -> String {
    let rate = |wanted| {
        let found = candidates.iter().position(|candidate| *candidate == wanted);
        found.map_or(0.0, |at| report::median(&rates(&passed[at])))
    };
    let (drop, ours) = (rate(Candidate::Drop), rate(Candidate::Forwarder));
    format!(
        "{family}: the generator alone, into a drop at the router: {:.2} Mpps, which is {:.0} % of the time that forwarder's \
         pipeline takes",
        drop / 1e6,
        ours / drop * 100.0
    )
}

fn rates(passed: &[Passed]) -> Vec<f64> {
    passed.iter().map(Passed::rate).collect()
}

fn rows_of(family: Family, candidates: &[Candidate], passed: &[Vec<Passed>]) -> Vec<Row> {
    let ours = candidates
        .iter()
        .position(|candidate| *candidate == Candidate::Forwarder)
        .map_or(Vec::new(), |at| rates(&passed[at]));
    let measured = candidates.iter().zip(passed);
    measured
        .filter(|(candidate, _)| **candidate != Candidate::Drop)
        .map(|(candidate, passed)| {
            let rates = rates(passed);
            let pairs: Vec<f64> = ours.iter().zip(&rates).map(|(ours, rate)| ours / rate).collect();
            let pps = report::median(&rates);
            let highest = rates.iter().copied().fold(f64::MIN, f64::max);
            let lowest = rates.iter().copied().fold(f64::MAX, f64::min);
            let lost: Vec<f64> = passed.iter().map(Passed::loss).collect();
            Row {
                bench: "pipeline",
                family,
                pattern: Pattern::Spread64k,
                candidate: candidate.name(),
                pps: pps.round(),
                ratio: (report::median(&pairs) * 100.0).round() / 100.0,
                spread: (highest - lowest) / pps * 100.0,
                lost: report::median(&lost) * 100.0,
            }
        })
        .collect()
}

fn show(options: &Options, method: &[String], rows: &[Row]) -> Result<()> {
    let title = "Through the whole router, on one CPU: frames of 64 octets a second, 65,536 destinations";
    let columns = [
        "family",
        "pattern",
        "candidate",
        "Mpps",
        "ratio",
        "spread",
        "lost",
    ];
    report::print(options.json, rows, title, method, &columns, |row| {
        vec![
            row.family.to_string(),
            row.pattern.name().to_owned(),
            row.candidate.to_owned(),
            format!("{:.3}", row.pps / 1e6),
            format!("{:.2}", row.ratio),
            format!("{:.0} %", row.spread),
            format!("{:.2} %", row.lost),
        ]
    })?;
    let groups = Family::ALL.map(|family| Group {
        name: family.to_string(),
        bars: rows
            .iter()
            .filter(|row| row.family == family)
            .map(|row| Bar {
                name: row.candidate.to_owned(),
                value: row.pps / 1e6,
                label: format!("{:.2} Mpps ({:.2}x)", row.pps / 1e6, row.ratio),
            })
            .collect(),
    });
    let chart = Chart {
        title: title.to_owned(),
        notes: method.to_vec(),
        groups: groups.into(),
    };
    report::plot(options, "pipeline", &chart)
}
