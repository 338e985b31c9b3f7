//! `forwarder report`: from the history's files, beside the controller or without it.

mod capacity;
mod commit;
mod p95;
mod peering;
mod picture;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use forwarder_history::{
    DEFAULT_DIRECTORY, Direction, History, Reader,
    report::{
        calendar::{Month, Period, Zone},
        samples::Samples,
    },
};
use serde::Serialize;

use super::output;
use crate::{clock, config};

/// The reports.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is billed: the 95th percentile of the five-minute samples of a month, in and out
    P95(p95::Words),
    /// How full links are, how they grow, and when a share of their speed is reached
    Capacity(capacity::Words),
    /// What was delivered of what is contracted, by month, with the longest times below it
    Commit(commit::Words),
    /// What would move if we peered with a network; without one, the largest networks
    Peering(peering::Words),
}

/// What every report can be told.
#[derive(Debug, Args)]
struct Common {
    /// Where the history is [default: as configured in /etc/forwarder/forwarder.toml, /var/lib/forwarder]
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    /// By whose calendar, as Europe/Zurich
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    time_zone: String,
    /// Print a JSON array, one row on each line
    #[arg(long)]
    json: bool,
    /// Print comma-separated values with a line of names
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Draw it, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// `forwarder report`
pub fn run(command: &Command) -> Result<bool> {
    match command {
        Command::P95(words) => p95::run(words)?,
        Command::Capacity(words) => capacity::run(words)?,
        Command::Commit(words) => commit::run(words)?,
        Command::Peering(words) => peering::run(words)?,
    }
    Ok(true)
}

/// What a report is made from.
struct Desk {
    reader: Reader,
    zone: Zone,
    now: i64,
}

impl Common {
    /// Where the history is: as said, as configured, or where it is without a word about it.
    fn place(&self) -> Result<PathBuf> {
        match &self.history {
            Some(directory) => Ok(directory.clone()),
            None => configured(Path::new(config::DEFAULT_PATH)),
        }
    }

    fn desk(&self) -> Result<Desk> {
        Ok(Desk {
            zone: Zone::of(&self.time_zone)?,
            reader: History::open_read(&self.place()?)?,
            now: i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX),
        })
    }

    /// Prints rows for programs, where that is wanted.
    fn rows<T: Serialize>(&self, rows: &[T]) -> Result<bool> {
        if self.json {
            output::print_json(rows)?;
        } else if self.csv {
            let mut out = csv::Writer::from_writer(Vec::new());
            for row in rows {
                out.serialize(row)?;
            }
            output::print_bytes(&out.into_inner().map_err(|why| anyhow!("{why}"))?)?;
        }
        Ok(self.json || self.csv)
    }

    /// Writes a picture where that is wanted.
    fn draw(&self, svg: impl FnOnce() -> String) -> Result<()> {
        let Some(path) = &self.plot else { return Ok(()) };
        picture::write(path, &svg())
    }
}

/// The history's directory of a configuration; the usual one where there is none, or nobody may read it.
fn configured(config: &Path) -> Result<PathBuf> {
    match File::open(config) {
        Ok(_) => {
            let config = config::load(config).map_err(|why| {
                anyhow!("{why}\nwhere the history is stands in the configuration: mend it, or name its directory with --history")
            })?;
            Ok(config.history.place().to_path_buf())
        }
        Err(_) => Ok(DEFAULT_DIRECTORY.into()),
    }
}

impl Desk {
    /// A month, or this one.
    fn period(&self, month: Option<Month>) -> Period {
        month
            .unwrap_or_else(|| Month::at(&self.zone, self.now))
            .period(&self.zone)
    }

    /// Dates below a picture.
    fn ticks(&self, from: i64, to: i64) -> Vec<(i64, String)> {
        let days = self.zone.days(from, to);
        // As many as have room, and the same ones each time.
        let every = days.len().div_ceil(16).max(1);
        days.into_iter()
            .step_by(every)
            .filter(|day| day.from >= from)
            .map(|day| (day.from, day.date.get(5..).unwrap_or_default().to_string()))
            .collect()
    }
}

