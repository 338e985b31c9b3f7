//! `forwarder bench` beside a running controller: its figures are there, and nothing that is counted moves by it. Never how
//! large they are: that is the machine's.

use anyhow::{Context, Result, ensure};
use forwarder::dataplane::pins::Pins;
use forwarder_common::reason::Reason;
use forwarder_tests::{
    lab::Lab,
    ledger::{Ledger, Name},
    traffic,
};
use serde_json::Value;

/// Everything that can be asked of a packet is asked of those that come in on a.
const MUCH: &str = r#"
[[interface]]
name = "a"
role = "transit"
[[interface]]
name = "b"
[[interface]]
name = "c"
[tables]
routes = 65536
ipv4-blocks = 4096
ipv6-blocks = 4096
[statistics]
sources = true
[samples]
rate = 100
sflow = ["127.0.0.1:6343"]
[[account]]
name = "members"
prefixes = ["5.1.0.0/16"]
[[filter.rule]]
match = { dst = "5.0.0.0/8", proto = "udp" }
action = "count"
"#;

const COST: [&str; 10] = [
    "row",
    "ifname",
    "cpu",
    "family",
    "destinations",
    "rounds",
    "ns",
    "ns_low",
    "ns_high",
    "packets_per_second",
];
const LINK: [&str; 10] = [
    "row",
    "ifname",
    "link_speed",
    "frames",
    "packets_per_second",
    "cores_ipv4_hot",
    "cores_ipv4_cold",
    "cores_ipv6_hot",
    "cores_ipv6_cold",
    "cores_driver",
];

fn lab() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.ip("router", "route add 5.0.0.0/8 via 10.2.0.2")?;
    lab.ip("router", "route add 5.1.0.0/16 via 10.3.0.2")?;
    lab.ip("router", "route add 2a05::/32 via fd00:2::2")?;
    lab.resolve_carriers()?;
    Ok(lab)
}

fn usable(lab: &Lab) -> Result<()> {
    lab.wait("the next hops to be usable", || {
        let usable = |prefix: &str| -> Result<bool> {
            Ok(lab.json(&format!("routes {prefix}"))?[0]["state"] == "usable")
        };
        Ok((usable("5.0.0.0/8")? && usable("5.1.0.0/16")? && usable("2a05::/32")?).then_some(()))
    })
}

fn keys(row: &Value) -> Result<Vec<&str>> {
    Ok(row
        .as_object()
        .context("a row")?
        .keys()
        .map(String::as_str)
        .collect())
}

/// Four costs, and three rows for each of these links and for all.
fn contract(rows: &Value, links: &[&str]) -> Result<()> {
    let rows = rows.as_array().context("an array")?;
    let (costs, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["row"] == "cost");
    let mut wanted = Vec::new();
    for family in ["IPv4", "IPv6"] {
        wanted.extend(["hot", "cold"].map(|destinations| (family, destinations)));
    }
    let said: Vec<_> = costs
        .iter()
        .filter_map(|row| Some((row["family"].as_str()?, row["destinations"].as_str()?)))
        .collect();
    ensure!(said == wanted, "{said:?}");
    let mut sorted = COST.to_vec();
    sorted.sort_unstable();
    for row in &costs {
        ensure!(keys(row)? == sorted, "{row}");
        let [low, ns, high] = ["ns_low", "ns", "ns_high"].map(|key| row[key].as_f64().unwrap_or(0.0));
        ensure!(0.0 < low && low <= ns && ns <= high, "{row}");
        ensure!(row["packets_per_second"].as_u64() > Some(0), "{row}");
        ensure!(row["rounds"].as_u64() >= Some(5), "{row}");
    }
    let mut sorted = LINK.to_vec();
    sorted.sort_unstable();
    let names: Vec<_> = links
        .iter()
        .map(|name| Value::from(*name))
        .chain([Value::Null])
        .collect();
    ensure!(others.len() == names.len() * 3, "{others:?}");
    for (three, name) in others.chunks(3).zip(names) {
        for (row, frames) in three.iter().zip(["64", "imix", "1500"]) {
            ensure!(keys(row)? == sorted, "{row}");
            ensure!(row["ifname"] == name && row["frames"] == frames, "{row}");
            // A veth says that it has 10 Gbit/s.
            ensure!(row["cores_driver"].as_f64() > Some(0.0), "{row}");
            ensure!(row["cores_ipv6_cold"].is_f64(), "{row}");
        }
        ensure!(
            three[0]["packets_per_second"].as_u64() > three[2]["packets_per_second"].as_u64(),
            "{three:?}"
        );
    }
    Ok(())
}

#[test]
fn figures_are_there_and_no_counter_moves_by_them() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&[], MUCH)?;
    usable(&lab)?;
    let tables = Pins::new(&lab.pins()).open(false)?;
    let before = Ledger::read(&tables);
    contract(&lab.json("bench --seconds 1")?, &["a", "b", "c"])?;
    let moved = Ledger::read(&tables).since(&before);
    // Hosts say what the kernel hears (neighbour discovery, ARP), at any time; and each of those was received.
    let ours = |(name, _): &&(Name, _)| match name {
        Name::Reason(_, reason) => *reason == Reason::Forwarded.index(),
        _ => true,
    };
    ensure!(
        !moved.iter().any(|moved| ours(&moved)),
        "the bench moved {moved:?}"
    );
    for row in lab.json("interfaces")?.as_array().into_iter().flatten() {
        ensure!(row["ingress_residue"] == 0 && row["egress_residue"] == 0, "{row}");
    }
    // For people.
    let text = lab.forwarder("bench --seconds 1")?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for said in [
        "ns",
        "IPv4 cold",
        "10 Gbit/s",
        "14,880,952",
        "+ driver",
        "source validation",
        "prefixes to forward to, which the caches hold",
    ] {
        ensure!(text.contains(said), "no {said:?} in\n{text}");
    }
    drop(controller);
    Ok(())
}

#[test]
fn traffic_flows_on_while_it_measures() -> Result<()> {
    let lab = lab()?;
    let controller = lab.start(&["a", "b", "c"], "")?;
    usable(&lab)?;
    let to = ["5.0.0.9", "5.1.0.9", "2a05::9"];
    let ((), arrived) = traffic::under(&lab, &to, |traffic| {
        contract(&lab.json("bench --seconds 2")?, &["a", "b", "c"])?;
        traffic.flow(20).map(drop)
    })?;
    traffic::all_forwarded(&lab, 0, &arrived)?;
    drop(controller);
    Ok(())
}

#[test]
fn what_keeps_it_from_measuring_is_a_sentence() -> Result<()> {
    let lab = lab()?;
    let says = |line: &str, wanted: &str| -> Result<()> {
        let output = lab.forwarder(line)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && error.contains(wanted),
            "{line}: {:?}, no {wanted:?} in {error}",
            output.status
        );
        Ok(())
    };
    says("bench", "no forwarder is loaded")?;
    let controller = lab.start(&["a", "b", "c"], "[routes]\nmax-age = \"2s\"\n")?;
    usable(&lab)?;
    says(
        "bench --interface d",
        "interface \"d\" is not served: a, b, c are",
    )?;
    says("bench --cpu 1000000", "there is no CPU 1000000")?;
    // Without a controller it measures, until packets go to the kernel.
    controller.kill()?;
    lab.wait("packets to go to the kernel", || {
        let output = lab.forwarder("bench --seconds 1")?;
        Ok((!output.status.success()).then_some(()))
    })?;
    says(
        "bench",
        "every packet to a prefix of the table leaves as \"controller-stale\"",
    )
}
