//! Debian's packages: asked once, installed without questions, shown in few lines.

use std::io::{BufRead, BufReader, IsTerminal, Write, stderr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::sh;

/// apt-get, never asking anything, waiting for another apt's lock rather than failing.
fn apt_get(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C")
        // Daemons that come along are for the labs, which start their own: sysvinit leaves these alone then.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null());
    apt
}

/// Refreshes the package lists.
///
/// # Errors
/// When apt-get fails; it has said why by then.
pub fn update() -> Result<()> {
    eprintln!("apt-get update");
    sh::run(&mut apt_get(&["update"])).context("the package lists cannot be refreshed")
}

/// Installs packages, without what they only recommend.
///
/// # Errors
/// When apt-get fails; it has said why by then.
pub fn install(packages: &[&str]) -> Result<()> {
    eprintln!("apt-get install {}", packages.join(" "));
    let mut apt = apt_get(&["install", "--yes", "--no-install-recommends"]);
    let mut child = apt
        .args(packages)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run apt-get")?;
    if let Some(stdout) = child.stdout.take() {
        show_progress(BufReader::new(stdout));
    }
    let status = child.wait().context("cannot wait for apt-get")?;
    if !status.success() {
        bail!("apt-get install failed ({status}); its own message stands above");
    }
    Ok(())
}

/// Shows which package is being set up: on one line where that can be rewritten, else every twentieth.
fn show_progress(output: impl BufRead) {
    let rewrite = stderr().is_terminal();
    let mut done = 0;
    for line in output.lines().map_while(Result::ok) {
        let Some(package) = line.strip_prefix("Setting up ") else {
            continue;
        };
        done += 1;
        if rewrite {
            eprint!("\r\x1b[K  {package}");
            stderr().flush().ok();
        } else if done % 20 == 0 {
            eprintln!("  set up: {done}, now {package}");
        }
    }
    if rewrite {
        eprint!("\r\x1b[K");
    }
    eprintln!("  set up: {done}");
}

/// Those that this suite's archive cannot install.
pub fn absent<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let policy = sh::output(
        Command::new("apt-cache")
            .arg("policy")
            .args(packages)
            .env("LC_ALL", "C"),
    );
    let available = installable(&policy.unwrap_or_default());
    packages
        .iter()
        .copied()
        .filter(|package| !available.iter().any(|name| name == package))
        .collect()
}

/// The packages for which `apt-cache policy` names a candidate.
fn installable(policy: &str) -> Vec<String> {
    let mut name = "";
    let mut found = Vec::new();
    for line in policy.lines() {
        if !line.starts_with(' ') {
            name = line.trim_end_matches(':');
        } else if line
            .trim_start()
            .strip_prefix("Candidate: ")
            .is_some_and(|version| version != "(none)")
        {
            found.push(name.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_with_a_candidate_are_installable() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0\n  Version table:\n     1.96.0 500\n\
                      old:\n  Installed: 1.0\n  Candidate: (none)\n";
        assert_eq!(installable(policy), ["rustc-web"]);
    }
}
