//! The package's life on a bare system: installed, looked at, upgraded, removed, purged; and an upgrade under traffic.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

use super::lint;
use crate::sh;

const CONFIG: &str = "etc/forwarder/forwarder.toml";
/// That it starts with the machine.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/forwarder.service";

/// Takes a copy of a bare root through all of it.
///
/// # Errors
/// With the first thing that is not as it should be.
pub fn run(bare: &Path, previous: &Path, deb: &Path) -> Result<()> {
    let suite = bare.file_name().unwrap_or_default().to_string_lossy();
    eprintln!("== {suite}");
    let root = Root::copy(bare)?;
    let before = root.files()?;

    root.install(previous)?;
    said("installed", &root.query("${Version}")?);
    ensure!(
        root.path.join(ENABLED).symlink_metadata().is_ok(),
        "the service is not enabled"
    );
    let version = root.run(&["forwarder", "--version"])?;
    ensure!(
        version.status.success(),
        "forwarder --version: {}",
        text(&version)
    );
    said("forwarder --version", text(&version).trim());
    let check = root.run(&["forwarder", "check"])?;
    ensure!(
        check.status.code() == Some(1) && text(&check).contains("no interface is configured"),
        "forwarder check of the packaged configuration says: {}",
        text(&check)
    );
    said("forwarder check", "exit 1, no interface is configured");
    let configured = root.run(&["forwarder", "check", "--configured"])?;
    ensure!(
        configured.status.code() == Some(1),
        "the service would start with nothing configured"
    );
    root.is_whole()?;
    root.manuals()?;
    lint::service(&root.path)?;

    // What an operator wrote stays.
    let config = root.path.join(CONFIG);
    let written = fs::read_to_string(&config)? + "\n[[interface]]\nname = \"lo\"\n";
    fs::write(&config, &written)?;
    root.install(deb)?;
    ensure!(
        fs::read_to_string(&config)? == written,
        "the upgrade changed the configuration"
    );
    let check = root.run(&["forwarder", "check"])?;
    ensure!(
        check.status.success(),
        "forwarder check after the upgrade: {}",
        text(&check)
    );
    said(
        "upgraded",
        &format!(
            "{}, the configuration as it was written",
            root.query("${Version}")?
        ),
    );

    root.dpkg(&["--remove", "forwarder"])?;
    ensure!(config.exists(), "removing took the configuration");
    ensure!(!root.path.join("usr/bin/forwarder").exists(), "the binary stays");
    fs::create_dir_all(root.path.join("var/lib/forwarder"))?;
    root.dpkg(&["--purge", "forwarder"])?;
    let after = root.files()?;
    let left: Vec<_> = after.difference(&before).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    ensure!(
        left.is_empty() && lost.is_empty(),
        "purging left {left:?} and took {lost:?}"
    );
    said("purged", "nothing is left");
    Ok(())
}

fn said(what: &str, words: &str) {
    eprintln!("  {what}: {words}");
}

/// Standard output, then errors.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A root that may be changed; gone when dropped.
struct Root {
    path: PathBuf,
}

impl Root {
    fn copy(bare: &Path) -> Result<Root> {
        let path = bare.with_extension("trial");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        sh::run(
            Command::new("cp")
                .args(["--archive", "--reflink=auto"])
                .args([bare, &path]),
        )?;
        let root = Root { path };
        // No service is started in there.
        let policy = root.path.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(&policy, fs::Permissions::from_mode(0o755))?;
        Ok(root)
    }

    fn run(&self, words: &[impl AsRef<OsStr>]) -> Result<Output> {
        let mut chroot = Command::new("chroot");
        chroot
            .arg(&self.path)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive");
        chroot.output().context("cannot run chroot")
    }

    fn dpkg(&self, words: &[&str]) -> Result<()> {
        let output = self.run(&[&["dpkg"], words].concat())?;
        ensure!(
            output.status.success(),
            "dpkg {}: {}",
            words.join(" "),
            text(&output)
        );
        Ok(())
    }

    fn install(&self, deb: &Path) -> Result<()> {
        let name = "package.deb";
        fs::copy(deb, self.path.join(name)).with_context(|| format!("cannot copy {}", deb.display()))?;
        let done = self.dpkg(&["--install", "/package.deb"]);
        fs::remove_file(self.path.join(name))?;
        done
    }

    fn query(&self, format: &str) -> Result<String> {
        let output = self.run(&[
            "dpkg-query",
            "--show",
            &format!("--showformat={format}"),
            "forwarder",
        ])?;
        Ok(text(&output))
    }

    /// Every file is what the package brought.
    fn is_whole(&self) -> Result<()> {
        let output = self.run(&["dpkg", "--verify", "forwarder"])?;
        ensure!(
            output.status.success() && text(&output).is_empty(),
            "dpkg --verify: {}",
            text(&output)
        );
        said("dpkg --verify", "whole");
        Ok(())
    }

    /// Every page can be shown without a complaint.
    fn manuals(&self) -> Result<()> {
        let mut pages = 0;
        for section in ["man1", "man5"] {
            let directory = self.path.join("usr/share/man").join(section);
            for entry in fs::read_dir(&directory)?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.starts_with("forwarder") {
                    continue;
                }
                let mut man = Command::new("man");
                man.args(["--warnings", "--local-file", "--encoding=UTF-8"])
                    .arg(entry.path())
                    .env("LC_ALL", "C.UTF-8")
                    .env("MANPAGER", "cat");
                let output = man.output().context("cannot run man")?;
                if !output.status.success() || !output.stderr.is_empty() {
                    bail!("man {name}: {}", String::from_utf8_lossy(&output.stderr));
                }
                pages += 1;
            }
        }
        ensure!(pages > 20, "only {pages} manual pages");
        said("man", &format!("{pages} pages"));
        Ok(())
    }

    /// Everything in the root but what dpkg writes about itself.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        list(&self.path, &self.path, &mut found)?;
        let own = ["var/lib/dpkg", "var/log", "var/cache"];
        found.retain(|path| !own.iter().any(|own| path.starts_with(own)));
        Ok(found)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn list(directory: &Path, root: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(&path, root, found)?;
        }
        found.insert(path.strip_prefix(root)?.to_path_buf());
    }
    Ok(())
}

/// The binaries of two packages, one after the other, in a laboratory with traffic crossing it.
///
/// # Errors
/// When a packet is lost.
pub fn under_traffic(previous: &Path, deb: &Path, scratch: &Path) -> Result<()> {
    eprintln!("== upgrade under traffic");
    let mut binaries = Vec::new();
    for (name, package) in [("previous", previous), ("new", deb)] {
        let directory = scratch.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        sh::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(&directory),
        )?;
        binaries.push(directory.join("usr/bin/forwarder"));
    }
    let mut cargo = sh::cargo();
    cargo
        .args(["test", "--package", "forwarder-tests", "--test", "e2e_service"])
        .args(["--", "upgrade", "--nocapture"])
        .env("FORWARDER_OLD_BIN", &binaries[0])
        .env("FORWARDER_BIN", &binaries[1]);
    sh::run(&mut cargo)
}
