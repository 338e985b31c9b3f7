//! What the package carries beside the binary says what is there.

use std::{collections::BTreeSet, fs, path::Path};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The keys that may stand in a section, as the reader of the file itself lists them when it finds another; nothing where the
/// section is none.
fn keys(section: &str) -> Option<Vec<String>> {
    let error = forwarder::config::parse("f", &format!("{section}no-such-key = 1\n")).err()?;
    let list = error
        .message
        .contains("unknown key `no-such-key`")
        .then_some(error.advice)?;
    let (_, list) = list.split_once("llowed here: ")?;
    Some(list.split(", ").map(str::to_string).collect())
}

/// Every key of a section and of those below it, as `routes.bgp.listen`.
fn collect(path: &str, found: &mut BTreeSet<String>) {
    let of_section = match path {
        "" => keys(""),
        path => keys(&format!("[{path}]\n")).or_else(|| keys(&format!("{}\n", array(path)))),
    };
    for key in of_section.unwrap_or_default() {
        let below = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        collect(&below, found);
        found.insert(below);
    }
}

/// The header of a section that may stand more than once, within one that may.
fn array(path: &str) -> String {
    match path.strip_prefix("filter.rule.") {
        Some(below) => format!("[[filter.rule]]\n[filter.rule.{below}]"),
        None => format!("[[{path}]]"),
    }
}

#[test]
fn every_key_of_the_configuration_is_in_the_manual_and_no_other() {
    let mut found = BTreeSet::new();
    collect("", &mut found);
    for known in [
        "interface.source-check",
        "routes.bgp.neighbour.add-path",
        "filter.rule.match.tcp-flags",
        "punt.arp",
    ] {
        assert!(
            found.contains(known),
            "the reader does not list {known}: {found:#?}"
        );
    }
    let page = read("dist/man/forwarder.toml.5").replace("\\-", "-");
    let mut documented = BTreeSet::new();
    let mut section = String::new();
    for line in page.lines() {
        if let Some(head) = line.strip_prefix(".SS ") {
            section = head.trim_matches(['[', ']']).to_string();
            if section == "match" {
                section = "filter.rule.match".into();
            }
        }
        if let Some(key) = line.strip_prefix(".B ").filter(|_| !section.is_empty()) {
            documented.insert(format!("{section}.{key}"));
        }
    }
    // Sections have a heading, and no line of their own; the keys of a class stand once for all of them.
    let sections: BTreeSet<String> = found
        .iter()
        .filter(|key| found.iter().any(|other| other.starts_with(&format!("{key}."))))
        .cloned()
        .collect();
    let missing: Vec<&String> = found
        .difference(&documented)
        .filter(|key| !sections.contains(*key) && !key.ends_with(".rate") && !key.ends_with(".per-source"))
        .collect();
    assert!(missing.is_empty(), "not in forwarder.toml(5): {missing:?}");
    let in_words = ["punt.rate", "punt.per-source", "filter.rule.match"];
    let stale: Vec<&String> = documented
        .difference(&found)
        .filter(|key| !in_words.contains(&key.as_str()))
        .collect();
    assert!(
        stale.is_empty(),
        "forwarder.toml(5) tells of keys that there are none of: {stale:?}"
    );
}

#[test]
fn the_configuration_of_the_package_attaches_to_nothing_and_says_so() {
    let error = forwarder::config::parse("forwarder.toml", &read("dist/forwarder.toml")).unwrap_err();
    assert_eq!(error.message, "no interface is configured");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/forwarder.toml");
    assert!(!forwarder::config::names_an_interface(&path));
}

#[test]
fn the_configuration_of_the_package_is_sound_with_all_its_comments_taken_off() {
    let text: String = read("dist/forwarder.toml")
        .lines()
        // A # and a blank begin a sentence; a # alone stands before what may be written.
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = forwarder::config::parse("forwarder.toml", &text).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.filter.rules.len(), 1);
    assert!(config.routes.bgp.is_some() && config.routes.fpm.is_some());
}

#[test]
fn the_example_of_a_ring_router_is_sound() {
    let config = forwarder::config::parse("forwarder.toml", &read("dist/examples/forwarder.toml")).unwrap();
    assert_eq!(config.interfaces.len(), 3);
}

/// Values of a setting in the unit, of all its lines.
fn settings(unit: &str, name: &str) -> Vec<String> {
    let lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines
        .flat_map(str::split_whitespace)
        .map(str::to_string)
        .collect()
}

#[test]
fn the_service_has_three_capabilities_and_can_write_its_pins() {
    let unit = read("dist/systemd/forwarder.service");
    for name in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(
            settings(&unit, name),
            ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"],
            "{name}"
        );
    }
    assert_eq!(settings(&unit, "NoNewPrivileges"), ["yes"]);
    assert_eq!(settings(&unit, "Type"), ["notify"]);
    // It would make /sys/fs/bpf read-only.
    assert_ne!(settings(&unit, "ProtectKernelTunables"), ["yes"]);
    let filter = settings(&unit, "SystemCallFilter");
    for call in ["@system-service", "bpf", "perf_event_open", "membarrier"] {
        assert!(
            filter.iter().any(|word| word == call),
            "{call} is not in SystemCallFilter"
        );
    }
}

#[test]
fn nothing_in_the_service_takes_the_data_path_out() {
    let unit = read("dist/systemd/forwarder.service");
    for name in ["ExecStop", "ExecStopPost", "ExecStartPre"] {
        assert!(settings(&unit, name).is_empty(), "{name}");
    }
    assert_eq!(settings(&unit, "ExecStart"), ["/usr/bin/forwarder", "run"]);
    assert!(!unit.contains("forwarder detach\n"));
}
