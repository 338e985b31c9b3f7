//! Bare Debian systems in directories, kept from one run to the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// Debian 12 and 13.
pub const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Where packages come from when this machine does not tell.
const MIRROR: &str = "http://deb.debian.org/debian";

/// A root with what every Debian has, and nothing else: made once, and not to be changed.
///
/// # Errors
/// When debootstrap fails; it has said why by then.
pub fn bare(suite: &str, cache: &Path) -> Result<PathBuf> {
    let root = cache.join(suite);
    if root.is_dir() {
        return Ok(root);
    }
    let half = cache.join(format!("{suite}.half"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir_all(cache)?;
    eprintln!("debootstrap {suite} (a minute or two, once)");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", suite])
        .arg(&half)
        .arg(mirror());
    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        sh::run(&mut debootstrap)?;
    } else {
        let said = debootstrap.output().context("cannot run debootstrap")?;
        anyhow::ensure!(
            said.status.success(),
            "debootstrap failed:\n{}",
            String::from_utf8_lossy(&said.stdout)
        );
    }
    fs::rename(&half, &root)?;
    Ok(root)
}

/// The mirror that apt uses here: the first address that has Debian itself.
fn mirror() -> String {
    let said = sh::output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]));
    let found = said
        .unwrap_or_default()
        .lines()
        .map(|line| line.trim_end_matches('/').to_string())
        .find(|address| address.ends_with("/debian"));
    found.unwrap_or_else(|| MIRROR.to_string())
}
