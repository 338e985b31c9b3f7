//! A real bond with real VLANs, the real controller on the router: what leaves, by which cable, and whether the sums close.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame::{udp4, udp6},
    lab::Lab,
    operator::{figure, patient, row},
    packets::Wire,
    ring::{self, CABLES, HOST_A, LACP, ROUTER_A, closed, cross, far, flow, is_active, lab, sends},
};

const VRRP_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 7];

fn transmitted(lab: &Lab) -> Result<Vec<i64>> {
    let of = |cable: &&str| figure(&row(lab, "interfaces", "ifname", cable)?, "transmitted_packets");
    CABLES.iter().map(of).collect()
}

fn moved(before: &[i64], after: &[i64]) -> Vec<i64> {
    before
        .iter()
        .zip(after)
        .map(|(before, after)| after - before)
        .collect()
}

#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn vlans_on_a_bond_are_sent_as_the_kernel_sends_them_and_by_every_cable() -> Result<()> {
    let lab = lab(LACP)?;
    let (from, ten, twenty) = (lab.wire("a")?, far(&lab, "bond0.10")?, far(&lab, "bond0.20")?);
    let frames = |network: u8| -> Result<Vec<Vec<u8>>> {
        let mut all: Vec<Vec<u8>> = (0..100).map(|number| flow(network, number)).collect();
        for number in 0..20u8 {
            let to = format!("2a05:{network}::{number:x}").parse()?;
            all.push(udp6((ROUTER_A, HOST_A), to, 64, usize::from(number) * 70));
            all.push(udp4(
                (ROUTER_A, HOST_A),
                [5, network, 1, number],
                64,
                usize::from(number),
            ));
        }
        Ok(all)
    };
    let by_kernel = [
        cross(&from, &ten, &frames(10)?)?,
        cross(&from, &twenty, &frames(20)?)?,
    ];
    let controller = lab.start(&["a", "bond0"], "")?;
    let before = transmitted(&lab)?;
    let by_us = [
        cross(&from, &ten, &frames(10)?)?,
        cross(&from, &twenty, &frames(20)?)?,
    ];
    ensure!(
        by_us == by_kernel,
        "other octets than the kernel's\n{}",
        lab.picture()
    );
    let all = frames(10)?.len() + frames(20)?.len();
    let forwarded = figure(&row(&lab, "interfaces", "ifname", "a")?, "forwarded_packets")?;
    ensure!(
        forwarded == all as i64,
        "{forwarded} of {all} forwarded\n{}",
        lab.picture()
    );
    let shares = moved(&before, &transmitted(&lab)?);
    println!("by cable {shares:?}");
    ensure!(
        shares.iter().sum::<i64>() == all as i64,
        "{shares:?} of {all}\n{}",
        lab.picture()
    );
    for vlan in ["bond0.10", "bond0.20"] {
        let sent = figure(&row(&lab, "interfaces", "ifname", vlan)?, "sent_packets")?;
        ensure!(sent == all as i64 / 2, "{sent} by {vlan}\n{}", lab.picture());
    }
    // In by the bond, out by a cable of its own.
    let (back, at) = (far(&lab, "bond0.10")?, lab.wire("a")?);
    let router = lab.ip_json("router", "link show dev bond0.10")?;
    let mac = router[0]["address"].as_str().context("no address")?;
    let octets: Vec<u8> = mac
        .split(':')
        .filter_map(|octet| u8::from_str_radix(octet, 16).ok())
        .collect();
    let mac: [u8; 6] = octets.try_into().map_err(|_| anyhow::anyhow!("{mac}"))?;
    let returned: Vec<Vec<u8>> = (0..60)
        .map(|number| udp4((mac, [2, 0, 0, 0, 9, 9]), [6, 1, 0, number], 64, 20))
        .collect();
    let came = cross(&back, &at, &returned)?;
    ensure!(came.len() == returned.len(), "{}", lab.picture());
    let received = figure(
        &row(&lab, "interfaces", "ifname", "bond0.10")?,
        "forwarded_packets",
    )?;
    ensure!(
        received == 60,
        "{received} of 60 forwarded from the VLAN\n{}",
        lab.picture()
    );
    closed(&lab, "bond0")?;
    closed(&lab, "a")?;
    drop(controller);
    Ok(())
}

