//! Forwarder attached natively to virtio network cards of several queues, between two hosts with such a card each.
//!
//! `cargo xtask vm` gives the machine four cards (xtask/src/vm/nics.rs): 52:54:00:00:06:00 and :01 are the router's here, :02
//! is at the other end of the first and :03 of the second.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame::{self, with},
    lab::{LIMIT, Lab},
    packets::{self, Wire},
};
use serde_json::Value;

const ROUTER: [u8; 6] = [0x52, 0x54, 0, 0, 6, 0];
const HOST: [u8; 6] = [0x52, 0x54, 0, 0, 6, 2];
const FRAMES: u16 = 600;

/// The name that a card has now, in the namespace in which it was found or that a test gave it back to.
fn card(last: usize) -> Result<String> {
    let output = Command::new("ip")
        .args(["-json", "link", "show"])
        .output()
        .context("cannot run ip")?;
    let links: Value = serde_json::from_slice(&output.stdout).context("ip -json link show")?;
    let mac = format!("52:54:00:00:06:0{last}");
    let link = links
        .as_array()
        .into_iter()
        .flatten()
        .find(|link| link["address"] == *mac);
    let name = link.and_then(|link| link["ifname"].as_str()).map(str::to_owned);
    name.with_context(|| format!("no network card {mac}: cargo xtask vm has them, run as root"))
}

/// A lab whose router has cards n0 and n1 of two queues in use, leading to host a and to host b.
fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    for (last, node, name) in [
        (0, "router", "n0"),
        (1, "router", "n1"),
        (2, "a", "n0"),
        (3, "b", "n1"),
    ] {
        let card = card(last)?;
        let namespace = lab.netns(node);
        let line = format!("link set dev {card} netns {namespace} name {name}");
        forwarder_tests::sandbox::ip(&line)?;
        lab.ip(node, &format!("link set dev {name} up"))?;
        let (subnet, host) = (10 + last % 2, 1 + last / 2);
        lab.ip(node, &format!("addr add 10.{subnet}.0.{host}/24 dev {name}"))?;
        lab.ip(
            node,
            &format!("addr add fd00:{subnet}::{host}/64 dev {name} nodad"),
        )?;
    }
    for name in ["n0", "n1"] {
        let output = lab
            .command("router", "ethtool")
            .args(["-L", name, "combined", "2"])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() || said.contains("unmodified"),
            "{name} has no two queues: {said}"
        );
    }
    lab.ip("router", "route add 5.0.0.0/8 via 10.11.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:11::2")?;
    for address in ["10.11.0.2", "fd00:11::2"] {
        lab.resolve("router", address)?;
    }
    Ok(lab)
}

/// Frames of many flows, which a card spreads over its queues, each with a number of its own.
fn frames() -> Result<Vec<Vec<u8>>> {
    let numbers = (0..FRAMES).map(|number| {
        let [high, low] = number.to_be_bytes();
        let size = 20 + usize::from(number % 1300);
        // The source port behind a header of 20 octets, and behind one of 40.
        Ok(if number % 2 == 0 {
            with(
                frame::udp4((ROUTER, HOST), [5, 1, high, low], 64, size),
                34,
                &[high, low],
            )
        } else {
            let to = format!("2a05::{number:x}").parse()?;
            with(frame::udp6((ROUTER, HOST), to, 64, size), 54, &[high, low])
        })
    });
    numbers.collect()
}

/// Sends them and answers what arrives, sorted: queues overtake each other.
fn cross(from: &Wire, to: &Wire, frames: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mut arrived = packets::cross(from, to, frames, LIMIT, packets::for_five)?;
    arrived.sort();
    Ok(arrived)
}

/// What each queue of n0 has redirected, by the driver's own count. Those that XDP has for sending take frames in as well.
fn redirected(lab: &Lab) -> Result<Vec<u64>> {
    let output = lab.command("router", "ethtool").args(["-S", "n0"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().filter_map(|line| {
        let (name, number) = line.trim().split_once(": ")?;
        // rx_queue_0_xdp_redirects; since 6.8 rx0_xdp_redirects, and rx_xdp_redirects for their sum.
        let of_queue = name.contains(|c: char| c.is_ascii_digit()) && name.ends_with("_xdp_redirects");
        of_queue.then(|| number.parse())
    });
    Ok(numbers.collect::<Result<_, _>>()?)
}

fn row(lab: &Lab, name: &str) -> Result<Value> {
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

#[test]
#[ignore = "needs network cards of virtio's: cargo xtask vm"]
fn cards_of_several_queues_send_what_the_kernel_would_have_sent() -> Result<()> {
    let lab = lab()?;
    let from = lab.inside("a", || Wire::open("n0"))?;
    let to = lab.inside("b", || Wire::open("n1"))?;
    let frames = frames()?;
    let by_kernel = cross(&from, &to, &frames)?;
    ensure!(
        by_kernel.len() == frames.len(),
        "the kernel sent {} of {}",
        by_kernel.len(),
        frames.len()
    );

    let controller = lab.start(&["n0", "n1"], "")?;
    lab.wait("both next hops to be usable", || {
        let usable = |prefix: &str| -> Result<bool> {
            Ok(lab.json(&format!("routes {prefix}"))?[0]["state"] == "usable")
        };
        Ok((usable("5.0.0.0/8")? && usable("2a05::/32")?).then_some(()))
    })
    .with_context(|| lab.picture())?;
    let before = row(&lab, "n0")?;
    for name in ["n0", "n1"] {
        let row = row(&lab, name)?;
        ensure!(row["mode"] == "native", "{name} is not native: {row}");
    }
    let by_us = cross(&from, &to, &frames)?;
    ensure!(
        by_us.len() == frames.len(),
        "{} of {} arrived\n{}",
        by_us.len(),
        frames.len(),
        lab.picture()
    );
    for (kernel, ours) in by_kernel.iter().zip(&by_us) {
        ensure!(kernel == ours, "\n kernel {kernel:02x?}\n ours   {ours:02x?}");
    }
    let after = row(&lab, "n0")?;
    let moved = |key: &str| Some(after[key].as_u64()? - before[key].as_u64()?);
    let octets: usize = frames.iter().map(Vec::len).sum();
    for (key, wanted) in [("forwarded_packets", frames.len()), ("forwarded_bytes", octets)] {
        ensure!(
            moved(key) == Some(wanted as u64),
            "{key}: {before} and {after}, not {wanted}"
        );
    }
    let queues = redirected(&lab)?;
    let in_use = queues.iter().filter(|packets| **packets > 0).count();
    ensure!(
        in_use > 1 && queues.iter().sum::<u64>() == u64::from(FRAMES),
        "{FRAMES} frames did not come by several queues: {queues:?}"
    );
    let out = row(&lab, "n1")?;
    ensure!(
        out["transmitted_packets"] == FRAMES && out["redirect_errors"] == 0 && out["transmit_errors"] == 0,
        "lost on the way out: {out}"
    );
    drop(controller);
    Ok(())
}
