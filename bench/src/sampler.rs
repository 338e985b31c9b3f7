//! `sampler`: what reading every prefix's counter every ten seconds costs, and a sample of the history every five minutes.
//!
//! And what a scrape of `/metrics` takes beside it, with as many accounts as there can be.
//!
//! Tables on the heap, as large as the controller's, with every prefix laid by the compiler; between two passes as many of them
//! count as are active on a busy router. What is timed is the thread's own time on the CPU.

use std::{
    fs,
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use forwarder::{
    api::{ApiContext, metrics},
    config::{AccountConfig, Config},
    daemon::accounts::claim,
    dataplane::Tables,
    fib::{Fib, Provenance, Readings},
    stats::sampler::{
        prefixes::Prefixes,
        recorder::{Identity, Recorder},
        schedule::Clocks,
        series::standing,
    },
};
use forwarder_common::{
    account::{MOST_ACCOUNTS, pair},
    counters::{Counter, Pending},
};
use forwarder_history::plot::{Bar, Chart};
use forwarder_history::{History, Retention};
use serde::Serialize;
use xtask::bench::Options;

use crate::{
    random::Random,
    report::{self, median, rounded},
    table::Table,
};

/// Prefixes that count between two samples.
const ACTIVE: usize = 70_000;
/// Of these, so many are others in the next.
const OTHERS: usize = 5_000;
/// Seconds between two passes.
const PASS: f64 = 10.0;
/// Seconds between two samples.
const SAMPLE: f64 = 300.0;
/// Passes in a round; a commit behind the last of them.
const PASSES: usize = 5;
/// Most that it may take of a CPU, percent.
const SHARE: f64 = 5.0;
/// Most memory of its own, MB.
const MEMORY: f64 = 60.0;
/// Most that a scrape may take, ms.
const SCRAPE: f64 = 50.0;
/// The group of prefixes without room.
const PUNT: u32 = 1;

#[derive(Serialize)]
struct Row {
    bench: &'static str,
    what: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A sum is wrong, or there is no room.
pub fn bench(options: &Options) -> Result<()> {
    let all = Table::both(&options.tables)?;
    let cpus = std::thread::available_parallelism().map_or(2, |cpus| cpus.get() as u32);
    let tables = Arc::new(Tables::heap(Config::from_interfaces(&["lo"])?.tables.sizes(cpus)));
    let readings = Readings::default();
    let mut fib = Fib::new(&tables, PUNT);
    fib.leave_readings(readings.clone());
    let mut slots = Vec::new();
    for table in &all {
        for (index, prefix) in table.prefixes.iter().enumerate() {
            let prefix = table.net(prefix)?;
            let provenance = Provenance {
                origin_as: 1 + (index as u32 % 70_000),
                neighbour_as: 64_500 + (index as u32 % 4),
                ..Provenance::default()
            };
            fib.announce(&tables, prefix, 2, provenance);
            slots.push(fib.slot(&tables, prefix).context("no room for a prefix")?);
        }
    }
    for cpu in 0..cpus {
        let word = tables.pending.word(cpu as usize, 0);
        word.store(Pending::none(0), std::sync::atomic::Ordering::Relaxed);
    }
    let directory = std::env::temp_dir().join(format!("forwarder-bench-sampler-{}", std::process::id()));
    let found = measure(&tables, &slots, readings, &directory, options.rounds);
    let _ = fs::remove_dir_all(&directory);
    let mut rows = found?;
    drop(fib);
    rows.push(scrape(tables, options.rounds)?);
    let mut notes = report::surroundings(&all, None);
    notes.push(format!(
        "{} prefixes laid, {ACTIVE} of them active, counters of {cpus} CPUs; {PASSES} passes and a commit in each of {} rounds",
        slots.len(),
        options.rounds
    ));
    show(options, &rows, &notes)
}

fn measure(
    tables: &Tables,
    slots: &[u32],
    readings: Readings,
    directory: &std::path::Path,
    rounds: u32,
) -> Result<Vec<Row>> {
    let before = memory()?;
    let mut random = Random::new(1);
    let mut prefixes = Prefixes::new(tables, readings);
    let mut now = Clocks {
        wall: 1_800_000_000_000,
        boot: 1_000_000,
    };
    let identity = Identity {
        maps: 1,
        boot: "bench".into(),
    };
    let length = Duration::from_secs(SAMPLE as u64);
    let history = History::open(directory, Retention::default())?;
    let mut recorder = Recorder::resume(history, identity, length, (tables, &mut prefixes), true, now)?;
    let (mut passes, mut commits, mut highest) = (Vec::new(), Vec::new(), 0.0_f64);
    let mut counted = 0;
    let mut active: Vec<u32> = (0..ACTIVE).map(|_| slots[random.below(slots.len())]).collect();
    for _ in 0..rounds {
        for _ in 0..OTHERS {
            let at = random.below(ACTIVE);
            active[at] = slots[random.below(slots.len())];
        }
        for _ in 0..PASSES {
            for slot in &active {
                let at = *slot as usize;
                let more = Counter {
                    packets: 1 + random.below(1_000) as u64,
                    bytes: 64 + random.below(1_000_000) as u64,
                };
                counted += more.packets;
                tables
                    .prefix_counters
                    .set(at, &tables.prefix_counters.get(at).plus(more));
            }
            let began = cpu_time();
            prefixes.pass(tables);
            passes.push(1_000.0 * (cpu_time() - began));
        }
        now.wall += 300_000;
        now.boot += 300_000;
        let total = Counter::default();
        let began = cpu_time();
        let list = standing(tables, &[]);
        recorder.commit(tables, &mut prefixes, &list, total, now)?;
        commits.push(1_000.0 * (cpu_time() - began));
        highest = highest.max(memory()? - before);
    }
    let reader = History::open_read(directory)?;
    let mut sum = 0;
    let each = |value: forwarder_history::Value| sum += value.packets;
    reader.read(
        forwarder_history::Kind::PrefixOut,
        forwarder_history::Which::All,
        0..=i64::MAX,
        each,
    )?;
    ensure!(
        sum == counted,
        "{counted} packets were counted, and {sum} are in the history"
    );
    let figures = reader.figures()?;
    let (pass, commit) = (median(&passes), median(&commits));
    let share = 100.0 * (pass / (1_000.0 * PASS) + commit / (1_000.0 * SAMPLE));
    let row = |what, value, unit, target| Row {
        bench: "sampler",
        what,
        value: rounded(value, 100.0),
        unit,
        target,
    };
    Ok(vec![
        row("pass", pass, "ms", None),
        row("commit", commit, "ms", None),
        row("share of a CPU", share, "%", Some(SHARE)),
        row("own memory", highest, "MB", Some(MEMORY)),
        row(
            "history, an interval",
            (figures.bytes + figures.log_bytes) as f64 / 1e6 / commits.len() as f64,
            "MB",
            None,
        ),
    ])
}

/// What a scrape takes: a full table, as many accounts as there can be, and counters of all of them.
fn scrape(tables: Arc<Tables>, rounds: u32) -> Result<Row> {
    let account = |n: usize| AccountConfig {
        name: format!("members/{n}"),
        prefixes: Vec::new(),
        commit: Some(1_000_000),
    };
    let accounts: Vec<AccountConfig> = (0..MOST_ACCOUNTS).map(account).collect();
    let (_, problems) = claim(&tables, &accounts);
    ensure!(problems.is_empty(), "{problems:?}");
    for from in 0..=MOST_ACCOUNTS as u32 {
        for to in 0..=MOST_ACCOUNTS as u32 {
            let one = Counter {
                packets: 1,
                bytes: 100,
            };
            tables.pairs.set(pair(1, from, to) as usize, &one);
        }
    }
    let context = ApiContext {
        tables,
        state: Arc::new(RwLock::default()),
        link_stats: Box::new(|_| None),
        candidates: Box::new(|_| None),
        live: Arc::default(),
        metrics: Default::default(),
        program_cost: Box::new(|| None),
    };
    let mut took = Vec::new();
    for _ in 0..5 * rounds {
        let began = Instant::now();
        let text = metrics::text(&context)?;
        took.push(1_000.0 * began.elapsed().as_secs_f64());
        let series = text.matches("forwarder_account_bytes_total{").count();
        ensure!(series == 6 * (MOST_ACCOUNTS + 1), "{series} series of accounts");
    }
    Ok(Row {
        bench: "sampler",
        what: "a scrape of /metrics",
        value: rounded(median(&took), 100.0),
        unit: "ms",
        target: Some(SCRAPE),
    })
}

fn show(options: &Options, rows: &[Row], notes: &[String]) -> Result<()> {
    let title = "The sampler: what reading every prefix's counter costs";
    let columns = ["what", "value", "unit", "at most"];
    report::print(options.json, rows, title, notes, &columns, |row| {
        vec![
            row.what.to_string(),
            row.value.to_string(),
            row.unit.to_string(),
            row.target.map_or("-".into(), |target| target.to_string()),
        ]
    })?;
    let timed = rows.iter().filter(|row| row.unit == "ms");
    let bars = timed.map(|row| Bar {
        name: row.what.to_string(),
        value: row.value,
        label: format!("{} {}", row.value, row.unit),
    });
    let chart = Chart::of(title, notes.to_vec(), "milliseconds on the CPU", bars);
    report::plot(options, "sampler", &chart)
}

/// Seconds this thread has run.
fn cpu_time() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: memory for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Memory of this process that is no file's, MB.
fn memory() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("/proc/self/status has no RssAnon")?
        .parse()?;
    Ok(kib * 1024.0 / 1e6)
}
