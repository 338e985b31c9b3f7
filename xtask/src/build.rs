//! `cargo xtask build` and `cargo xtask bpf`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use crate::{ebpf, sh};

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Args {
    /// Optimise fully, as for installing and for the demo; the tests use the development profile
    #[arg(long)]
    release: bool,
}

/// Builds the binary and prints its path on stdout.
///
/// # Errors
/// When the build fails.
pub fn run(args: &Args) -> Result<()> {
    println!("{}", forwarder(args.release)?.display());
    Ok(())
}

/// Builds the `forwarder` binary and returns its path.
///
/// # Errors
/// When the build fails; cargo has shown why by then.
pub fn forwarder(release: bool) -> Result<PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--package", "forwarder"]);
    if release {
        cargo.arg("--release");
    }
    sh::run(&mut cargo)?;
    binary(release)
}

/// Builds the program that runs the benches and returns its path.
///
/// # Errors
/// When the build fails; cargo has shown why by then.
pub fn bench() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--release", "--package", "forwarder-bench"]))?;
    Ok(sh::target_dir()?.join("release/forwarder-bench"))
}

/// Builds the program that soaks and returns its path.
///
/// # Errors
/// When the build fails.
pub fn soak() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["build", "--package", "forwarder-tests", "--bin", "soak"]))?;
    Ok(sh::target_dir()?.join("debug/soak"))
}

/// Builds the benches' own BPF object and returns its path.
///
/// # Errors
/// When a tool is missing or it does not compile, with what the compiler says.
pub fn bench_object() -> Result<PathBuf> {
    let target = sh::target_dir()?.join("bpf");
    let name = "forwarder-bench-ebpf";
    let object = ebpf::build_binary(&sh::workspace(), name, name, &target, false);
    let (object, warnings) = object.map_err(|why| anyhow!(why.trim_end().to_owned()))?;
    eprint!("{warnings}");
    Ok(object)
}

/// Where cargo leaves the `forwarder` binary.
///
/// # Errors
/// As [`sh::target_dir`].
pub fn binary(release: bool) -> Result<PathBuf> {
    let profile = if release { "release" } else { "debug" };
    Ok(sh::target_dir()?.join(profile).join("forwarder"))
}

/// Builds the XDP object and prints its path on stdout.
///
/// # Errors
/// When a tool is missing or the program does not compile; the compiler has shown why by then.
pub fn bpf() -> Result<()> {
    let object = ebpf::build(&sh::workspace(), &sh::target_dir()?.join("bpf"), true);
    let (object, _) = object.map_err(|why| anyhow!(why.trim_end().to_owned()))?;
    println!("{}", object.display());
    Ok(())
}
