//! A router that decides and does nothing, and one whose tables are compared with its kernel's routes all the time.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use forwarder::{clock::unix_seconds, dataplane::pins::Pins};
use forwarder_common::fib::Leaf;
use forwarder_tests::{
    controller::Controller,
    lab::Lab,
    operator::{figure, forwarded, patient, row},
    traffic,
};
use serde_json::Value;

/// A destination whose packets come from a bogon, and one whose do not.
const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    for line in [
        "route add 5.1.0.0/16 via 10.2.0.2",
        "route add 5.2.0.0/16 via 10.3.0.2",
        "route add 2a05::/32 via fd00:2::2",
        // Back to where the packets come from.
        "route add 2a00:ffff::/32 via fd00:1::2",
    ] {
        lab.ip("router", line)?;
    }
    lab.resolve_carriers()?;
    lab.resolve("router", "fd00:1::2")?;
    Ok(lab)
}

fn status(lab: &Lab) -> Result<Value> {
    Ok(lab.json("status")?[0].clone())
}

/// What interface a has counted for a reason with a verdict.
fn counted(lab: &Lab, reason: &str, verdict: &str) -> Result<i64> {
    let rows = lab.json("drops")?;
    let mut rows = rows.as_array().into_iter().flatten();
    let found = rows.find(|row| row["ifname"] == "a" && row["reason"] == reason && row["verdict"] == verdict);
    found.map_or(Ok(0), |row| figure(row, "packets"))
}

fn first_line(lab: &Lab) -> Result<String> {
    let output = lab.forwarder("status")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_string())
}

#[test]
fn a_dry_run_decides_everything_and_the_kernel_does_it() -> Result<()> {
    let lab = lab()?;
    let config = lab.config(&["b", "c"], "[[interface]]\nname = \"a\"\nrole = \"transit\"\n")?;
    let dry = Controller::start_with(&lab, &config, &["--dry-run"])?;
    ensure!(first_line(&lab)?.starts_with("DRY RUN"), "{}", first_line(&lab)?);
    // Packets from a bogon among them: here they arrive.
    let ((), arrived) = traffic::under(&lab, &TO, |traffic| traffic.flow(50).map(drop))?;
    let sums: Vec<i64> = arrived.iter().map(|[b, c]| (b + c) as i64).collect();
    let would = [
        counted(&lab, "bogon-source", "would-drop")?,
        counted(&lab, "forwarded", "would-forward")?,
    ];
    ensure!(would[..] == sums, "{would:?}, sent {sums:?}\n{}", lab.picture());
    ensure!(counted(&lab, "dry-run", "pass")? == sums.iter().sum::<i64>());
    let a = row(&lab, "interfaces", "ifname", "a")?;
    for key in ["forwarded_packets", "dropped_packets", "ingress_residue"] {
        ensure!(figure(&a, key)? == 0, "{key}: {a}");
    }
    let prefixes = lab.json("counters --by prefix")?;
    ensure!(
        prefixes.as_array().is_some_and(Vec::is_empty),
        "counted by prefix: {prefixes}"
    );
    let trace = lab.json("trace --interface a --src 2a00:ffff::1 --dst 2a05::1")?;
    ensure!(
        trace[0]["reason"] == "dry-run" && trace[0]["decided"] == "forwarded",
        "{trace}"
    );

    // The same pins, done for good, done dry again: nothing is lost on the way, and nothing is silent.
    let ((), arrived) = traffic::under(&lab, &TO[1..], |traffic| {
        dry.kill()?;
        traffic.flow(20)?;
        ensure!(status(&lab)?["dry_run"] == true, "the data path does not forget");
        let live = Controller::start_with(&lab, &config, &[])?;
        ensure!(status(&lab)?["dry_run"] == false);
        ensure!(!first_line(&lab)?.contains("DRY RUN"));
        ensure!(
            live.log()
                .contains("the dry run of the controller before is over"),
            "{}",
            live.log()
        );
        let before = forwarded(&lab, "a")?;
        traffic.flow(20)?;
        ensure!(forwarded(&lab, "a")? > before, "{}", lab.picture());
        live.kill()?;
        let dry = Controller::start_with(&lab, &config, &["--dry-run"])?;
        ensure!(status(&lab)?["dry_run"] == true);
        let before = forwarded(&lab, "a")?;
        traffic.flow(20)?;
        ensure!(forwarded(&lab, "a")? == before, "{}", lab.picture());
        dry.stop()?;
        Ok(())
    })?;
    ensure!(arrived[0][0] > 60, "{arrived:?}");
    Ok(())
}

