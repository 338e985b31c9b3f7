//! Accounts on a real router: a sender that knows what it sent for whom, and counters that say the same, to the packet and the
//! octet, while routes change and the controller starts again.
//!
//! ```text
//!   members --- a | router | b --- the Internet          a and c are inside, b is transit
//!                 |        | c --- more members
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use forwarder_tests::{
    controller::Controller,
    frame::{udp4, udp6, with},
    lab::{HOSTS, LIMIT, Lab},
    packets::Wire,
};
use serde_json::Value;

const CONFIG: &str = r#"
[[interface]]
name = "a"

[[interface]]
name = "b"
role = "transit"
source-check = "off"

[[interface]]
name = "c"

[filter]
bogons = false

[statistics]
sources = true

[[account]]
name = "members/radio"
prefixes = ["5.0.1.0/24", "2a05:0:1::/48"]
commit = "10Mbit"

[[account]]
name = "members/library"
prefixes = ["6.0.0.0/16", "2a06::/32"]

[[account]]
name = "hosting"
prefixes = ["5.0.2.0/24", "2a05:0:2::/48"]
"#;

/// Where packets come in, where they go out, their sources and destinations of both families, and whom they are from and for.
struct Flow {
    hosts: [usize; 2],
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    whose: (&'static str, &'static str, bool),
}

const NOBODY: &str = "(elsewhere)";
const RADIO: &str = "members/radio";
const LIBRARY: &str = "members/library";
const HOSTING: &str = "hosting";

const fn flow(
    hosts: [usize; 2],
    from: (&'static str, &'static str),
    to: (&'static str, &'static str),
    whose: (&'static str, &'static str, bool),
) -> Flow {
    Flow {
        hosts,
        from,
        to,
        whose,
    }
}

const OF_RADIO: (&str, &str) = ("5.0.1.9", "2a05:0:1::9");
const OF_HOSTING: (&str, &str) = ("5.0.2.9", "2a05:0:2::9");
const OF_LIBRARY: (&str, &str) = ("6.0.7.9", "2a06:0:7::9");
const OF_NOBODY: (&str, &str) = ("5.0.3.9", "2a05:0:3::9");
const INTERNET: (&str, &str) = ("9.9.9.9", "2a09::9");

const FLOWS: [Flow; 9] = [
    flow([0, 1], OF_RADIO, INTERNET, (RADIO, NOBODY, true)),
    flow([1, 0], INTERNET, OF_RADIO, (NOBODY, RADIO, true)),
    flow([1, 0], INTERNET, OF_HOSTING, (NOBODY, HOSTING, true)),
    flow([0, 2], OF_RADIO, OF_LIBRARY, (RADIO, LIBRARY, false)),
    flow([2, 0], OF_LIBRARY, OF_RADIO, (LIBRARY, RADIO, false)),
    flow([2, 0], OF_LIBRARY, OF_HOSTING, (LIBRARY, HOSTING, false)),
    flow([0, 1], OF_NOBODY, INTERNET, (NOBODY, NOBODY, true)),
    flow([2, 0], OF_LIBRARY, OF_NOBODY, (LIBRARY, NOBODY, false)),
    // From outside, naming a source of ours.
    flow([1, 2], OF_RADIO, OF_LIBRARY, (NOBODY, LIBRARY, true)),
];

/// Packets and octets by whom they are from and for, and whether they crossed the edge.
type Sent = BTreeMap<(String, String, bool), (u64, u64)>;

struct Sender {
    wires: Vec<Wire>,
    sent: Sent,
    number: u16,
}

impl Sender {
    /// Sends so many packets of each family, waits for all of them at the other end, and writes them down.
    fn send(&mut self, flow: &Flow, count: u16, end: usize) -> Result<()> {
        let cable = flow.hosts[0] as u8 + 1;
        let macs = ([2, 0, 0, 0, cable, 1], [2, 0, 0, 0, cable, 2]);
        let (source4, to4): (std::net::Ipv4Addr, std::net::Ipv4Addr) =
            (flow.from.0.parse()?, flow.to.0.parse()?);
        let (source6, to6): (std::net::Ipv6Addr, std::net::Ipv6Addr) =
            (flow.from.1.parse()?, flow.to.1.parse()?);
        for v6 in [false, true] {
            for _ in 0..count {
                self.number += 1;
                let data = 20 + usize::from(self.number % 900);
                let packet = if v6 {
                    with(udp6(macs, to6, 64, data), 22, &source6.octets())
                } else {
                    with(udp4(macs, to4.octets(), 64, data), 26, &source4.octets())
                };
                self.wires[flow.hosts[0]].send(&packet)?;
                // One at a time: none may be lost.
                let ours = |frame: &[u8]| {
                    let at = if v6 { 22 } else { 26 };
                    frame.len() == packet.len() && frame.get(at..at + 8) == packet.get(at..at + 8)
                };
                let arrived = self.wires[end].collect(1, LIMIT, ours)?;
                ensure!(
                    arrived.len() == 1,
                    "a packet from {:?} to {:?} did not arrive at {}",
                    flow.from,
                    flow.to,
                    HOSTS[end]
                );
                let (from, to, outside) = flow.whose;
                let row = self.sent.entry((from.into(), to.into(), outside)).or_default();
                row.0 += 1;
                row.1 += packet.len() as u64;
            }
        }
        Ok(())
    }
}

fn number(row: &Value, key: &str) -> Result<u64> {
    row[key].as_u64().with_context(|| format!("{key} of {row}"))
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_string()
}

