//! A kernel from Debian, by its package's name: fetched by apt, unpacked below the target directory, never installed.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{setup, sh};

/// Debian's flavour without drivers for hardware: small, and complete where it comes to networks.
const FLAVOUR: &str = "-cloud-amd64";

/// An unpacked kernel.
pub struct Kernel {
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The compressed image.
    pub image: PathBuf,
    /// The directory of its modules.
    pub modules: PathBuf,
}

/// The newest kernel of a version that apt knows; or the one that was unpacked before, where apt knows none.
///
/// # Errors
/// Neither; the message says what to do.
pub fn kernel(version: &str, dir: &Path) -> Result<Kernel> {
    let mut package = newest(version);
    if package.is_none() && sh::is_root() && sh::which("apt-get").is_some() {
        // A machine that was just installed has no lists.
        setup::refresh()?;
        package = newest(version);
    }
    let Some(package) = package.or_else(|| unpacked_before(version, dir)) else {
        bail!(
            "apt knows no linux-image-{version}.*{FLAVOUR}. It comes with Debian 12 and its security updates \
             (bookworm, bookworm-security): add those to apt's sources, then apt-get update"
        );
    };
    let root = dir.join(&package);
    if !root.join("boot").is_dir() {
        fetch(&package, &root)?;
        remove_others(version, dir, &package);
    }
    let release = package.trim_start_matches("linux-image-").to_owned();
    // Debian 13 keeps modules below /usr.
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(&release));
    let modules = modules.into_iter().find(|modules| modules.is_dir());
    Ok(Kernel {
        image: root.join("boot").join(format!("vmlinuz-{release}")),
        modules: modules.with_context(|| format!("no modules in {}: remove it", root.display()))?,
        release,
    })
}

/// The newest package of that version that apt can fetch.
fn newest(version: &str) -> Option<String> {
    let pattern = format!("^linux-image-{}\\..*{FLAVOUR}$", version.replace('.', "\\."));
    let text = sh::output(
        Command::new("apt-cache")
            .args(["search", "--names-only", &pattern])
            .env("LC_ALL", "C"),
    )?;
    newest_of(text.lines().filter_map(|line| line.split(' ').next()))
}

fn newest_of<'a>(packages: impl Iterator<Item = &'a str>) -> Option<String> {
    packages.max_by_key(|package| numbers(package)).map(str::to_owned)
}

/// The numbers in a name, in order: 6.12.117+deb12 is newer than 6.12.95+deb12.1.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|octet: char| !octet.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn unpacked_before(version: &str, dir: &Path) -> Option<String> {
    let names = unpacked(version, dir);
    newest_of(names.iter().map(String::as_str))
}

fn unpacked(version: &str, dir: &Path) -> Vec<String> {
    let prefix = format!("linux-image-{version}.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with(&prefix) && name.ends_with(FLAVOUR))
        .collect();
    names.sort_by_key(|name| Reverse(numbers(name)));
    names
}

/// A hundred megabytes each; what fails to go is only in the way.
fn remove_others(version: &str, dir: &Path, keep: &str) {
    for name in unpacked(version, dir) {
        if name != keep {
            let _ = fs::remove_dir_all(dir.join(name));
        }
    }
}

/// Downloads a package and unpacks it into a directory, which is there whole or not at all.
fn fetch(package: &str, root: &Path) -> Result<()> {
    eprintln!("apt-get download {package}");
    let partial = root.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
    let mut apt = Command::new("apt-get");
    // As root apt would rather download as another user, who may not write here.
    apt.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(&partial)
        .stdin(Stdio::null());
    sh::run(&mut apt).context("if apt's lists are old: apt-get update, then again")?;
    let entries = fs::read_dir(&partial).with_context(|| partial.display().to_string())?;
    let files = entries.flatten().map(|entry| entry.path());
    let archive = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| format!("apt-get download left no package in {}", partial.display()))?;
    let unpacked = partial.join("root");
    sh::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    let _ = fs::remove_dir_all(root);
    fs::rename(&unpacked, root).with_context(|| root.display().to_string())?;
    let _ = fs::remove_dir_all(&partial);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_by_number_and_not_by_letter() {
        let of = |names: &[&str]| newest_of(names.iter().copied()).unwrap();
        let two = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
        ];
        assert_eq!(of(&two), two[1]);
        let three = [
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.90+deb12.1-cloud-amd64",
        ];
        assert_eq!(of(&three), three[1]);
    }
}
