//! The controller as a service: what its manager hears, what it may do there, and how a new version takes over.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::{Controller, binary},
    frame,
    lab::{LIMIT, Lab, run},
    packets::Wire,
};

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]);
const INTERFACES: [&str; 3] = ["a", "b", "c"];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.resolve("router", "10.2.0.2")?;
    Ok(lab)
}

/// Sends one packet after the other until `until` says so; each must arrive before the next is sent. Answers how many did.
fn stream(from: &Wire, to: &Wire, until: impl Fn() -> bool) -> Result<u64> {
    let mut number: u32 = 0;
    while !until() {
        number += 1;
        let [_, _, high, low] = number.to_be_bytes();
        let packet = frame::udp4(MACS, [5, 1, high, low], 64, 40);
        let id = packet[30..34].to_vec();
        from.send(&packet)?;
        let is_it = |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&id);
        ensure!(to.receive(LIMIT, is_it)?.is_some(), "packet {number} is lost");
    }
    Ok(number.into())
}

fn forwarded(lab: &Lab) -> Result<u64> {
    let rows = lab.json("interfaces")?;
    let row = rows
        .as_array()
        .into_iter()
        .flatten()
        .find(|row| row["ifname"] == "a");
    row.and_then(|row| row["forwarded_packets"].as_u64())
        .context("no interface a")
}

/// The binary to upgrade from: FORWARDER_OLD_BIN, or the one under test itself.
fn old() -> Result<PathBuf> {
    std::env::var_os("FORWARDER_OLD_BIN").map_or_else(binary, |path| Ok(path.into()))
}

#[test]
fn an_upgrade_loses_no_packet_and_no_count() -> Result<()> {
    let lab = lab()?;
    let config = lab.config(&INTERFACES, "")?;
    let mut controller = Controller::spawn_by(&lab, &config, lab.command("router", old()?))?;
    controller.ready()?;
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let done = AtomicBool::new(false);
    let before = forwarded(&lab)?;
    let crossed = std::thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&from, &to, || done.load(Ordering::Relaxed)));
        let more = |what: &str| {
            let now = forwarded(&lab)?;
            lab.wait(what, || Ok((forwarded(&lab)? > now + 50).then_some(())))
        };
        // As systemd restarts the service when the package has been replaced.
        let work = || -> Result<()> {
            more("packets before the upgrade")?;
            ensure!(controller.stop()?.success(), "the old one did not stop well");
            more("packets between the two")?;
            let new = lab.start(&INTERFACES, "")?;
            more("packets after the upgrade")?;
            ensure!(new.stop()?.success(), "the new one did not stop well");
            Ok(())
        };
        let result = work();
        done.store(true, Ordering::Relaxed);
        let crossed = stream
            .join()
            .map_err(|_| anyhow::anyhow!("the stream panicked"))?;
        result?;
        crossed
    })
    .with_context(|| lab.picture())?;
    let counted = forwarded(&lab)? - before;
    ensure!(
        counted == crossed,
        "{crossed} crossed, {counted} counted\n{}",
        lab.picture()
    );
    println!("{crossed} packets crossed, none lost, all counted");
    Ok(())
}

#[test]
fn the_service_manager_hears_of_the_start_of_every_round_and_of_the_end() -> Result<()> {
    let lab = lab()?;
    let path = lab.dir().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(LIMIT))?;
    let mut command = lab.command("router", binary()?);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000");
    let config = lab.config(&INTERFACES, "")?;
    let mut controller = Controller::spawn_by(&lab, &config, command)?;
    let hear = || -> Result<String> {
        let mut buffer = [0; 4096];
        let length = manager
            .recv(&mut buffer)
            .context("the service manager hears nothing")?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let first = hear()?;
    ensure!(
        first.contains("READY=1") && first.contains("STATUS=forwarding"),
        "{first}"
    );
    // It was attached and had the kernel's routes by then.
    let interfaces = lab.json("interfaces")?;
    ensure!(
        interfaces.as_array().is_some_and(|rows| rows.len() == 3),
        "{interfaces}"
    );
    controller.ready()?;
    let (mut rounds, mut status) = (0, String::new());
    while rounds < 3 {
        let word = hear()?;
        rounds += u32::from(word.contains("WATCHDOG=1"));
        if let Some(sentence) = word.strip_prefix("STATUS=") {
            status = sentence.to_string();
        }
    }
    ensure!(status.starts_with("forwarding on 3 interfaces, "), "{status}");
    // Stopped, so that no round ends: the manager must notice.
    controller.pause(true);
    std::thread::sleep(Duration::from_millis(500));
    manager.set_nonblocking(true)?;
    while hear().is_ok() {}
    std::thread::sleep(Duration::from_secs(2));
    ensure!(hear().is_err(), "a controller that hangs is said to be well");
    manager.set_nonblocking(false)?;
    controller.pause(false);
    ensure!(controller.stop()?.success());
    let mut last = hear()?;
    while !last.contains("STOPPING=1") {
        last = hear()?;
    }
    ensure!(last.contains("the data path goes on"), "{last}");
    Ok(())
}

