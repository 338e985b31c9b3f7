//! Tables of another layout, or of other sizes, take the place of those in force under traffic: no packet is lost, each is forwarded by
//! one set or the other, the history has all of them, and whatever ends the controller meanwhile, the next start goes on.

use std::{fs, os::fd::AsFd, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use forwarder::{
    dataplane::{Array, Region, Tables, pins::Pins},
    stats::accounts,
};
use forwarder_common::{
    directory::{ABI_VERSION, Meta},
    maps,
};
use forwarder_tests::{
    controller::Controller,
    lab::{Lab, run},
    operator::{patient, sound},
    random::Random,
    traffic::{self, Arrived},
};
use serde_json::Value;

const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];
const SMALL: &str = "[tables]\nroutes = 65536\nipv4-blocks = 4096\nipv6-blocks = 4096\n\n";
const LARGE: &str = "[tables]\nroutes = 131072\nipv4-blocks = 8192\nipv6-blocks = 4096\n\n";

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    Ok(lab)
}

/// The pinned tables; what is read of them stays readable when they are pinned no longer.
fn tables(lab: &Lab) -> Result<Tables> {
    Pins::new(&lab.pins()).open(false)
}

fn forwarded(tables: &Tables) -> u64 {
    accounts::forwarded(tables).packets
}

fn total(arrived: &Arrived) -> u64 {
    arrived.iter().flatten().sum()
}

/// Makes the pinned tables those of another version, as far as anybody can tell.
fn of_version(lab: &Lab, abi: u32) -> Result<()> {
    let map = Pins::new(&lab.pins()).data(maps::META)?;
    let place = Array::new(Region::map(map.fd().as_fd(), size_of::<Meta>(), true)?, 1);
    let meta: Meta = place.get(0);
    place.set(0, &Meta { abi, ..meta });
    Ok(())
}

/// What is pinned: one whole set of maps, and no name of a change of them.
fn settled(lab: &Lab, slots: u32) -> Result<Option<()>> {
    for name in ["maps-next", "maps-before"] {
        if lab.pins().join(name).exists() {
            return Ok(None);
        }
    }
    let links = fs::read_dir(lab.pins().join("links"))?;
    let names: Vec<String> = links
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ensure!(!names.iter().any(|name| name.starts_with("next-")), "{names:?}");
    let has = tables(lab)?.sizes.slots;
    ensure!(has == slots, "{has} slots, not {slots}");
    Ok(Some(()))
}

/// Slots of the tables that a configuration asks for.
fn slots(config: &Path) -> Result<u32> {
    let config = forwarder::config::load(config)?;
    Ok(config.tables.sizes(1).slots)
}

/// Packets that the history says were sent to a prefix.
fn remembered(lab: &Lab, prefix: &str) -> Result<u64> {
    let mut curl = lab.command("router", "curl");
    curl.args(["--silent", "--get", "--data-urlencode"])
        .arg(format!("name={prefix}"))
        .arg("http://127.0.0.1:9177/v1/history?of=prefix");
    let samples: Value = serde_json::from_str(&run(&mut curl)?)?;
    let all = samples.as_array().into_iter().flatten();
    Ok(all.filter_map(|row| row["out_packets"].as_u64()).sum())
}

#[test]
fn other_sizes_are_taken_under_traffic_and_the_history_has_every_packet() -> Result<()> {
    let lab = lab()?;
    let history = lab.dir().join("history");
    let more = format!(
        "[history]\ndirectory = \"{}\"\ninterval = \"10s\"\n",
        history.display()
    );
    let small = lab.config(&["a", "b"], &format!("{SMALL}{more}"))?;
    let before_slots = slots(&small)?;
    let controller = Controller::start(&lab, &small)?;
    let mut sets = vec![tables(&lab)?];
    let (controller, arrived) = traffic::under(&lab, &TO, |traffic| {
        traffic.flow(50)?;
        controller.stop()?;
        let large = lab.config(&["a", "b"], &format!("{LARGE}{more}"))?;
        let after_slots = slots(&large)?;
        ensure!(before_slots != after_slots, "the same tables are asked for");
        let controller = Controller::start(&lab, &large)?;
        lab.wait("the new tables", || settled(&lab, after_slots).or(Ok(None)))?;
        sets.push(tables(&lab)?);
        traffic.flow(50)?;
        // And back, while the controller runs.
        lab.config(&["a", "b"], &format!("{SMALL}{more}"))?;
        let reloaded = lab.forwarder("reload")?;
        ensure!(reloaded.status.success(), "{reloaded:?}");
        lab.wait("the old sizes", || settled(&lab, before_slots).or(Ok(None)))?;
        sets.push(tables(&lab)?);
        traffic.flow(50)?;
        lab.wait("both changes to be said", || {
            let said = controller.log().matches("the new tables are in force").count();
            Ok((said == 2).then_some(()))
        })?;
        Ok(controller)
    })
    .with_context(|| lab.picture())?;
    let forwarded: u64 = sets.iter().map(forwarded).sum();
    ensure!(
        forwarded == total(&arrived),
        "{forwarded} forwarded, {arrived:?} arrived"
    );
    sound(&lab, &["a", "b"])?;
    for (prefix, sent) in [("5.1.0.0/16", &arrived[0]), ("2a05::/32", &arrived[1])] {
        let sent: u64 = sent.iter().sum();
        patient(&lab, "the history to have everything", || {
            let found = remembered(&lab, prefix)?;
            ensure!(found <= sent, "{prefix}: {found} of {sent} packets");
            Ok((found == sent).then_some(()))
        })?;
    }
    drop(controller);
    Ok(())
}

