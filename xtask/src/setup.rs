//! `cargo xtask setup`: makes a fresh Debian 12 able to build and test; everywhere else, says what is missing.
//!
//! The check is by what one needs (a program, a BPF core, a bpf-linker that runs), not by package, so it costs a few
//! file look-ups and three short processes, and passes on any distribution that has them. Packages are how Debian
//! gets there. Everything that can be is kept out of the system: bpf-linker goes into the user's cache.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::{ebpf, sh};

/// Programs that the labs, the demo and the tests run, with the Debian package of each.
const PROGRAMS: [(&str, &str); 7] = [
    ("bird", "bird2"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("tcpdump", "tcpdump"),
    ("traceroute", "traceroute"),
];

/// A rustc whose core for bpfel-unknown-none is prebuilt.
const CORE: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// The LLVM that bpf-linker is built with and runs on.
const LLVM: &str = "llvm-22-dev";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

const NIGHTLY: &str = "rustup toolchain install nightly --profile minimal --component rust-src";

/// What is not here.
struct Missing {
    programs: Vec<(&'static str, &'static str)>,
    core: Option<String>,
    linker: Option<String>,
}

impl Missing {
    fn look() -> Self {
        Self {
            programs: PROGRAMS
                .into_iter()
                .filter(|(program, _)| sh::which(program).is_none())
                .collect(),
            core: ebpf::toolchain().err(),
            linker: ebpf::linker(&sh::workspace()).err(),
        }
    }

    fn nothing(&self) -> bool {
        self.programs.is_empty() && self.core.is_none() && self.linker.is_none()
    }

    /// The Debian packages that bring it.
    fn packages(&self) -> Vec<&'static str> {
        let mut packages: Vec<_> = self.programs.iter().map(|(_, package)| *package).collect();
        if self.core.is_some() {
            packages.extend(CORE);
        }
        if self.linker.is_some() && !has_llvm() {
            packages.push(LLVM);
        }
        packages
    }

    /// One line for each thing.
    fn reasons(&self) -> String {
        let programs = self
            .programs
            .iter()
            .map(|(program, package)| format!("no {program} (Debian: {package})"));
        let others = [&self.core, &self.linker].into_iter().flatten().cloned();
        programs
            .chain(others)
            .map(|reason| format!("  - {reason}\n"))
            .collect()
    }

    /// The lines that a person would type.
    fn lines(&self, debian: bool) -> String {
        let mut lines = Vec::new();
        let packages = self.packages();
        if debian && !packages.is_empty() {
            lines.push("apt-get update".to_owned());
            lines.push(format!(
                "apt-get install --no-install-recommends {}",
                packages.join(" ")
            ));
        }
        if !debian && self.core.is_some() {
            lines.push(NIGHTLY.to_owned());
        }
        if self.linker.is_some() {
            lines.push(format!(
                "LLVM_PREFIX={LLVM_PREFIX} {}",
                sh::line(&install_linker())
            ));
        }
        lines.iter().map(|line| format!("  {line}\n")).collect()
    }
}

/// `cargo xtask setup`: does what is missing, then says what will be used.
///
/// # Errors
/// When something is missing and cannot be installed from here; the message has the lines to type.
pub fn run() -> Result<()> {
    let start = Instant::now();
    ensure()?;
    let toolchain = ebpf::toolchain().map_err(|why| anyhow!(why))?;
    let linker = ebpf::linker(&sh::workspace()).map_err(|why| anyhow!(why))?;
    eprintln!("XDP program: {toolchain}");
    eprintln!("bpf-linker:  {}", linker.display());
    eprintln!(
        "Ready ({}). Next: cargo xtask demo, cargo xtask test",
        sh::seconds(start.elapsed())
    );
    Ok(())
}

/// Does what is missing; silent when nothing is.
///
/// # Errors
/// As [`run`].
pub fn ensure() -> Result<()> {
    let missing = Missing::look();
    if missing.nothing() {
        return Ok(());
    }
    eprintln!("Missing here:\n{}", missing.reasons().trim_end());
    let packages = missing.packages();
    let debian = is_debian();
    if !debian {
        bail!(
            "setup installs on Debian only. Install the programs above with this system's package manager{}\n{}",
            if missing.core.is_some() || missing.linker.is_some() {
                ", LLVM 22 with its headers, and then:"
            } else {
                "."
            },
            missing.lines(false).trim_end()
        );
    }
    if !packages.is_empty() {
        if !sh::is_root() {
            bail!(
                "installing packages takes root. Run this as root, or type:\n{}",
                missing.lines(true).trim_end()
            );
        }
        install_packages(&packages)?;
    }
    if ebpf::linker(&sh::workspace()).is_err() {
        eprintln!(
            "Building bpf-linker {} (one to two minutes, once)",
            ebpf::LINKER_VERSION
        );
        sh::run(install_linker().env("LLVM_PREFIX", LLVM_PREFIX))?;
    }
    let left = Missing::look();
    if !left.nothing() {
        bail!("still missing after installing:\n{}", left.reasons().trim_end());
    }
    Ok(())
}

