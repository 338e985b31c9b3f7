//! Two carriers: one is lost, and its packets go by the other in XDP, before anybody has told the kernel of another route.

use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame,
    lab::{LIMIT, Lab},
    operator::row,
    packets::Wire,
};
use serde_json::Value;

const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// Prefixes of each kind: 5.1.x with a second route, 5.2.x that a shorter prefix covers, 5.3.x for the default route.
const EACH: u8 = 20;

fn destinations() -> Vec<[u8; 4]> {
    let of = |kind: u8| (0..EACH).map(move |number| [5, kind, number, 9]);
    (1..=3).flat_map(of).collect()
}

/// The router, carriers at b and c, every prefix by b.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    let mut lines = String::from("route add default via 10.3.0.2\nroute add 5.2.0.0/16 via 10.3.0.2\n");
    for [_, kind, number, _] in destinations() {
        let metric = if kind == 1 { " metric 100" } else { "" };
        lines += &format!("route add 5.{kind}.{number}.0/24 via 10.2.0.2{metric}\n");
        if kind == 1 {
            lines += &format!("route add 5.1.{number}.0/24 via 10.3.0.2 metric 200\n");
        }
    }
    lines += "route add 2a05::/32 via fd00:2::2\nroute add ::/0 via fd00:3::2\n";
    lab.batch("router", &lines)?;
    Ok(lab)
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(30) == Some(&5)
        || frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(38..40) == Some(&[0x2a, 5])
}

/// Waits until the data path sends every prefix by this gateway.
fn settle(lab: &Lab, gateway: &str, on_backup: bool) -> Result<()> {
    let mut last = Value::Null;
    let waited = lab.wait(&format!("everything to go by {gateway}"), || {
        last = lab.json("routes 5.0.0.0/8")?;
        let rows = last.as_array().context("no rows")?;
        let wanted = |row: &&Value| {
            row["prefix"]
                .as_str()
                .is_some_and(|prefix| prefix.ends_with("/24"))
        };
        let right =
            |row: &Value| row["via"] == gateway && row["state"] == "usable" && row["on_backup"] == on_backup;
        let rows: Vec<&Value> = rows.iter().filter(wanted).collect();
        let all = rows.len() == 3 * usize::from(EACH) && rows.iter().all(|row| right(row));
        Ok(all.then_some(()))
    });
    waited.with_context(|| format!("{last}\n{}", lab.picture()))
}

/// A packet to each destination arrives at this carrier, routed to the octet, by XDP and by nobody else.
fn cross(lab: &Lab, from: &Wire, to: &Wire, carrier: u8) -> Result<()> {
    let next_hop = format!("10.{carrier}.0.2");
    let (router, host) = ([2, 0, 0, 0, carrier, 1], [2, 0, 0, 0, carrier, 2]);
    let counted = || -> Result<[i64; 3]> {
        let a = row(lab, "interfaces", "ifname", "a")?;
        let hop = row(lab, "counters --by next-hop", "nexthop", &next_hop)?;
        Ok([
            a["forwarded_packets"].as_i64().unwrap_or(0),
            hop["packets"].as_i64().unwrap_or(0),
            hop["bytes"].as_i64().unwrap_or(0),
        ])
    };
    to.drain(ours)?;
    let before = counted()?;
    let mut octets = 0;
    for (index, destination) in destinations().into_iter().enumerate() {
        let packet = frame::udp4((ROUTER_A, HOST_A), destination, 64, 40 + index);
        octets += packet.len() as i64;
        from.send(&packet)?;
        let got = to
            .receive(LIMIT, ours)?
            .with_context(|| format!("lost\n{}", lab.picture()))?;
        ensure!(
            got == frame::routed(&packet, host, router, packet.len()),
            "{got:02x?}"
        );
        ensure!(frame::checksum_holds(&got));
    }
    let sent = destinations().len() as i64;
    let moved: Vec<i64> = counted()?
        .iter()
        .zip(before)
        .map(|(now, then)| now - then)
        .collect();
    ensure!(
        moved == [sent, sent, octets],
        "{moved:?} of {sent}\n{}",
        lab.picture()
    );
    Ok(())
}

