//! `forwarder top`: what happens now, live on a terminal or once for a script.
//!
//! The figures are those of the API, which only ever grow; rates are differences of two readings over the time that passed
//! between them (`rates`). `reading` asks, `views` makes grids of two readings (`grid`), `app` is what a person has chosen,
//! and `screen` draws that: none of the last four knows a terminal or a clock, which are `terminal`'s.

mod app;
mod detail;
mod grid;
mod past;
mod rates;
mod reading;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod views;

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Format,
    output::{self, Paint},
    reader::Reader,
};
use grid::{Grid, Kind};
use reading::{Kept, Reading};
use views::View;

/// The words of the command line.
#[derive(Debug, Args)]
pub struct Words {
    /// Seconds between two readings
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Read twice, print every view and end
    #[arg(long)]
    once: bool,
    /// With --once: rows of each view; 0 for all
    #[arg(long, value_name = "N", default_value = "20", requires = "once")]
    rows: usize,
    #[command(flatten)]
    format: Format,
}

/// Readings much closer than this tell more of the reading than of the traffic.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(3600);

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .strip_suffix('s')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds: write 2 or 0.5"))?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|interval| (SHORTEST..=LONGEST).contains(interval))
        .ok_or_else(|| "between 0.2 and 3600 seconds".into())
}

/// Runs it.
pub fn top(reader: Reader, words: &Words) -> Result<bool> {
    if words.once {
        return once(&reader, words);
    }
    if words.format.json {
        bail!("a live screen is no JSON: use `forwarder top --once --json`");
    }
    if !io::stdout().is_terminal() {
        bail!(
            "standard output is not a terminal: use `forwarder top --once` for one plain screen, or `--once --json` for \
             programs"
        );
    }
    terminal::run(reader, words.interval)?;
    Ok(true)
}

/// Two readings, printed.
fn once(reader: &Reader, words: &Words) -> Result<bool> {
    let mut kept = Kept::default();
    let before = reading::read(reader, None, &mut kept)?;
    thread::sleep(words.interval);
    let now = reading::read(reader, None, &mut kept)?;
    let grids = View::ALL[1..].iter().map(|view| {
        let mut grid = view.grid(Some(&before), &now).sorted(None);
        if words.rows > 0 {
            grid.rows.truncate(words.rows);
        }
        grid
    });
    if words.format.json {
        let mut rows = vec![health(&before, &now)];
        rows.extend(
            now.status
                .problems
                .iter()
                .map(|text| json!({"view": "problem", "problem": text})),
        );
        rows.extend(grids.flat_map(|grid| grid.json()));
        output::print_json(&rows)?;
        return Ok(true);
    }
    let paint = Paint::stdout();
    let mut text = String::new();
    if now.status.pid.is_none() {
        text += "no controller runs: figures of the pinned maps\n";
    }
    for problem in &now.status.problems {
        text += &format!("problem: {problem}\n");
    }
    text += &format!("rates over {:.1} s\n", now.at - before.at);
    for grid in grids {
        text += &format!("\n{}\n{}", paint.bold(grid.title), plain(&grid, paint));
    }
    output::print(&text)?;
    Ok(true)
}

/// The row about the whole.
fn health(before: &Reading, now: &Reading) -> Value {
    json!({
        "view": "status",
        "version": now.status.version,
        "controller": now.status.controller,
        "seconds": ((now.at - before.at) * 1000.0).round() / 1000.0,
        "prefixes_ipv4": now.status.prefixes_ipv4,
        "prefixes_ipv6": now.status.prefixes_ipv6,
        "problems": now.status.problems.len(),
    })
}

fn plain(grid: &Grid, paint: Paint) -> String {
    if grid.rows.is_empty() {
        return format!("{}\n", grid.empty);
    }
    let columns: Vec<output::Column> = grid
        .columns
        .iter()
        .map(|column| (column.name, column.kind != Kind::Text))
        .collect();
    let row = |row: &Vec<grid::Cell>| {
        let cells = row.iter().zip(grid.columns);
        cells.map(|(cell, column)| cell.shown(column.kind)).collect()
    };
    output::table(&columns, grid.rows.iter().map(row), paint)
}
