//! A minute of what `cargo xtask soak` does for as long as one likes.

use std::time::Duration;

use anyhow::{Result, ensure};
use forwarder_tests::soak::{self, Options};
use xtask::table::{self, Source};

/// Of each family.
const ROUTES: [usize; 2] = [20_000, 5_000];

#[test]
fn a_minute_of_everything_leaves_nothing_behind() -> Result<()> {
    let [v4, v6] = ROUTES;
    let report = soak::run(&Options {
        time: Duration::from_secs(50),
        tables: [
            table::v4(&Source::Generated(v4))?,
            table::v6(&Source::Generated(v6))?,
        ],
        seed: 1,
    })?;
    println!("{report}");
    ensure!(report.holds(), "{}", report.broken().join("\n"));
    Ok(())
}
