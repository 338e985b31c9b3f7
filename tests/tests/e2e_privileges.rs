//! A controller that root starts by hand has no more than the one of the service: three capabilities, no way to more, pins that are
//! nobody else's.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    lab::Lab,
    operator::{forwarded, patient},
    traffic,
};

const BPF: u64 = 1 << 39;
const PERFMON: u64 = 1 << 38;
const NET_ADMIN: u64 = 1 << 12;
const NET_BIND_SERVICE: u64 = 1 << 10;
const CHOWN: u64 = 1;
const THREE: u64 = BPF | PERFMON | NET_ADMIN;

/// Every thread has these capabilities in all of its five sets, and cannot have more.
fn holds(controller: &Controller<'_>, mask: u64) -> Result<()> {
    let tasks = fs::read_dir(format!("/proc/{}/task", controller.pid()))?;
    let mut threads = 0;
    for task in tasks {
        let path = task?.path().join("status");
        // One may end while we look.
        let Ok(status) = fs::read_to_string(&path) else {
            continue;
        };
        threads += 1;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = format!("{set}:\t{mask:016x}");
            ensure!(
                status.contains(&line),
                "no {line:?} in {}\n{status}",
                path.display()
            );
        }
        ensure!(status.contains("NoNewPrivs:\t1"), "{}\n{status}", path.display());
    }
    ensure!(threads > 3, "{threads} threads");
    Ok(())
}

#[test]
fn root_by_hand_keeps_three_capabilities_through_reloads_and_closes_its_pins() -> Result<()> {
    let own = fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let own = u64::from_str_radix(own.context("no CapEff")?, 16)?;
    ensure!(
        own & !THREE != 0,
        "this test has nothing to give away: run it as root"
    );
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.2.0.2")?;
    lab.resolve_carriers()?;
    // Somebody made the directory before, and was careless.
    fs::create_dir(lab.pins())?;
    fs::set_permissions(lab.pins(), fs::Permissions::from_mode(0o777))?;
    let controller = lab.start(&["a", "b"], "")?;
    holds(&controller, THREE)?;
    for name in ["", "maps", "links", "programs"] {
        let known = fs::metadata(lab.pins().join(name))?;
        ensure!(
            known.mode() & 0o077 == 0 && known.uid() == 0,
            "{name:?}: {:o}",
            known.mode()
        );
    }
    ensure!(
        controller.log().contains("was writable by others"),
        "{}",
        controller.log()
    );
    let before = forwarded(&lab, "a")?;
    let ((), arrived) = traffic::under(&lab, &["5.1.0.1"], |traffic| {
        traffic.flow(20)?;
        let other = lab.dir().join("other.toml");
        let text = fs::read_to_string(lab.dir().join("forwarder.toml"))?;
        fs::write(&other, format!("{text}[[interface]]\nname = \"c\"\n"))?;
        let applied = lab.forwarder(&format!("apply {}", other.display()))?;
        ensure!(
            applied.status.success(),
            "{}",
            String::from_utf8_lossy(&applied.stderr)
        );
        traffic.flow(20).map(drop)
    })?;
    traffic::all_forwarded(&lab, before, &arrived)?;
    // It began again by its program file, as root.
    holds(&controller, THREE)?;
    // What the socket needs to be another group's was given away: refused, told, and all stays as it is.
    let file = lab.dir().join("forwarder.toml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("{text}[api]\ngroup = \"daemon\"\n"))?;
    let reloaded = lab.forwarder("reload")?;
    let why = String::from_utf8_lossy(&reloaded.stderr);
    ensure!(
        !reloaded.status.success() && why.contains("a restart can"),
        "{why}{}",
        controller.log()
    );
    holds(&controller, THREE)?;
    ensure!(controller.stop()?.success());
    // A restart has it, and keeps what that takes and a low port.
    let more = "[api]\ngroup = \"daemon\"\n[routes]\nsources = [\"kernel\", \"bgp\"]\n[routes.bgp]\nlisten = \
                \"127.0.0.2:179\"\nlocal-as = 64500\n";
    fs::write(&file, format!("{text}{more}"))?;
    let controller = Controller::start(&lab, &file)?;
    holds(&controller, THREE | NET_BIND_SERVICE | CHOWN)?;
    ensure!(
        fs::metadata(lab.socket())?.gid() == 1,
        "the socket is its group's"
    );
    fs::write(&file, format!("{text}{more}[filter]\nbogons = false\n"))?;
    let reloaded = lab.forwarder("reload")?;
    ensure!(
        reloaded.status.success(),
        "{}",
        String::from_utf8_lossy(&reloaded.stderr)
    );
    patient(&lab, "the reload to have ended", || {
        Ok(lab
            .json("status")
            .is_ok_and(|rows| rows[0]["controller"] == "running")
            .then_some(()))
    })?;
    holds(&controller, THREE | NET_BIND_SERVICE | CHOWN)?;
    ensure!(
        fs::metadata(lab.socket())?.gid() == 1,
        "the socket is its group's"
    );
    ensure!(controller.stop()?.success());
    Ok(())
}

