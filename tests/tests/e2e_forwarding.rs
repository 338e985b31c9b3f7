//! Packets through a real router: the fast path sends what the kernel would have sent, and every one is accounted.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame::{self, pad, with},
    lab::{LIMIT, Lab},
    packets::{self, Wire},
    random::Random,
};
use serde_json::Value;

const ROUTER_A: [u8; 6] = [2, 0, 0, 0, 1, 1];
const HOST_A: [u8; 6] = [2, 0, 0, 0, 1, 2];
const ROUTER_B: [u8; 6] = [2, 0, 0, 0, 2, 1];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    Ok(lab)
}

/// Frames of both families that a router sends on: sizes, TTLs, classes, fragments, protocols, padding.
fn traffic() -> Vec<Vec<u8>> {
    let macs = (ROUTER_A, HOST_A);
    let mut random = Random::new(12);
    let mut frames = Vec::new();
    for number in 0..400u16 {
        let [high, low] = number.to_be_bytes();
        let data = *random.pick(&[0, 1, 17, 18, 19, 100, 511, 1400]);
        let ttl = *random.pick(&[2, 3, 64, 128, 255]);
        let v4 = frame::udp4(macs, [5, 1, high, low], ttl, data);
        let v4 = with(v4, 18, &number.wrapping_mul(4099).to_be_bytes());
        let v4 = match number % 5 {
            0 => with(v4, 20, &[0x20, 0]),
            1 => with(v4, 20, &[0, 0xb9]),
            _ => with(v4, 15, &[random.bits() as u8]),
        };
        frames.push(pad(v4, 60));
        let to = format!("2a05::{number:x}").parse().expect("an address");
        let v6 = frame::udp6(macs, to, ttl, data);
        frames.push(pad(with(v6, 15, &[random.bits() as u8, high, low]), 60));
    }
    frames
}

/// Sends them and answers what arrives, padding cut off.
fn cross(from: &Wire, to: &Wire, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    packets::cross(from, to, frames, LIMIT, packets::for_five)
}

/// The row of an interface.
fn interface(lab: &Lab, name: &str) -> Result<Value> {
    let rows = lab.json("interfaces")?;
    let found = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["ifname"] == name);
    found
        .cloned()
        .with_context(|| format!("no interface {name} in {rows}"))
}

fn number(row: &Value, key: &str) -> Result<i64> {
    row[key].as_i64().with_context(|| format!("{key} of {row}"))
}

#[test]
fn the_fast_path_sends_to_the_octet_what_the_kernel_would_have_sent() -> Result<()> {
    let lab = lab()?;
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    for address in ["10.2.0.2", "fd00:2::2"] {
        lab.resolve("router", address)?;
    }
    let frames = traffic();
    let by_kernel = cross(&from, &to, &frames)?;
    ensure!(
        by_kernel.len() == frames.len(),
        "the kernel sent {} of {}",
        by_kernel.len(),
        frames.len()
    );

    let controller = lab.start(&["a", "b"], "")?;
    let before = interface(&lab, "a")?;
    let by_us = cross(&from, &to, &frames)?;
    ensure!(
        by_us.len() == frames.len(),
        "{} of {} arrived\n{}",
        by_us.len(),
        frames.len(),
        lab.picture()
    );
    for (at, (kernel, ours)) in by_kernel.iter().zip(&by_us).enumerate() {
        ensure!(
            kernel == ours,
            "frame {at}:\n kernel {kernel:02x?}\n ours   {ours:02x?}\n for    {:02x?}",
            frames[at]
        );
        ensure!(ours[6..12] == ROUTER_B, "from another MAC");
    }
    // And they were ours, to the packet and the octet.
    let row = interface(&lab, "a")?;
    let octets: usize = frames.iter().map(Vec::len).sum();
    for (key, wanted) in [("forwarded_packets", frames.len()), ("forwarded_bytes", octets)] {
        let moved = number(&row, key)? - number(&before, key)?;
        ensure!(
            moved == wanted as i64,
            "{key} moved by {moved}, not {wanted}\n{}",
            lab.picture()
        );
    }
    drop(controller);
    Ok(())
}

