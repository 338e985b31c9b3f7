//! What the kernel's own selftests of forwarding demand of a router (tools/testing/selftests/net: forwarding/router.sh,
//! router_multipath.sh, router_mpath_nh.sh, router_broadcast.sh; pmtu.sh), told again for a router with forwarder on it. Beside each
//! demand stands who met it: what the fast path forwards must be in its counters, what is the kernel's under its reason.

mod broadcast;
mod mtu;
mod multipath;
mod router;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame,
    lab::{LIMIT, Lab},
    operator::{figure, forwarded},
    packets::Wire,
};

/// MACs of a frame from host a to the router.
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
/// Those of a frame from the router to host b.
const TO_B: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 2, 2], [2, 0, 0, 0, 2, 1]);
/// As many packets as the selftests send where all must arrive.
const PACKETS: usize = 5;

/// Runs ping on a node, and answers what it said; whether it got an answer is for the caller to read.
fn ping(lab: &Lab, node: &str, words: &str) -> Result<String> {
    let output = lab
        .command(node, "ping")
        .args(words.split_whitespace())
        .output()
        .context("ping")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ten echoes from host a, all answered, and forwarded by the fast path in both directions: those that come back by these cables.
fn pings(lab: &Lab, to: &str, back: &[&str]) -> Result<()> {
    let replies = || -> Result<i64> { back.iter().map(|name| forwarded(lab, name)).sum() };
    let before = (forwarded(lab, "a")?, replies()?);
    let said = ping(lab, "a", &format!("-q -c 10 -i 0.1 -w 10 {to}"))?;
    ensure!(said.contains(" 10 received"), "{to}: {said}\n{}", lab.picture());
    let moved = (forwarded(lab, "a")? - before.0, replies()? - before.1);
    ensure!(moved == (10, 10), "{to}: forwarded {moved:?}\n{}", lab.picture());
    Ok(())
}

/// What an interface has counted for a reason.
fn counted(lab: &Lab, ifname: &str, reason: &str) -> Result<i64> {
    let rows = lab.json("drops")?;
    let mut rows = rows.as_array().into_iter().flatten();
    let found = rows.find(|row| row["ifname"] == ifname && row["reason"] == reason);
    found.map_or(Ok(0), |row| figure(row, "packets"))
}

/// Sends a frame from host a five times, and demands that it arrives at b as often, as a router sends it on.
fn crosses(lab: &Lab, wires: [&Wire; 2], sent: &[u8], to: ([u8; 6], [u8; 6])) -> Result<()> {
    let wanted = frame::routed(sent, to.0, to.1, sent.len());
    for number in 0..PACKETS {
        wires[0].send(sent)?;
        let arrived = wires[1].receive(LIMIT, |frame| frame == wanted)?;
        ensure!(
            arrived.is_some(),
            "packet {number} is lost: {sent:02x?}\n{}",
            lab.picture()
        );
    }
    Ok(())
}