#[test]
fn pins_of_another_user_are_not_used() -> Result<()> {
    let lab = Lab::new()?;
    fs::create_dir(lab.pins())?;
    std::os::unix::fs::chown(lab.pins(), Some(65_534), None)?;
    let config = lab.config(&["a", "b"], "")?;
    let mut controller = Controller::spawn(&lab, &config)?;
    lab.wait("the controller to end", || {
        Ok((!controller.alive()?).then_some(()))
    })?;
    ensure!(
        controller.log().contains("belongs to user 65534"),
        "{}",
        controller.log()
    );
    Ok(())
}

/// How many sockets listen in a controller's network namespace, TCP and UDP, and where those do that are not on loopback.
fn beyond_loopback(controller: &Controller<'_>) -> Result<(usize, Vec<String>)> {
    let (mut all, mut beyond) = (0, Vec::new());
    // A socket that listens has state 0A, one of UDP that is bound has 07 (net/ipv4/tcp_ipv4.c, get_tcp4_sock and its kin).
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/{}/net/{table}", controller.pid()))?;
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (Some(local), Some(_), Some(found)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if found != state {
                continue;
            }
            all += 1;
            let (address, _) = local.split_once(':').context("an address with a port")?;
            // In the machine's order of octets: 127.0.0.0/8 ends in 7F, and ::1 in 01000000.
            let loopback = match address.len() {
                8 => address.ends_with("7F"),
                _ => address == "00000000000000000000000001000000",
            };
            if !loopback {
                beyond.push(format!("{table} {local}"));
            }
        }
    }
    Ok((all, beyond))
}

#[test]
fn nothing_listens_beyond_loopback_unless_it_is_told_to() -> Result<()> {
    let lab = Lab::new()?;
    let quiet = lab.start(&["a", "b"], "")?;
    let (all, beyond) = beyond_loopback(&quiet)?;
    ensure!(
        all >= 1 && beyond.is_empty(),
        "{all} listen, and beyond loopback {beyond:?}"
    );
    ensure!(quiet.stop()?.success());
    // Feeds that nobody told where.
    let feeds = "[routes]\nsources = [\"kernel\", \"fpm\"]\nsync-timeout = \"0s\"\n[routes.fpm]\n";
    let feeding = lab.start(&["a", "b"], feeds)?;
    let (all, beyond) = beyond_loopback(&feeding)?;
    ensure!(
        all >= 2 && beyond.is_empty(),
        "{all} listen, and beyond loopback {beyond:?}"
    );
    ensure!(feeding.stop()?.success());
    // One that was: what this test would see.
    let told = lab.start(&["a", "b"], "[api]\nmetrics = \"10.1.0.1:9177\"\n")?;
    let (_, beyond) = beyond_loopback(&told)?;
    ensure!(beyond.len() == 1, "{beyond:?}");
    Ok(())
}