#[test]
fn three_capabilities_are_all_it_needs() -> Result<()> {
    let lab = lab()?;
    let mut command = lab.command("router", "setpriv");
    command
        .args([
            "--bounding-set",
            "-all,+bpf,+net_admin,+perfmon",
            "--no-new-privs",
        ])
        .arg(binary()?);
    let config = lab.config(&INTERFACES, "[filter]\nbogons = true\n")?;
    let mut controller = Controller::spawn_by(&lab, &config, command)?;
    controller.ready()?;
    let status = fs::read_to_string(format!("/proc/{}/status", controller.pid()))?;
    // CAP_NET_ADMIN is 12, CAP_PERFMON 38, CAP_BPF 39.
    let mask = format!("{:016x}", 1u64 << 12 | 1 << 38 | 1 << 39);
    for line in [format!("CapEff:\t{mask}"), "NoNewPrivs:\t1".to_string()] {
        ensure!(status.contains(&line), "no {line:?} in\n{status}");
    }
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let rounds = AtomicBool::new(false);
    let before = forwarded(&lab)?;
    let crossed = stream(&from, &to, || rounds.swap(true, Ordering::Relaxed))?;
    ensure!(forwarded(&lab)? - before == crossed, "{}", lab.picture());
    let problems = lab.json("status")?[0]["problems"].clone();
    ensure!(problems.as_array().is_none_or(Vec::is_empty), "{problems}");
    ensure!(controller.stop()?.success());
    // And its successor adopts what it left, with no more than that.
    let mut command = lab.command("router", "setpriv");
    command
        .args([
            "--bounding-set",
            "-all,+bpf,+net_admin,+perfmon",
            "--no-new-privs",
        ])
        .arg(binary()?);
    Controller::spawn_by(&lab, &config, command)?.ready()
}

/// The system calls that the unit's filter lets through, by systemd's own lists.
fn allowed() -> Result<BTreeSet<String>> {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/systemd/forwarder.service");
    let unit = fs::read_to_string(unit)?;
    let mut calls = BTreeSet::new();
    for line in unit
        .lines()
        .filter_map(|line| line.strip_prefix("SystemCallFilter="))
    {
        let (line, takes) = line.strip_prefix('~').map_or((line, false), |line| (line, true));
        for word in line.split_whitespace() {
            for call in group(word)? {
                if takes {
                    calls.remove(&call);
                } else {
                    calls.insert(call);
                }
            }
        }
    }
    Ok(calls)
}

/// The calls of a group, with those of groups within it; or the one call that is meant.
fn group(word: &str) -> Result<Vec<String>> {
    if !word.starts_with('@') {
        return Ok(vec![word.to_string()]);
    }
    let said = run(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter", word]))?;
    let mut calls = Vec::new();
    for line in said.lines().filter(|line| line.starts_with(' ')) {
        let line = line.trim();
        if !line.starts_with('#') {
            calls.extend(group(line)?);
        }
    }
    Ok(calls)
}

#[test]
fn the_filter_of_the_service_knows_every_system_call() -> Result<()> {
    let allowed = allowed()?;
    ensure!(allowed.contains("bpf") && allowed.contains("read") && !allowed.contains("mount"));
    let lab = lab()?;
    let calls = lab.dir().join("calls");
    let mut command = lab.command("router", "strace");
    // As a grandchild, so that the process is ours; only names are asked for.
    command
        .args(["-D", "-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&calls)
        .arg(binary()?);
    let history = lab.dir().join("history");
    let more = format!(
        "[history]\nenabled = true\ndirectory = \"{}\"\n[routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n\
         [routes.fpm]\n[samples]\nrate = 1\nsflow = [\"10.2.0.2:6343\"]\n",
        history.display()
    );
    let config = lab.config(&INTERFACES, &more)?;
    let mut controller = Controller::spawn_by(&lab, &config, command)?;
    controller.ready()?;
    for line in [
        "status",
        "interfaces",
        "drops",
        "routes",
        "counters",
        "counters --by next-hop",
    ] {
        lab.json(line)?;
    }
    let (from, to) = (lab.wire("a")?, lab.wire("b")?);
    let once = AtomicBool::new(false);
    stream(&from, &to, || once.swap(true, Ordering::Relaxed))?;
    lab.ip("router", "route add 5.5.0.0/16 via 10.2.0.2")?;
    // Rounds of the neighbours and of the counters.
    std::thread::sleep(Duration::from_secs(12));
    ensure!(controller.stop()?.success());
    let text = fs::read_to_string(&calls)?;
    let mut refused = BTreeSet::new();
    let mut seen = 0;
    for line in text.lines() {
        // Process, then `name(`; what goes on later begins with `<...`.
        let Some((name, _)) = line
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.split_once('('))
        else {
            continue;
        };
        seen += 1;
        // Before the service's own program there are strace and the manager, which have no filter.
        if !allowed.contains(name) && name != "execve" {
            refused.insert(name.to_string());
        }
    }
    ensure!(seen > 1_000, "strace saw {seen} calls only");
    // What RestrictAddressFamilies and MemoryDenyWriteExecute would refuse.
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once(" socket(") {
            let family = rest.split(',').next().unwrap_or_default();
            let known = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"];
            ensure!(
                known.contains(&family),
                "a socket that the unit does not allow: {line}"
            );
        }
        ensure!(
            !line.contains("PROT_WRITE|PROT_EXEC"),
            "memory that the unit does not allow: {line}"
        );
    }
    ensure!(
        refused.is_empty(),
        "the unit's SystemCallFilter has not: {refused:?}"
    );
    Ok(())
}
