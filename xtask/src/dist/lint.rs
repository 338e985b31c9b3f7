//! Debian's own opinion, and systemd's.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::sh;

/// Asks lintian; what it says and is meant so stands in the package's overrides, each with its reason.
///
/// # Errors
/// When it has something to say.
pub fn lintian(deb: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    // Root, as in a container, is what builds and tests here.
    lintian.args([
        "--allow-root",
        "--fail-on",
        "error,warning",
        "--display-info",
        "--tag-display-limit",
        "0",
    ]);
    sh::run(lintian.arg(deb)).context("lintian finds fault")?;
    eprintln!("lintian: nothing");
    Ok(())
}

/// Exposure at most, of ten, as `systemd-analyze security` counts it: root with three capabilities and three families of
/// sockets cannot be much less.
const EXPOSURE: &str = "30";

/// Whether systemd takes the service as it stands in a root, and how exposed it calls it.
///
/// # Errors
/// When it warns of something, or calls it more exposed than it was.
pub fn service(root: &Path) -> Result<()> {
    let unit = root.join("usr/lib/systemd/system/forwarder.service");
    let mut verify = Command::new("systemd-analyze");
    let said = verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(format!("--root={}", root.display()))
        .arg("forwarder.service")
        .output()
        .context("cannot run systemd-analyze")?;
    let words = String::from_utf8_lossy(&said.stderr);
    let ours: Vec<&str> = words
        .lines()
        .filter(|line| line.contains("forwarder.service"))
        .collect();
    ensure!(
        ours.is_empty(),
        "systemd-analyze verify says:\n{}",
        ours.join("\n")
    );
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager", "--threshold", EXPOSURE]);
    let said = security
        .arg(&unit)
        .output()
        .context("cannot run systemd-analyze")?;
    let words = String::from_utf8_lossy(&said.stdout);
    let last = words.lines().last().unwrap_or_default();
    ensure!(
        said.status.success(),
        "the service is more exposed than {EXPOSURE} of 100: {last}"
    );
    eprintln!("  systemd-analyze: {}", last.trim_start_matches(['→', ' ']));
    Ok(())
}
