//! `cargo xtask dist`: the Debian package, and the proof that it does what a package should.
//!
//! [`package`] makes it, [`reproduce`] makes it again somewhere else and compares, [`lint`] asks Debian's own checkers,
//! [`roots`] has bare Debian systems, and [`trial`] installs, upgrades and purges it there.

mod licences;
mod lint;
mod package;
mod reproduce;
mod roots;
mod trial;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use anyhow::{Context, Result};

use self::package::Place;
use crate::{setup, sh};

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub struct Args {
    /// Build it a second time, in another directory, and fail unless the two are equal, octet by octet
    #[arg(long)]
    check_reproducible: bool,
    /// Install, upgrade and purge it on bare Debian 12 and 13, ask lintian and systemd, and upgrade under traffic (root)
    #[arg(long)]
    test: bool,
    /// With --test, the package to upgrade from; otherwise this one with an older version number
    #[arg(long, value_name = "FILE", requires = "test")]
    previous: Option<PathBuf>,
}

/// Makes the package and prints its path on stdout.
///
/// # Errors
/// When it cannot be built, or is not what it should be.
pub fn run(args: &Args) -> Result<()> {
    let tool = setup::cargo_deb()?;
    let out = sh::target_dir()?.join("dist");
    let place = Place {
        source: sh::workspace(),
        target: out.join("build"),
        since: package::commit_time()?,
    };
    package::build(&place)?;
    let deb = package::pack(&tool, &place, &out, None)?;
    describe(&deb)?;
    if args.check_reproducible {
        reproduce::check(&tool, &deb, &place, &out.join("again"))?;
    }
    if args.test {
        setup::need(&setup::PACKAGE_TESTS)?;
        let previous = match &args.previous {
            Some(file) => file.clone(),
            None => package::pack(&tool, &place, &out.join("previous"), Some(package::OLDER))?,
        };
        lint::lintian(&deb)?;
        for suite in roots::SUITES {
            trial::run(&roots::bare(suite, &out.join("roots"))?, &previous, &deb)
                .with_context(|| format!("on a bare {suite}"))?;
        }
        trial::under_traffic(&previous, &deb, &out.join("traffic"))?;
    }
    println!("{}", deb.display());
    Ok(())
}

/// Size, checksum, and what is in it.
fn describe(deb: &Path) -> Result<()> {
    let size = fs::metadata(deb)?.len();
    let checksum = checksum(deb)?;
    let fields = sh::output(Command::new("dpkg-deb").arg("--field").arg(deb)).unwrap_or_default();
    let contents = sh::output(Command::new("dpkg-deb").arg("--contents").arg(deb)).unwrap_or_default();
    eprintln!("{fields}");
    for line in contents.lines().filter(|line| !line.ends_with('/')) {
        // Mode, owner, size, day, hour, name.
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, octets, .., name] = words.as_slice() {
            eprintln!("{octets:>10}  {}", name.trim_start_matches('.'));
        }
    }
    eprintln!("\n{size} octets, sha256 {checksum}");
    Ok(())
}

/// The SHA-256 of a file.
fn checksum(file: &Path) -> Result<String> {
    let said = sh::output(Command::new("sha256sum").arg(file));
    let said = said.with_context(|| format!("no sha256sum of {}", file.display()))?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_string())
}