#[test]
fn tables_of_another_size_end_a_dry_run_when_they_take_over() -> Result<()> {
    let lab = lab()?;
    let config = lab.config(&["a", "b", "c"], "")?;
    let dry = Controller::start_with(&lab, &config, &["--dry-run"])?;
    dry.stop()?;
    let config = lab.config(
        &["a", "b", "c"],
        "[tables]\nroutes = 131072\nipv4-blocks = 4096\nipv6-blocks = 4096\n",
    )?;
    let ((), arrived) = traffic::under(&lab, &TO, |traffic| {
        let live = Controller::start_with(&lab, &config, &[])?;
        patient(&lab, "packets to be forwarded", || {
            let forwards = status(&lab)?["dry_run"] == false && forwarded(&lab, "a")? > 0;
            Ok(forwards.then_some(()))
        })?;
        ensure!(
            live.log()
                .contains("the dry run of the controller before is over"),
            "{}",
            live.log()
        );
        traffic.flow(20)?;
        live.stop()?;
        Ok(())
    })?;
    ensure!(arrived.iter().all(|[b, _]| *b > 20), "{arrived:?}");
    Ok(())
}

/// Writes the words of all /24s of a /16 in the root of the IPv4 table; answers those that were there.
fn write_leaves(lab: &Lab, second: usize, new: impl Fn(usize, u32) -> u32 + Sync) -> Result<Vec<u32>> {
    lab.inside("router", || {
        let tables = Pins::new(&lab.pins()).open(true)?;
        Ok((0..256)
            .map(|third| {
                let word = tables.fib4_root.u32(((5 << 16) + (second << 8) + third) * 4);
                let old = word.load(Ordering::Acquire);
                word.store(new(third, old), Ordering::Release);
                old
            })
            .collect())
    })
}

#[test]
fn a_word_that_is_wrong_is_named_and_forgotten_when_it_is_mended() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    let shadow = || -> Result<Value> { Ok(status(&lab)?["shadow"].clone()) };
    patient(&lab, "some prefixes to be compared", || {
        let shadow = shadow()?;
        Ok((figure(&shadow, "checked")? > 20).then_some(()))
    })?;
    ensure!(shadow()?["differing"] == 0, "{}", lab.picture());

    let begun = unix_seconds() as i64;
    let theirs = Leaf(write_leaves(&lab, 2, |_, old| old)?[0]);
    let ours = write_leaves(&lab, 1, |_, old| Leaf::route(theirs.group(), Leaf(old).slot()).0)?;
    let found = patient(&lab, "the difference to be named", || {
        let shadow = shadow()?;
        Ok((shadow["differing"] == 1).then(|| shadow["differences"][0].clone()))
    })?;
    ensure!(found["prefix"] == "5.1.0.0/16", "{found}");
    let since = figure(&found, "since")?;
    ensure!(
        (begun..=unix_seconds() as i64).contains(&since),
        "since {since}, begun {begun}"
    );
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_string();
    ensure!(text("data_path").contains("10.3.0.2"), "{found}");
    ensure!(text("kernel").contains("10.2.0.2"), "{found}");
    patient(&lab, "status to say so under problems", || {
        let problems = status(&lab)?["problems"].to_string();
        Ok((problems.contains("5.1.0.0/16") && problems.contains("disagree since")).then_some(()))
    })?;
    ensure!(
        controller
            .log()
            .contains("5.1.0.0/16: forwarder and the kernel disagree")
    );

    write_leaves(&lab, 1, |third, _| ours[third])?;
    patient(&lab, "the difference to be over", || {
        let status = status(&lab)?;
        let over = status["shadow"]["differing"] == 0 && status["problems"] == serde_json::json!([]);
        Ok(over.then_some(()))
    })?;
    ensure!(controller.log().contains("agree again"), "{}", controller.log());
    Ok(())
}

#[test]
fn routes_that_come_and_go_are_no_difference() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    let flip = |word: &str, gateway: u8, count: u32| -> String {
        (0..count)
            .map(|number| {
                let (second, third) = (16 + number / 256, number % 256);
                match word {
                    "del" => format!("route del 6.{second}.{third}.0/24\n"),
                    _ => format!("route replace 6.{second}.{third}.0/24 via 10.{gateway}.0.2\n"),
                }
            })
            .collect()
    };
    let until = Instant::now() + Duration::from_secs(12);
    let before = figure(&status(&lab)?["shadow"], "checked")?;
    while Instant::now() < until {
        for lines in [
            flip("replace", 2, 3000),
            flip("replace", 3, 3000),
            flip("del", 0, 1500),
            flip("replace", 3, 1500),
            flip("replace", 2, 3000),
            flip("del", 0, 3000),
        ] {
            lab.batch("router", &lines)?;
        }
    }
    let shadow = status(&lab)?["shadow"].clone();
    ensure!(figure(&shadow, "checked")? > before + 100, "{shadow}");
    ensure!(shadow["differing"] == 0, "{shadow}");
    ensure!(!controller.log().contains("disagree"), "{}", controller.log());
    // What is behind is read at last.
    patient(&lab, "every prefix to agree", || {
        Ok(lab.forwarder("verify")?.status.success().then_some(()))
    })
}
