//! `history`: what a month of a full table takes on disk, what an interval costs to write and a day to pack, and how long bills
//! take.
//!
//! A day of made-up traffic ([`traffic`]) both ways is written, interval by interval, and packed; every sample is then compared
//! with what was made. A month of it is thirty-one such days, the names, and a day that is not packed yet. Bills are made from
//! a month of 127 accounts, alone in the file, and beside thirty-one such days.

mod traffic;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use forwarder_history::plot::{Bar, Chart, Group};
use forwarder_history::report::calendar::{Month, Period, Zone};
use forwarder_history::report::names::{By, Traffic as Which};
use forwarder_history::report::p95::{Question, p95};
use forwarder_history::{
    Direction, FILE, History, Interval, Kind, Retention, Sample, Series, SeriesId, State, Which as Chosen,
    Work,
};
use ipnet::IpNet;
use serde::Serialize;
use xtask::bench::Options;
use xtask::interrupt;

use crate::report::{self, median, rounded};
use traffic::Traffic;

/// Prefixes of the table.
const PREFIXES: usize = 1_200_000;
/// Intervals of a day, and days of a long month.
const INTERVALS: u32 = 288;
const DAYS: f64 = 31.0;
/// As many as there can be.
const ACCOUNTS: usize = 127;

/// A row.
#[derive(Serialize)]
struct Row {
    bench: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    /// At most; none where nothing was promised.
    target: Option<f64>,
}

