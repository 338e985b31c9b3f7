//! Building the XDP object. Shared by xtask and by `forwarder/build.rs` (through `#[path]`), so std only.
//!
//! Two things are not on every machine: a libcore for `bpfel-unknown-none`, and bpf-linker.
//! - Debian ships libcore prebuilt (libstd-rust-web-dev-bpf, beside rustc-web in /usr/bin). Where that is absent,
//!   rustup's nightly builds it from rust-src (`-Zbuild-std=core`).
//! - bpf-linker reads the bitcode of that rustc with its own LLVM, so its version is pinned and it lives in the
//!   user's cache, where `cargo xtask setup` puts it; one on PATH of the same series serves as well.
//!
//! The object always comes from its own target directory: the cargo that runs a build script holds the lock of the
//! outer one, and a second cargo waiting for it there would wait forever.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The bpf-linker that setup installs. Its LLVM (22) has to be at least that of the rustc which emits the bitcode.
pub const LINKER_VERSION: &str = "0.13.0";

/// The oldest rustc that builds the workspace; Cargo.toml's `rust-version`.
const MIN_RUSTC: (u32, u32) = (1, 95);

const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// What cargo and rustup set for their children that must not reach the inner build: it has another compiler, other
/// flags, no clippy and another target directory, and would build anew whenever a variable differs.
const LEAKS: [&str; 20] = [
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// The same, by how the name starts.
const LEAKING: [&str; 8] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_BPF",
    "DEP_",
];

/// A compiler that can build for `bpfel-unknown-none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// Debian's rustc with its prebuilt libcore. Holds the version.
    Debian(String),
    /// rustup's nightly with rust-src. Holds the version.
    Nightly(String),
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(version) => write!(f, "Debian's rustc {version} with its prebuilt BPF core"),
            Self::Nightly(version) => write!(f, "rustup's nightly {version} with rust-src"),
        }
    }
}

/// Finds the compiler for the XDP program: Debian's where its BPF core is installed, else rustup's nightly.
///
/// # Errors
/// A message for the user when there is neither.
pub fn toolchain() -> Result<Toolchain, String> {
    let debian = debian();
    if let Ok(version) = &debian {
        return Ok(Toolchain::Debian(version.clone()));
    }
    let nightly = nightly();
    if let Ok(version) = &nightly {
        return Ok(Toolchain::Nightly(version.clone()));
    }
    Err(format!(
        "no compiler for {TARGET}: {}; {}",
        debian.unwrap_or_else(|why| why),
        nightly.unwrap_or_else(|why| why)
    ))
}

fn debian() -> Result<String, String> {
    if !Path::new(DEBIAN_RUSTC).exists() || !Path::new(DEBIAN_CARGO).exists() {
        return Err(format!("no {DEBIAN_RUSTC} with cargo beside it"));
    }
    let sysroot = first_line(clean(Command::new(DEBIAN_RUSTC)).args(["--print", "sysroot"]))
        .ok_or_else(|| format!("{DEBIAN_RUSTC} does not run"))?;
    if !Path::new(&sysroot).join("lib/rustlib").join(TARGET).exists() {
        return Err(format!("{DEBIAN_RUSTC} has no core for {TARGET}"));
    }
    version(clean(Command::new(DEBIAN_RUSTC)).arg("--version")).map_err(|found| {
        format!(
            "{DEBIAN_RUSTC} is {found}, older than {}.{}",
            MIN_RUSTC.0, MIN_RUSTC.1
        )
    })
}

fn nightly() -> Result<String, String> {
    let sysroot =
        first_line(clean(Command::new("rustup")).args(["run", "nightly", "rustc", "--print", "sysroot"]))
            .ok_or("no rustup with a nightly toolchain")?;
    if !Path::new(&sysroot)
        .join("lib/rustlib/src/rust/library/core")
        .exists()
    {
        return Err("rustup's nightly has no rust-src".to_owned());
    }
    version(clean(Command::new("rustup")).args(["run", "nightly", "rustc", "--version"])).map_err(|found| {
        format!(
            "rustup's nightly is {found}, older than {}.{}",
            MIN_RUSTC.0, MIN_RUSTC.1
        )
    })
}

/// Runs `rustc --version`; the version it prints, as an error when that is too old.
fn version(command: &mut Command) -> Result<String, String> {
    let line = first_line(command).unwrap_or_default();
    let version = line
        .split_whitespace()
        .nth(1)
        .unwrap_or("of unknown version")
        .to_owned();
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if (major, minor) >= MIN_RUSTC => Ok(version),
        _ => Err(version),
    }
}

/// The directory under which setup installs a tool, `bin/` and all: below XDG_CACHE_HOME or ~/.cache, else in the
/// workspace's target directory.
pub fn tool_root(workspace: &Path, name: &str, version: &str) -> PathBuf {
    let set = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    cache
        .map_or_else(|| workspace.join("target"), |cache| cache.join("forwarder"))
        .join(format!("{name}-{version}"))
}