#[test]
fn a_carrier_lost_at_its_far_end_is_replaced_in_xdp_and_taken_again() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    settle(&lab, "10.2.0.2", false)?;
    cross(&lab, &from, &b, 2)?;
    let slots = |lab: &Lab| -> Result<Vec<Value>> {
        let rows = lab.json("lookup 5.3.7.9")?;
        Ok(["slot", "group"].map(|key| rows[0][key].clone()).to_vec())
    };
    let before = slots(&lab)?;

    lab.ip("b", "link set dev b down")?;
    settle(&lab, "10.3.0.2", true)?;
    cross(&lab, &from, &c, 3)?;
    // The kernel has kept its routes by b, and marked them; ours are neither moved nor called wrong.
    let kernel = lab.ip_json("router", "route get 5.3.7.9")?;
    ensure!(kernel[0]["dev"] == "b", "{kernel}");
    lab.wait("the dump that follows", || {
        Ok((lab.json("status")?[0]["sources"][0]["resyncs"].as_u64() > Some(1)).then_some(()))
    })?;
    settle(&lab, "10.3.0.2", true)?;
    ensure!(slots(&lab)? == before, "a prefix was moved");
    let verified = lab.forwarder("verify")?;
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    ensure!(
        verified.status.success() && said.contains("61 on their backup"),
        "{said}"
    );
    // IPv6 likewise.
    let packet = frame::udp6((ROUTER_A, HOST_A), Ipv6Addr::from(0x2a05u128 << 112 | 9), 64, 40);
    lab.wait("IPv6 to go by c", || {
        let rows = lab.json("lookup 2a05::9")?;
        Ok((rows[0]["via"] == "fd00:3::2" && rows[0]["on_backup"] == true).then_some(()))
    })
    .with_context(|| lab.picture())?;
    from.send(&packet)?;
    let got = c.receive(LIMIT, ours)?.with_context(|| lab.picture())?;
    let (router, host) = ([2, 0, 0, 0, 3, 1], [2, 0, 0, 0, 3, 2]);
    ensure!(
        got == frame::routed(&packet, host, router, packet.len()),
        "{got:02x?}"
    );

    lab.ip("b", "link set dev b up")?;
    settle(&lab, "10.2.0.2", false)?;
    ensure!(slots(&lab)? == before, "a prefix was moved");
    cross(&lab, &from, &b, 2)?;
    drop(controller);
    Ok(())
}

#[test]
fn a_gateway_that_falls_silent_is_replaced_and_a_restart_does_not_forget_it() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    settle(&lab, "10.2.0.2", false)?;
    // Its carrier stays; it answers no ARP any more, and the kernel forgets what it knew.
    lab.ip("b", "link set dev b arp off")?;
    lab.ip("router", "neigh flush dev b")?;
    settle(&lab, "10.3.0.2", true)?;
    cross(&lab, &from, &c, 3)?;
    controller.kill()?;
    cross_unseen(&lab, &from, &c)?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    settle(&lab, "10.3.0.2", true)?;
    cross(&lab, &from, &c, 3)?;
    lab.ip("b", "link set dev b arp on")?;
    settle(&lab, "10.2.0.2", false)?;
    cross(&lab, &from, &b, 2)?;
    drop(controller);
    Ok(())
}

/// Packets keep their way while there is no controller.
fn cross_unseen(lab: &Lab, from: &Wire, to: &Wire) -> Result<()> {
    to.drain(ours)?;
    for destination in destinations() {
        from.send(&frame::udp4((ROUTER_A, HOST_A), destination, 64, 40))?;
        to.receive(LIMIT, ours)?
            .with_context(|| format!("lost\n{}", lab.picture()))?;
    }
    Ok(())
}
