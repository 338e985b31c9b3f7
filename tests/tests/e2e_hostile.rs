//! Hostile clients on every socket at once, while packets cross, routes change and BIRD has a session: nobody who behaves notices, and when they
//! are gone everything is as it was.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    bird::Bird,
    hostile::{At, Crowd, How},
    lab::Lab,
    operator::{figure, forwarded, is, patient, row, settle, source, wait_source},
    sandbox::Home,
    traffic,
};

const TO: [&str; 2] = ["5.1.0.1", "2a05::1"];
const CONFIG: &str = "[api]\ngroup = \"daemon\"\nmetrics = \"127.0.0.1:9177\"\n\
                      [routes]\nsources = [\"kernel\", \"bgp\", \"fpm\"]\nsync-timeout = \"0s\"\n\
                      [routes.bgp]\nlisten = \"127.0.0.2:1179\"\nlocal-as = 64500\n\
                      [routes.fpm]\nlisten = \"127.0.0.1:2620\"\n";
/// Rounds of watching while they are there, about a second each.
const ROUNDS: usize = 12;
/// MiB that the controller's own memory may grow by while they are there, and by which it may stay grown when they are gone: allocators
/// keep some of what they had.
const GROWTH_MIB: u64 = 48;
/// Descriptors more at a time, at most: the connections that each listener says it serves, and what closes.
const DESCRIPTORS: usize = 450;

/// BIRD with a route that leads by b or c.
fn bird(carrier: u8) -> String {
    format!(
        "router id 10.2.0.1;\nprotocol device {{}}\n\
         protocol bgp feed {{ local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; \
         connect retry time 1; connect delay time 1; error wait time 1, 2; hold time 30; \
         ipv4 {{ import none; export all; next hop keep; }}; }}\n\
         protocol static {{ ipv4; route 5.9.0.0/16 via 10.{carrier}.0.2; }}\n"
    )
}

/// MiB of memory that is the process's own: mapped tables are the kernel's.
fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .and_then(|rest| rest.split_whitespace().next())
        .context("no RssAnon")?
        .parse()?;
    Ok(kib >> 10)
}

fn entries(pid: u32, of: &str) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/{of}"))?.count())
}

#[test]
fn hostile_clients_on_every_socket_disturb_nobody() -> Result<()> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.2.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    let controller = lab.start(&["a", "b", "c"], CONFIG)?;
    let pid = controller.pid();
    let bird_daemon = Bird::start(&lab, "router", &bird(2))?;
    wait_source(&lab, "bgp", "its one route", |row| is(row, "live", [1, 0]))?;
    settle(&lab, "5.9.0.1", &["10.2.0.2"])?;
    let before = (memory(pid)?, entries(pid, "fd")?, entries(pid, "task")?);
    let session = figure(&source(&lab, "bgp")?, "sessions")?;
    let from = |last: u8| Ipv4Addr::new(127, 0, 0, last);
    let bgp = "127.0.0.2:1179".parse()?;
    let all = [
        (At::Socket(lab.socket()), &How::ALL[..]),
        (At::Http("127.0.0.1:9177".parse()?), &How::ALL),
        // As a neighbour of its own; and from where BIRD has its session, but for an OPEN: with that it would be BIRD, as far as anybody
        // can tell without a password.
        (At::Bgp(bgp, from(66)), &How::ALL),
        (At::Bgp(bgp, from(1)), &How::NOBODY),
        (At::Fpm("127.0.0.1:2620".parse()?), &How::ALL),
    ];
    let netns = format!("/run/netns/{}", lab.netns("router"));
    let first = forwarded(&lab, "a")?;
    let ((), arrived) = traffic::under(&lab, &TO, |traffic| {
        traffic.flow(20)?;
        let crowd = Crowd::start(&all, move || Home::at(netns.as_ref())?.enter())?;
        let mut worst = (0, 0);
        for round in 0..ROUNDS {
            std::thread::sleep(Duration::from_millis(300));
            // Root is answered, as fast as usual or not, every time.
            let status = lab.json("status")?;
            ensure!(
                status[0]["controller"] == "running" && status[0]["stale"] == false,
                "{status}"
            );
            worst = (worst.0.max(memory(pid)?), worst.1.max(entries(pid, "fd")?));
            // What the kernel and BIRD say comes into force.
            let (carrier, other) = if round % 2 == 0 { (3, 2) } else { (2, 3) };
            lab.ip(
                "router",
                &format!("route replace 5.8.0.0/16 via 10.{carrier}.0.2"),
            )?;
            bird_daemon.configure(&bird(carrier))?;
            settle(&lab, "5.8.0.1", &[&format!("10.{carrier}.0.2")])?;
            settle(&lab, "5.9.0.1", &[&format!("10.{carrier}.0.2")])
                .with_context(|| format!("BIRD's route, by {other} before"))?;
            traffic.flow(20)?;
        }
        println!(
            "{} connections; memory {} MiB before and {} at most, descriptors {} and {}",
            crowd.begun(),
            before.0,
            worst.0,
            before.1,
            worst.1
        );
        ensure!(
            crowd.begun() > 1_000,
            "{} connections are no attack",
            crowd.begun()
        );
        ensure!(
            worst.0 < before.0 + GROWTH_MIB,
            "memory: {} MiB, {before:?} before",
            worst.0
        );
        ensure!(
            worst.1 < before.1 + DESCRIPTORS,
            "descriptors: {}, {before:?} before",
            worst.1
        );
        crowd.stop()?;
        traffic.flow(20).map(drop)
    })?;
    traffic::all_forwarded(&lab, first, &arrived)?;
    // BIRD's session is the one it was, and what the others left is gone.
    let feed = wait_source(&lab, "bgp", "BIRD alone", |row| is(row, "live", [1, 0]))?;
    ensure!(
        figure(&feed, "sessions")? == session && feed["errors"] == 0,
        "{feed}"
    );
    patient(&lab, "connections and threads to be as before", || {
        let now = (entries(pid, "fd")?, entries(pid, "task")?);
        Ok((now.0 <= before.1 && now.1 <= before.2).then_some(()))
    })
    .with_context(|| format!("{before:?} before"))?;
    ensure!(memory(pid)? < before.0 + GROWTH_MIB, "{} MiB", memory(pid)?);
    // Every door is open again.
    let page = lab
        .command("router", "curl")
        .args(["-sf", "http://127.0.0.1:9177/metrics"])
        .output()?;
    ensure!(
        page.status.success() && String::from_utf8_lossy(&page.stdout).contains("forwarder_"),
        "metrics are not served any more"
    );
    for ifname in ["a", "b", "c"] {
        patient(&lab, &format!("the sums of {ifname} to close"), || {
            let found = row(&lab, "interfaces", "ifname", ifname)?;
            Ok((found["ingress_residue"] == 0 && found["egress_residue"] == 0).then_some(()))
        })?;
    }
    drop(controller);
    Ok(())
}
