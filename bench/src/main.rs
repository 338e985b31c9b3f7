//! The benches behind `cargo xtask bench`, one file each; the rest is what they share.
//!
//! ```text
//! table -> trace (patterns) -> object (BPF programs, on the pinned maps) -> run (one CPU, rounds) -> report, plot
//!   \-> router (namespaces, the kernel's FIB) -> process (the real controller) or inside (its start, in this process)
//! ```
//! Every answer is compared with [`model`]'s before it is timed. All that is made lives in namespaces of this process
//! and goes when it ends, however it ends.

mod churn;
mod failover;
mod feeds;
mod fib;
mod filter;
mod forward;
mod frame;
mod history;
mod inside;
mod live;
mod load;
mod model;
mod netlink;
mod object;
mod pipeline;
mod process;
mod random;
mod report;
mod router;
mod run;
mod sampler;
mod scaling;
mod table;
mod trace;
mod walk;
mod world;

use std::process::ExitCode;

use clap::Parser;
use xtask::bench::{Args, Bench};

/// Benches of forwarder: run them with `cargo xtask bench`.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn main() -> ExitCode {
    let result = match &Cli::parse().args.bench {
        Bench::Fib(options) => fib::bench(&fib::LOOKUP, options),
        Bench::Counters(options) => fib::bench(&fib::COUNTERS, options),
        Bench::Forward(options) => forward::bench(options),
        Bench::Scaling(options) => scaling::bench(options),
        Bench::Pipeline(options) => pipeline::bench(options),
        Bench::Filter(options) => filter::bench(options),
        Bench::Load(options) => load::bench(options),
        Bench::Churn(options) => churn::bench(options),
        Bench::Failover(options) => failover::bench(options),
        Bench::Feeds(options) => feeds::bench(options),
        Bench::Sampler(options) => sampler::bench(options),
        Bench::History(options) => history::bench(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