/// Ten thousand flows, a cable cut, the cable back: the rest keep their flows, and the sums close.
#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn flows_are_spread_and_a_cut_cable_moves_its_own() -> Result<()> {
    let lab = lab(LACP)?;
    let controller = lab.start(&["a", "bond0"], "")?;
    let (from, to) = (lab.wire("a")?, far(&lab, "bond0.10")?);
    let frames: Vec<Vec<u8>> = (0..10_000).map(|number| flow(10, number)).collect();
    let before = transmitted(&lab)?;
    cross(&from, &to, &frames)?;
    let shares = moved(&before, &transmitted(&lab)?);
    println!("10,000 flows by cable: {shares:?}");
    for share in &shares {
        ensure!((share - 10_000 / 3).abs() < 1_000 / 3 + 1, "{shares:?}");
    }
    // By one cable at a time, so that who sends what is known.
    let by_cable: Vec<Wire> = CABLES
        .iter()
        .map(|cable| far(&lab, cable))
        .collect::<Result<_>>()?;
    let ends: Vec<&Wire> = by_cable.iter().collect();
    let cable_of = |number: u16| ring::cable_of(&from, &ends, number).with_context(|| lab.picture());
    let first: Vec<usize> = (0..60).map(cable_of).collect::<Result<_>>()?;
    lab.ip("b", "link set dev m2 down")?;
    is_active(&lab, "m2", false)?;
    let without: Vec<usize> = (0..60).map(cable_of).collect::<Result<_>>()?;
    for (old, new) in first.iter().zip(&without) {
        ensure!(*new != 1, "sent by the cable that is cut");
        ensure!(*old == 1 || old == new, "a flow of cable {old} moved to {new}");
    }
    lab.ip("b", "link set dev m2 up")?;
    sends(&lab, "m2")?;
    let again = moved(&[0, 0, 0], &transmitted(&lab)?);
    cross(&from, &to, &frames[..1_000])?;
    let shares = moved(&again, &transmitted(&lab)?);
    println!("1,000 flows with the cable back: {shares:?}");
    ensure!(shares.iter().all(|share| *share > 200), "{shares:?}");
    closed(&lab, "bond0")?;
    drop(controller);
    Ok(())
}