/// A directory that goes when the bench does.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Result<Place> {
        let path =
            std::env::temp_dir().join(format!("forwarder-bench-history-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Place(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// What comes back is not what was written, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    interrupt::install()?;
    let mut rows = Vec::new();
    if options.wants("disk", "disk") {
        disk(options.rounds, &mut rows)?;
    }
    if options.wants("bills", "bills") {
        bills(options.rounds, &mut rows)?;
    }
    let title = "History: a month of 1.2 million prefixes, and bills from it";
    let method = vec![format!(
        "{} prefixes active in an interval each way, packets and octets; {ACCOUNTS} accounts; month: {DAYS} packed days, names, and a \
         day that is not packed",
        traffic::ACTIVE
    )];
    let columns = ["what", "value", "unit", "target"];
    report::print(options.json, &rows, title, &method, &columns, |row| {
        vec![
            row.what.clone(),
            row.value.to_string(),
            row.unit.to_owned(),
            row.target.map_or("-".to_owned(), |target| target.to_string()),
        ]
    })?;
    let promised = rows.iter().filter_map(|row| Some((row, row.target?)));
    let groups = promised
        .map(|(row, target)| {
            let bar = |name: &str, value: f64| Bar {
                name: name.to_owned(),
                value: value / target,
                label: format!("{value} {}", row.unit),
            };
            Group {
                name: row.what.clone(),
                bars: vec![bar("forwarder", row.value), bar("target", target)],
            }
        })
        .collect();
    let chart = Chart {
        title: title.to_owned(),
        notes: method,
        groups,
    };
    report::plot(options, "history", &chart)
}

fn prefix(number: u32, direction: Direction) -> Result<Series> {
    let address = Ipv4Addr::from(0x0100_0000 + (number << 8));
    Ok(Series::Prefix {
        prefix: IpNet::new(address.into(), 24)?,
        direction,
    })
}

/// A sum of samples that does not depend on their order.
fn digest(sum: &mut u64, sample: (u32, i64, u64, u64)) {
    let mut hasher = DefaultHasher::new();
    sample.hash(&mut hasher);
    *sum = sum.wrapping_add(hasher.finish());
}

fn disk(rounds: u32, rows: &mut Vec<Row>) -> Result<()> {
    let place = Place::new("disk")?;
    let mut history = History::open(&place.0, Retention::default())?;
    let accounts = accounts(&mut history)?;
    let mut random = crate::random::Random::new(3);
    let mut ways = [Traffic::new(PREFIXES, 1.0, 1), Traffic::new(PREFIXES, 1.0, 2)];
    let mut ids: Vec<Option<SeriesId>> = vec![None; PREFIXES];
    let (mut samples, mut bits, mut written) = (0u64, 0.0, [0u64; 2]);
    let mut commits = Vec::new();
    for at in 0..INTERVALS {
        ensure!(!interrupt::requested(), "interrupted");
        let mut interval = Interval {
            start: i64::from(at) * 300,
            milliseconds: 300_000,
            samples: Vec::new(),
        };
        for ((way, direction), sum) in ways.iter_mut().zip(Direction::BOTH).zip(&mut written) {
            for counted in way.interval(at) {
                let known = &mut ids[counted.prefix as usize];
                let id = match *known {
                    Some(id) => id,
                    None => *known.insert(history.series_id(&prefix(counted.prefix, direction)?)?),
                };
                bits += counted.bytes as f64 * 8.0;
                digest(sum, (id.id(), i64::from(at) + 1, counted.packets, counted.bytes));
                interval.samples.push(Sample {
                    series: id.towards(direction),
                    packets: counted.packets,
                    bytes: counted.bytes,
                });
            }
        }
        samples += interval.samples.len() as u64;
        interval.samples.extend(exchanged(&accounts, &mut random));
        let begin = Instant::now();
        history.commit(&interval, State::Same)?;
        commits.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let running = history.figures()?;
    // Another day begins, so this one is over.
    let next = Interval {
        start: 86_400,
        milliseconds: 300_000,
        samples: Vec::new(),
    };
    history.commit(&next, State::Same)?;
    let (begin, mut longest) = (Instant::now(), 0.0f64);
    loop {
        let slice = Instant::now();
        if history.maintain(86_400)? == Work::Nothing {
            break;
        }
        longest = longest.max(slice.elapsed().as_secs_f64() * 1e3);
    }
    let packing = begin.elapsed().as_secs_f64();
    compare(&place.0, written)?;
    let packed = history.figures()?;
    // What is free now is what the running day had more than the packed one.
    let day = rows_of_chunks(&place.0)?;
    let names = (packed.bytes - packed.free_bytes).saturating_sub(day);
    let month = DAYS * day as f64 + running.bytes as f64;
    let mut row = |what: &str, value, unit, target| {
        rows.push(Row {
            bench: "history",
            what: what.to_owned(),
            value: rounded(value, 100.0),
            unit,
            target,
        });
    };
    row("a month on disk", month / 1e9, "GB", Some(4.0));
    row("a packed day", day as f64 / 1e6, "MB", None);
    row(
        "a running day, with names",
        running.bytes as f64 / 1e6,
        "MB",
        None,
    );
    row("names", names as f64 / 1e6, "MB", None);
    row(
        "samples in an interval",
        samples as f64 / f64::from(INTERVALS),
        "",
        None,
    );
    row(
        "octets of a packed sample",
        day as f64 / samples as f64,
        "B",
        None,
    );
    row("traffic each way", bits / 2.0 / 86_400.0 / 1e9, "Gbit/s", None);
    row("an interval written", median(&commits), "ms", None);
    row("a day packed", packing, "s", None);
    row("its longest slice", longest, "ms", None);
    drop(history);
    grow(&place.0)?;
    let period = Period {
        name: "a month".to_owned(),
        from: 0,
        to: DAYS as i64 * 86_400,
    };
    bill(&place.0, &period, rounds, "beside a full table", rows)
}

/// Makes a month of a packed day.
fn grow(directory: &Path) -> Result<()> {
    let connection = rusqlite::Connection::open(directory.join(FILE))?;
    connection.execute_batch("DELETE FROM interval WHERE day > 1; DELETE FROM day WHERE id > 1")?;
    let days = DAYS as i64;
    for day in 1..days {
        ensure!(!interrupt::requested(), "interrupted");
        let (seqs, seconds) = (day * i64::from(INTERVALS), day * 86_400);
        connection.execute_batch(&format!(
            "BEGIN;
             INSERT INTO day SELECT id + {day}, date + {day}, first_seq + {seqs}, last_seq + {seqs}, packed FROM day WHERE id = 1;
             INSERT INTO interval SELECT seq + {seqs}, start + {seconds}, milliseconds, day + {day} FROM interval WHERE day = 1;
             INSERT INTO chunk SELECT day + {day}, kind, block, series, samples, ids, counts, sizes, gaps, packets, bytes FROM chunk
                 WHERE day = 1;
             COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
        ))?;
    }
    Ok(())
}

/// Octets of the pages that packed samples are in.
fn rows_of_chunks(directory: &Path) -> Result<u64> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(directory.join(FILE), flags)?;
    let pages: i64 =
        connection.query_row("SELECT sum(pgsize) FROM dbstat WHERE name = 'chunk'", [], |row| {
            row.get(0)
        })?;
    Ok(pages.unsigned_abs())
}

/// Reads every sample again.
fn compare(directory: &Path, written: [u64; 2]) -> Result<()> {
    let reader = History::open_read(directory)?;
    for (kind, expected) in [Kind::PrefixIn, Kind::PrefixOut].into_iter().zip(written) {
        let mut sum = 0;
        reader.read(kind, Chosen::All, 0..=i64::MAX, |value| {
            digest(&mut sum, (value.id, value.seq, value.packets, value.bytes));
        })?;
        ensure!(sum == expected, "what was read is not what was written");
    }
    Ok(())
}

/// What accounts exchange: each has traffic in and out over the edge and inside, and one in ten exchanges some with five others.
fn accounts(history: &mut History) -> Result<Vec<SeriesId>> {
    let mut pairs = Vec::new();
    for n in 0..ACCOUNTS {
        for outside in [true, false] {
            pairs.push((name(n), String::new(), outside));
            pairs.push((String::new(), name(n), outside));
        }
        if n % 10 == 0 {
            pairs.extend((1..=5).map(|other| (name(n), name((n + other) % ACCOUNTS), false)));
        }
    }
    pairs
        .into_iter()
        .map(|(from, to, outside)| Ok(history.series_id(&Series::Account { from, to, outside })?))
        .collect()
}

fn name(n: usize) -> String {
    format!("members/{n}")
}

/// What they exchange in an interval.
fn exchanged(accounts: &[SeriesId], random: &mut crate::random::Random) -> Vec<Sample> {
    let sample = |series: &SeriesId| {
        let packets = 1 + random.below(1 << 20) as u64;
        Sample {
            series: *series,
            packets,
            bytes: packets * (64 + random.below(1_400) as u64),
        }
    };
    accounts.iter().map(sample).collect()
}

/// A month of accounts alone.
fn bills(rounds: u32, rows: &mut Vec<Row>) -> Result<()> {
    let place = Place::new("bills")?;
    let mut history = History::open(&place.0, Retention::default())?;
    let accounts = accounts(&mut history)?;
    let month: Month = "2026-01".parse().map_err(anyhow::Error::msg)?;
    let period = month.period(&Zone::of("UTC")?);
    let mut random = crate::random::Random::new(3);
    for n in 0..(period.to - period.from) / 300 + 1 {
        ensure!(!interrupt::requested(), "interrupted");
        let interval = Interval {
            start: period.from + n * 300,
            milliseconds: 300_000,
            samples: exchanged(&accounts, &mut random),
        };
        history.commit(&interval, State::Same)?;
        while history.maintain(interval.start)? != Work::Nothing {}
    }
    bill(&place.0, &period, rounds, "of accounts alone", rows)
}

/// Bills of a month, of one account and of all.
fn bill(directory: &Path, period: &Period, rounds: u32, what: &str, rows: &mut Vec<Row>) -> Result<()> {
    let zone = Zone::of("UTC")?;
    for (bills, names, expected, target) in [
        ("a bill", vec![name(5)], 1, 200.0),
        ("all bills", Vec::new(), ACCOUNTS + 1, 5_000.0),
    ] {
        let question = Question {
            by: By::Account,
            names,
            top: None,
            traffic: Which::Outside,
        };
        let mut took = Vec::new();
        for _ in 0..rounds {
            let begin = Instant::now();
            let reader = History::open_read(directory)?;
            let report = p95(&reader, &question, period, &zone, period.to)?;
            took.push(begin.elapsed().as_secs_f64() * 1e3);
            ensure!(report.rows.len() == expected, "{} bills", report.rows.len());
            ensure!(report.rows[0].samples == period.expected(), "a sample is missing");
        }
        rows.push(Row {
            bench: "history",
            what: format!("{bills} of a month {what}"),
            value: rounded(median(&took), 10.0),
            unit: "ms",
            target: Some(target),
        });
    }
    Ok(())
}
