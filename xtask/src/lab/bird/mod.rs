//! BIRD on carriers and routers: start, and what `birdc` says.

mod config;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::process::Process;
use super::routing::{SPEAKERS, Session};
use super::{Lab, system};
use crate::table::Route;

/// The name of a router's session with forwarder, in the configuration.
pub const FEED: &str = "forwarder";

/// Writes the configurations, those of routers with a session with forwarder or without; the table goes once into a file that
/// both carriers include.
pub fn write_configs(lab: &Lab, tables: [&[Route]; 2], forwarder: bool) -> Result<()> {
    let path = lab.dir().join("table.conf");
    let file = std::fs::File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    for (family, table) in ["4", "6"].into_iter().zip(tables) {
        writeln!(file, "protocol static world{family} {{ ipv{family};")?;
        for Route {
            address,
            length,
            origin,
        } in table
        {
            writeln!(
                file,
                "route {address}/{length} blackhole {{ bgp_path.prepend({origin}); }};"
            )?;
        }
        writeln!(file, "}}")?;
    }
    file.flush()
        .with_context(|| format!("writing {}", path.display()))?;
    for node in SPEAKERS {
        let text = if node.starts_with("transit") {
            config::carrier(node)
        } else {
            system::write(&rules_path(lab, node), "")?;
            config::router(node, forwarder)
        };
        system::write(&config_path(lab, node), &text)?;
    }
    Ok(())
}

/// Starts BIRD on a node, in the foreground of its own process group.
pub fn start(lab: &Lab, node: &str) -> Result<Process> {
    let mut command = system::inside(&lab.netns(node), "bird");
    command
        .arg("-f")
        .arg("-c")
        .arg(config_path(lab, node))
        .arg("-s")
        .arg(socket(lab, node));
    Process::start("bird", node, &mut command, &log_path(lab, node))
}

fn config_path(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.conf"))
}

/// The file that a router's FlowSpec rules are in.
pub fn rules_path(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(config::rules(node))
}

fn socket(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.ctl"))
}

/// What it prints.
pub fn log_path(lab: &Lab, node: &str) -> std::path::PathBuf {
    lab.dir().join(format!("{node}.bird.log"))
}

/// One `birdc` command on a node.
pub fn birdc(lab: &Lab, node: &str, words: &str) -> Result<String> {
    let path: &Path = &socket(lab, node);
    system::run(Command::new("birdc").arg("-s").arg(path).args(words.split(' ')))
}

/// One line of `show protocols`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Protocol {
    /// Name in the configuration.
    name: String,
    /// `BGP`, `Kernel`, `Static`...
    kind: String,
    /// For BGP `Established` or the reason why not; else `up` or `down`.
    state: String,
    /// When it changed.
    since: String,
}

/// The BGP sessions of a node.
pub fn sessions(lab: &Lab, node: &str) -> Result<Vec<Session>> {
    let protocols = protocols(lab, node)?.into_iter();
    let sessions = protocols.filter(|protocol| protocol.kind == "BGP");
    Ok(sessions
        .map(|protocol| Session {
            name: protocol.name,
            state: protocol.state,
            since: protocol.since,
        })
        .collect())
}

/// The protocols of a node, without the device protocol.
fn protocols(lab: &Lab, node: &str) -> Result<Vec<Protocol>> {
    Ok(parse_protocols(&birdc(lab, node, "show protocols")?))
}

fn parse_protocols(text: &str) -> Vec<Protocol> {
    text.lines()
        .skip_while(|line| !line.starts_with("Name"))
        .skip(1)
        .filter_map(|line| {
            // Name Proto Table State Since Info...
            let words: Vec<_> = line.split_whitespace().collect();
            let [name, kind, _, state, since, info @ ..] = words.as_slice() else {
                return None;
            };
            let state = if *kind == "BGP" && !info.is_empty() {
                info.join(" ")
            } else {
                (*state).to_string()
            };
            Some(Protocol {
                name: (*name).into(),
                kind: (*kind).into(),
                state,
                since: (*since).into(),
            })
        })
        .filter(|protocol| protocol.kind != "Device")
        .collect()
}

/// Routes in BIRD's master tables: networks for IPv4 and IPv6.
pub fn networks(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    let text = birdc(lab, node, "show route count")?;
    let count = |table: &str| {
        text.lines()
            .find(|line| line.ends_with(table))
            .and_then(|line| line.split(" for ").nth(1)?.split(' ').next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok([count("master4"), count("master6")])
}

/// Routes that a router has learned from its carrier, IPv4 and IPv6.
pub fn learned(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    Ok([imported(lab, node, "carrier4")?, imported(lab, node, "carrier6")?])
}

/// Routes that a protocol has imported: a counter of BIRD's, where `show route count` would walk the table.
fn imported(lab: &Lab, node: &str, protocol: &str) -> Result<usize> {
    let text = birdc(lab, node, &format!("show protocols all {protocol}"))?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Routes:"));
    Ok(line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birdc_tables_are_read() {
        let text = "BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n\
                    device1    Device     ---        up     10:33:45.094  \n\
                    twin_ipv4  BGP        ---        start  10:33:45.094  Active        Socket: Connection refused\n\
                    own_ipv4   Static     master4    up     10:33:45.094  \n";
        let found = parse_protocols(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].state, "Active Socket: Connection refused");
        assert_eq!(
            (found[1].name.as_str(), found[1].state.as_str()),
            ("own_ipv4", "up")
        );
    }
}
