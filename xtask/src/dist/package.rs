//! Building and packing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::licences;
use crate::{ebpf, sh};

/// A version number that every real one is newer than.
pub const OLDER: &str = "0.0.1~previous-1";

/// A tree of sources, and where it is built.
pub struct Place {
    /// The workspace.
    pub source: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// What the package's files are dated, seconds.
    pub since: u64,
}

impl Place {
    /// A cargo at work here, whose binaries do not tell where that was. The directory is not the one of other builds: the
    /// options are others, and everything would be compiled anew whenever they change.
    fn cargo(&self) -> Command {
        let mut flags = OsString::new();
        for option in ebpf::remaps(&self.source, &self.target) {
            if !flags.is_empty() {
                flags.push("\x1f");
            }
            flags.push(option);
        }
        let mut cargo = sh::cargo();
        cargo
            .current_dir(&self.source)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env_remove("RUSTFLAGS");
        cargo
    }

    fn papers(&self) -> PathBuf {
        self.target.join("release/papers")
    }
}

/// Builds the binary, and what is made from it: manual pages and completions.
///
/// # Errors
/// When cargo fails; it has said why by then.
pub fn build(place: &Place) -> Result<()> {
    let mut cargo = place.cargo();
    cargo.args(["build", "--release", "--locked", "--package", "forwarder"]);
    sh::run(cargo.args(["--package", "forwarder-manual"]))?;
    let papers = place.papers();
    if papers.exists() {
        fs::remove_dir_all(&papers)?;
    }
    sh::run(Command::new(place.target.join("release/forwarder-manual")).arg(&papers))?;
    let others = papers.join("third-party");
    licences::write(|| place.cargo(), &others)?;
    let pages = fs::read_dir(papers.join("man"))?
        .flatten()
        .map(|entry| entry.path());
    compress(&pages.chain([others]).collect::<Vec<_>>())
}

/// As Debian has its pages and changelogs.
fn compress(files: &[PathBuf]) -> Result<()> {
    sh::run(
        Command::new("gzip")
            .args(["--best", "--no-name", "--force"])
            .args(files),
    )
}

/// Packs what was built; `version` in place of the workspace's own.
///
/// # Errors
/// When cargo-deb fails; it has said why by then.
pub fn pack(tool: &Path, place: &Place, out: &Path, version: Option<&str>) -> Result<PathBuf> {
    let number = version.map_or_else(|| format!("{}-1", env!("CARGO_PKG_VERSION")), str::to_string);
    let log = changelog(&number, place.since)?;
    let [ours, debian] = ["changelog", "changelog.Debian"].map(|name| place.papers().join(name));
    fs::write(&debian, log).context("cannot write the changelog")?;
    fs::copy(place.source.join("CHANGELOG.md"), &ours).context("cannot copy CHANGELOG.md")?;
    compress(&[ours, debian])?;
    fs::create_dir_all(out)?;
    let deb = out.join(format!("forwarder_{number}_{}.deb", architecture()?));
    let mut cargo_deb = Command::new(tool);
    cargo_deb
        .current_dir(&place.source)
        .args([
            "--package",
            "forwarder",
            "--no-build",
            "--strip",
            "--no-dbgsym",
            "--quiet",
        ])
        .args(["--deb-version", &number, "--output"])
        .arg(&deb)
        .env("CARGO_TARGET_DIR", &place.target)
        .env("SOURCE_DATE_EPOCH", place.since.to_string());
    sh::run(&mut cargo_deb)?;
    Ok(deb)
}

/// What Debian calls this machine.
fn architecture() -> Result<String> {
    let said = sh::output(Command::new("dpkg").arg("--print-architecture"));
    Ok(said
        .context("dpkg does not tell the architecture")?
        .trim()
        .to_string())
}

/// When the commit was made that this is built from.
///
/// # Errors
/// There is no git, or no commit.
pub fn commit_time() -> Result<u64> {
    let mut git = Command::new("git");
    let said = sh::output(
        git.args(["log", "-1", "--format=%ct"])
            .current_dir(sh::workspace()),
    );
    match said.map(|text| text.trim().parse()) {
        Some(Ok(seconds)) => Ok(seconds),
        _ => bail!("git does not tell when this commit was made: packages are made in a clone"),
    }
}

/// Debian's changelog, which tells of packages; what changed in forwarder stands in CHANGELOG.md.
fn changelog(version: &str, since: u64) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email", &format!("--date=@{since}")])
        .env("LC_ALL", "C");
    let day = sh::output(&mut date).context("date does not tell the day")?;
    Ok(format!(
        "forwarder ({version}) unstable; urgency=medium\n\n  * What is new: changelog.gz in this directory.\n\n -- {}  {day}",
        "The forwarder authors <forwarder@example.org>"
    ))
}
