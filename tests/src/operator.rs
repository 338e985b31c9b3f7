//! What an operator would look at, as tests ask for it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;

/// How many times the lab's own limit a daemon may take: some wait for half a minute after some ends.
const PATIENCE: usize = 3;

/// The row of a listing that has this value; null where none has.
///
/// # Errors
/// The command fails.
pub fn row(lab: &Lab, line: &str, key: &str, value: &str) -> Result<Value> {
    let rows = lab.json(line)?;
    let found = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row[key] == value);
    Ok(found.cloned().unwrap_or_default())
}

/// The sums of these interfaces close (law 2), and the table is the kernel's.
///
/// # Errors
/// They do not, or it is not; with what an operator would look at.
pub fn sound(lab: &Lab, interfaces: &[&str]) -> Result<()> {
    for ifname in interfaces {
        patient(lab, &format!("the sums of {ifname} to close"), || {
            let found = row(lab, "interfaces", "ifname", ifname)?;
            Ok((found["ingress_residue"] == 0 && found["egress_residue"] == 0).then_some(()))
        })?;
    }
    let verified = lab.forwarder("verify")?;
    ensure!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        lab.picture()
    );
    Ok(())
}

/// A figure of a row.
///
/// # Errors
/// There is none.
pub fn figure(row: &Value, key: &str) -> Result<i64> {
    row[key].as_i64().with_context(|| format!("no {key} in {row}"))
}

/// Packets that came in here and were forwarded by the program.
///
/// # Errors
/// No such interface.
pub fn forwarded(lab: &Lab, ifname: &str) -> Result<i64> {
    figure(&row(lab, "interfaces", "ifname", ifname)?, "forwarded_packets")
}

/// The first source of a kind in `status`; null where there is none yet.
///
/// # Errors
/// No controller.
pub fn source(lab: &Lab, kind: &str) -> Result<Value> {
    let status = lab.json("status")?;
    let mut sources = status[0]["sources"].as_array().into_iter().flatten();
    Ok(sources
        .find(|row| row["kind"] == kind)
        .cloned()
        .unwrap_or_default())
}

/// Waits until the first source of a kind is so, and answers its row.
///
/// # Errors
/// It does not become so: what it is.
pub fn wait_source(lab: &Lab, kind: &str, what: &str, mut so: impl FnMut(&Value) -> bool) -> Result<Value> {
    patient(lab, &format!("{kind}: {what}"), || {
        let row = source(lab, kind)?;
        Ok(so(&row).then_some(row))
    })
}

/// As [`Lab::wait`], for what a daemon must do first.
///
/// # Errors
/// It did not happen: what an operator would look at.
pub fn patient<T>(lab: &Lab, what: &str, mut done: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let mut result = lab.wait(what, &mut done);
    for _ in 1..PATIENCE {
        if result.is_ok() {
            break;
        }
        result = lab.wait(what, &mut done);
    }
    result.with_context(|| lab.picture())
}

/// Whether a row of a source says that it is in this state with so many routes of each family.
pub fn is(row: &Value, state: &str, routes: [usize; 2]) -> bool {
    row["state"] == state && row["routes_ipv4"] == routes[0] && row["routes_ipv6"] == routes[1]
}

/// Where the data path sends packets to an address: gateways of its next hops that are usable, sorted.
///
/// # Errors
/// The command fails.
pub fn ways(lab: &Lab, address: &str) -> Result<Vec<String>> {
    // `lookup` answers no where the kernel would do something else, which is what these tests are about.
    let output = lab.forwarder(&format!("lookup {address} --json"))?;
    ensure!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Value = serde_json::from_slice(&output.stdout).context("lookup --json")?;
    let ours = rows.as_array().into_iter().flatten();
    let mut ways: Vec<String> = ours
        .filter(|row| row["by"] == "data-path" && row["state"] == "usable")
        .filter_map(|row| Some(row["via"].as_str()?.to_string()))
        .collect();
    ways.sort();
    Ok(ways)
}

/// Waits until the data path sends packets to an address by these gateways and by no others.
///
/// # Errors
/// It does not: which it takes.
pub fn settle(lab: &Lab, address: &str, gateways: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    patient(lab, &format!("{address} by {gateways:?}"), || {
        last = ways(lab, address)?;
        Ok((last == gateways).then_some(()))
    })
    .with_context(|| format!("{address} goes by {last:?}"))
}

/// What the sources say of a prefix, the one that counts first.
///
/// # Errors
/// The command fails.
pub fn candidates(lab: &Lab, prefix: &str) -> Result<Vec<Value>> {
    let rows = lab.json(&format!("routes {prefix}"))?;
    let rows = rows.as_array().into_iter().flatten();
    Ok(rows
        .filter(|row| row["by"] != "data-path" && row["prefix"] == prefix)
        .cloned()
        .collect())
}
