//! Recordings of real daemons, played again: octets in, events and table out, as they stand beside the recordings.
//! `cargo xtask bless` writes them anew; `cargo xtask bless --captures` makes the daemons speak again first.

use std::fs;

use anyhow::{Context, Result, ensure};
use forwarder_tests::replay;

/// Plays what is there of a kind: so many recordings at least.
fn plays(kind: &str, least: usize) -> Result<()> {
    let dir = replay::data().join(kind);
    let bless = std::env::var_os("FORWARDER_BLESS").is_some();
    let mut played = 0;
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "rec") {
            continue;
        }
        let events = replay::play(&path).with_context(|| path.display().to_string())?;
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, &events)?;
        }
        let wanted = fs::read_to_string(&golden)
            .with_context(|| format!("{}: run `cargo xtask bless`", golden.display()))?;
        let differs = events.lines().zip(wanted.lines()).position(|(a, b)| a != b);
        ensure!(
            events == wanted,
            "{} differs from {} in line {}. If that is meant: cargo xtask bless",
            path.display(),
            golden.display(),
            1 + differs.unwrap_or_else(|| events.lines().count().min(wanted.lines().count()))
        );
        played += 1;
    }
    ensure!(played >= least, "only {played} recordings in {}", dir.display());
    Ok(())
}

#[test]
fn zebras_recordings_give_the_events_that_stand_beside_them() -> Result<()> {
    plays("fpm", 3)
}

#[test]
fn bgp_recordings_give_the_events_that_stand_beside_them() -> Result<()> {
    plays("bgp", 8)
}

#[test]
fn the_kernels_recordings_give_the_events_that_stand_beside_them() -> Result<()> {
    plays("kernel", 1)
}
