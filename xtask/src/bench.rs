//! `cargo xtask bench`: the options, and starting the program that measures.
//!
//! That program (`bench/`) links the controller and aya, which no other development command should have to compile. It
//! reads the same arguments once more, by the same types; so a wrong one is told before anything is built.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, value_parser};

use crate::interrupt;
use crate::table::{self, Route, Source};

/// Names the `forwarder` binary under test to the bench program.
pub const FORWARDER: &str = "FORWARDER_BIN";
/// Names the benches' BPF object to the bench program.
pub const OBJECT: &str = "FORWARDER_BENCH_OBJECT";

/// What `cargo xtask bench` is to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which bench.
    #[command(subcommand)]
    pub bench: Bench,
}

/// The benches.
#[derive(Debug, Clone, Subcommand)]
pub enum Bench {
    /// Lookup alone: LPM_TRIE, bpf_fib_lookup and ours, on the same full table
    Fib(Options),
    /// Our lookup, and ways to lay out a counter for every prefix
    Counters(Options),
    /// The whole program, frame in to verdict: a minimal bpf_fib_lookup forwarder and ours
    Forward(Options),
    /// The whole program on two CPUs at once, against one: twice the work?
    Scaling(Options),
    /// Live frames through veth on one CPU, generator to sink: the kernel, bpf_fib_lookup, xdp-forward and ours
    Pipeline(Options),
    /// Rules per packet; a flood of spoofed sources dropped by XDP_DROP, nftables, rp_filter and ours; 1,000 rules replaced
    Filter(Options),
    /// A full table from the kernel's dump to forwarding, the dump alone, the compile alone, and a restart
    Load(Options),
    /// Random updates of the full table, one by one
    Churn(Options),
    /// A carrier lost with a million prefixes behind it
    Failover(Options),
    /// A full table from BIRD by BGP, from FRR by FPM and from the kernel to forwarding, and 10,000 updates a second on it
    Feeds(Options),
    /// Reading every prefix's counter, and a sample of each for the history
    Sampler(Options),
    /// What a month of a full table takes on disk, what an interval costs to write and a day to pack, and how long bills take
    History(Options),
}

/// Options that every bench has.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Print the rows as a JSON array
    #[arg(long)]
    pub json: bool,
    /// Where the plot (SVG) goes; without it target/bench/NAME.svg
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Rounds, in each of which every candidate has a turn; results are medians over them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// The CPU to measure on; without it the last one
    #[arg(long, value_name = "CPU")]
    pub cpu: Option<usize>,
    /// Only these: words of `v4`, `v6` and the pattern's name, such as "v4 uniform"; of `feeds`: `bgp`, `fpm`, `kernel`,
    /// `churn`, `memory`; of `filter`: `rules`, `flood`, `replace`; of `history`: `disk`, `bills`
    #[arg(long, value_name = "WORDS", default_value = "")]
    pub only: String,
    /// The tables.
    #[command(flatten)]
    pub tables: Tables,
}

impl Options {
    /// Whether `--only` leaves this in.
    pub fn wants(&self, family: &str, pattern: &str) -> bool {
        self.only
            .split_whitespace()
            .all(|word| word == family || word == pattern)
    }
}

/// The tables to measure with: the same for every candidate.
#[derive(Debug, Clone, clap::Args)]
pub struct Tables {
    /// An MRT table dump (TABLE_DUMP_V2: plain, .gz or .bz2) that has both tables, as route collectors publish them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["table_v4", "table_v6"])]
    pub mrt: Option<PathBuf>,
    /// Lines `prefix origin-as`, plain or .xz; without it generated prefixes
    #[arg(long, value_name = "FILE")]
    pub table_v4: Option<PathBuf>,
    /// Lines `prefix origin-as`, plain or .xz; without it generated prefixes
    #[arg(long, value_name = "FILE")]
    pub table_v6: Option<PathBuf>,
    /// How many IPv4 prefixes to generate where no file is given
    #[arg(long, value_name = "N", default_value_t = 968_425)]
    pub prefixes_v4: usize,
    /// How many IPv6 prefixes to generate where no file is given
    #[arg(long, value_name = "N", default_value_t = 177_846)]
    pub prefixes_v6: usize,
}

impl Tables {
    /// Reads or generates the IPv4 table.
    ///
    /// # Errors
    /// A file that cannot be read, or has a line that is no route.
    pub fn v4(&self) -> Result<Vec<Route>> {
        table::v4(&source(self.table_v4.as_ref(), self.prefixes_v4))
    }

    /// Reads or generates the IPv6 table.
    ///
    /// # Errors
    /// As [`Tables::v4`].
    pub fn v6(&self) -> Result<Vec<Route>> {
        table::v6(&source(self.table_v6.as_ref(), self.prefixes_v6))
    }
}

fn source(file: Option<&PathBuf>, count: usize) -> Source {
    file.map_or(Source::Generated(count), |path| Source::File(path.clone()))
}

/// What was built for a bench.
#[derive(Debug)]
pub struct Programs {
    /// The `forwarder` under test.
    pub forwarder: PathBuf,
    /// The program that measures.
    pub bench: PathBuf,
    /// Its BPF object.
    pub object: PathBuf,
}

/// Runs the bench program with the arguments that this one was given after `bench`.
///
/// # Errors
/// It fails; it has said why by then.
pub fn run(programs: &Programs) -> Result<()> {
    // The bench takes its network down in order after a Ctrl-C: we wait for that.
    interrupt::install()?;
    let status: ExitStatus = Command::new(&programs.bench)
        .args(env::args_os().skip(2))
        .env(FORWARDER, &programs.forwarder)
        .env(OBJECT, &programs.object)
        .status()
        .with_context(|| format!("cannot run {}", programs.bench.display()))?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}
