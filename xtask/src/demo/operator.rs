//! What an operator asks: `forwarder ... --json`, and the kernel's own counters beside it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::screen::grouped;
use crate::interrupt;
use crate::lab::topology::ROUTERS;
use crate::lab::{self, Lab};
use crate::net::ns;
use crate::progress::{self, Poll};

/// One row of `--json` output.
pub type Row = Map<String, Value>;

/// The text of a `forwarder` command on a router.
pub fn text(lab: &Lab, node: &str, words: &str) -> Result<String> {
    lab::run(lab.command(node, "forwarder")?.args(words.split(' ')))
}

/// The rows of a `forwarder ... --json` command. `verify` exits 1 when it has rows: the status alone is no error.
pub fn rows(lab: &Lab, node: &str, words: &str) -> Result<Vec<Row>> {
    let what = || format!("`forwarder {words} --json` on {node}");
    let output = lab
        .command(node, "forwarder")?
        .args(words.split(' '))
        .arg("--json")
        .output()
        .with_context(what)?;
    match serde_json::from_slice(&output.stdout) {
        Ok(Value::Array(rows)) => rows
            .into_iter()
            .map(|row| match row {
                Value::Object(row) => Ok(row),
                other => bail!("{} has a row that is no object: {other}", what()),
            })
            .collect(),
        Ok(Value::Object(row)) => Ok(vec![row]),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} printed no JSON ({}): {}", what(), output.status, said.trim())
        }
    }
}

/// A number of a row.
pub fn number(row: &Row, field: &str) -> Result<u64> {
    let value = row.get(field).and_then(Value::as_u64);
    value.with_context(|| format!("no number {field:?} in {}", Value::Object(row.clone())))
}

/// A text of a row.
pub fn word<'a>(row: &'a Row, field: &str) -> Result<&'a str> {
    let value = row.get(field).and_then(Value::as_str);
    value.with_context(|| format!("no text {field:?} in {}", Value::Object(row.clone())))
}

/// Packets that one router's fast path forwarded since it was loaded.
pub fn forwarded(lab: &Lab, node: &str) -> Result<u64> {
    rows(lab, node, "interfaces")?
        .iter()
        .map(|row| number(row, "forwarded_packets"))
        .sum()
}

/// Packets of each prefix of a router.
pub fn by_prefix(lab: &Lab, node: &str) -> Result<HashMap<String, u64>> {
    rows(lab, node, "counters --by prefix")?
        .iter()
        .map(|row| Ok((word(row, "prefix")?.to_string(), number(row, "packets")?)))
        .collect()
}

/// Packets of a reason on one router, over all its interfaces.
pub fn reason(lab: &Lab, node: &str, reason: &str) -> Result<u64> {
    rows(lab, node, "drops")?
        .iter()
        .filter(|row| word(row, "reason").is_ok_and(|name| name == reason))
        .map(|row| number(row, "packets"))
        .sum()
}

/// Packets that the kernels of the routers forwarded themselves, IPv4 and IPv6.
pub fn kernel_forwarded(lab: &Lab) -> Result<u64> {
    ROUTERS
        .iter()
        .map(|node| {
            ns::run(&lab.netns_path(node), || {
                let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
                let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6")?;
                snmp(&v4)
                    .zip(snmp6(&v6))
                    .map(|(v4, v6)| v4 + v6)
                    .context("no forwarding counters in /proc/net")
            })
        })
        .sum()
}

fn snmp(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let column = names
        .split_whitespace()
        .position(|name| name == "ForwDatagrams")?;
    values.split_whitespace().nth(column)?.parse().ok()
}

fn snmp6(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.starts_with("Ip6OutForwDatagrams"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits until `verify` finds no difference between the fast path and the kernel on any router; the figure tells the
/// sizes.
pub fn wait_in_sync(lab: &Lab, limit: Duration) -> Result<(bool, String)> {
    progress::wait(
        "the fast path's tables in step with the kernel's",
        limit,
        Duration::from_millis(200),
        || {
            for node in ROUTERS {
                let differences = rows(lab, node, "verify")?;
                if let Some(first) = differences.first() {
                    let first = Value::Object(first.clone());
                    return Ok(Poll::Waiting(format!(
                        "{node}: {} differences, the first {first}",
                        differences.len()
                    )));
                }
            }
            Ok(Poll::Ready(()))
        },
    )?;
    Ok((true, "0 differences on both routers".into()))
}

/// Law 2: what an interface received is what became of it; and the prefixes add up to what was forwarded. A packet that
/// comes between two readings opens a sum, so that a few readings are allowed; a real hole stays open.
pub fn sums(lab: &Lab) -> Result<(bool, String)> {
    let mut last = read_sums(lab)?;
    for _ in 0..5 {
        if last.1.is_empty() {
            break;
        }
        interrupt::sleep(Duration::from_millis(200))?;
        last = read_sums(lab)?;
    }
    let (received, open) = last;
    if open.is_empty() {
        Ok((
            true,
            format!("{} packets received, each accounted once", grouped(received)),
        ))
    } else {
        Ok((false, open.join("; ")))
    }
}

/// Packets received by both routers, and the sums that do not close.
fn read_sums(lab: &Lab) -> Result<(u64, Vec<String>)> {
    let mut open = Vec::new();
    let mut received = 0;
    for node in ROUTERS {
        let mut forwarded = 0;
        for row in rows(lab, node, "interfaces")? {
            let all = number(&row, "received_packets")?;
            let parts = number(&row, "forwarded_packets")?
                + number(&row, "dropped_packets")?
                + number(&row, "passed_packets")?;
            if all != parts {
                open.push(format!(
                    "{node} {}: received {all}, accounted {parts}",
                    word(&row, "ifname")?
                ));
            }
            received += all;
            forwarded += number(&row, "forwarded_packets")?;
        }
        let prefixes: u64 = by_prefix(lab, node)?.values().sum();
        if prefixes != forwarded {
            open.push(format!(
                "{node}: forwarded {forwarded}, prefixes add up to {prefixes}"
            ));
        }
    }
    Ok((received, open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_counters_are_read_by_name() {
        let text =
            "Ip: Forwarding DefaultTTL InReceives ForwDatagrams\nIp: 1 64 1000 42\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(snmp(text), Some(42));
        assert_eq!(
            snmp6("Ip6InReceives  \t9\nIp6OutForwDatagrams             \t7\n"),
            Some(7)
        );
        assert_eq!(snmp("Ip: Forwarding\n"), None);
    }
}
