//! The same package from the same sources, in another directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::checksum;
use super::package::{self, Place};
use crate::sh;

/// Copies the sources that git knows, builds and packs them there, and compares.
///
/// # Errors
/// When that fails, or the two differ; the message names the files in them that do.
pub fn check(tool: &Path, deb: &Path, first: &Place, again: &Path) -> Result<()> {
    let source = again.join("another/place");
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    copy(&source)?;
    let place = Place {
        source,
        target: again.join("objects"),
        since: first.since,
    };
    package::build(&place)?;
    let second = package::pack(tool, &place, again, None)?;
    let (one, other) = (checksum(deb)?, checksum(&second)?);
    if one != other {
        bail!(
            "the second build is another package ({one}, {other}):\n{}",
            differences(deb, &second, again)?
        );
    }
    eprintln!("Built twice, in two directories: sha256 {one} both times");
    Ok(())
}

fn copy(to: &Path) -> Result<()> {
    let files = sh::output(
        Command::new("git")
            .args(["ls-files"])
            .current_dir(sh::workspace()),
    );
    for name in files.context("git does not list its files")?.lines() {
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let from = sh::workspace().join(name);
        fs::copy(&from, &target).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// The files in which two packages differ.
fn differences(one: &Path, other: &Path, scratch: &Path) -> Result<String> {
    let [first, second] = ["one", "other"].map(|name| scratch.join(name));
    for (directory, deb) in [(&first, one), (&second, other)] {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        let mut extract = Command::new("dpkg-deb");
        sh::run(extract.arg("--raw-extract").arg(deb).arg(directory))?;
    }
    // It ends with 1 when there are differences.
    let said = Command::new("diff")
        .args(["--recursive", "--brief"])
        .args([first, second])
        .output()?;
    if said.stdout.is_empty() {
        return Ok("the files in them are equal; their order, dates or compression are not".into());
    }
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