#[test]
fn an_upgrade_to_another_layout_and_the_way_back_lose_no_packet_and_forward_every_one() -> Result<()> {
    let lab = lab()?;
    let file = lab.config(&["a", "b"], SMALL)?;
    let slots = slots(&file)?;
    Controller::start(&lab, &file)?.stop()?;
    let mut sets = vec![tables(&lab)?];
    let (controller, arrived) = traffic::under(&lab, &TO, |traffic| {
        let mut controller = None;
        // An earlier version's, then a later one's: whoever starts makes its own.
        for abi in [ABI_VERSION - 1, ABI_VERSION + 1] {
            if let Some(controller) = controller.take() {
                Controller::stop(controller)?;
            }
            of_version(&lab, abi)?;
            let refused = lab.forwarder("routes")?;
            ensure!(!refused.status.success(), "tables of another version were read");
            traffic.flow(30)?;
            let started = Controller::start(&lab, &file)?;
            lab.wait("the new tables", || settled(&lab, slots).or(Ok(None)))?;
            sets.push(tables(&lab)?);
            traffic.flow(30)?;
            controller = Some(started);
        }
        Ok(controller)
    })
    .with_context(|| lab.picture())?;
    let forwarded: u64 = sets.iter().map(forwarded).sum();
    ensure!(
        forwarded == total(&arrived),
        "{forwarded} forwarded by {} sets of tables, {} arrived",
        sets.len(),
        total(&arrived)
    );
    sound(&lab, &["a", "b"])?;
    drop(controller);
    Ok(())
}

#[test]
fn where_one_interface_cannot_change_over_none_does() -> Result<()> {
    let lab = lab()?;
    let file = lab.config(&["a", "b"], SMALL)?;
    let slots = slots(&file)?;
    Controller::start(&lab, &file)?.stop()?;
    of_version(&lab, ABI_VERSION + 1)?;
    let links = lab.pins().join("links");
    let index = lab.ip_json("router", "link show b")?[0]["ifindex"]
        .as_u64()
        .context("no b")?;
    let (link, aside, other) = (
        links.join(format!("xdp-{index}")),
        links.join("aside"),
        links.join("tp-xdp_redirect_err"),
    );
    // What is pinned for b is no attachment that could be replaced.
    fs::rename(&link, &aside)?;
    fs::rename(&other, &link)?;
    let ((), _) = traffic::under(&lab, &TO, |traffic| {
        let mut controller = Controller::spawn(&lab, &file)?;
        let log = lab.wait("the controller to give up", || {
            Ok((!controller.alive()?).then(|| controller.log()))
        })?;
        ensure!(log.contains("the new tables are not in force"), "{log}");
        traffic.flow(30)?;
        Ok(())
    })?;
    let before = Pins::new(&lab.pins()).any_meta()?;
    ensure!(before.abi == ABI_VERSION + 1, "the tables of before have gone");
    fs::rename(&link, &other)?;
    fs::rename(&aside, &link)?;
    let controller = Controller::start(&lab, &file)?;
    lab.wait("the new tables", || settled(&lab, slots).or(Ok(None)))?;
    sound(&lab, &["a", "b"])?;
    drop(controller);
    Ok(())
}

#[test]
fn a_controller_killed_while_interfaces_change_over_is_gone_on_with() -> Result<()> {
    let lab = lab()?;
    let small = fs::read_to_string(lab.config(&["a", "b", "c"], SMALL)?)?;
    let file = lab.config(&["a", "b", "c"], LARGE)?;
    let large = fs::read_to_string(&file)?;
    Controller::start(&lab, &file)?.kill()?;
    let mut random = Random::new(8);
    let (controller, _) = traffic::under(&lab, &TO, |traffic| {
        for turn in 0..12 {
            fs::write(&file, if turn % 2 == 0 { &small } else { &large })?;
            let controller = Controller::spawn(&lab, &file)?;
            std::thread::sleep(Duration::from_millis(400 + random.below(900) as u64));
            controller.kill()?;
            if random.below(3) == 0 {
                of_version(&lab, ABI_VERSION + 1)?;
            }
        }
        let controller = Controller::start(&lab, &file)?;
        let slots = slots(&file)?;
        lab.wait("one set of tables", || settled(&lab, slots).or(Ok(None)))?;
        traffic.flow(50)?;
        Ok(controller)
    })
    .with_context(|| lab.picture())?;
    let before = forwarded(&tables(&lab)?);
    let ((), arrived) = traffic::under(&lab, &TO, |traffic| traffic.flow(50).map(drop))?;
    ensure!(forwarded(&tables(&lab)?) - before == total(&arrived));
    sound(&lab, &["a", "b"])?;
    drop(controller);
    Ok(())
}
