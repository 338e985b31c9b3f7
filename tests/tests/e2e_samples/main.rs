//! Flow samples as a collector sees them: known packets cross a real router, and tshark reads what it tells of them.
//!
//! ```text
//!   sender --- a | router | b --- the Internet
//!                     | c --- the collector
//! ```

mod dissect;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    bird::Bird,
    controller::Controller,
    frame::{udp4, udp6},
    lab::{LIMIT, Lab, run},
    operator::{is, row, wait_source},
    packets::Wire,
    traffic::MACS,
};
use serde_json::Value;

use self::dissect::{Fate, Told, dissect};

const CONFIG: &str = r#"
[routes.bgp]
listen = "127.0.0.2:1179"
local-as = 64500

[samples]
rate = RATE
sflow = ["10.3.0.2:6343"]
ipfix = ["10.3.0.2:4739"]
agent = "192.0.2.254"
domain = 9
"#;

/// What BIRD tells of the networks, so that they have AS numbers; the kernel forwards.
const TABLE: &str = "router id 10.2.0.1;\nprotocol device {}\n\
    protocol bgp feed { local 127.0.0.1 as 64500; neighbor 127.0.0.2 port 1179 as 64500; \
    connect retry time 1; connect delay time 1; error wait time 1, 2;\n\
    ipv4 { import none; export all; next hop keep; };\n\
    ipv6 { import none; export all; next hop keep; };\n}\n\
    protocol static { ipv4;\n\
    route 5.1.0.0/16 via 10.2.0.2 { bgp_path.prepend(4200000001); bgp_path.prepend(64510); bgp_path.prepend(64501); };\n\
    route 192.0.2.0/24 via 10.1.0.2 { bgp_path.prepend(64777); bgp_path.prepend(64502); };\n}\n\
    protocol static { ipv6;\n\
    route 2a05::/32 via fd00:2::2 { bgp_path.prepend(64511); bgp_path.prepend(64501); };\n\
    route 2a00:ffff::/48 via fd00:1::2 { bgp_path.prepend(64502); };\n}\n";

/// A router between a sender, the Internet and a collector that takes what comes.
struct Scene {
    lab: Lab,
    sender: Wire,
    end: Wire,
    collector: Wire,
    /// So that nobody answers that nobody listens.
    _listen: Vec<UdpSocket>,
}

impl Scene {
    fn new() -> Result<Scene> {
        let lab = Lab::new()?;
        for line in [
            "route add 5.1.0.0/16 via 10.2.0.2",
            "route add blackhole 5.128.0.0/16",
            "route add 192.0.2.0/24 via 10.1.0.2",
            "route add 2a05::/32 via fd00:2::2",
            "route add 2a00:ffff::/48 via fd00:1::2",
        ] {
            lab.ip("router", line)?;
        }
        lab.resolve_carriers()?;
        for address in ["10.1.0.2", "fd00:1::2"] {
            lab.resolve("router", address)?;
        }
        let listen = |port: u16| lab.inside("c", || Ok(UdpSocket::bind(("10.3.0.2", port))?));
        let listen = vec![listen(6343)?, listen(4739)?];
        Ok(Scene {
            sender: lab.wire("a")?,
            end: lab.wire("b")?,
            collector: lab.wire("c")?,
            lab,
            _listen: listen,
        })
    }

