//! `cargo xtask test --only deny`: what is built in, against `deny.toml`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{setup, sh};

/// What the database of advisories is called below cargo's home (cargo-deny's default, `db-path`).
const DATABASE: &str = "advisory-dbs";

/// Holds both workspaces against `deny.toml`. Answers what could not be looked at, for whoever reads the end of the output.
///
/// # Errors
/// cargo-deny finds something, or is not to be had; it has said what by then.
pub fn run() -> Result<Option<String>> {
    let tool = setup::cargo_deny()?;
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        // What only one of the two workspaces has is no finding.
        check(
            &tool,
            manifest,
            &[
                "check",
                "--hide-inclusion-graph",
                "--allow",
                "license-exception-not-encountered",
            ],
            &["licenses", "bans", "sources"],
        )?;
    }
    let fetched = sh::run(deny(&tool, "Cargo.toml").args(["fetch", "db"]));
    let database = home().join(DATABASE);
    // From the last time: cargo-deny refuses one of more than ninety days.
    let known = database.read_dir().is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().join("crates").is_dir())
    });
    let note = match (fetched, known) {
        (Ok(()), _) => None,
        (Err(_), true) => Some("advisories of an earlier day: the database cannot be fetched".to_owned()),
        (Err(why), false) => {
            let note = "ADVISORIES NOT CHECKED: the database cannot be fetched";
            eprintln!(
                "warning: {note} ({why:#}).\n         Run this where https://github.com/RustSec/advisory-db can be reached."
            );
            return Ok(Some(note.to_owned()));
        }
    };
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        check(
            &tool,
            manifest,
            &["--offline", "check", "--hide-inclusion-graph"],
            &["advisories"],
        )?;
    }
    Ok(note)
}

fn check(tool: &Path, manifest: &str, options: &[&str], what: &[&str]) -> Result<()> {
    let mut command = deny(tool, manifest);
    command.args(options).args(what);
    eprintln!("   $ {}", sh::line(&command));
    sh::run(&mut command)
}

fn deny(tool: &Path, manifest: &str) -> Command {
    let mut command = Command::new(tool);
    command
        .current_dir(sh::workspace())
        .args(["--manifest-path", manifest, "--config", "deny.toml"]);
    command
}

/// cargo's home, as cargo finds it.
fn home() -> PathBuf {
    let of_user = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(of_user)
        .unwrap_or_default()
}
