//! `cargo xtask bless`: what is expected of recordings, written from what the code says now. `git diff` shows what changed.

use anyhow::Result;

use crate::sh;

/// Options of `cargo xtask bless`.
#[derive(clap::Args)]
pub struct Args {
    /// Let the real daemons speak again first, and keep what they say (root)
    #[arg(long)]
    captures: bool,
}

/// The tests whose daemons are recorded.
const CAPTURED: [&str; 3] = ["feed_bgp", "feed_fpm", "feed_kernel"];

/// Writes them.
///
/// # Errors
/// A daemon does not do what its test expects, or a recording cannot be played.
pub fn run(args: &Args) -> Result<()> {
    if args.captures {
        for test in CAPTURED {
            let mut cargo = sh::cargo();
            cargo
                .env("FORWARDER_CAPTURE", "1")
                .env("RUST_TEST_THREADS", "1")
                .args(["test", "--package", "forwarder-tests", "--test", test]);
            sh::run(&mut cargo)?;
        }
    }
    let mut cargo = sh::cargo();
    cargo
        .env("FORWARDER_BLESS", "1")
        .args(["test", "--package", "forwarder-tests", "--test", "replay"]);
    sh::run(&mut cargo)
}
