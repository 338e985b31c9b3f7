//! `cargo xtask test`: everything CI runs, in the order in which it fails soonest.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{build, deny, setup, sh};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run this step alone; may be given more than once
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Passed to `cargo test`, such as part of a test's name
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// The fuzz targets are a workspace of their own.
const FUZZ: [&str; 2] = ["--manifest-path", "fuzz/Cargo.toml"];

/// One step; the order here is the order of running.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt finds nothing to change
    Fmt,
    /// clippy, with warnings denied
    Clippy,
    /// Licences, sources and advisories of the crates that are built in, against deny.toml
    Deny,
    /// Tests on the host: no root, no kernel
    Unit,
    /// Golden packets through the real program, and labs in network namespaces: root
    Kernel,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Unit => "unit",
            Self::Kernel => "kernel",
        }
    }

    /// Answers what it could not look at, if anything.
    fn run(self, args: &[OsString]) -> Result<Option<String>> {
        let mut cargo = sh::cargo();
        match self {
            Self::Deny => return deny::run(),
            Self::Fmt => {
                show_and_run(sh::cargo().args(["fmt", "--check", FUZZ[0], FUZZ[1]]))?;
                cargo.args(["fmt", "--all", "--check"])
            }
            Self::Clippy => {
                cargo.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
                show_and_run(&mut cargo)?;
                cargo = sh::cargo();
                // Stable compiles the fuzz targets too, as long as it does not link them.
                cargo
                    .args(["clippy", "--locked", "--no-default-features", "--bins"])
                    .args(FUZZ)
                    .args(["--", "-D", "warnings"])
            }
            Self::Unit => cargo
                .args(["test", "--workspace", "--exclude", "forwarder-tests"])
                .args(args),
            Self::Kernel => {
                // The labs run the binary itself. With all targets its dependencies have the features that the unit
                // tests gave them, so nothing is compiled twice.
                sh::run(sh::cargo().args(["build", "--package", "forwarder", "--all-targets"]))?;
                // One test at a time: namespaces, pins and the CPU are shared.
                cargo
                    .env("FORWARDER_BIN", build::binary(false)?)
                    .env("RUST_TEST_THREADS", "1");
                cargo.args(["test", "--package", "forwarder-tests"]).args(args)
            }
        };
        show_and_run(&mut cargo).map(|()| None)
    }
}

fn show_and_run(command: &mut Command) -> Result<()> {
    eprintln!("   $ {}", sh::line(command));
    sh::run(command)
}

/// Runs the steps, stops at the first that fails, and ends with a line for each.
///
/// # Errors
/// When a step fails, or needs what is not here.
pub fn run(args: &Args) -> Result<()> {
    let steps: Vec<Step> = Step::value_variants()
        .iter()
        .copied()
        .filter(|step| args.only.is_empty() || args.only.contains(step))
        .collect();
    // Said now rather than after ten minutes of compiling.
    if steps.contains(&Step::Kernel) && !sh::is_root() {
        bail!(
            "the kernel tests load XDP programs and make network namespaces, which takes root. Run this as root, or \
             without them: cargo xtask test --only fmt --only clippy --only deny --only unit"
        );
    }
    if steps.contains(&Step::Fmt) {
        setup::component("fmt", "rustfmt", "rustfmt-web")?;
    }
    if steps.contains(&Step::Clippy) {
        setup::component("clippy", "clippy", "rust-web-clippy")?;
    }
    let mut lines = Vec::new();
    let mut failure = None;
    for step in steps {
        if failure.is_some() {
            lines.push(format!("{:<8}not run", step.name()));
            continue;
        }
        eprintln!("== {}", step.name());
        let start = Instant::now();
        let result = step.run(&args.args);
        let line = outcome(step, result.is_ok(), start.elapsed());
        let note = result.as_ref().ok().and_then(Option::as_deref);
        lines.push(note.map_or(line.clone(), |note| format!("{line}   {note}")));
        failure = result.err();
    }
    eprintln!("== summary");
    for line in lines {
        eprintln!("{line}");
    }
    failure.map_or(Ok(()), Err)
}

fn outcome(step: Step, ok: bool, time: Duration) -> String {
    format!(
        "{:<8}{:<8}{}",
        step.name(),
        if ok { "ok" } else { "FAILED" },
        sh::seconds(time)
    )
}
