//! A flood on every punt class, as much as the ring in front of XDP takes: a BGP session over the same interface stays up, a
//! new one comes up, and a ping from a clean source loses nothing.
//!
//! `FORWARDER_FLOOD_SECONDS` says for how long.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use forwarder_common::punt::Class;
use forwarder_tests::{
    bird::Bird,
    flood::Flood,
    frame::{ICMP6, TCP, UDP, ethernet, ipv4, ipv6, udp, with},
    lab::Lab,
    operator::figure,
    random::Random,
};
use serde_json::Value;

/// Frames of the flood, each from an address of its own.
const FRAMES: usize = 220_000;
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const ICMP: u8 = 1;
const VRRP: u8 = 112;

/// A frame of a class from an address that nobody has chosen.
fn frame(class: Class, random: &mut Random) -> Option<Vec<u8>> {
    let bits = random.bits().to_le_bytes();
    let anybody = Ipv4Addr::from(0x1000_0000 | random.bits() as u32 & 0x6fff_ffff);
    let from = [2, 0x77, bits[0], bits[1], bits[2], bits[3]];
    let macs = (ROUTER_MAC, from);
    let to = |destination: [u8; 4], protocol, ttl, payload: &[u8]| {
        ipv4(macs, anybody, destination.into(), protocol, ttl, payload)
    };
    let group = |last: u8, protocol, ttl, payload: &[u8]| {
        let macs = ([1, 0, 0x5e, 0, 0, last], from);
        ipv4(macs, anybody, [224, 0, 0, last].into(), protocol, ttl, payload)
    };
    let me = ROUTER.octets();
    let far = [10, 2, 0, 2];
    Some(match class {
        Class::Arp => {
            let mut arp = ethernet([0xff; 6], from, 0x0806);
            arp.extend([0, 1, 8, 0, 6, 4, 0, 1]);
            arp.extend(from);
            // Of nobody who is there: this is a flood and not an attempt to be somebody.
            arp.extend([10, 1, 0, 16 + bits[4] % 200]);
            arp.extend([0; 6]);
            arp.extend(me);
            arp
        }
        Class::Nd => {
            let source = Ipv6Addr::from(0xfe80u128 << 112 | u128::from(random.bits()));
            let target = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
            let mut solicitation = vec![135, 0, 0, 0, 0, 0, 0, 0];
            solicitation.extend(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).octets());
            ipv6(
                ([0x33, 0x33, 0xff, 0, 0, 1], from),
                source,
                target,
                ICMP6,
                255,
                &solicitation,
            )
        }
        Class::LinkControl => group(18, VRRP, 255, &[0x21; 8]),
        Class::Multicast => group(251, UDP, 1, &udp(5353, 5353, 20)),
        Class::TtlExpired => to(far, UDP, 1, &udp(1, 33_434, 20)),
        Class::Unresolved => to([10, 2, 0, 100 + bits[4] % 100], UDP, 64, &udp(1, 2, 20)),
        Class::Options => {
            let payload = [&[1, 1, 1, 0][..], &udp(1, 2, 20)].concat();
            with(to(far, UDP, 64, &payload), 14, &[0x46])
        }
        Class::Malformed => {
            let mut broken = to(far, UDP, 64, &udp(1, 2, 20));
            broken[24] ^= 0x55;
            broken
        }
        Class::LocalIcmp => to(me, ICMP, 64, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        Class::LocalControl => {
            let mut syn = [bits[4], bits[5], 0, 179].to_vec();
            syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
            to(me, TCP, 64, &syn)
        }
        Class::LocalOther => to(me, UDP, 64, &udp(1, 33_434, 20)),
        Class::Session => return None,
    })
}

fn bird(own: &str, own_as: u32, other: &str, other_as: u32) -> String {
    format!(
        "router id {own};\nprotocol device {{}}\n\
         protocol static {{ ipv4; route 198.18.{}.0/24 blackhole; }}\n\
         protocol bgp peer {{ local {own} as {own_as}; neighbor {other} as {other_as}; hold time 9; keepalive time 3; \
         connect retry time 2; connect delay time 1; error wait time 1, 2; ipv4 {{ import all; export all; }}; }}\n",
        own_as & 255
    )
}

/// What `birdc` says of the session.
#[derive(Debug)]
struct Session {
    established: bool,
    /// Of the day, in seconds. BIRD works it out anew for each answer, so that it moves by milliseconds.
    since: f64,
}

impl Session {
    /// Between the loss of a session and the next one lies a second at least (`error wait time`).
    fn is(&self, other: &Session) -> bool {
        self.established == other.established && (self.since - other.since).abs() < 0.5
    }
}

fn session(bird: &Bird<'_>) -> Result<Session> {
    let text = bird.ask("show protocols peer")?;
    let line = text.lines().find(|line| line.starts_with("peer"));
    let line = line.context("BIRD has no peer")?;
    let time = line.split_whitespace().find(|word| word.contains(':'));
    let since = time
        .with_context(|| format!("no time in {line}"))?
        .split(':')
        .try_fold(0.0, |sum, part| anyhow::Ok(sum * 60.0 + part.parse::<f64>()?));
    Ok(Session {
        established: line.contains("Established"),
        since: since.with_context(|| line.to_string())?,
    })
}

fn established(lab: &Lab, bird: &Bird<'_>, what: &str) -> Result<Session> {
    lab.wait(what, || {
        // Just started, it may not listen yet.
        Ok(session(bird).ok().filter(|session| session.established))
    })
}

