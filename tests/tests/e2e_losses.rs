//! Law 2 where packets are lost after they were forwarded: the program was granted a redirect, and behind it the way out is gone. Each kind is
//! made to happen while the controller is stopped, as it happens between a decision and the frame's turn; each is named in
//! `drops`, in `status` and for Prometheus, and as many are counted as did not arrive.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsRawFd as _, FromRawFd as _},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    frame,
    lab::{Lab, run},
    operator::{figure, patient, row},
    packets::Wire,
    traffic::MACS,
};

/// Packets before, and packets that the fault meets.
const BEFORE: usize = 100;
const MEETING: usize = 200;
/// Frames that the tap queues for somebody who does not read.
const QUEUE: usize = 16;
const TAP_MAC: &str = "02:00:00:00:09:02";
/// Octets of each packet: large, but for no MTU of a cable.
const LARGE: usize = 1_400;

/// A packet to 5.NET.0.1 with a number in it.
fn packet(net: u8, number: usize) -> Vec<u8> {
    let mut packet = frame::udp4(MACS, [5, net, 0, 1], 64, LARGE);
    let end = packet.len();
    packet[end - 4..].copy_from_slice(&(number as u32).to_be_bytes());
    packet
}

fn ours(net: u8) -> impl Fn(&[u8]) -> bool {
    move |frame: &[u8]| frame.get(12..14) == Some(&[8, 0]) && frame.get(30..32) == Some(&[5, net])
}

/// What becomes of packets that left by `egress`, where the way out breaks behind the controller's back: `kinds` are the names it may
/// be counted by, which depend on the kernel.
fn lost(
    lab: &Lab,
    interfaces: &[&str],
    (egress, net): (&str, u8),
    kinds: &[&str],
    fault: impl FnOnce() -> Result<()>,
    mut arrivals: impl FnMut() -> Result<usize>,
) -> Result<()> {
    // Never stale: it is the fast path that is to meet the fault.
    let controller = lab.start(
        interfaces,
        "[api]\nmetrics = \"127.0.0.1:9177\"\n[routes]\nmax-age = \"0s\"\n",
    )?;
    patient(lab, "the way out to be known", || {
        let said = lab.forwarder(&format!("lookup 5.{net}.0.1 --json"))?;
        let rows: serde_json::Value = serde_json::from_slice(&said.stdout)?;
        let usable = |row: &serde_json::Value| row["by"] == "data-path" && row["state"] == "usable";
        Ok(rows
            .as_array()
            .is_some_and(|rows| rows.iter().any(usable))
            .then_some(()))
    })?;
    let from = lab.wire("a")?;
    let send = |numbers: std::ops::Range<usize>| {
        numbers
            .into_iter()
            .try_for_each(|number| from.send(&packet(net, number)))
    };
    let mut arrived = 0;
    for number in 0..BEFORE {
        send(number..number + 1)?;
        lab.wait("a packet to arrive while all is well", || {
            arrived += arrivals()?;
            Ok((arrived > number).then_some(()))
        })?;
    }
    // The controller has looked once, so that it knows what is new; and then it is not there.
    patient(lab, "a first look", || {
        Ok(
            (figure(&row(lab, "interfaces", "ifname", egress)?, "transmitted_packets")? >= BEFORE as i64)
                .then_some(()),
        )
    })?;
    std::thread::sleep(Duration::from_millis(1_500));
    controller.pause(true);
    fault()?;
    send(BEFORE..BEFORE + MEETING)?;
    // What arrives does so at once; what does not is counted, which is looked at below and ends the wait.
    std::thread::sleep(Duration::from_millis(500));
    arrived += arrivals()?;
    controller.pause(false);
    let missing = (BEFORE + MEETING - arrived) as i64;
    ensure!(missing > 0, "nothing was lost");
    let counted = patient(lab, "each loss to have a name", || {
        let rows = lab.json("drops")?;
        let rows = rows.as_array().into_iter().flatten();
        let lost: Vec<_> = rows
            .filter(|row| row["verdict"] == "lost" && row["packets"] != 0)
            .cloned()
            .collect();
        let sum: i64 = lost.iter().filter_map(|row| row["packets"].as_i64()).sum();
        Ok((sum == missing).then_some(lost))
    })
    .with_context(|| format!("{missing} are missing"))?;
    for row in &counted {
        let reason = row["reason"].as_str().unwrap_or_default();
        ensure!(
            row["ifname"] == egress && kinds.contains(&reason),
            "{missing} are missing, and counted as {counted:?}"
        );
    }
    println!("{missing} of {}: {}", BEFORE + MEETING, counted[0]["reason"]);
    // In a sentence of `status`, in words that say what is wrong.
    let kind = counted[0]["reason"].as_str().unwrap_or_default();
    let (stage, kind) = kind.split_once('-').context("a stage and a kind")?;
    patient(lab, "a sentence in status", || {
        let status = lab.json("status")?;
        let problems = status[0]["problems"].as_array().cloned().unwrap_or_default();
        let about = format!("{egress}: {missing} of ");
        let says = |text: &str| text.starts_with(&about) && text.contains(&format!("are lost ({kind})"));
        Ok(problems
            .iter()
            .filter_map(|text| text.as_str())
            .any(says)
            .then_some(()))
    })?;
    // For Prometheus, and the sums close on both sides.
    let page = lab
        .command("router", "curl")
        .args(["-sf", "http://127.0.0.1:9177/metrics"])
        .output()?;
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    for line in [
        format!("forwarder_lost_packets_total{{ifname=\"{egress}\"}} {missing}"),
        format!("forwarder_{stage}_errors_total{{ifname=\"{egress}\",reason=\"{kind}\"}} {missing}"),
        format!("forwarder_egress_residue_packets{{ifname=\"{egress}\"}} 0"),
        "forwarder_ingress_residue_packets{ifname=\"a\"} 0".to_string(),
    ] {
        ensure!(
            page.lines()
                .any(|known| known == line || known == format!("{line}.0")),
            "no {line:?} in\n{page}"
        );
    }
    let out = row(lab, "interfaces", "ifname", egress)?;
    ensure!(out["egress_residue"] == 0, "{out}");
    ensure!(
        figure(&out, "transmitted_packets")? == arrived as i64,
        "{arrived} arrived: {out}"
    );
    let text = lab.forwarder("status")?;
    let text = String::from_utf8_lossy(&text.stdout);
    let sums = format!("every packet accounted once; {missing} lost in egress drivers");
    ensure!(text.contains(&sums), "no {sums:?} in\n{text}");
    Ok(())
}

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.2.0.0/16 via 10.2.0.2")?;
    lab.resolve_carriers()?;
    Ok(lab)
}