/// What the counters of pairs say is what was sent.
fn compare(lab: &Lab, sent: &Sent) -> Result<()> {
    let rows = lab.json("counters --by account-pair")?;
    let mut counted = Sent::new();
    for row in rows.as_array().into_iter().flatten() {
        let Some(outside) = row["outside"].as_bool() else {
            continue;
        };
        let key = (text(row, "from"), text(row, "to"), outside);
        counted.insert(key, (number(row, "packets")?, number(row, "bytes")?));
    }
    ensure!(
        counted == *sent,
        "counted {counted:#?}\nsent {sent:#?}\n{}",
        lab.picture()
    );
    Ok(())
}

fn account<'a>(rows: &'a Value, name: &str) -> Result<&'a Value> {
    let mut all = rows.as_array().into_iter().flatten();
    all.find(|row| row["account"] == name)
        .with_context(|| format!("no account {name} in {rows}"))
}

fn forwarded(lab: &Lab) -> Result<u64> {
    let rows = lab.json("interfaces")?;
    let all = rows.as_array().into_iter().flatten();
    all.map(|row| number(row, "forwarded_packets")).sum()
}

#[test]
fn what_was_sent_for_whom_is_what_is_counted() -> Result<()> {
    let lab = Lab::new()?;
    for line in [
        "route add 5.0.0.0/16 via 10.1.0.2",
        "route add 2a05::/32 via fd00:1::2",
        "route add 6.0.0.0/16 via 10.3.0.2",
        "route add 2a06::/32 via fd00:3::2",
        "route add default via 10.2.0.2",
        "route add default via fd00:2::2",
    ] {
        lab.ip("router", line)?;
    }
    lab.resolve_carriers()?;
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.resolve("router", address)?;
    }
    let config = lab.config(&[], CONFIG)?;
    let controller = Controller::start(&lab, &config)?;
    let mut sender = Sender {
        wires: HOSTS.iter().map(|host| lab.wire(host)).collect::<Result<_>>()?,
        sent: Sent::new(),
        number: 0,
    };
    for flow in &FLOWS {
        sender.send(flow, 12, flow.hosts[1])?;
    }
    compare(&lab, &sender.sent)?;

    // What covers an account's prefixes leads elsewhere, and the prefixes with it.
    lab.ip("router", "route replace 5.0.0.0/16 via 10.3.0.2")?;
    lab.ip("router", "route replace 2a05::/32 via fd00:3::2")?;
    let moved = &FLOWS[1];
    lab.wait("the table to follow", || {
        let rows = lab.json("lookup 5.0.1.9")?;
        let v6 = lab.json("lookup 2a05:0:1::9")?;
        Ok((rows[0]["ifname"] == "c" && v6[0]["ifname"] == "c").then_some(()))
    })?;
    sender.send(moved, 7, 2)?;
    let rows = lab.json("routes 5.0.1.0/24")?;
    ensure!(
        rows[0]["counting"] == true && rows[0]["ifname"] == "c",
        "a counting prefix: {rows}"
    );
    let verified = lab.forwarder("verify")?;
    ensure!(
        verified.status.success(),
        "verify: {}",
        String::from_utf8_lossy(&verified.stdout)
    );
    compare(&lab, &sender.sent)?;

    // Another controller goes on counting.
    controller.kill()?;
    sender.send(&FLOWS[2], 5, 2)?;
    let controller = Controller::start(&lab, &config)?;
    sender.send(&FLOWS[3], 5, 2)?;
    compare(&lab, &sender.sent)?;

    // Rows of accounts: each packet once for the whole, and the whole of what its parts send each other inside.
    let rows = lab.json("counters --by account")?;
    let sum = |keep: &dyn Fn(&str, &str, bool) -> bool| -> u64 {
        let all = sender.sent.iter();
        all.filter(|((from, to, outside), _)| keep(from, to, *outside))
            .map(|(_, (packets, _))| packets)
            .sum()
    };
    let member = |name: &str| name.starts_with("members/");
    let members = account(&rows, "members")?;
    for (key, wanted) in [
        (
            "in_packets",
            sum(&|from, to, outside| outside && member(to) && !member(from)),
        ),
        (
            "out_packets",
            sum(&|from, to, outside| outside && member(from) && !member(to)),
        ),
        ("inside_packets", sum(&|from, to, _| member(from) && member(to))),
        (
            "to_accounts_packets",
            sum(&|from, to, _| member(from) && to == HOSTING),
        ),
    ] {
        ensure!(
            number(members, key)? == wanted,
            "{key} of {members}, not {wanted}"
        );
    }
    let radio = account(&rows, RADIO)?;
    ensure!(
        number(radio, "in_packets")? == sum(&|_, to, outside| outside && to == RADIO)
            && number(radio, "commit")? == 10_000_000,
        "{radio}"
    );

    // Everything forwarded has a pair and a source's prefix.
    let total = forwarded(&lab)?;
    for by in ["account-pair", "source-prefix", "prefix"] {
        let rows = lab.json(&format!("counters --by {by}"))?;
        let all = rows.as_array().into_iter().flatten();
        let sum: u64 = all.map(|row| number(row, "packets")).sum::<Result<_>>()?;
        ensure!(sum == total, "by {by} {sum}, forwarded {total}: {rows}");
    }
    let rows = lab.json("counters --by source-prefix")?;
    let mut all = rows.as_array().into_iter().flatten();
    let of_radio = all.find(|row| row["prefix"] == "5.0.1.0/24");
    let named: u64 = FLOWS
        .iter()
        .zip([12, 0, 0, 17, 0, 0, 0, 0, 12])
        .filter(|(flow, _)| flow.from == OF_RADIO)
        .map(|(_, sent)| sent)
        .sum();
    ensure!(
        of_radio.is_some_and(|row| row["packets"] == named),
        "from radio {named}: {rows}"
    );
    drop(controller);
    Ok(())
}