#[test]
fn counters_are_exact_and_both_sums_close() -> Result<()> {
    let lab = lab()?;
    lab.ip("router", "route add 5.64.0.0/10 via 10.2.0.2")?;
    lab.ip("router", "route add blackhole 5.128.0.0/16")?;
    let controller = lab.start(&["a", "b"], "")?;
    for address in ["10.2.0.2", "fd00:2::2"] {
        lab.resolve("router", address)?;
    }
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let macs = (ROUTER_A, HOST_A);
    lab.wait("both next hops to be usable", || {
        let usable = |prefix: &str| -> Result<bool> {
            Ok(lab.json(&format!("routes {prefix}"))?[0]["state"] == "usable")
        };
        Ok((usable("5.0.0.0/8")? && usable("2a05::/32")?).then_some(()))
    })
    .with_context(|| lab.picture())?;
    let mut sent = BTreeMap::from([
        ("5.0.0.0/8", (0, 0)),
        ("5.64.0.0/10", (0, 0)),
        ("2a05::/32", (0, 0)),
    ]);
    for number in 0..300u16 {
        let [_, low] = number.to_be_bytes();
        let (prefix, frame) = match number % 3 {
            0 => ("5.0.0.0/8", frame::udp4(macs, [5, 1, 1, low], 64, 30)),
            1 => ("5.64.0.0/10", frame::udp4(macs, [5, 65, 1, low], 64, 300)),
            _ => ("2a05::/32", frame::udp6(macs, "2a05::7".parse()?, 64, 90)),
        };
        from.send(&frame)?;
        ensure!(
            to.receive(LIMIT, packets::for_five)?.is_some(),
            "{prefix}: frame {number} is lost\n{}",
            lab.picture()
        );
        let count = sent.entry(prefix).or_default();
        *count = (count.0 + 1, count.1 + frame.len() as i64);
    }
    for _ in 0..7 {
        from.send(&frame::udp4(macs, [5, 128, 1, 1], 64, 30))?;
        from.send(&frame::udp4(macs, [5, 1, 1, 1], 1, 30))?;
    }
    lab.wait("the last packets to be counted", || {
        let drops = lab.json("drops")?;
        let count = |reason: &str| {
            let mut rows = drops.as_array().into_iter().flatten();
            rows.find(|row| row["ifname"] == "a" && row["reason"] == reason)
                .and_then(|row| row["packets"].as_i64())
        };
        Ok((count("blackhole") == Some(7) && count("ttl-expired") == Some(7)).then_some(()))
    })?;
    let rows = lab.json("counters --by prefix")?;
    for (prefix, (packets, bytes)) in &sent {
        let row = rows
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["prefix"] == *prefix);
        let row = row.with_context(|| format!("no {prefix} in {rows}"))?;
        ensure!(
            (number(row, "packets")?, number(row, "bytes")?) == (*packets, *bytes),
            "{prefix}: {row}, sent {packets} packets, {bytes} bytes"
        );
    }
    for name in ["a", "b"] {
        let row = interface(&lab, name)?;
        let sum = number(&row, "forwarded_packets")?
            + number(&row, "dropped_packets")?
            + number(&row, "passed_packets")?;
        ensure!(number(&row, "received_packets")? == sum, "{row}");
        ensure!(
            number(&row, "ingress_residue")? == 0,
            "ingress does not close: {row}"
        );
        ensure!(
            number(&row, "egress_residue")? == 0,
            "egress does not close: {row}"
        );
    }
    let b = interface(&lab, "b")?;
    let forwarded: i64 = sent.values().map(|(packets, _)| packets).sum();
    ensure!(number(&b, "sent_packets")? == forwarded, "{b}");
    ensure!(number(&b, "transmitted_packets")? == forwarded, "{b}");
    drop(controller);
    Ok(())
}
