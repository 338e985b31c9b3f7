//! router_broadcast.sh: who answers an echo to the broadcast address of a subnet, with `bc_forwarding` off and on.

use anyhow::{Result, ensure};
use forwarder_tests::{
    lab::{HOSTS, Lab},
    operator::forwarded,
};

use super::{counted, ping};

/// An echo from a host to an address, and who answers; nobody where that is empty.
type Echo = (&'static str, &'static str, &'static str);

/// As the selftest has it: the router answers for all of its subnets.
const OFF: [Echo; 8] = [
    ("a", "10.2.0.255", "10.1.0.1"),
    ("a", "10.3.0.255", "10.1.0.1"),
    ("a", "10.1.0.255", "10.1.0.1"),
    ("a", "255.255.255.255", "10.1.0.1"),
    ("b", "10.1.0.255", "10.2.0.1"),
    ("b", "10.3.0.255", "10.2.0.1"),
    ("b", "10.2.0.255", "10.2.0.1"),
    ("b", "255.255.255.255", "10.2.0.1"),
];
/// The hosts of those subnets answer; on its own the echo ends.
const ON: [Echo; 8] = [
    ("a", "10.2.0.255", "10.2.0.2"),
    ("a", "10.3.0.255", "10.3.0.2"),
    ("a", "10.1.0.255", ""),
    ("a", "255.255.255.255", "10.1.0.1"),
    ("b", "10.1.0.255", "10.1.0.2"),
    ("b", "10.3.0.255", "10.3.0.2"),
    ("b", "10.2.0.255", ""),
    ("b", "255.255.255.255", "10.2.0.1"),
];

fn switch(lab: &Lab, on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    for name in ["all", "a", "b"] {
        lab.sysctl("router", &format!("ipv4/conf/{name}/bc_forwarding"), value)?;
    }
    Ok(())
}

fn echo(lab: &Lab, (host, to, from): Echo) -> Result<()> {
    // More than one, because the host itself may be the first to answer. Who is not to answer has a second for it.
    let tries = if from.is_empty() {
        "-c 5 -i 0.2 -w 1"
    } else {
        "-c 5 -i 0.2 -w 5"
    };
    let said = ping(lab, host, &format!("-b -n -I {host} {tries} {to}"))?;
    let answers: Vec<&str> = said.lines().filter(|line| line.contains("bytes from")).collect();
    let right = if from.is_empty() {
        // The kernel drops what came in by the very subnet; a host of it may answer all the same.
        !answers
            .iter()
            .any(|line| line.contains(&format!("from 10.{}.0.1:", &to[3..4])))
    } else {
        answers.iter().any(|line| line.contains(&format!("from {from}:")))
    };
    ensure!(
        right,
        "{host} to {to}, not answered by {from:?}: {said}\n{}",
        lab.picture()
    );
    Ok(())
}

#[test]
fn broadcasts_of_subnets_are_answered_by_those_whose_they_are() -> Result<()> {
    let lab = Lab::new()?;
    lab.resolve_carriers()?;
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.resolve("router", address)?;
    }
    for node in HOSTS.iter().chain(&["router"]) {
        lab.sysctl(node, "ipv4/icmp_echo_ignore_broadcasts", "0")?;
    }
    let controller = lab.start(&["a", "b", "c"], "")?;
    switch(&lab, false)?;
    let before = (
        counted(&lab, "a", "broadcast")?,
        counted(&lab, "a", "link-multicast")?,
    );
    OFF.into_iter().try_for_each(|one| echo(&lab, one))?;
    let moved = (
        counted(&lab, "a", "broadcast")? - before.0,
        counted(&lab, "a", "link-multicast")? - before.1,
    );
    ensure!(
        moved.0 >= 2 && moved.1 >= 2,
        "the kernel's to answer: {moved:?}\n{}",
        lab.picture()
    );
    switch(&lab, true)?;
    // What hosts answer with is no broadcast any more.
    let before = [
        forwarded(&lab, "a")?,
        forwarded(&lab, "b")?,
        forwarded(&lab, "c")?,
    ];
    ON.into_iter().try_for_each(|one| echo(&lab, one))?;
    for (name, before) in HOSTS.iter().zip(before) {
        ensure!(
            forwarded(&lab, name)? > before,
            "answers from {name} go by the kernel\n{}",
            lab.picture()
        );
    }
    drop(controller);
    Ok(())
}
