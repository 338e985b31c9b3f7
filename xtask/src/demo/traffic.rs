//! The demo's traffic: TCP and UDP, both ways, both families, and a spray over the carriers' table.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::screen::grouped;
use crate::lab::{Lab, topology};
use crate::net::{tcp, udp};
use crate::table::Route;
use crate::{interrupt, net::udp::Report, progress};

/// Who talks to whom; each pair in both families.
const PAIRS: [(&str, &str); 6] = [
    ("server-1", "internet-a"),
    ("internet-a", "server-1"),
    ("server-2", "internet-b"),
    ("internet-b", "server-2"),
    ("server-1", "internet-b"),
    ("internet-a", "server-2"),
];

const FIRST_PORT: u16 = 20_000;
/// Datagrams per second of one flow: 14 flows make about 4,000.
const RATE: u32 = 300;
/// How many prefixes of the table the spray visits.
const SPRAY: usize = 500;

/// Every flow of the steady traffic.
pub fn flows(lab: &Lab, tables: [&[Route]; 2]) -> Result<Vec<udp::Flow>> {
    let mut flows = Vec::new();
    for (from, to) in PAIRS {
        for v6 in [false, true] {
            let family = if v6 { "IPv6" } else { "IPv4" };
            flows.push(udp::Flow {
                name: format!("{from} to {to}, {family}"),
                from: lab.netns_path(from),
                to: vec![lab.netns_path(to)],
                destinations: vec![address(to, v6)?],
                port: 0,
                source_port: 0,
                rate: RATE,
                payload: if v6 { 1_000 } else { 200 },
            });
        }
    }
    for (from, table) in [("server-1", tables[0]), ("server-2", tables[1])] {
        let destinations = sample(table);
        if !destinations.is_empty() {
            flows.push(udp::Flow {
                name: format!("{from} to {} prefixes of the table", destinations.len()),
                from: lab.netns_path(from),
                // Where it leaves is BIRD's choice: both carriers' hosts stand for the whole table.
                to: vec![lab.netns_path("internet-a"), lab.netns_path("internet-b")],
                destinations,
                port: 0,
                source_port: 0,
                rate: RATE,
                payload: 400,
            });
        }
    }
    for (flow, port) in flows.iter_mut().zip(FIRST_PORT..) {
        flow.port = port;
    }
    Ok(flows)
}

/// Sends the flows for a while.
pub fn run(flows: &[udp::Flow], time: Duration) -> Result<Vec<Report>> {
    let running = udp::start(flows.to_vec())?;
    let slept = progress::pause("sending", time);
    let reports = running.stop()?;
    slept?;
    Ok(reports)
}

/// Sums of the reports, and whether nothing was lost or doubled.
pub fn figure(reports: &[Report]) -> (bool, String) {
    let sent: u64 = reports.iter().map(|r| r.sent).sum();
    let lost: u64 = reports.iter().map(Report::lost).sum();
    let duplicates: u64 = reports.iter().map(|r| r.duplicates).sum();
    let mut text = format!("{} sent, {lost} lost, {duplicates} doubled", grouped(sent));
    if let Some(worst) = reports.iter().filter(|r| r.lost() > 0).max_by_key(|r| r.lost()) {
        text.push_str(&format!(
            "; most on {} ({} of {})",
            worst.name,
            worst.lost(),
            worst.sent
        ));
    }
    (sent > 0 && lost == 0 && duplicates == 0, text)
}

/// TCP transfers between servers and internet hosts, both ways; carrier B's link makes path MTU discovery necessary.
pub fn transfers(lab: &Lab, v6: bool, bytes: usize) -> Result<(bool, String)> {
    let mut rates = Vec::new();
    for (index, (from, to)) in PAIRS.iter().take(4).enumerate() {
        interrupt::check()?;
        let port = FIRST_PORT + 1_000 + u16::try_from(index)?;
        let (source, sink) = (lab.netns_path(from), lab.netns_path(to));
        let transfer = tcp::transfer(&source, &sink, address(to, v6)?, port, bytes)
            .with_context(|| format!("{from} to {to}"))?;
        rates.push(transfer.mbit());
    }
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let size = bytes as f64 / 1e6;
    Ok((
        true,
        format!(
            "{} transfers of {size:.0} MB, every byte right, slowest {slowest:.0} Mbit/s",
            rates.len()
        ),
    ))
}

/// A host's address in one family.
pub fn address(node: &str, v6: bool) -> Result<IpAddr> {
    topology::address(node, v6).with_context(|| format!("{node} has no address"))
}

/// Prefixes spread evenly over the table, the first host of each.
fn sample(table: &[Route]) -> Vec<IpAddr> {
    let step = (table.len() / SPRAY).max(1);
    table
        .iter()
        .step_by(step)
        .take(SPRAY)
        .map(|route| match route.address {
            IpAddr::V4(a) => IpAddr::from((u32::from(a) + 1).to_be_bytes()),
            IpAddr::V6(a) => IpAddr::from((u128::from(a) + 1).to_be_bytes()),
        })
        .collect()
}
