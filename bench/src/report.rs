//! Results: medians, a table for people, JSON for programs.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use xtask::bench::Options;

use crate::table::{Family, Table};
use crate::trace::Pattern;
use forwarder_history::plot::{Bar, Chart, Group};

/// What a candidate costs: a row of `fib` and `forward`.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// Name of the bench.
    pub bench: &'static str,
    /// Family.
    pub family: Family,
    /// Pattern.
    pub pattern: Pattern,
    /// Candidate.
    pub candidate: &'static str,
    /// Nanoseconds for one destination: the median over the rounds, without the harness.
    pub ns: f64,
    /// How many times forwarder's cost that is.
    pub ratio: f64,
    /// How far the rounds lie apart, percent of the median.
    #[serde(skip)]
    pub spread: f64,
}

/// What the method resolves, nanoseconds: an arm that costs less than the harness's own noise is taken to cost this.
const RESOLUTION: f64 = 0.1;

/// The rows of one family and pattern. `costs` holds what each of `names` cost in each round: the first is the harness
/// alone, which is taken off the others of the same round; the last is forwarder.
pub fn timings(
    bench: &'static str,
    family: Family,
    pattern: Pattern,
    names: &[&'static str],
    costs: &[Vec<f64>],
) -> Vec<Timing> {
    let net = |at: usize| -> Vec<f64> {
        let rounds = costs[at].iter().zip(&costs[0]);
        rounds.map(|(cost, harness)| cost - harness).collect()
    };
    let cost = |at: usize| median(&net(at)).max(RESOLUTION);
    let ours = cost(names.len() - 1);
    let rows = (1..names.len()).map(|at| {
        let ns = cost(at);
        let highest = net(at).into_iter().fold(f64::MIN, f64::max);
        let lowest = net(at).into_iter().fold(f64::MAX, f64::min);
        Timing {
            bench,
            family,
            pattern,
            candidate: names[at],
            ns: rounded(ns, 10.0),
            ratio: rounded(ns / ours, 100.0),
            spread: (highest - lowest) / ns * 100.0,
        }
    });
    rows.collect()
}

/// A value to one part in so many.
pub fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (sorted[sorted.len() / 2 - 1] + upper) / 2.0,
        (None, _) => 0.0,
    }
}

/// Prints timings as asked for, and draws them.
///
/// # Errors
/// Stdout or the plot cannot be written.
pub fn show(options: &Options, title: &str, method: &[String], rows: &[Timing]) -> Result<()> {
    let columns = ["family", "pattern", "candidate", "ns", "ratio", "spread"];
    print(options.json, rows, title, method, &columns, |row| {
        vec![
            row.family.to_string(),
            row.pattern.name().to_owned(),
            row.candidate.to_owned(),
            format!("{:.1}", row.ns),
            format!("{:.2}", row.ratio),
            format!("{:.0} %", row.spread),
        ]
    })?;
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let name = format!("{} {}", row.family, row.pattern.name());
        if groups.last().is_none_or(|group| group.name != name) {
            groups.push(Group {
                name,
                bars: Vec::new(),
            });
        }
        if let Some(group) = groups.last_mut() {
            group.bars.push(Bar {
                name: row.candidate.to_owned(),
                value: row.ns,
                label: format!("{:.1} ns ({:.1}x)", row.ns, row.ratio),
            });
        }
    }
    let name = rows.first().map_or("bench", |row| row.bench);
    let chart = Chart {
        title: title.to_owned(),
        notes: method.to_vec(),
        groups,
    };
    plot(options, name, &chart)
}

/// Prints rows: JSON, or a table below its title and how it came about. Columns of numbers are flush right.
///
/// # Errors
/// Stdout cannot be written.
pub fn print<R: Serialize>(
    json: bool,
    rows: &[R],
    title: &str,
    method: &[String],
    columns: &[&str],
    cells: impl Fn(&R) -> Vec<String>,
) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, rows)?;
        writeln!(out)?;
        return Ok(());
    }
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|&column| column.to_owned()).collect()];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| {
            let cells = lines.iter().filter_map(|line| line.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit());
    let numeric: Vec<bool> = (0..columns.len())
        .map(|at| lines.iter().skip(1).filter_map(|line| line.get(at)).all(number))
        .collect();
    writeln!(out, "{title}")?;
    for line in method {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for line in &lines {
        let mut text = String::new();
        for ((cell, width), right) in line.iter().zip(&widths).zip(&numeric) {
            let cell = if *right {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            text.push_str(&cell);
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Writes a chart where `--plot` says, or into `target/bench`.
///
/// # Errors
/// The file cannot be written.
pub fn plot(options: &Options, name: &str, chart: &Chart) -> Result<()> {
    let path = match &options.plot {
        Some(path) => path.clone(),
        None => default_plot(name)?,
    };
    fs::write(&path, chart.svg()).with_context(|| format!("cannot write the plot {}", path.display()))?;
    eprintln!("plot: {}", path.display());
    Ok(())
}

fn default_plot(name: &str) -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot tell where this program stands")?;
    // target/release/forwarder-bench
    let target = exe
        .ancestors()
        .nth(2)
        .context("this program stands outside cargo's target directory")?;
    let directory = target.join("bench");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(format!("{name}.svg")))
}

/// The lines that say what was measured on and how: tables, CPU, kernel, rounds.
pub fn method(options: &Options, tables: &[Table; 2], cpu: usize) -> Vec<String> {
    let mut lines = surroundings(tables, Some(cpu));
    lines.push(format!(
        "medians of {} interleaved rounds, harness subtracted; ratio: times forwarder's cost; spread: highest minus lowest \
         round",
        options.rounds
    ));
    lines
}

/// The lines that say what was measured on: tables, CPU, kernel.
pub fn surroundings(tables: &[Table; 2], cpu: Option<usize>) -> Vec<String> {
    let cpus = match cpu {
        Some(cpu) => format!("CPU {cpu}"),
        None => "all CPUs".to_owned(),
    };
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("of unknown make", |(_, name)| name.trim());
    let [v4, v6] = tables.each_ref().map(|table| table.prefixes.len());
    vec![
        format!("tables: {v4} IPv4 and {v6} IPv6 prefixes"),
        format!(
            "{cpus}: {model}; Linux {}",
            read("/proc/sys/kernel/osrelease").trim()
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_ratio_is_the_candidates_cost_over_ours() {
        let costs = [vec![5.0; 3], vec![305.0, 105.0, 205.0], vec![15.0; 3]];
        let names = ["empty", "lpm_trie", "forwarder"];
        let rows = timings("fib", Family::V4, Pattern::Hot, &names, &costs);
        let ratios: Vec<f64> = rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [20.0, 1.0]);
        assert_eq!(rows[0].spread, 100.0);
    }
}
