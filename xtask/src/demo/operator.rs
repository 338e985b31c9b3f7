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

/// Law 2: what an interface received is what became of it, what was sent to an interface is what its driver took or
/// refused, the driver's own count agrees, and prefixes add up to what was forwarded. A packet that comes between two
/// readings opens a sum, so that a few readings are allowed; a real hole stays open.
pub fn sums(lab: &Lab) -> Result<(bool, String)> {
    let mut last = Sums::read(lab)?;
    for _ in 0..10 {
        if last.open.is_empty() {
            break;
        }
        interrupt::sleep(Duration::from_millis(200))?;
        last = Sums::read(lab)?;
    }
    if last.open.is_empty() {
        let (received, sent, lost) = (grouped(last.received), grouped(last.sent), last.lost);
        Ok((
            true,
            format!("{received} received, {sent} sent on, {lost} lost in drivers: every sum closes"),
        ))
    } else {
        Ok((false, last.open.join("; ")))
    }
}

#[derive(Default)]
struct Sums {
    received: u64,
    sent: u64,
    lost: u64,
    open: Vec<String>,
}

impl Sums {
    fn read(lab: &Lab) -> Result<Self> {
        let mut all = Self::default();
        for node in ROUTERS {
            let (mut forwarded, mut sent) = (0, 0);
            for row in rows(lab, node, "interfaces")? {
                let ifname = word(&row, "ifname")?;
                let received = number(&row, "received_packets")?;
                let parts = number(&row, "forwarded_packets")?
                    + number(&row, "dropped_packets")?
                    + number(&row, "passed_packets")?;
                if received != parts {
                    all.open
                        .push(format!("{node} {ifname}: received {received}, accounted {parts}"));
                }
                for residue in ["ingress_residue", "egress_residue"] {
                    // Null where the kernel does not tell.
                    if let Some(open) = row.get(residue).and_then(Value::as_i64).filter(|open| *open != 0) {
                        all.open.push(format!("{node} {ifname}: {residue} {open}"));
                    }
                }
                all.received += received;
                all.lost += number(&row, "redirect_errors")? + number(&row, "transmit_errors")?;
                forwarded += number(&row, "forwarded_packets")?;
                sent += number(&row, "sent_packets")?;
            }
            let prefixes: u64 = by_prefix(lab, node)?.values().sum();
            if prefixes != forwarded || sent != forwarded {
                all.open.push(format!(
                    "{node}: forwarded {forwarded}, by egress {sent}, by prefix {prefixes}"
                ));
            }
            all.sent += sent;
        }
        Ok(all)
    }
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
