//! The kernel under `cargo xtask vm` has what the tests of bonds and VLANs stand on: two hosts with a bond of two cables
//! between them and a VLAN on it. No forwarder is here: when this fails, theirs need not be looked at.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::ring;

/// Under emulation, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Two namespaces, gone when this is dropped.
struct Hosts([String; 2]);

impl Hosts {
    fn new() -> Result<Hosts> {
        let hosts = Hosts(["left", "right"].map(|side| format!("ring{}-{side}", std::process::id())));
        for name in &hosts.0 {
            run("ip", &format!("netns add {name}"))?;
        }
        Ok(hosts)
    }

    /// `ip` on one of them.
    fn ip(&self, host: usize, line: &str) -> Result<String> {
        run("ip", &format!("-n {} {line}", self.0[host]))
    }

    /// Another program on one of them.
    fn run(&self, host: usize, line: &str) -> Result<String> {
        run("nsenter", &format!("--net=/run/netns/{} {line}", self.0[host]))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = run("ip", &format!("netns del {name}"));
        }
    }
}

fn run(program: &str, line: &str) -> Result<String> {
    let output = Command::new(program)
        .args(line.split_whitespace())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {line}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Whether a cable of a bond sends and receives, with the partner's word for it (the state that 802.1AX calls
/// distributing, bit 5 beside collecting, bit 4, and synchronised, bit 3).
fn distributes(bond: &serde_json::Value) -> bool {
    let member = &bond[0]["linkinfo"]["info_slave_data"];
    let bits = |name: &str| member[name].as_u64().unwrap_or_default();
    const BOTH_WAYS: u64 = 0b11_1000;
    ["ad_actor_oper_port_state", "ad_partner_oper_port_state"]
        .iter()
        .all(|name| bits(name) & BOTH_WAYS == BOTH_WAYS)
}

#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_bond_negotiates_and_a_vlan_on_it_carries_packets() -> Result<()> {
    ring::needs(&["bond", "vlan", "veth"])?;
    let hosts = Hosts::new()?;
    for cable in ["c0", "c1"] {
        run(
            "ip",
            &format!(
                "link add name {cable} netns {} type veth peer name {cable} netns {}",
                hosts.0[0], hosts.0[1]
            ),
        )?;
    }
    for host in [0, 1] {
        let bond = "mode 802.3ad miimon 100 lacp_rate fast xmit_hash_policy layer3+4";
        hosts.ip(host, &format!("link add name bond0 type bond {bond}"))?;
        for cable in ["c0", "c1"] {
            hosts.ip(host, &format!("link set dev {cable} master bond0"))?;
        }
        hosts.ip(host, "link set dev bond0 up")?;
        hosts.ip(host, "link add link bond0 name bond0.100 type vlan id 100")?;
        hosts.ip(host, "link set dev bond0.100 up")?;
        hosts.ip(host, &format!("addr add 10.100.0.{}/24 dev bond0.100", host + 1))?;
    }

    let until = Instant::now() + LIMIT;
    for (host, cable) in [(0, "c0"), (0, "c1"), (1, "c0"), (1, "c1")] {
        loop {
            let text = hosts.ip(host, &format!("-json -details link show dev {cable}"))?;
            if distributes(&serde_json::from_str(&text)?) {
                break;
            }
            ensure!(
                Instant::now() < until,
                "LACP did not bring {cable} of host {host} into use within {LIMIT:?}: {text}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // The aggregator may still be taken into use when its ports are ready.
    let ping = hosts.run(0, "ping -c 3 -i 0.2 -W 5 10.100.0.2")?;
    ensure!(ping.contains(" 0% packet loss"), "{ping}");
    Ok(())
}