fn at_b(end: &Wire) -> impl FnMut() -> Result<usize> + '_ {
    || Ok(end.drain(ours(2))?.len())
}

#[test]
fn an_egress_that_goes_down_behind_the_decision_is_named() -> Result<()> {
    let lab = lab()?;
    let b = lab.wire("b")?;
    let fault = || lab.ip("router", "link set dev b down");
    lost(&lab, &["a", "b"], ("b", 2), &["redirect-down"], fault, at_b(&b))
}

#[test]
fn an_egress_that_takes_less_than_it_did_is_named() -> Result<()> {
    let lab = lab()?;
    let b = lab.wire("b")?;
    let fault = || lab.ip("router", "link set dev b mtu 1000");
    lost(
        &lab,
        &["a", "b"],
        ("b", 2),
        &["redirect-too-big"],
        fault,
        at_b(&b),
    )
}

#[test]
fn a_peer_that_is_down_is_named() -> Result<()> {
    let lab = lab()?;
    let b = lab.wire("b")?;
    let fault = || lab.ip("b", "link set dev b down");
    lost(
        &lab,
        &["a", "b"],
        ("b", 2),
        &["transmit-no-queue"],
        fault,
        at_b(&b),
    )
}

#[test]
fn a_driver_that_stops_sending_for_xdp_is_named() -> Result<()> {
    let lab = lab()?;
    let b = lab.wire("b")?;
    // Nobody at the far end takes frames without an skb any more, and the near end ceases to offer it.
    let fault = || run(lab.command("b", "ethtool").args(["-K", "b", "gro", "off"])).map(drop);
    // Before 6.2 no driver says that it does not: it has no queue.
    let kinds = ["redirect-not-supported", "transmit-no-queue"];
    lost(&lab, &["a", "b"], ("b", 2), &kinds, fault, at_b(&b))
}

/// The other end of a tap of the router's: a queue of frames that nobody reads, unless the test does.
struct Tap(File);

impl Tap {
    /// Makes it, with an address of the router's, a neighbour that is known and a route by it.
    fn new(lab: &Lab) -> Result<Tap> {
        let file = lab.inside("router", || open_tap("t"))?;
        let octets = TAP_MAC;
        lab.batch(
            "router",
            &format!(
                "link set dev t address 02:00:00:00:09:01 txqueuelen {QUEUE} up\naddr add 10.9.0.1/24 dev t\n\
                 neigh replace 10.9.0.2 lladdr {octets} dev t nud permanent\nroute add 5.9.0.0/16 via 10.9.0.2\n"
            ),
        )?;
        Ok(Tap(file))
    }

    /// Frames of ours that wait.
    fn read(&mut self) -> Result<usize> {
        let mut buffer = [0; 4_096];
        let mut count = 0;
        loop {
            match self.0.read(&mut buffer) {
                Ok(length) => count += usize::from(ours(9)(&buffer[..length])),
                Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => return Ok(count),
                Err(why) => return Err(why.into()),
            }
        }
    }
}

/// A tap of this network namespace.
fn open_tap(name: &str) -> Result<File> {
    // linux/if_tun.h
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const TAP_WITHOUT_HEADER: i16 = 0x0002 | 0x1000;
    // SAFETY: a path that ends with a NUL; the descriptor is owned at once.
    let file = unsafe {
        let fd = libc::open(
            c"/dev/net/tun".as_ptr(),
            libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC,
        );
        ensure!(fd >= 0, "/dev/net/tun: {}", std::io::Error::last_os_error());
        File::from_raw_fd(fd)
    };
    // SAFETY: all zeros is a value of this structure of numbers and octets.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = octet as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = TAP_WITHOUT_HEADER;
    // SAFETY: an open tun device and a request that it fills.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) } != 0;
    ensure!(!failed, "a tap: {}", std::io::Error::last_os_error());
    Ok(file)
}

#[test]
fn a_queue_that_nobody_reads_is_named() -> Result<()> {
    let lab = lab()?;
    let mut tap = Tap::new(&lab)?;
    let stuck = std::cell::Cell::new(0);
    // Read while all is well; what comes behind the first hundred waits for its reader until the end, and most of it finds no room.
    let arrivals = || {
        let count = tap.read()?;
        stuck.set(stuck.get() + count);
        Ok(count)
    };
    lost(
        &lab,
        &["a", "t"],
        ("t", 9),
        &["transmit-queue-full"],
        || Ok(()),
        arrivals,
    )?;
    ensure!(stuck.get() >= BEFORE + QUEUE / 2, "{} arrived", stuck.get());
    Ok(())
}
