//! `forwarder trace`: one described packet through the real program.

mod packet;
mod screen;
mod steps;

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result, bail};

use self::packet::{Packet, Protocol};
use super::output::{self, Paint};
use crate::{
    dataplane::{pins::Pins, tracer::Tracer},
    netlink::dump,
};

/// The packet to send.
#[derive(Debug, clap::Args)]
pub struct Described {
    /// The interface it comes in on
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// Source address
    #[arg(long, value_name = "ADDR")]
    src: IpAddr,
    /// Destination address
    #[arg(long, value_name = "ADDR")]
    dst: IpAddr,
    /// tcp, udp, icmp, or a number
    #[arg(long, default_value = "udp")]
    proto: Protocol,
    /// Source port
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    sport: u16,
    /// Destination port
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    dport: u16,
    /// TTL or hop limit
    #[arg(long, default_value_t = 64)]
    ttl: u8,
    /// Octets of the IP packet [default: the shortest]
    #[arg(long, value_name = "OCTETS")]
    length: Option<u16>,
}

/// Runs the packet and prints every step.
pub fn trace(bpffs: &Path, described: &Described, json: bool) -> Result<bool> {
    let pins = Pins::new(bpffs);
    let tables = pins.open(false)?;
    let links = dump::dump_links().context("cannot list the interfaces")?;
    let Some(link) = links.iter().find(|link| link.name == described.interface) else {
        bail!(
            "there is no interface {:?} in this network namespace: `forwarder interfaces` lists those served",
            described.interface
        );
    };
    if link.ifindex as usize >= tables.interfaces.len() {
        bail!(
            "interface {:?} has an index that forwarder cannot serve",
            link.name
        );
    }
    let interface = tables.interfaces.get(link.ifindex as usize);
    // An interface that is not served has no addresses in the map; its own will do, the program says the rest.
    let mac = if interface.port == 0 {
        link.mac
    } else {
        forwarder_common::nexthop::mac_bytes(interface.macs[0])
    };
    let packet = Packet {
        mac,
        source: described.src,
        destination: described.dst,
        protocol: described.proto,
        source_port: described.sport,
        destination_port: described.dport,
        ttl: described.ttl,
        length: described.length,
    };
    let frame = packet.frame()?;
    let traced = Tracer::open(&pins)?.run(link.ifindex, &frame)?;
    let row = steps::row(&tables, &packet, &link.name, &frame, &traced);
    if json {
        output::print_json(&[row])?;
    } else {
        output::print(&screen::screen(&row, Paint::stdout()))?;
    }
    Ok(true)
}
