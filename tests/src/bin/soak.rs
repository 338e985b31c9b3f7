//! What `cargo xtask soak` runs.

use std::process::ExitCode;

use clap::Parser;
use forwarder_tests::soak;
use xtask::interrupt;

/// Soak the controller: run it with `cargo xtask soak`.
#[derive(Parser)]
#[command(name = "cargo xtask soak", bin_name = "cargo xtask soak")]
struct Cli {
    #[command(flatten)]
    args: xtask::soak::Args,
}

fn main() -> ExitCode {
    let args = Cli::parse().args;
    let report = interrupt::install().and_then(|()| {
        soak::run(&soak::Options {
            time: std::time::Duration::from_secs(args.minutes * 60),
            tables: args.tables()?,
            seed: args.seed,
        })
    });
    match report {
        Ok(report) => {
            print!("{report}");
            if report.holds() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