/// Where setup installs bpf-linker.
pub fn linker_root(workspace: &Path) -> PathBuf {
    tool_root(workspace, "bpf-linker", LINKER_VERSION)
}

/// Finds a bpf-linker that runs: setup's, else one of the same series on PATH.
///
/// # Errors
/// A message for the user when there is none.
pub fn linker(workspace: &Path) -> Result<PathBuf, String> {
    let cached = linker_root(workspace).join("bin/bpf-linker");
    let series = LINKER_VERSION
        .rsplit_once('.')
        .map_or(LINKER_VERSION, |(series, _)| series);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join("bpf-linker"));
    let mut seen = format!("none in {} nor on PATH", cached.display());
    for candidate in std::iter::once(cached.clone())
        .chain(on_path)
        .filter(|file| file.is_file())
    {
        match first_line(clean(Command::new(&candidate)).arg("--version")) {
            Some(line) if line.starts_with(&format!("bpf-linker {series}.")) => return Ok(candidate),
            Some(line) => seen = format!("{} is {line}", candidate.display()),
            None => seen = format!("{} does not run", candidate.display()),
        }
    }
    Err(format!("no bpf-linker {series}: {seen}"))
}

/// Builds the XDP program. `target_dir` is the inner build's own; returns the path of the ELF object and what the
/// compiler said on stderr, warnings included (empty when `verbose`, which lets it write to ours instead).
///
/// # Errors
/// A message for the user, with the compiler's own when it ran.
pub fn build(workspace: &Path, target_dir: &Path, verbose: bool) -> Result<(PathBuf, String), String> {
    let name = "forwarder-ebpf";
    build_binary(workspace, name, name, target_dir, verbose)
}

/// As [`build`], for any binary of the workspace that is a BPF object.
///
/// # Errors
/// As [`build`].
pub fn build_binary(
    workspace: &Path,
    package: &str,
    binary: &str,
    target_dir: &Path,
    verbose: bool,
) -> Result<(PathBuf, String), String> {
    let missing = |what| format!("{what}. Run `cargo xtask setup`");
    let linker = linker(workspace).map_err(missing)?;
    let mut cargo = match toolchain().map_err(missing)? {
        Toolchain::Debian(_) => {
            let mut cargo = clean(Command::new(DEBIAN_CARGO));
            // aya-ebpf uses asm_experimental_arch, and this rustc is a stable one.
            cargo
                .arg("build")
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
        Toolchain::Nightly(_) => {
            let mut cargo = clean(Command::new("rustup"));
            cargo.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
            cargo
        }
    };
    cargo
        .args([
            "--release",
            "--target",
            TARGET,
            "-p",
            package,
            "--bin",
            binary,
            "--target-dir",
        ])
        .arg(target_dir)
        .current_dir(workspace)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, target_dir))
        // The object must not change with the profile that suits the daemon.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    if verbose {
        cargo.stderr(Stdio::inherit());
    } else {
        cargo.arg("--quiet");
    }
    let Output { status, stderr, .. } = cargo
        .output()
        .map_err(|e| format!("cannot run {}: {e}", cargo.get_program().display()))?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    if !status.success() {
        return Err(format!("the BPF object ({binary}) does not build\n{said}"));
    }
    Ok((target_dir.join(TARGET).join("release").join(binary), said))
}

/// Flags of the BPF compiler. They are separated by 0x1f and win over RUSTFLAGS and config files. BTF comes from the debug
/// info. With v3 (Linux 5.1) there are 32-bit registers and jumps: a tenth fewer instructions. BTF names source files, so
/// the object would differ with the directory it was built in: the names are made those of [`PLACES`].
fn flags(workspace: &Path, target_dir: &Path) -> OsString {
    let mut flags = OsString::from("-Clink-arg=--btf\x1f-Cdebuginfo=2\x1f-Ctarget-cpu=v3");
    for remap in remaps(workspace, target_dir) {
        flags.push("\x1f");
        flags.push(remap);
    }
    flags
}

/// What stands in a binary in place of the directories of workspace, cargo and target.
const PLACES: [&str; 3] = ["/usr/src/forwarder", "/usr/src/cargo", "/usr/src/target"];

/// Options of rustc that replace the names of directories by [`PLACES`]. Of those that fit the last counts.
pub fn remaps(workspace: &Path, target_dir: &Path) -> Vec<OsString> {
    let home = |name| env::var_os(name).map(PathBuf::from);
    let cargo = home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo")));
    [
        Some(workspace.to_path_buf()),
        cargo,
        Some(target_dir.to_path_buf()),
    ]
    .into_iter()
    .zip(PLACES)
    .filter_map(|(directory, place)| {
        let mut option = OsString::from("--remap-path-prefix=");
        option.push(directory?);
        option.push("=");
        option.push(place);
        Some(option)
    })
    .collect()
}

/// Takes out of a command's environment what an outer cargo put there.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if LEAKS.contains(&&*text) || LEAKING.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The first line a command prints, or nothing when it cannot run or fails.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .map(str::to_owned)
}