/// The lines above a table that say what it is made of.
fn about(samples: &Samples, desk: &Desk) -> String {
    let mut text = format!(
        "{}, {} to {} ({}): {} of {} samples of five minutes",
        samples.period.name,
        desk.zone.written(samples.period.from),
        desk.zone.written(samples.period.to),
        desk.zone.name(),
        output::grouped(samples.count()),
        output::grouped(samples.period.expected()),
    );
    if !samples.over {
        text += " so far";
    }
    if samples.averaged() > 0 {
        text += &format!(
            "; {} of them share a mean: nobody looked in between",
            samples.averaged()
        );
    }
    if samples.left_out() > 0 {
        text += &format!("; {} too short to count", samples.left_out());
    }
    text.push('\n');
    text
}

/// The same below the title of a picture, in lines that have room there.
fn notes(samples: &Samples, desk: &Desk) -> Vec<String> {
    let text = about(samples, desk);
    text.trim_end().split("; ").map(str::to_string).collect()
}

/// Gaps, the longest first; no more than a screen has room for.
fn gaps(samples: &Samples, desk: &Desk) -> String {
    const SHOWN: usize = 8;
    if samples.gaps.is_empty() {
        return String::new();
    }
    let mut gaps = samples.gaps.clone();
    gaps.sort_by_key(|gap| (gap.from - gap.to, gap.from));
    let mut text = format!(
        "\n{} without samples, which do not count as nought:\n",
        output::span(samples.gap_seconds())
    );
    for gap in gaps.iter().take(SHOWN) {
        text += &format!(
            "  {} to {}  {}\n",
            desk.zone.written(gap.from),
            desk.zone.written(gap.to),
            output::span((gap.to - gap.from).unsigned_abs())
        );
    }
    if gaps.len() > SHOWN {
        text += &format!("  and {} shorter ones\n", gaps.len() - SHOWN);
    }
    text
}

/// "12.3 %", or nothing known.
fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_string(), |share| format!("{share:.1} %"))
}

fn way(direction: Direction) -> String {
    direction.name().to_string()
}

/// "eth0=10Gbit"
fn assigned(text: &str) -> Result<(String, u64), String> {
    let (name, bits) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("`{text}` names nothing: write NAME=10Gbit"))?;
    Ok((name.to_string(), config::bits_per_second(bits)?))
}

/// How many: at least one.
fn some(text: &str) -> Result<usize, String> {
    let number: Option<usize> = text.parse().ok();
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("`{text}` is none: write how many, from 1 up"))
}

/// "80", "80%"
fn share(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').trim_end().parse().ok();
    number
        .filter(|share| *share > 0.0 && *share <= 100.0)
        .ok_or_else(|| format!("`{text}` is no share: write a number above 0 and up to 100, in percent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_where_the_configuration_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("forwarder.toml");
        assert_eq!(configured(&path).unwrap(), Path::new(DEFAULT_DIRECTORY));
        let write = |history: &str| {
            std::fs::write(
                &path,
                format!("[[interface]]\nname = \"eth0\"\nrole = \"core\"\n{history}"),
            )
            .unwrap();
        };
        write("");
        assert_eq!(configured(&path).unwrap(), Path::new(DEFAULT_DIRECTORY));
        write("[history]\ndirectory = \"/srv/samples\"\n");
        assert_eq!(configured(&path).unwrap(), Path::new("/srv/samples"));
        write("[history]\ndirectory = 7\n");
        let why = configured(&path).unwrap_err().to_string();
        assert!(why.contains("--history"), "{why}");
    }

    #[test]
    fn words_of_the_command_line_are_read_or_refused_with_what_to_write() {
        assert_eq!(assigned("t0=10Gbit"), Ok(("t0".into(), 10_000_000_000)));
        assert_eq!(share("80%"), Ok(80.0));
        for word in ["t0", "=1Mbit", "t0=", "t0=5", "t0=10kpps", "t0=-1Mbit"] {
            assert!(assigned(word).is_err(), "{word}");
        }
        assert_eq!(
            (some("1"), some("0").is_err(), some("-1").is_err()),
            (Ok(1), true, true)
        );
        for word in ["", "0", "101", "NaN", "x"] {
            assert!(share(word).is_err(), "{word}");
        }
    }
}