#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn active_backup_sends_by_the_active_member_and_vlans_are_followed() -> Result<()> {
    let lab = lab("mode active-backup miimon 100")?;
    let controller = lab.start(&["a", "bond0"], "")?;
    let from = lab.wire("a")?;
    let send = |vlan: u16, network: u8| -> Result<Vec<i64>> {
        let to = far(&lab, &format!("bond0.{vlan}"))?;
        let before = transmitted(&lab)?;
        let frames: Vec<Vec<u8>> = (0..80).map(|number| flow(network, number)).collect();
        cross(&from, &to, &frames)?;
        Ok(moved(&before, &transmitted(&lab)?))
    };
    let active = || -> Result<String> {
        let bond = lab.ip_json("router", "-details link show dev bond0")?;
        let name = bond[0]["linkinfo"]["info_data"]["active_slave"].as_str();
        Ok(name.context("no active member")?.to_string())
    };
    let first = active()?;
    // Both ends must have chosen the same.
    lab.ip("b", &format!("link set dev bond0 type bond active_slave {first}"))?;
    let shares = send(10, 10)?;
    let place = CABLES
        .iter()
        .position(|cable| *cable == first)
        .context("a member")?;
    ensure!(shares[place] == 80, "by {first}: {shares:?}");
    let other = CABLES.iter().find(|cable| **cable != first).context("another")?;
    lab.ip("b", &format!("link set dev bond0 type bond active_slave {other}"))?;
    lab.ip(
        "router",
        &format!("link set dev bond0 type bond active_slave {other}"),
    )?;
    is_active(&lab, other, true)?;
    let place = CABLES
        .iter()
        .position(|cable| cable == other)
        .context("a member")?;
    let shares = patient(&lab, "the other member to send", || {
        let shares = send(10, 10)?;
        Ok((shares[place] == 80).then_some(shares))
    })?;
    println!("by {other}: {shares:?}");
    // A VLAN goes and comes with another tag, under the same name or not.
    for node in ["router", "b"] {
        lab.ip(node, "link del bond0.20")?;
        ring::tag(&lab, node, 21, if node == "b" { 2 } else { 1 })?;
    }
    lab.ip("router", "route add 5.21.0.0/16 via 10.21.9.2")?;
    lab.resolve("router", "10.21.9.2")?;
    patient(&lab, "the new VLAN to be served", || {
        let found = row(&lab, "interfaces", "ifname", "bond0.21")?;
        Ok((found["mode"] == "stacked").then_some(()))
    })?;
    let before = figure(&row(&lab, "interfaces", "ifname", "a")?, "forwarded_packets")?;
    let shares = send(21, 21)?;
    ensure!(shares[place] == 80, "{shares:?}\n{}", lab.picture());
    let forwarded = figure(&row(&lab, "interfaces", "ifname", "a")?, "forwarded_packets")? - before;
    ensure!(forwarded == 80, "{forwarded} of 80\n{}", lab.picture());
    ensure!(row(&lab, "interfaces", "ifname", "bond0.20")?["mode"] == "detached");
    closed(&lab, "bond0")?;
    drop(controller);
    Ok(())
}

/// A gateway's MAC address, with the address that makes it ours coming and going.
#[test]
#[ignore = "needs bonding and 8021q: cargo xtask vm"]
fn a_virtual_gateway_is_ours_while_its_address_is_held() -> Result<()> {
    let lab = lab(LACP)?;
    let controller = lab.start(&["a", "bond0"], "")?;
    lab.ip(
        "router",
        "link add link bond0.10 name vrrp.7 address 00:00:5e:00:01:07 type macvlan mode private",
    )?;
    lab.ip("router", "link set dev vrrp.7 up")?;
    let (back, at) = (far(&lab, "bond0.10")?, lab.wire("a")?);
    let send = || -> Result<()> {
        let frames: Vec<Vec<u8>> = (0..20)
            .map(|number| udp4((VRRP_MAC, [2, 0, 0, 0, 9, 9]), [6, 1, 0, number], 64, 20))
            .collect();
        frames.iter().try_for_each(|frame| back.send(frame))
    };
    let counted = |key: &str| figure(&row(&lab, "interfaces", "ifname", "bond0.10")?, key);
    send()?;
    patient(&lab, "the backup to pass them", || {
        Ok((counted("passed_packets")? >= 20).then_some(()))
    })?;
    ensure!(counted("forwarded_packets")? == 0, "{}", lab.picture());
    lab.ip("router", "addr add 10.10.9.254/32 dev vrrp.7")?;
    patient(&lab, "the master to forward", || {
        let before = counted("forwarded_packets")?;
        send()?;
        let wanted = |frame: &[u8]| frame.get(30) == Some(&6);
        let arrived = at.collect(20, Duration::from_secs(5), wanted)?;
        Ok((counted("forwarded_packets")? - before == 20 && arrived.len() >= 20).then_some(()))
    })?;
    lab.ip("router", "addr del 10.10.9.254/32 dev vrrp.7")?;
    patient(&lab, "the backup to pass them again", || {
        let before = counted("forwarded_packets")?;
        send()?;
        std::thread::sleep(Duration::from_millis(300));
        Ok((counted("forwarded_packets")? == before).then_some(()))
    })?;
    drop(controller);
    Ok(())
}
