//! The documents say what is there.

use std::{collections::BTreeSet, path::Path};

use forwarder_common::maps;

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

#[test]
fn the_readme_fits_two_screens() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 100, "README.md has {lines} lines");
}
