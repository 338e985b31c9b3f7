//! FRR on routers: zebra, staticd and bgpd, and what vtysh says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::process::Process;
use super::routing::Session;
use super::{Lab, peers, system};
use crate::progress::{self, Poll};

const ROUTER: &str = include_str!("router.conf");
/// What is ours and not there is unreachable, and not the carrier's to have back.
const STATICS: &str = "ip route 192.0.2.0/24 reject 250\nip route 203.0.113.0/24 reject 250\nipv6 route 2001:db8::/32 reject 250\n";

/// Where Debian puts the daemons.
const DAEMONS: &str = "/usr/lib/frr";

/// Families, as bgpd's JSON names them.
const FAMILIES: [&str; 2] = ["ipv4Unicast", "ipv6Unicast"];

/// Makes the directory that daemons have their files in.
///
/// # Errors
/// FRR is not installed.
pub fn directory(dir: &Path) -> Result<()> {
    // They give up root for a user of their own, who must be able to write there.
    system::run(
        Command::new("install")
            .args(["-d", "-o", "frr", "-g", "frr"])
            .arg(dir),
    )
    .context("there is no user frr: `cargo xtask setup` installs FRR")
    .map(drop)
}

/// The program of a daemon.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    Path::new(DAEMONS).join(name)
}

/// Has a daemon run in the foreground, with its files in a directory, its configuration among them.
pub fn arguments(command: &mut Command, dir: &Path, name: &str) {
    command
        .args(["-u", "frr", "-g", "frr", "-P", "0", "--log", "stdout", "-f"])
        .arg(dir.join(format!("{name}.conf")))
        .arg("-i")
        .arg(dir.join(format!("{name}.pid")))
        .arg("-z")
        .arg(dir.join("zserv"))
        .arg("--vty_socket")
        .arg(dir);
}

/// What a daemon answers to these lines, one after the other.
///
/// # Errors
/// It does not.
pub fn vtysh(dir: &Path, daemon: &str, lines: &[&str]) -> Result<String> {
    let mut command = Command::new("vtysh");
    command.arg("--vty_socket").arg(dir).args(["-d", daemon]);
    for line in lines {
        command.args(["-c", line]);
    }
    system::run(&mut command)
}

/// The configuration of bgpd on one of our routers; zebra needs none.
fn config(node: &str) -> String {
    // Longer names first: some begin like others.
    let mut names = peers::router(node);
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let replace = |text: String, (name, value): &(String, String)| text.replace(name, value);
    names.iter().fold(ROUTER.to_string(), replace)
}

/// Writes the configurations of a router.
pub fn write_configs(lab: &Lab, node: &str) -> Result<()> {
    directory(&dir(lab, node))?;
    system::write(&file(lab, node, "zebra.conf"), "hostname router\n")?;
    system::write(&file(lab, node, "staticd.conf"), STATICS)?;
    system::write(&file(lab, node, "bgpd.conf"), &config(node))
}

/// Starts zebra, and when it answers, the others.
pub fn start(lab: &Lab, node: &str) -> Result<Vec<Process>> {
    let zebra = daemon(lab, node, "zebra")?;
    progress::wait(
        &format!("zebra on {node}"),
        Duration::from_secs(20),
        Duration::from_millis(50),
        || {
            let answers = ask(lab, node, "zebra", "show version").is_ok();
            Ok(if answers {
                Poll::Ready(())
            } else {
                Poll::Waiting("it does not answer yet".into())
            })
        },
    )?;
    let [statics, bgp] = ["staticd", "bgpd"].map(|name| daemon(lab, node, name));
    Ok(vec![zebra, statics?, bgp?])
}

fn daemon(lab: &Lab, node: &str, name: &str) -> Result<Process> {
    let mut command = system::inside(&lab.netns(node), program(name));
    arguments(&mut command, &dir(lab, node), name);
    Process::start(name, node, &mut command, &log_path(lab, node, name))
}

fn dir(lab: &Lab, node: &str) -> PathBuf {
    lab.dir().join(format!("{node}.frr"))
}

fn file(lab: &Lab, node: &str, name: &str) -> PathBuf {
    dir(lab, node).join(name)
}

/// What a daemon prints.
pub fn log_path(lab: &Lab, node: &str, name: &str) -> PathBuf {
    lab.dir().join(format!("{node}.{name}.log"))
}

fn ask(lab: &Lab, node: &str, daemon: &str, words: &str) -> Result<String> {
    vtysh(&dir(lab, node), daemon, &[words])
}

fn summary(lab: &Lab, node: &str) -> Result<Value> {
    let text = ask(lab, node, "bgpd", "show bgp summary json")?;
    serde_json::from_str(&text).context("`show bgp summary json` said something else")
}

/// The BGP sessions of a router.
pub fn sessions(lab: &Lab, node: &str) -> Result<Vec<Session>> {
    Ok(parse_sessions(&summary(lab, node)?))
}

fn parse_sessions(summary: &Value) -> Vec<Session> {
    let peers = FAMILIES
        .iter()
        .filter_map(|family| summary[family]["peers"].as_object());
    let session = |(address, peer): (&String, &Value)| Session {
        name: address.clone(),
        state: peer["state"].as_str().unwrap_or("?").to_string(),
        since: peer["peerUptime"].as_str().unwrap_or("-").to_string(),
    };
    peers.flatten().map(session).collect()
}

/// Prefixes that bgpd knows, IPv4 and IPv6.
pub fn networks(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    let count = |family: &str, key: &str| -> Result<usize> {
        let words = format!("show bgp {family} unicast statistics json");
        let statistics: Value = serde_json::from_str(&ask(lab, node, "bgpd", &words)?)
            .with_context(|| format!("`{words}` said something else"))?;
        let prefixes = &statistics[key][0]["totalPrefixes"];
        Ok(prefixes.as_u64().unwrap_or(0) as usize)
    };
    Ok([count("ipv4", FAMILIES[0])?, count("ipv6", FAMILIES[1])?])
}

/// Prefixes that its carrier has told, IPv4 and IPv6.
pub fn learned(lab: &Lab, node: &str) -> Result<[usize; 2]> {
    let summary = summary(lab, node)?;
    let names = peers::router(node);
    let address = |name: &str| {
        names
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, at)| at.as_str())
    };
    Ok(
        [("CARRIER4", FAMILIES[0]), ("CARRIER6", FAMILIES[1])].map(|(name, family)| {
            let peer = &summary[family]["peers"][address(name).unwrap_or_default()];
            peer["pfxRcd"].as_u64().unwrap_or(0) as usize
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_configuration_is_replaced() {
        for node in ["router-a", "router-b"] {
            let text = config(node);
            let left = text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .find(|word| {
                    word.starts_with("CARRIER") || word.starts_with("TWIN") || word.ends_with("_AS")
                });
            assert_eq!(left, None, "{text}");
        }
    }

    #[test]
    fn sessions_of_both_families_are_read() {
        let text = r#"{"ipv4Unicast":{"peers":{"33.10.0.1":{"state":"Established","peerUptime":"00:01:02","pfxRcd":5}}},
                       "ipv6Unicast":{"peers":{"2a1f:a::1":{"state":"Active","peerUptime":"never"}}}}"#;
        let found = parse_sessions(&serde_json::from_str(text).unwrap());
        let told: Vec<_> = found
            .iter()
            .map(|s| (s.name.as_str(), s.state.as_str()))
            .collect();
        assert_eq!(told, [("33.10.0.1", "Established"), ("2a1f:a::1", "Active")]);
    }
}
