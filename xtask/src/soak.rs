//! `cargo xtask soak`: the options, and starting the program that does it.
//!
//! That program is one of the tests' (`tests/src/bin/soak.rs`), for it is made of what they are made of. It reads the same
//! arguments once more, by the same types.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::value_parser;

use crate::bench::FORWARDER;
use crate::interrupt;
use crate::table::{self, Route, Source};

/// What is to be soaked, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Minutes; what comes before and after takes some more
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
    pub minutes: u64,
    /// Lines `prefix origin-as`, plain or .xz; without it generated prefixes
    #[arg(long, value_name = "FILE")]
    pub table_v4: Option<PathBuf>,
    /// Lines `prefix origin-as`, plain or .xz; without it generated prefixes
    #[arg(long, value_name = "FILE")]
    pub table_v6: Option<PathBuf>,
    /// How many IPv4 prefixes to generate where no file is given
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub prefixes_v4: usize,
    /// How many IPv6 prefixes to generate where no file is given
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    pub prefixes_v6: usize,
    /// Decides what happens when; it is printed, so that a run can be had again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Args {
    /// Reads or generates both tables.
    ///
    /// # Errors
    /// A file that cannot be read, or has a line that is no route.
    pub fn tables(&self) -> Result<[Vec<Route>; 2]> {
        let source = |file: &Option<PathBuf>, count| match file {
            Some(path) => Source::File(path.clone()),
            None => Source::Generated(count),
        };
        Ok([
            table::v4(&source(&self.table_v4, self.prefixes_v4))?,
            table::v6(&source(&self.table_v6, self.prefixes_v6))?,
        ])
    }
}

/// Runs that program with the arguments that this one was given after `soak`.
///
/// # Errors
/// Something did not hold; it has said what by then.
pub fn run(forwarder: &Path, program: &Path) -> Result<()> {
    // It takes its network down in order after a Ctrl-C: we wait for that.
    interrupt::install()?;
    let status = Command::new(program)
        .args(env::args_os().skip(2))
        .env(FORWARDER, forwarder)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("the soak ended with {status}");
    }
    Ok(())
}
