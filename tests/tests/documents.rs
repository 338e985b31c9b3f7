//! The documents say what is there.

use std::{collections::BTreeSet, path::Path};

use forwarder_common::{maps, reason::Reason};
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

#[test]
fn the_table_of_reasons_is_the_programs() {
    let text = read("docs/guide/drops.md");
    let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let code: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            format!(
                "| `{}` | {} | {} |",
                reason.name(),
                reason.policy().as_str(),
                reason.help()
            )
        })
        .collect();
    for row in &code {
        assert!(
            documented.contains(&row.as_str()),
            "docs/guide/drops.md needs the line\n{row}"
        );
    }
    assert_eq!(
        documented.len(),
        code.len(),
        "docs/guide/drops.md has a reason too many"
    );
}

/// Every document, with its name.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut documents = vec![("README.md".to_string(), read("README.md"))];
    for place in ["docs", "docs/guide"] {
        for entry in std::fs::read_dir(root.join(place)).expect("documents").flatten() {
            let name = format!("{place}/{}", entry.file_name().to_string_lossy());
            if name.ends_with(".md") {
                documents.push((name.clone(), read(&name)));
            }
        }
    }
    documents
}

/// The commands that stand in blocks of a document, without what is said of them behind.
fn commands(text: &str) -> Vec<String> {
    let mut fence = None;
    let mut commands = Vec::new();
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            fence = if fence.is_none() { Some(info) } else { None };
            continue;
        }
        let command = match fence {
            None => line.strip_prefix("    "),
            Some("console") => line.strip_prefix("# "),
            Some("sh") => Some(line),
            Some(_) => None,
        };
        let Some(command) = command else { continue };
        for part in command
            .split("  #")
            .next()
            .unwrap_or("")
            .split(" # ")
            .next()
            .unwrap_or("")
            .split("&&")
        {
            let part = part.split(['|', '>', ';']).next().unwrap_or("").trim();
            commands.push(part.to_string());
        }
    }
    commands
}

/// What is typed there is something that the program takes. Words in capitals stand for somebody's own.
#[test]
fn every_command_in_the_documents_is_one() {
    let mut seen = 0;
    for (name, text) in documents() {
        for command in commands(&text) {
            let words: Vec<&str> = command.split_whitespace().collect();
            if words.first() != Some(&"forwarder")
                || words.iter().any(|word| word.contains(['[', '<', '{', '"']))
            {
                continue;
            }
            seen += 1;
            // Words in capitals stand for an address more often than not.
            let words = words.iter().map(|word| match *word {
                "PREFIX" => "192.0.2.0/24",
                "ADDRESS" | "ADDR" | "SOURCE" => "192.0.2.1",
                "FILE" => "file.toml",
                word => word,
            });
            if let Err(why) = forwarder::cli::command().try_get_matches_from(words)
                && !matches!(
                    why.kind(),
                    clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
                )
            {
                panic!("{name}: {command}\n{why}");
            }
        }
    }
    assert!(seen > 80, "only {seen} commands were found");
}

/// A test that a document names is there.
#[test]
fn every_test_that_a_document_names_is_there() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (name, text) in documents() {
        for (_, after) in text
            .match_indices("--test ")
            .map(|(at, found)| text.split_at(at + found.len()))
        {
            let test: String = after
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                .collect();
            let there = [
                tests.join(format!("{test}.rs")),
                tests.join(&test).join("main.rs"),
            ];
            let elsewhere = ["kill", "NAME"].contains(&test.as_str());
            assert!(
                test.is_empty() || elsewhere || there.iter().any(|path| path.exists()),
                "{name} names the test {test}"
            );
        }
    }
}

/// A page that another leads to is there.
#[test]
fn every_link_between_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, text) in documents() {
        let place = root.join(&name);
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or("");
            let path = link.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let leads = place.parent().expect("a directory").join(path);
            assert!(leads.exists(), "{name} leads to {link}, which is not there");
        }
    }
}
