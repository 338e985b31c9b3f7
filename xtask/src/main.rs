//! Development commands of forwarder: `cargo xtask --help`.

mod bless;
mod build;
mod deny;
mod dist;
mod ebpf;
mod fuzz;
mod setup;
mod sh;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{bench, demo, lab, soak};

/// Development commands of forwarder.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command but `setup` does what `setup` does first.
#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need (Debian 12), or print the lines that would
    Setup,
    /// Build the forwarder binary, with the XDP program in it
    Build(build::Args),
    /// Build the XDP program alone and show what its compiler says
    Bpf,
    /// Run every check: format, clippy, unit tests, and the tests in the kernel (root)
    Test(test::Args),
    /// Write the expected results beside recordings of feeds anew, from what the code says now
    Bless(bless::Args),
    /// Fuzz what reads octets from outside, with seeds from real daemons (nightly and cargo-fuzz)
    Fuzz(fuzz::Args),
    /// The two-router network in namespaces that demo and tests use (root)
    Lab(lab::cli::LabArgs),
    /// The whole thread in one go, as an operator sees it: exit 0 when every check holds (root)
    Demo(demo::Args),
    /// Run the tests of bonds, VLANs and other kernels on Debian's kernels, under QEMU
    Vm(vm::Args),
    /// Make the Debian package; with --test, prove it on bare Debian systems (root)
    Dist(dist::Args),
    /// Routes that come and go, lost links, killed, stopped and restarted controllers, and traffic, for as long as one likes (root)
    Soak(soak::Args),
    /// Measure against what Linux offers, every answer verified before it is timed (root)
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    if let Command::Setup = command {
        return setup::run();
    }
    setup::ensure()?;
    match command {
        Command::Setup => Ok(()),
        Command::Build(args) => build::run(&args),
        Command::Bpf => build::bpf(),
        Command::Test(args) => test::run(&args),
        Command::Bless(args) => bless::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Lab(args) => {
            let binary = if args.builds() {
                Some(build::forwarder(true)?)
            } else {
                None
            };
            lab::cli::run(args, binary)
        }
        Command::Demo(args) => {
            let binary = if args.builds() {
                Some(build::forwarder(true)?)
            } else {
                None
            };
            demo::run(&args, binary)
        }
        Command::Vm(args) => vm::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Soak(_) => soak::run(&build::forwarder(false)?, &build::soak()?),
        Command::Bench(_) => {
            let programs = bench::Programs {
                forwarder: build::forwarder(true)?,
                bench: build::bench()?,
                object: build::bench_object()?,
            };
            bench::run(&programs)
        }
    }
}
