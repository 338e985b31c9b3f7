//! Law 4: the data path outlives the controller, but not its own truth.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    frame,
    lab::{LIMIT, Lab},
    packets::Wire,
};
use serde_json::Value;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);

fn packet(number: u32) -> Vec<u8> {
    let [_, _, high, low] = number.to_be_bytes();
    frame::udp4(MACS, [5, 1, high, low], 64, 40)
}

fn ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(30) == Some(&5)
}

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    for address in ["10.2.0.2", "10.3.0.2"] {
        lab.resolve("router", address)?;
    }
    Ok(lab)
}

/// Packets of a reason on an interface.
fn drops(lab: &Lab, ifname: &str, reason: &str) -> Result<i64> {
    let rows = lab.json("drops --all")?;
    let row = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["ifname"] == ifname && row["reason"] == reason);
    row.and_then(|row| row["packets"].as_i64())
        .with_context(|| format!("no {reason} of {ifname} in {rows}"))
}

fn forwarded(lab: &Lab) -> Result<i64> {
    let rows = lab.json("interfaces")?;
    let row = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["ifname"] == "a");
    row.and_then(|row: &Value| row["forwarded_packets"].as_i64())
        .context("no interface a")
}

/// Sends one packet after the other until `until` says so; each must arrive at one of the ends before the next is sent.
/// Answers how many arrived at each.
fn stream(from: &Wire, ends: &[&Wire], until: impl Fn() -> bool) -> Result<Vec<usize>> {
    let mut arrived = vec![0; ends.len()];
    let mut number = 0;
    while !until() {
        number += 1;
        let packet = packet(number);
        from.send(&packet)?;
        let id = packet[30..34].to_vec();
        let is_it = |frame: &[u8]| ours(frame) && frame[30..34] == id;
        let limit = std::time::Instant::now() + LIMIT;
        'arrival: loop {
            for (end, count) in ends.iter().zip(&mut arrived) {
                if end.receive(Duration::from_millis(5), is_it)?.is_some() {
                    *count += 1;
                    break 'arrival;
                }
            }
            ensure!(std::time::Instant::now() < limit, "packet {number} is lost");
        }
    }
    Ok(arrived)
}

#[test]
fn a_killed_controller_loses_no_packet_and_its_successor_no_count() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "[routes]\nmax-age = \"0\"\n")?;
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let done = AtomicBool::new(false);
    let before = forwarded(&lab)?;
    let sent = std::thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&from, &[&to], || done.load(Ordering::Relaxed)));
        let work = || -> Result<()> {
            lab.wait("packets before the kill", || {
                Ok((forwarded(&lab)? > before + 20).then_some(()))
            })?;
            controller.kill()?;
            let dead = forwarded(&lab)?;
            lab.wait("packets while it is dead", || {
                Ok((forwarded(&lab)? > dead + 20).then_some(()))
            })?;
            let again = lab.start(&["a", "b", "c"], "[routes]\nmax-age = \"0\"\n")?;
            let log = again.log();
            ensure!(
                log.matches("attached=Kept").count() == 3,
                "a program of the same build was replaced: {log}"
            );
            let adopted = forwarded(&lab)?;
            ensure!(adopted > dead, "counters went back from {dead} to {adopted}");
            lab.wait("packets after the adoption", || {
                Ok((forwarded(&lab)? > adopted + 20).then_some(()))
            })?;
            drop(again);
            Ok(())
        };
        let result = work();
        done.store(true, Ordering::Relaxed);
        let sent = stream
            .join()
            .map_err(|_| anyhow::anyhow!("the stream panicked"))?;
        result?;
        sent
    })
    .with_context(|| lab.picture())?;
    // Every packet that was sent arrived (the stream saw to it) and was forwarded by us, before, during and after.
    let counted = forwarded(&lab)? - before;
    ensure!(
        counted == sent[0] as i64,
        "sent {}, counted {counted}\n{}",
        sent[0],
        lab.picture()
    );
    Ok(())
}

