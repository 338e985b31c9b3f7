//! BIRD's configurations: a file for carriers and one for routers, each after the few lines that tell which it is.

use std::fmt::Write as _;

use crate::lab::peers;

const CARRIER: &str = include_str!("carrier.conf");
const ROUTER: &str = include_str!("router.conf");
const FEED: &str = include_str!("feed.conf");

/// The configuration of a carrier.
pub fn carrier(node: &str) -> String {
    let mut text = head(node, &peers::carrier(node));
    for (family, own) in ["4", "6"].into_iter().zip(peers::own_networks(node)) {
        let _ = writeln!(
            text,
            "protocol static own{family} {{ ipv{family}; route {own} unreachable; }}"
        );
    }
    text + "\n" + CARRIER
}

/// The configuration of one of our routers; with forwarder there, a session with it.
pub fn router(node: &str, forwarder: bool) -> String {
    let mut text = head(node, &peers::router(node)) + "\n" + ROUTER;
    if forwarder {
        let _ = writeln!(text, "{FEED}include \"{}\";", rules(node));
    }
    text
}

/// The file of a router's FlowSpec rules.
pub fn rules(node: &str) -> String {
    format!("{node}.rules.conf")
}

fn head(node: &str, names: &[(String, String)]) -> String {
    let mut text = format!("# {node}\n");
    for (name, value) in names {
        let _ = writeln!(text, "define {name} = {value};");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_a_configuration_uses_is_defined() {
        for text in [
            carrier("transit-a"),
            carrier("transit-b"),
            router("router-a", true),
            router("router-b", false),
        ] {
            let defined: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("define ")?.split(' ').next())
                .collect();
            let lines = text.lines().filter(|line| !line.starts_with(['#', 'd']));
            for word in lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')) {
                if ["CARRIER", "TWIN", "CUSTOMER", "PEER"]
                    .iter()
                    .any(|name| word.starts_with(name))
                    || word.ends_with("_AS")
                {
                    assert!(defined.contains(&word), "{word}");
                }
            }
        }
    }
}
