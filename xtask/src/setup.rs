//! `cargo xtask setup`: makes a fresh Debian 12 able to build and test; everywhere else, says what is missing.
//!
//! The check is by what one needs (a program, a BPF core, a bpf-linker that runs), not by package, so it costs a few
//! file look-ups and three short processes, and passes on any distribution that has them. Packages are how Debian
//! gets there. Everything that can be is kept out of the system: bpf-linker goes into the user's cache.

mod apt;

use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::{ebpf, sh};

/// Programs that the labs, the demo and the tests run, with the Debian package of each. What every Debian has is not here.
const PROGRAMS: [(&str, &str); 36] = [
    ("bird", "bird2"),
    ("birdc", "bird2"),
    ("bridge", "iproute2"),
    ("busybox", "busybox-static"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("ethtool", "ethtool"),
    ("exabgp", "exabgp"),
    ("git", "git"),
    ("gobgp", "gobgpd"),
    ("gobgpd", "gobgpd"),
    ("ip", "iproute2"),
    ("keepalived", "keepalived"),
    ("ldd", "libc-bin"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ping", "iputils-ping"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
    ("strace", "strace"),
    ("strip", "binutils"),
    ("systemd-analyze", "systemd"),
    ("sysctl", "procps"),
    ("tc", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("traceroute", "traceroute"),
    ("tshark", "tshark"),
    ("umount", "mount"),
    // FRR's daemons are not on PATH; its shell is.
    ("vtysh", "frr"),
    ("xz", "xz-utils"),
];

/// What only `cargo xtask dist --test` runs, and `setup` alone does not bring: lintian is large.
pub const PACKAGE_TESTS: [(&str, &str); 3] = [
    ("debootstrap", "debootstrap"),
    ("lintian", "lintian"),
    ("man", "man-db"),
];

/// What makes Debian packages.
const CARGO_DEB: &str = "3.8.0";
/// What looks at licences, sources and advisories of the crates that are built in.
const CARGO_DENY: &str = "0.20.2";

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
        packages.sort_unstable();
        packages.dedup();
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
            let prefix = if debian {
                LLVM_PREFIX
            } else {
                "DIRECTORY-OF-LLVM-22"
            };
            lines.push(format!("LLVM_PREFIX={prefix} {}", sh::line(&install_linker())));
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
    let (packer, warden) = (cargo_deb()?, cargo_deny()?);
    eprintln!("XDP program: {toolchain}");
    eprintln!("bpf-linker:  {}", linker.display());
    eprintln!("cargo-deb:   {}", packer.display());
    eprintln!("cargo-deny:  {}", warden.display());
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
        let mut cargo = install_linker();
        cargo.env("LLVM_PREFIX", LLVM_PREFIX);
        if !stderr().is_terminal() {
            cargo.arg("--quiet");
        }
        sh::run(&mut cargo)?;
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

/// The cargo-deb that makes packages, built into the user's cache where it is not there yet.
///
/// # Errors
/// When it does not build; cargo has said why by then.
pub fn cargo_deb() -> Result<PathBuf> {
    cached("cargo-deb", CARGO_DEB)
}

/// The cargo-deny that holds `deny.toml`, likewise.
///
/// # Errors
/// As [`cargo_deb`].
pub fn cargo_deny() -> Result<PathBuf> {
    cached("cargo-deny", CARGO_DENY)
}

fn cached(name: &str, version: &str) -> Result<PathBuf> {
    let root = ebpf::tool_root(&sh::workspace(), name, version);
    let tool = root.join("bin").join(name);
    if tool.is_file() {
        return Ok(tool);
    }
    eprintln!("Building {name} {version} (one to three minutes, once)");
    let mut cargo = install(&format!("{name}@{version}"));
    cargo.arg("--root").arg(root);
    if !stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    sh::run(&mut cargo)?;
    Ok(tool)
}

/// Installs the packages of those programs that are not here.
///
/// # Errors
/// When something is missing and cannot be installed from here; the message has the line to type.
pub fn need(programs: &[(&'static str, &'static str)]) -> Result<()> {
    let missing = programs
        .iter()
        .filter(|(program, _)| sh::which(program).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_debian() || !sh::is_root() {
        bail!(
            "this needs, on Debian and as root:\n  apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    install_packages(&packages)
}

/// Refreshes apt's lists of packages.
///
/// # Errors
/// As `apt-get update`.
pub fn refresh() -> Result<()> {
    apt::update()
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
    let mut cargo = install(&format!("bpf-linker@{}", ebpf::LINKER_VERSION));
    cargo
        .args(["--no-default-features", "--features", "llvm-22", "--root"])
        .arg(ebpf::linker_root(&sh::workspace()));
    cargo
}

/// A `cargo install` that builds somewhere of its own, as nobody's environment says otherwise.
fn install(what: &str) -> Command {
    let mut cargo = sh::cargo();
    cargo.args(["install", what, "--locked", "--force"]);
    for name in [
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        cargo.env_remove(name);
    }
    cargo
}

fn install_packages(packages: &[&str]) -> Result<()> {
    apt::update()?;
    let absent = apt::absent(packages);
    if !absent.is_empty() {
        bail!("{}", advice(&absent));
    }
    apt::install(packages)?;
    // Debian starts what it installs.
    for (package, service) in [
        ("bird2", "bird"),
        ("exabgp", "exabgp"),
        ("frr", "frr"),
        ("gobgpd", "gobgpd"),
        ("keepalived", "keepalived"),
    ] {
        if packages.contains(&package) && Path::new("/run/systemd/system").exists() {
            eprintln!("systemctl disable --now {service}   (the labs and tests start their own)");
            sh::run(Command::new("systemctl").args(["--quiet", "disable", "--now", service]))?;
        }
    }
    Ok(())
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

/// Whether setup sees to it that this program is there.
#[cfg(test)]
pub fn installs(name: &str) -> bool {
    PROGRAMS
        .iter()
        .chain(&PACKAGE_TESTS)
        .any(|(program, _)| *program == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_what_is_absent() {
        assert!(advice(&["libstd-rust-web-dev-bpf"]).contains("rustup toolchain install nightly"));
        assert!(!advice(&["tcpdump"]).contains("rustup"));
    }

    /// Of coreutils, diffutils, gzip, dpkg, dash, systemd, rustup and our own; systemctl and rustup are called where they are.
    const EVERYWHERE: [&str; 14] = [
        "chroot",
        "cp",
        "date",
        "diff",
        "dpkg",
        "forwarder",
        "gzip",
        "install",
        "rustup",
        "sh",
        "sleep",
        "systemctl",
        "timeout",
        "true",
    ];

    #[test]
    fn every_program_that_is_run_anywhere_is_installed() {
        let mut called = Vec::new();
        for dir in ["xtask/src", "tests/src", "tests/tests", "bench/src"] {
            sources(&sh::workspace().join(dir), &mut |text| {
                called.extend(programs(text))
            });
        }
        assert!(called.iter().any(|name| name == "gobgpd"), "{called:?}");
        let known = |name: &str| EVERYWHERE.contains(&name) || installs(name);
        let unknown: Vec<_> = called.iter().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "not in PROGRAMS: {unknown:?}");
    }

    fn sources(dir: &Path, read: &mut impl FnMut(&str)) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, read);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                read(&fs::read_to_string(path).unwrap());
            }
        }
    }

    /// The names that stand in calls of `Command::new` first, and second in those of `command` and `inside`.
    fn programs(text: &str) -> Vec<String> {
        let word = |rest: &str| {
            let (name, _) = rest.split_once('"')?;
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
            plain.then(|| name.to_string())
        };
        let first = text.split("Command::new(\"").skip(1).filter_map(word);
        let second = [".command(", "inside("].into_iter().flat_map(|call| {
            let calls = text.split(call).skip(1);
            calls.filter_map(|rest| {
                let arguments = rest.split(['\n', ';']).next()?;
                let (_, program) = arguments.split_once(", \"")?;
                word(program)
            })
        });
        first.chain(second).collect()
    }

    #[test]
    fn the_lines_to_type_name_only_what_is_missing() {
        let nothing = Missing {
            programs: Vec::new(),
            core: None,
            linker: None,
        };
        assert_eq!(nothing.lines(true), "");
        let bird = Missing {
            programs: vec![("bird", "bird2"), ("birdc", "bird2")],
            ..nothing
        };
        assert!(
            bird.lines(true)
                .ends_with("apt-get install --no-install-recommends bird2\n")
        );
        let core = Missing {
            programs: Vec::new(),
            core: Some("none".to_owned()),
            linker: None,
        };
        assert!(core.lines(true).contains("libstd-rust-web-dev-bpf"));
        assert!(core.lines(false).contains("rust-src"));
    }
}
