//! The documents say what is there.

use std::{collections::BTreeSet, path::Path};

use forwarder_common::maps;
use forwarder_tests::differential::{known::KNOWN, normalise::FREEDOMS};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn the_table_of_maps_in_the_architecture_is_the_abis() {
    let text = read("ARCHITECTURE.md");
    let section = text
        .split("\n## ")
        .find(|part| part.starts_with("Maps"))
        .expect("a section on maps");
    let documented: BTreeSet<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let real: BTreeSet<&str> = [
        maps::SHARED_TABLES,
        maps::COUNTERS,
        maps::DIRECTORIES,
        &[maps::TRACE, maps::LOG_LIMIT],
    ]
    .concat()
    .into_iter()
    .collect();
    assert_eq!(documented, real);
}

#[test]
fn every_room_of_the_controller_is_on_the_plan() {
    let text = read("ARCHITECTURE.md");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../forwarder/src");
    for entry in std::fs::read_dir(source).expect("forwarder/src").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "lib.rs" || name == "main.rs" {
            continue;
        }
        let room = if entry.path().is_dir() {
            format!("`{name}/")
        } else {
            format!("`{name}")
        };
        assert!(text.contains(&room), "ARCHITECTURE.md does not mention {room}`");
    }
}

/// The rows of a section's table, as name and reason.
fn rows<'a>(text: &'a str, section: &str) -> Vec<(&'a str, &'a str)> {
    let section = text.split("\n## ").find(|part| part.starts_with(section));
    let lines = section.expect("the section").lines();
    lines
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .collect()
}

/// In both directions: a row in the documents is one in the code, word by word.
fn assert_same<T: std::fmt::Debug>(documented: &[(&str, &str)], code: &[(T, &str)]) {
    let code: Vec<(String, &str)> = code
        .iter()
        .map(|(name, why)| (format!("{name:?}"), *why))
        .collect();
    let documented: Vec<(String, &str)> = documented
        .iter()
        .map(|(name, why)| (name.to_string(), *why))
        .collect();
    for row in &code {
        assert!(
            documented.contains(row),
            "docs/conformance.md needs the line\n| `{}` | {} |",
            row.0,
            row.1
        );
    }
    for (name, why) in &documented {
        assert!(
            code.iter().any(|row| (&row.0, &row.1) == (name, why)),
            "docs/conformance.md has `{name}`, and tests/src/differential has not: {why}"
        );
    }
    assert_eq!(
        documented.len(),
        code.len(),
        "a row of docs/conformance.md is there twice"
    );
}

#[test]
fn the_known_differences_in_the_documents_are_those_of_the_tests() {
    let text = read("docs/conformance.md");
    assert_same(&rows(&text, "What two kernels"), FREEDOMS);
    assert_same(&rows(&text, "What forwarder does"), KNOWN);
}

#[test]
fn the_readme_fits_two_screens() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 100, "README.md has {lines} lines");
}