/// All but sessions, which have a share alone.
fn limited() -> impl Iterator<Item = Class> {
    Class::ALL
        .iter()
        .copied()
        .filter(|class| *class != Class::Session)
}

fn dropped(row: &Value) -> Result<i64> {
    Ok(figure(row, "dropped_packets")? + figure(row, "over_share_packets")?)
}

fn class(rows: &Value, class: Class) -> Result<Value> {
    let mut rows = rows.as_array().into_iter().flatten();
    let row = rows.find(|row| row["class"] == class.name());
    row.cloned().with_context(|| format!("no {}", class.name()))
}

#[test]
fn a_flood_on_every_class_leaves_sessions_and_clean_sources_alone() -> Result<()> {
    // Where it is not measured, a tenth of the rates makes a flood of what a busy machine can send.
    let (seconds, part) = match std::env::var("FORWARDER_FLOOD_SECONDS") {
        Ok(text) => (text.parse().context("FORWARDER_FLOOD_SECONDS")?, 1),
        Err(_) => (12, 10),
    };
    let lab = Lab::new()?;
    lab.ip("a", "addr add 10.1.0.3/24 dev a")?;
    // Answers to whoever leave by the interface that the flood comes in on.
    lab.ip("router", "route add default via 10.1.0.2")?;
    lab.resolve("router", "10.1.0.2")?;
    lab.resolve("router", "10.2.0.2")?;
    let rates: String = limited()
        .map(|class| format!("{} = {}\n", class.name(), class.default_rates().0 / part))
        .collect();
    let controller = lab.start(&["a", "b"], &format!("[punt]\n{rates}"))?;
    let router = Bird::start(&lab, "router", &bird("10.1.0.1", 64_500, "10.1.0.2", 64_501))?;
    let peer = Bird::start(&lab, "a", &bird("10.1.0.2", 64_501, "10.1.0.1", 64_500))?;
    established(&lab, &router, "a session")?;
    let before = established(&lab, &peer, "a session at the other end")?;
    lab.wait("the session to be known", || {
        let row = class(&lab.json("filter limits")?, Class::Session)?;
        Ok((figure(&row, "sessions")? > 0).then_some(()))
    })?;

    let mut random = Random::new(11);
    let frames = (0..FRAMES)
        .zip(limited().collect::<Vec<_>>().into_iter().cycle())
        .filter_map(|(_, class)| frame(class, &mut random))
        .collect();
    // It begins before the flood, as a clean source does, and ends behind it.
    let count = ((seconds + 6) * 10).to_string();
    let mut ping = lab.command("a", "ping");
    ping.args([
        "-I", "10.1.0.3", "-i", "0.1", "-W", "2", "-q", "-c", &count, "10.1.0.1",
    ]);
    let ping = ping
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("ping")?;
    std::thread::sleep(Duration::from_secs(3));
    let flood = Flood::start(&lab, "a", frames)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut worst = Value::Null;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_secs(1));
        let now = session(&peer)?;
        ensure!(now.is(&before), "the session was {before:?}, and is {now:?}");
        worst = lab.json("status")?[0]["problems"].clone();
    }
    let report = flood.stop()?;
    let said = String::from_utf8(ping.wait_with_output()?.stdout)?;
    let rows = lab.json("filter limits")?;
    println!(
        "{} frames in {:.1} s, {:.0} a second; {} found the ring full\n{said}{}",
        report.sent,
        report.seconds,
        report.sent as f64 / report.seconds,
        report.dropped,
        String::from_utf8_lossy(&lab.forwarder("filter limits")?.stdout)
    );
    let each = report.sent as f64 / limited().count() as f64;
    for known in limited() {
        let row = class(&rows, known)?;
        let came = figure(&row, "passed_packets")? + dropped(&row)?;
        ensure!(came as f64 > each * 0.95, "{each} were sent, {row}");
        // What is let up of it in that time, and what may be on top of that.
        let (rate, _) = known.default_rates();
        let most = f64::from(rate / part) * (report.seconds + 0.5) * 1.05 + 2_000.0;
        let passed = figure(&row, "passed_packets")? - figure(&row, "reserve_packets")?;
        ensure!((passed as f64) < most, "at most {most}, and {row}");
        ensure!(each < most * 1.2 || dropped(&row)? > 0, "{row}");
    }
    let worst = worst.to_string();
    ensure!(
        worst.contains("are dropped, more than is let up to the kernel"),
        "{worst}"
    );
    ensure!(said.contains(" 0% packet loss"), "{said}");
    ensure!(session(&peer)?.is(&before) && session(&router)?.established);

    // In another flood the session is lost, and comes again.
    let mut random = Random::new(12);
    let frames = (0..FRAMES)
        .filter_map(|_| frame(Class::LocalControl, &mut random))
        .collect();
    let flood = Flood::start(&lab, "a", frames)?;
    std::thread::sleep(Duration::from_secs(1));
    router.ask("restart peer")?;
    lab.wait("the session to go", || {
        Ok((!session(&peer)?.is(&before)).then_some(()))
    })?;
    established(&lab, &peer, "the session to come again in a flood")?;
    let report = flood.stop()?;
    println!(
        "a new session within {:.1} s, {} frames",
        report.seconds, report.sent
    );
    drop(controller);
    Ok(())
}
