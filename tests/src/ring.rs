//! What the tests of bonds and VLANs need and not every kernel has. They are called `ring_*`, are ignored outside, and run
//! under `cargo xtask vm`.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{
    lab::{Lab, run},
    operator::patient,
    sandbox::{Home, ip, new_namespace},
};

/// Fails with what to do unless this kernel can make devices of these kinds, as `ip link add type` names them: bond,
/// vlan, dummy, macvlan, vrf, bridge.
///
/// # Errors
/// One of them is missing, or this is not root.
pub fn needs(kinds: &[&str]) -> Result<()> {
    let home = Home::here()?;
    new_namespace()?;
    let missing = ip("link add name probe type veth peer name probe-peer")
        .err()
        .or_else(|| kinds.iter().find_map(|kind| make(kind).err()));
    // What was made is gone with the namespace.
    home.enter()?;
    missing.map_or(Ok(()), Err)
}

fn make(kind: &str) -> Result<()> {
    let line = match kind {
        "vlan" => "link add link probe name probe-vlan type vlan id 2".to_owned(),
        "macvlan" => "link add link probe name probe-mac type macvlan".to_owned(),
        "vrf" => "link add name probe-vrf type vrf table 10".to_owned(),
        other => format!("link add name probe-{other} type {other}"),
    };
    ip(&line).with_context(|| format!("this kernel has no {kind} devices; run under: cargo xtask vm"))
}

/// Cables between the router and host b, bonded at both ends, with two VLANs on the bond: .1 is the router, .2 the host.
pub const CABLES: [&str; 3] = ["m1", "m2", "m3"];

/// Lays them.
///
/// # Errors
/// The kernel's refusal.
pub fn bond(lab: &Lab, options: &str) -> Result<()> {
    let nodes = ["router", "b"];
    for node in nodes {
        lab.ip(node, &format!("link add name bond0 type bond {options}"))?;
    }
    for (number, cable) in CABLES.iter().enumerate() {
        let [router, far] = nodes.map(|node| lab.netns(node));
        let mac = |end: u8| format!("02:00:00:01:0{number}:0{end}");
        let line = format!(
            "link add name {cable} netns {router} address {} type veth peer name {cable} netns {far} address {}",
            mac(1),
            mac(2)
        );
        run(Command::new("ip").args(line.split_whitespace()))?;
        for node in nodes {
            lab.ip(node, &format!("link set dev {cable} master bond0"))?;
            lab.ip(node, &format!("link set dev {cable} up"))?;
        }
        // As in `Lab::cable`.
        for node in nodes {
            let features = "tx off tso off gso off txvlan off rxvlan off gro on rx-vlan-stag-hw-parse off";
            let features = features.split_whitespace();
            run(lab.command(node, "ethtool").args(["-K", cable]).args(features))?;
        }
    }
    for (node, last) in nodes.iter().zip([1, 2]) {
        lab.ip(node, "link set dev bond0 up")?;
        for vlan in [10, 20] {
            tag(lab, node, vlan, last)?;
        }
    }
    // Elsewhere one may send alone.
    let all = options.contains("802.3ad");
    CABLES
        .iter()
        .filter(|_| all)
        .try_for_each(|cable| sends(lab, cable))
}

/// Makes a VLAN on the bond of a node, with its addresses.
///
/// # Errors
/// The kernel's refusal.
pub fn tag(lab: &Lab, node: &str, vlan: u16, last: u8) -> Result<()> {
    lab.ip(
        node,
        &format!("link add link bond0 name bond0.{vlan} type vlan id {vlan}"),
    )?;
    let features = [
        "-K",
        &format!("bond0.{vlan}"),
        "tx",
        "off",
        "tso",
        "off",
        "gso",
        "off",
    ]
    .map(str::to_owned);
    run(lab.command(node, "ethtool").args(features))?;
    lab.ip(node, &format!("addr add 10.{vlan}.9.{last}/24 dev bond0.{vlan}"))?;
    lab.ip(
        node,
        &format!("addr add fd00:{vlan}::{last}/64 dev bond0.{vlan} nodad"),
    )?;
    lab.ip(node, &format!("link set dev bond0.{vlan} up"))
}

/// Waits until the router's bond sends by a cable.
///
/// # Errors
/// It does not.
pub fn sends(lab: &Lab, cable: &str) -> Result<()> {
    is_active(lab, cable, true)
}

/// Waits until the router's bond sends by a cable, or does not.
///
/// # Errors
/// It stays as it was.
pub fn is_active(lab: &Lab, cable: &str, active: bool) -> Result<()> {
    patient(lab, &format!("{cable} to be used: {active}"), || {
        let row = lab.ip_json("router", &format!("-details link show dev {cable}"))?;
        let member = &row[0]["linkinfo"]["info_slave_data"];
        let partner = member["ad_partner_oper_port_state"].as_u64();
        let both_ways = partner.is_none_or(|state| state & 0b11_1000 == 0b11_1000);
        let now = member["state"] == "ACTIVE" && member["mii_status"] == "UP" && both_ways;
        Ok((now == active).then_some(()))
    })
}
