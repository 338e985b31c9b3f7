//! Whose work is in the binary, and under which licence: a file of the package, made from what cargo built in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What the file begins with.
const HEAD: &str = "\
What /usr/bin/forwarder is made of, beside forwarder itself: these crates, and Rust's standard library (MIT OR Apache-2.0,
https://github.com/rust-lang/rust/blob/master/COPYRIGHT). Each crate has its licence's name, and the texts that it comes with behind.
";

/// A crate that is built in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
    directory: PathBuf,
}

/// Writes the file.
///
/// # Errors
/// cargo does not answer, or a crate has no licence.
pub fn write(mut cargo: impl FnMut() -> Command, to: &Path) -> Result<()> {
    let mut named = BTreeSet::new();
    // The BPF object is inside the binary, and for another machine.
    for (package, target) in [
        ("forwarder", "x86_64-unknown-linux-gnu"),
        ("forwarder-ebpf", "all"),
    ] {
        let mut tree = cargo();
        tree.args(["tree", "--locked", "--package", package, "--edges", "normal"])
            .args(["--target", target, "--prefix", "none", "--format", "{p}"]);
        named.extend(output(&mut tree)?.lines().filter_map(name_and_version));
    }
    let mut metadata = cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&output(&mut metadata)?).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let crates = packages
        .iter()
        // Our own have no source.
        .filter(|package| !package["source"].is_null())
        .map(built_in)
        .collect::<Result<BTreeSet<Crate>>>()?;
    let crates = crates
        .into_iter()
        .filter(|one| named.contains(&(one.name.clone(), one.version.clone())));
    fs::write(to, text(&crates.collect::<Vec<_>>())?).with_context(|| to.display().to_string())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of a line such as `anyhow v1.0.104`, with or without more behind it.
fn name_and_version(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    Some((name.to_string(), version.strip_prefix('v')?.to_string()))
}

fn built_in(package: &Value) -> Result<Crate> {
    let word = |key: &str| package[key].as_str().map(ToString::to_string);
    let name = word("name").context("a package without a name")?;
    let manifest = word("manifest_path").context("a package without a manifest")?;
    Ok(Crate {
        licence: word("license").unwrap_or_else(|| "as its text says".into()),
        version: word("version").unwrap_or_default(),
        directory: Path::new(&manifest)
            .parent()
            .unwrap_or(Path::new("/"))
            .to_path_buf(),
        name,
    })
}

/// Texts that a crate comes with, by name.
fn texts(directory: &Path) -> Result<Vec<String>> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            let of_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"];
            path.is_file() && of_licence.iter().any(|start| name.starts_with(start))
        })
        .collect();
    files.sort();
    let read =
        |path: &PathBuf| fs::read(path).map(|octets| String::from_utf8_lossy(&octets).trim().to_string());
    files
        .iter()
        .map(|path| read(path).with_context(|| path.display().to_string()))
        .collect()
}

/// The list, then every text once, with whom it belongs to.
fn text(crates: &[Crate]) -> Result<String> {
    let mut out = String::from(HEAD);
    out.push('\n');
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in crates {
        writeln!(out, "{} {}: {}", one.name, one.version, one.licence)?;
        for text in texts(&one.directory)? {
            owners
                .entry(text)
                .or_default()
                .push(format!("{} {}", one.name, one.version));
        }
    }
    let mut owners: Vec<(String, Vec<String>)> = owners.into_iter().collect();
    owners.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    for (text, owners) in owners {
        writeln!(out, "\n{}\n{}:\n\n{text}", "-".repeat(72), owners.join(", "))?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_named_with_its_texts() -> Result<()> {
        let to = std::env::temp_dir().join(format!("forwarder-licences-{}", std::process::id()));
        write(crate::sh::cargo, &to)?;
        let text = fs::read_to_string(&to)?;
        fs::remove_file(&to)?;
        for start in ["aya 0.", "aya-ebpf 0.", "tokio 1.", "rusqlite 0."] {
            assert!(text.lines().any(|line| line.starts_with(start)), "no {start}");
        }
        // Of tests and tools alone.
        for start in ["proptest ", "criterion ", "forwarder "] {
            assert!(
                !text.lines().any(|line| line.starts_with(start)),
                "{start} is not built in"
            );
        }
        let licence = "Permission is hereby granted, free of charge";
        assert!(text.contains(licence) && text.contains("Apache License"));
        Ok(())
    }
}