    /// The controller with one packet in `rate` sampled, when it knows the networks' AS numbers.
    fn start(&self, rate: u32) -> Result<(Controller<'_>, Bird<'_>)> {
        let config = CONFIG.replace("RATE", &rate.to_string());
        let controller = self.lab.start(&["a", "b", "c"], &config)?;
        let bird = Bird::start(&self.lab, "router", TABLE)?;
        wait_source(&self.lab, "bgp", "its routes", |row| is(row, "live", [2, 2]))?;
        self.lab.wait("every AS number to stand in the table", || {
            let rows = self.lab.json("counters --by origin-as --all")?;
            let has = |origin: &str| {
                let mut rows = rows.as_array().into_iter().flatten();
                rows.any(|row| row["origin_as"] == origin)
            };
            let all = ["4200000001", "64777", "64511", "64502"].into_iter().all(has);
            for prefix in ["5.1.0.0/16", "2a05::/32"] {
                if !all || self.lab.json(&format!("routes {prefix}"))?[0]["state"] != "usable" {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })?;
        Ok((controller, bird))
    }

    /// Sends packets, and waits until those that are forwarded have arrived, a few at a time.
    fn send(&self, packets: &[Vec<u8>], forwarded: impl Fn(&[u8]) -> bool) -> Result<()> {
        for lot in packets.chunks(50) {
            for packet in lot {
                self.sender.send(packet)?;
            }
            let wanted = lot.iter().filter(|packet| forwarded(packet)).count();
            let from_us = |frame: &[u8]| frame.get(6..12) == Some(&[2, 0, 0, 0, 2, 1]) && forwarded(frame);
            let arrived = self.end.collect(wanted, LIMIT, from_us)?;
            ensure!(
                arrived.len() == wanted,
                "{} of {wanted} arrived\n{}",
                arrived.len(),
                self.lab.picture()
            );
        }
        Ok(())
    }

    fn samples(&self) -> Result<Value> {
        Ok(self.lab.json("status")?[0]["samples"].clone())
    }

    /// Stops the controller, so that everything is told, and answers all datagrams that came to the collector since it was made.
    fn stop(&self, controller: Controller<'_>) -> Result<Vec<Vec<u8>>> {
        let status = controller.stop()?;
        ensure!(status.success(), "{status}");
        let ours = |frame: &[u8]| {
            let port = frame.get(36..38);
            frame.get(12..14) == Some(&[8, 0])
                && frame.get(23) == Some(&17)
                && (port == Some(&6343u16.to_be_bytes()) || port == Some(&4739u16.to_be_bytes()))
        };
        let mut datagrams = Vec::new();
        while let Some(frame) = self
            .collector
            .receive(std::time::Duration::from_millis(300), ours)?
        {
            datagrams.push(frame);
        }
        Ok(datagrams)
    }
}

fn ifindex(lab: &Lab, name: &str) -> Result<u64> {
    let row = row(lab, "interfaces", "ifname", name)?;
    row["ifindex"].as_u64().with_context(|| format!("{row}"))
}

fn is_forwarded(frame: &[u8]) -> bool {
    let v4 = frame.get(12..14) == Some(&[8, 0]);
    let v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    v4 && frame.get(30..32) == Some(&[5, 1]) && frame.get(22) != Some(&1)
        || v6 && frame.get(38..40) == Some(&[0x2a, 0x05])
}

#[test]
fn a_collector_sees_every_packet_with_what_the_router_knew() -> Result<()> {
    let scene = Scene::new()?;
    let (controller, bird) = scene.start(1)?;
    let mut packets = Vec::new();
    for number in 0..60u8 {
        packets.push(udp4(MACS, [5, 1, 7, number], 64, usize::from(number) * 20));
        packets.push(udp6(
            MACS,
            format!("2a05::{number}").parse()?,
            64,
            usize::from(number),
        ));
        if number < 20 {
            packets.push(udp4(MACS, [5, 128, 1, number], 64, 30));
        }
        if number < 10 {
            packets.push(udp4(MACS, [5, 1, 9, number], 1, 30));
        }
    }
    scene.send(&packets, is_forwarded)?;
    let lab = &scene.lab;
    lab.wait("every packet to be sampled", || {
        let samples = scene.samples()?;
        Ok((samples["taken"].as_u64() >= Some(packets.len() as u64)).then_some(()))
    })?;
    let samples = scene.samples()?;
    ensure!(samples["rate"] == 1 && samples["lost"] == 0, "{samples}");
    let (a, b) = (ifindex(lab, "a")?, ifindex(lab, "b")?);
    let datagrams = scene.stop(controller)?;
    let [sflow, ipfix] = dissect(lab, &datagrams)?;
    ensure!(
        sflow.len() == ipfix.len() && sflow.len() >= packets.len(),
        "{} samples of sFlow, {} of IPFIX",
        sflow.len(),
        ipfix.len()
    );
    for (protocol, told) in [("sFlow", &sflow), ("IPFIX", &ipfix)] {
        for packet in &packets {
            let mut expected = expected(packet, [a, b])?;
            if protocol == "sFlow" {
                expected.ip = None;
            }
            let mut of_it = told.iter().filter(|one| one.header == expected.header);
            let (one, more) = (of_it.next(), of_it.count());
            ensure!(
                one == Some(&expected) && more == 0,
                "{protocol}: {one:#?} and {more} more, not {expected:#?}"
            );
        }
    }
    drop(bird);
    Ok(())
}

/// What must be told of a packet that came in by the first of these interfaces and, if it was sent on, went out by the second.
fn expected(packet: &[u8], [input, output]: [u64; 2]) -> Result<Told> {
    let captured = &packet[..packet.len().min(128)];
    let v6 = packet[12] == 0x86;
    let (addresses, protocol, octets) = if v6 {
        let address = |at: usize| -> Result<String> {
            let octets: [u8; 16] = packet[at..at + 16].try_into()?;
            Ok(Ipv6Addr::from(octets).to_string())
        };
        ((address(22)?, address(38)?), packet[20], packet.len() - 14)
    } else {
        let address = |at: usize| -> Result<String> {
            let octets: [u8; 4] = packet[at..at + 4].try_into()?;
            Ok(Ipv4Addr::from(octets).to_string())
        };
        ((address(26)?, address(30)?), packet[23], packet.len() - 14)
    };
    let blackholed = addresses.1.starts_with("5.128.");
    let fate = match is_forwarded(packet) {
        true => Fate::Forwarded,
        false if blackholed => Fate::Dropped,
        false => Fate::Kernel,
    };
    let forwarded = fate == Fate::Forwarded;
    let (next_hop, lengths, ases) = if v6 {
        ("fd00:2::2", [48, 32], [64_502, 64_502, 64_501, 64_511])
    } else if blackholed {
        ("", [24, 16], [64_777, 64_502, 0, 0])
    } else {
        ("10.2.0.2", [24, 16], [64_777, 64_502, 64_501, 4_200_000_001])
    };
    let digits: Vec<String> = captured.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(Told {
        header: digits.join(":"),
        length: packet.len() as u64,
        rate: 1,
        input,
        output: if forwarded { output } else { 0 },
        fate,
        next_hop: if forwarded { next_hop } else { "" }.into(),
        lengths,
        ases,
        ip: Some((
            addresses.0,
            addresses.1,
            [1024, 53, protocol.into(), octets as u64],
        )),
    })
}

#[test]
fn one_packet_in_ten_stands_for_ten() -> Result<()> {
    const PACKETS: usize = 3_000;
    let scene = Scene::new()?;
    let (controller, bird) = scene.start(10)?;
    let packets: Vec<Vec<u8>> = (0..PACKETS)
        .map(|number| udp4(MACS, [5, 1, (number >> 8) as u8, number as u8], 64, 60))
        .collect();
    scene.send(&packets, is_forwarded)?;
    let lab = &scene.lab;
    // What is taken is sent within a second.
    let samples = lab.wait("every sample to be sent", || {
        let samples = scene.samples()?;
        let sent = samples["collectors"].as_array().into_iter().flatten();
        let sent: Vec<u64> = sent.filter_map(|row| row["samples"].as_u64()).collect();
        let taken = samples["taken"].as_u64().unwrap_or(u64::MAX);
        // With those of counters.
        Ok((sent.len() == 2 && sent[0] > taken && sent[1] >= taken).then_some(samples))
    })?;
    ensure!(samples["lost"] == 0 && samples["rate"] == 10, "{samples}");
    let taken = samples["taken"].as_u64().context("taken")?;
    let screen = String::from_utf8(lab.forwarder("status")?.stdout)?;
    ensure!(
        screen.contains("1 packet in 10:") && screen.contains("sflow to 10.3.0.2:6343:"),
        "{screen}"
    );
    let metrics = run(lab
        .command("router", "curl")
        .args(["-s", "http://127.0.0.1:9177/metrics"]))?;
    let metric = |name: &str| -> Result<u64> {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("no {name} in {metrics}"))?
            .trim()
            .parse()
            .context("a number")
    };
    ensure!(metric("forwarder_samples_total ")? >= taken, "{metrics}");
    ensure!(metric("forwarder_samples_lost_total ")? == 0, "{metrics}");
    let of = "forwarder_sample_datagrams_total{protocol=\"ipfix\",collector=\"10.3.0.2:4739\"} ";
    ensure!(metric(of)? > 0, "{metrics}");
    let a = ifindex(lab, "a")?;
    let [sflow, ipfix] = dissect(lab, &scene.stop(controller)?)?;
    ensure!(sflow.len() == ipfix.len() && sflow.len() as u64 >= taken);
    for told in [&sflow, &ipfix] {
        let ours = told
            .iter()
            .filter(|one| one.input == a && one.next_hop == "10.2.0.2");
        let number = ours.inspect(|one| assert_eq!(one.rate, 10)).count();
        // Gaps are even in 1..=19, of a variance of 30: their number in 3,000 packets deviates by 9.5.
        ensure!(
            number.abs_diff(PACKETS / 10) <= 48,
            "{number} samples of {PACKETS} packets"
        );
    }
    drop(bird);
    Ok(())
}