/// Makes sure that this cargo has a subcommand which comes as a component of its own.
///
/// # Errors
/// A message that says how to get it, from rustup and from Debian.
pub fn component(subcommand: &str, rustup: &str, debian: &str) -> Result<()> {
    match sh::output(sh::cargo().args([subcommand, "--version"]).stderr(Stdio::null())) {
        Some(_) => Ok(()),
        None => bail!(
            "this cargo has no `cargo {subcommand}`. With rustup: rustup component add {rustup}; with Debian's cargo: \
             apt-get install {debian}"
        ),
    }
}

fn has_llvm() -> bool {
    ["bin/llvm-config", "lib/libLLVM.so"]
        .iter()
        .all(|file| Path::new(LLVM_PREFIX).join(file).exists())
}

fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian") && sh::which("apt-get").is_some()
}

/// The command that builds bpf-linker into the cache; it wants LLVM_PREFIX.
fn install_linker() -> Command {
    let mut cargo = sh::cargo();
    cargo
        .args([
            "install",
            &format!("bpf-linker@{}", ebpf::LINKER_VERSION),
            "--no-default-features",
        ])
        .args(["--features", "llvm-22", "--locked", "--force", "--root"])
        .arg(ebpf::linker_root(&sh::workspace()));
    for name in [
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        cargo.env_remove(name);
    }
    if !stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo
}

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

fn install_packages(packages: &[&str]) -> Result<()> {
    eprintln!("apt-get update");
    sh::run(&mut apt_get(&["update"])).context("the package lists cannot be refreshed")?;
    let absent = absent(packages);
    if !absent.is_empty() {
        bail!("{}", advice(&absent));
    }
    eprintln!("apt-get install {}", packages.join(" "));
    let mut apt = apt_get(&["install", "--yes", "--no-install-recommends"]);
    apt.args(packages).stdout(Stdio::piped());
    let mut child = apt.spawn().context("cannot run apt-get")?;
    if let Some(stdout) = child.stdout.take() {
        show_progress(BufReader::new(stdout));
    }
    let status = child.wait().context("cannot wait for apt-get")?;
    if !status.success() {
        bail!("apt-get install failed ({status}); its own message stands above");
    }
    if packages.contains(&"bird2") && Path::new("/run/systemd/system").exists() {
        eprintln!("systemctl disable --now bird   (the labs start their own)");
        sh::run(Command::new("systemctl").args(["--quiet", "disable", "--now", "bird"]))?;
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
            eprintln!("  {done} set up, now {package}");
        }
    }
    if rewrite {
        eprint!("\r\x1b[K");
    }
    eprintln!("  {done} packages set up");
}

/// Those that this suite's archive cannot install.
fn absent<'a>(packages: &[&'a str]) -> Vec<&'a str> {
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

/// What to do about packages that the archive does not have.
fn advice(absent: &[&str]) -> String {
    let mut text = format!("not in this Debian's archive: {}.", absent.join(", "));
    if absent.iter().any(|package| CORE.contains(package)) {
        text += "\nThe BPF core comes with Debian 12's security updates (bookworm-security). On another suite, use \
                 rustup:\n  ";
        text += NIGHTLY;
    }
    if absent.contains(&LLVM) {
        text += "\nLLVM 22 comes with Debian 12's security updates (bookworm-security). On another suite, add LLVM's \
                 own Debian repository, or put a bpf-linker ";
        text += ebpf::LINKER_VERSION;
        text += " on PATH.";
    }
    text + "\nThen run `cargo xtask setup` again."
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

    #[test]
    fn the_advice_fits_what_is_absent() {
        assert!(advice(&["libstd-rust-web-dev-bpf"]).contains("rustup toolchain install nightly"));
        assert!(!advice(&["tcpdump"]).contains("rustup"));
    }
}
