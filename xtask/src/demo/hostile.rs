//! What must not come in: bogon and spoofed sources on a transit interface, sent on purpose. And what must, although its
//! answers leave elsewhere.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::operator;
use super::traffic::address;
use crate::lab::{Lab, topology};
use crate::net::{ns, raw, udp};

/// Packets of each kind.
const COUNT: u64 = 200;
const PORT: u16 = 22_222;

/// One kind of packet that must be dropped.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// For people.
    pub name: &'static str,
    /// The reason it is counted under.
    pub reason: &'static str,
    source: &'static str,
}

/// Every kind that the demo sends.
pub const KINDS: [Kind; 4] = [
    Kind {
        name: "bogon source, IPv4",
        reason: "bogon-source",
        source: "10.66.6.6",
    },
    Kind {
        name: "bogon source, IPv6",
        reason: "bogon-source",
        source: "fc00:66::6",
    },
    Kind {
        name: "our own prefix as source, IPv4",
        reason: "spoofed-source",
        source: "192.0.2.66",
    },
    Kind {
        name: "our own prefix as source, IPv6",
        reason: "spoofed-source",
        source: "2001:db8:1::66",
    },
];

/// Sends one kind from carrier A to server-1: every packet must be counted under its reason, and none arrive.
pub fn send(lab: &Lab, kind: Kind) -> Result<(bool, String)> {
    let source: IpAddr = kind.source.parse().context("source")?;
    let before = operator::reason(lab, "router-a", kind.reason)?;
    let arrived = from_carrier(lab, source)?;
    let dropped = operator::reason(lab, "router-a", kind.reason)? - before;
    let figure = format!(
        "{COUNT} sent, {dropped} dropped as {}, {arrived} arrived",
        kind.reason
    );
    Ok((dropped == COUNT && arrived == 0, figure))
}

/// Packets from a host that router A reaches by its twin, sent in by carrier A: routes differ by direction, and source validation
/// must let them.
pub fn asymmetric(lab: &Lab, ipv6: bool) -> Result<(bool, String)> {
    let source = address("internet-b", ipv6)?;
    let arrived = from_carrier(lab, source)?;
    let figure = format!("{COUNT} sent from {source} by carrier A, {arrived} arrived");
    Ok((arrived == COUNT, figure))
}

/// Sends packets with this source from carrier A to server-1. Answers how many arrived.
fn from_carrier(lab: &Lab, source: IpAddr) -> Result<u64> {
    let destination = address("server-1", source.is_ipv6())?;
    let (carrier, router) = macs().context("no cable between transit-a and router-a")?;
    let frame = raw::udp_frame(&raw::Udp {
        macs: (carrier, router),
        addresses: (source, destination),
        ports: (PORT, PORT),
        ttl: 64,
        payload: 64,
    })?;
    let server: PathBuf = lab.netns_path("server-1");
    let listener = ns::run(&server, || Ok(std::net::UdpSocket::bind((destination, PORT))?))?;
    // It is read when all have been sent.
    udp::hold_much(&listener);
    listener.set_read_timeout(Some(Duration::from_millis(200)))?;
    raw::send(
        &lab.netns_path("transit-a"),
        "router0",
        &vec![frame; COUNT as usize],
    )?;
    let mut buffer = [0; 256];
    let mut arrived = 0;
    while listener.recv(&mut buffer).is_ok() {
        arrived += 1;
    }
    Ok(arrived)
}

/// The MAC addresses of the cable between carrier A and router A.
fn macs() -> Option<([u8; 6], [u8; 6])> {
    let link = topology::LINKS.iter().position(|link| {
        let [a, b] = &link.ends;
        a.node == "transit-a" && b.node == "router-a"
    })?;
    Some((topology::mac(link, 0), topology::mac(link, 1)))
}