#[test]
fn routes_that_change_behind_a_dead_controller_are_followed_by_the_kernel() -> Result<()> {
    let lab = lab()?;
    let more = "[routes]\nmax-age = \"2s\"\n";
    let controller = lab.start(&["a", "b", "c"], more)?;
    let (from, b, c) = (lab.wire("a")?, lab.wire("b")?, lab.wire("c")?);
    let one = |number: u32, end: &Wire| -> Result<bool> {
        from.send(&packet(number))?;
        Ok(end.receive(LIMIT, ours)?.is_some())
    };
    ensure!(one(1, &b)?, "the way to b\n{}", lab.picture());
    ensure!(drops(&lab, "a", "controller-stale")? == 0);
    controller.kill()?;
    lab.ip("router", "route replace 5.0.0.0/8 via 10.3.0.2")?;
    lab.wait("the heartbeat to grow too old", || {
        Ok((lab.json("status")?[0]["stale"] == true).then_some(()))
    })?;
    let before = forwarded(&lab)?;
    for number in 0..10 {
        ensure!(
            one(number, &c)?,
            "packet {number} by the kernel's new route\n{}",
            lab.picture()
        );
    }
    ensure!(drops(&lab, "a", "controller-stale")? == 10, "{}", lab.picture());
    ensure!(forwarded(&lab)? == before);
    ensure!(b.drain(ours)?.is_empty(), "a packet followed the old route");
    // Its successor knows the new route at once.
    let controller = lab.start(&["a", "b", "c"], more)?;
    ensure!(one(99, &c)?);
    ensure!(forwarded(&lab)? == before + 1, "{}", lab.picture());
    drop(controller);
    Ok(())
}

#[test]
fn a_second_controller_is_refused_and_the_first_goes_on() -> Result<()> {
    let lab = lab()?;
    let mut first = lab.start(&["a", "b", "c"], "")?;
    let config = lab.dir().join("forwarder.toml");
    let output = lab.forwarder(&format!("run --config {}", config.display()))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{:?}: {text}", output.status);
    ensure!(text.contains("another controller runs"), "{text}");
    ensure!(first.alive()?);
    let output = lab.forwarder("detach")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(1) && text.contains("another controller runs"),
        "{text}"
    );
    ensure!(lab.json("status")?[0]["pid"] == first.pid(), "{}", lab.picture());
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let before = forwarded(&lab)?;
    from.send(&packet(1))?;
    ensure!(to.receive(LIMIT, ours)?.is_some());
    ensure!(forwarded(&lab)? == before + 1);
    Ok(())
}

#[test]
fn detach_takes_everything_out_of_the_kernel() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    ensure!(attached(&lab)? == 3);
    lab.wait("a next hop that the kernel keeps resolved", || {
        Ok((managed(&lab)? > 0).then_some(()))
    })?;
    let status = controller.stop()?;
    ensure!(status.success(), "{status}");
    ensure!(attached(&lab)? == 3, "stopping must take nothing away");
    let output = lab.forwarder("detach")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(!lab.pins().exists(), "pins are left");
    ensure!(attached(&lab)? == 0);
    ensure!(managed(&lab)? == 0, "neighbours are still managed");
    let output = lab.forwarder("detach")?;
    ensure!(output.status.code() == Some(1), "{:?}", output.status);
    // The kernel forwards now.
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    from.send(&packet(1))?;
    ensure!(to.receive(LIMIT, ours)?.is_some());
    // And a new one starts from nothing.
    let again = Controller::start(&lab, &lab.dir().join("forwarder.toml"))?;
    ensure!(forwarded(&lab)? == 0);
    drop(again);
    Ok(())
}

/// Neighbours that the router's kernel was told to keep resolved.
fn managed(lab: &Lab) -> Result<usize> {
    let neighbours = lab.ip_json("router", "neigh show")?;
    Ok(neighbours
        .as_array()
        .into_iter()
        .flatten()
        .filter(|n| n.get("managed").is_some())
        .count())
}

/// Interfaces of the router that carry a program.
fn attached(lab: &Lab) -> Result<usize> {
    let links = lab.ip_json("router", "link show type veth")?;
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["xdp"]["prog"]["id"].is_u64())
        .count())
}
