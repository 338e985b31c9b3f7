//! What the tests of bonds and VLANs need and not every kernel has. They are called `ring_*`, are ignored outside, and run
//! under `cargo xtask vm`.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    frame,
    lab::{Lab, run},
    operator::{patient, row},
    packets::{self, Wire},
    sandbox::{Home, ip, new_namespace},
};

/// The router's MAC address on cable a.
pub const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// The host's.
pub const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// As most bonds of three cables are.
pub const LACP: &str = "mode 802.3ad miimon 100 lacp_rate fast xmit_hash_policy layer3+4";
/// How long a frame may be on its way.
const LIMIT: Duration = Duration::from_secs(30);

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

/// Lays them, bonded at both ends, with both VLANs, and waits until they may send.
///
/// # Errors
/// The kernel's refusal.
pub fn bond(lab: &Lab, options: &str) -> Result<()> {
    cables(lab, options, 1)?;
    for (node, last) in ENDS.iter().zip([1, 2]) {
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

/// The nodes at whose ends they are bonded.
const ENDS: [&str; 2] = ["router", "b"];

/// Lays them, bonded at both ends and up, with nothing on the bond. `house` is in the MAC addresses: no two bonds of one network
/// may have the same.
///
/// # Errors
/// The kernel's refusal.
pub fn cables(lab: &Lab, options: &str, house: u8) -> Result<()> {
    for node in ENDS {
        lab.ip(node, &format!("link add name bond0 type bond {options}"))?;
    }
    for (number, cable) in CABLES.iter().enumerate() {
        let mac = |end: u8| format!("02:00:00:{house:02x}:0{number}:0{end}");
        veth(lab, [("router", cable, &mac(1)), ("b", cable, &mac(2))])?;
        for node in ENDS {
            lab.ip(node, &format!("link set dev {cable} down"))?;
            lab.ip(node, &format!("link set dev {cable} master bond0"))?;
            lab.ip(node, &format!("link set dev {cable} up"))?;
        }
    }
    ENDS.iter()
        .try_for_each(|node| lab.ip(node, "link set dev bond0 up"))
}

/// A cable between two nodes of a lab: node, name and MAC address of each end. Both are up, and as in [`Lab::cable`].
///
/// # Errors
/// The kernel's refusal.
pub fn veth(lab: &Lab, ends: [(&str, &str, &str); 2]) -> Result<()> {
    veth_between(ends.map(|(node, name, mac)| (lab, node, name, mac)))
}

/// The same between the nodes of two labs.
///
/// # Errors
/// The kernel's refusal.
pub fn veth_between(ends: [(&Lab, &str, &str, &str); 2]) -> Result<()> {
    let [near, far] = ends.map(|(lab, node, name, mac)| {
        let netns = lab.netns(node);
        format!("name {name} netns {netns} address {mac}")
    });
    let line = format!("link add {near} type veth peer {far}");
    run(Command::new("ip").args(line.split_whitespace()))?;
    for (lab, node, name, _) in ends {
        lab.ip(node, &format!("link set dev {name} up"))?;
    }
    for (lab, node, name, _) in ends {
        let features = "tx off tso off gso off txvlan off rxvlan off gro on rx-vlan-stag-hw-parse off";
        let features = features.split_whitespace();
        run(lab.command(node, "ethtool").args(["-K", name]).args(features))?;
    }
    Ok(())
}

/// Makes a VLAN on the bond of a node, with its addresses.
///
/// # Errors
/// The kernel's refusal.
pub fn tag(lab: &Lab, node: &str, vlan: u16, last: u8) -> Result<()> {
    let addresses = [
        format!("10.{vlan}.9.{last}/24"),
        format!("fd00:{vlan}::{last}/64"),
    ];
    tag_on(lab, node, ("bond0", vlan), &addresses)
}

/// Makes a VLAN with that identifier on a link of a node, with these addresses.
///
/// # Errors
/// The kernel's refusal.
pub fn tag_on(lab: &Lab, node: &str, (lower, vlan): (&str, u16), addresses: &[String]) -> Result<()> {
    let name = format!("{lower}.{vlan}");
    lab.ip(
        node,
        &format!("link add link {lower} name {name} type vlan id {vlan}"),
    )?;
    let features = ["-K", &name, "tx", "off", "tso", "off", "gso", "off"];
    run(lab.command(node, "ethtool").args(features))?;
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        lab.ip(node, &format!("addr add {address} dev {name} {nodad}"))?;
    }
    lab.ip(node, &format!("link set dev {name} up"))
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

/// A lab with the bond, and routes by both of its VLANs.
///
/// # Errors
/// The kernel's refusal.
pub fn lab(options: &str) -> Result<Lab> {
    needs(&["bond", "vlan", "macvlan"])?;
    let lab = Lab::new()?;
    bond(&lab, options)?;
    for vlan in [10, 20] {
        lab.ip("router", &format!("route add 5.{vlan}.0.0/16 via 10.{vlan}.9.2"))?;
        lab.ip(
            "router",
            &format!("route add 2a05:{vlan}::/32 via fd00:{vlan}::2"),
        )?;
        lab.resolve("router", &format!("10.{vlan}.9.2"))?;
        lab.resolve("router", &format!("fd00:{vlan}::2"))?;
    }
    lab.ip("router", "route add 6.1.0.0/16 via 10.1.0.2")?;
    lab.resolve("router", "10.1.0.2")?;
    Ok(lab)
}

/// A packet of a flow of its own.
#[must_use]
pub fn flow(network: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let payload = frame::udp(1024 + number, 443, 12);
    frame::ipv4(
        (ROUTER_A, HOST_A),
        [192, 0, high, low].into(),
        [5, network, high, low].into(),
        17,
        64,
        &payload,
    )
}

/// A raw socket at the far end of a cable, of the bond or of a VLAN.
///
/// # Errors
/// There is none of that name.
pub fn far(lab: &Lab, ifname: &str) -> Result<Wire> {
    lab.inside("b", || Wire::open(ifname))
}

/// Sends frames and answers them as they arrive at the far end, sorted: all of them.
///
/// # Errors
/// One is missing.
pub fn cross(from: &Wire, to: &Wire, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let ours = |frame: &[u8]| {
        packets::for_five(frame) || frame.get(12..14) == Some(&[8, 0]) && frame.get(30) == Some(&6)
    };
    let mut arrived = packets::cross(from, to, frames, LIMIT, ours)?;
    ensure!(
        arrived.len() == frames.len(),
        "{} of {} arrived",
        arrived.len(),
        frames.len()
    );
    arrived.sort_unstable();
    Ok(arrived)
}

/// By which of the cables a flow of VLAN 10 leaves, seen at their far ends.
///
/// # Errors
/// By none.
pub fn cable_of(from: &Wire, ends: &[&Wire], number: u16) -> Result<usize> {
    let frame = flow(10, number);
    from.send(&frame)?;
    let addresses = frame[26..34].to_vec();
    let same = move |seen: &[u8]| {
        // With its tag or without, as the kernel shows it on a member.
        [26, 30]
            .iter()
            .any(|at| seen.get(*at..at + 8) == Some(&addresses[..]))
    };
    let found = packets::first(ends, LIMIT, same)?;
    Ok(found.with_context(|| format!("flow {number} is lost"))?.0)
}

/// Nothing is missing from the sums, in the end.
///
/// # Errors
/// Something is.
pub fn closed(lab: &Lab, root: &str) -> Result<()> {
    patient(lab, "the sums to close", || {
        let found = row(lab, "interfaces", "ifname", root)?;
        Ok((found["ingress_residue"] == 0 && found["egress_residue"] == 0).then_some(()))
    })
}
