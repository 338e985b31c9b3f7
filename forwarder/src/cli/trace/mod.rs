//! `forwarder trace`: one described packet through the real program.

mod packet;
mod screen;
mod steps;

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result, bail};

use self::packet::{ECHO, ECHO_V6, Fragment, Packet, Protocol, SYN};
pub use self::steps::verdict;
use super::output::{self, Paint};
use crate::{
    dataplane::{
        Tables,
        pins::Pins,
        tracer::{Traced, Tracer},
    },
    filter::names,
    netlink::dump,
};

/// The packet to send.
#[derive(Debug, clap::Args)]
pub struct Described {
    /// The interface it comes in on
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// Source address
    #[arg(long, value_name = "ADDR")]
    src: IpAddr,
    /// Destination address
    #[arg(long, value_name = "ADDR")]
    dst: IpAddr,
    /// Name or number of the protocol
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
    /// TCP flags that are set, with commas between them [default: syn]
    #[arg(long, value_name = "FLAGS", value_parser = tcp_flags)]
    tcp_flags: Option<u16>,
    /// Type of ICMP or ICMPv6, a name or a number [default: echo-request]
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<String>,
    /// Code of ICMP or ICMPv6 [default: 0]
    #[arg(long, value_name = "CODE")]
    icmp_code: Option<u8>,
    /// DSCP, a name or a number up to 63
    #[arg(long, default_value = "0", value_parser = dscp)]
    dscp: u8,
    /// IPv6 flow label [default: 0]
    #[arg(long, value_name = "LABEL", value_parser = clap::value_parser!(u32).range(0..=0xf_ffff))]
    flow_label: Option<u32>,
    /// Which fragment it is
    #[arg(long, value_enum, default_value_t = Fragment::default())]
    fragment: Fragment,
}

fn tcp_flags(list: &str) -> Result<u16, String> {
    names::tcp_flags(list).map(|bits| bits as u16).map_err(|word| {
        let known: Vec<&str> = names::TCP_FLAGS.iter().map(|(name, _)| *name).collect();
        format!(
            "{word:?} is not a TCP flag: use none, all, or of {}",
            known.join(", ")
        )
    })
}

fn dscp(word: &str) -> Result<u8, String> {
    let number = names::DSCPS.named(word).or_else(|| word.parse().ok());
    number
        .filter(|number| *number <= names::DSCPS.most)
        .map(|number| number as u8)
        .ok_or_else(|| {
            format!("{word:?} is not a DSCP: use cs0 to cs7, af11 to af43, ef, va, le, or 0 to 63")
        })
}

impl Described {
    /// The packet, sent to this MAC.
    ///
    /// # Errors
    /// An option that is not for such a packet, or a type of ICMP that nobody knows.
    fn packet(&self, mac: [u8; 6]) -> Result<Packet> {
        if self.tcp_flags.is_some() && self.proto != Protocol::Tcp {
            bail!("--tcp-flags is for TCP: add --proto tcp");
        }
        if (self.icmp_type.is_some() || self.icmp_code.is_some()) && self.proto != Protocol::Icmp {
            bail!("--icmp-type and --icmp-code are for ICMP: add --proto icmp");
        }
        if self.flow_label.is_some() && self.dst.is_ipv4() {
            bail!("--flow-label is for IPv6, and these addresses are not");
        }
        Ok(Packet {
            mac,
            source: self.src,
            destination: self.dst,
            protocol: self.proto,
            source_port: self.sport,
            destination_port: self.dport,
            ttl: self.ttl,
            length: self.length,
            tcp_flags: self.tcp_flags.unwrap_or(SYN),
            icmp: (self.icmp_type()?, self.icmp_code.unwrap_or(0)),
            dscp: self.dscp,
            flow_label: self.flow_label.unwrap_or(0),
            fragment: self.fragment,
        })
    }

    /// The type of ICMP, by the version of IP.
    fn icmp_type(&self) -> Result<u8> {
        let (kinds, echo) = match self.dst {
            IpAddr::V4(_) => (names::ICMP_TYPES, ECHO),
            IpAddr::V6(_) => (names::ICMPV6_TYPES, ECHO_V6),
        };
        let Some(word) = &self.icmp_type else {
            return Ok(echo);
        };
        let named = kinds.named(word).and_then(|number| u8::try_from(number).ok());
        named.or_else(|| word.parse().ok()).with_context(|| {
            let known: Vec<&str> = kinds.names.iter().map(|(name, _)| *name).collect();
            format!(
                "{word:?} is not {}: use a number up to 255, or {}",
                kinds.what,
                known.join(", ")
            )
        })
    }
}

/// A packet that was run.
pub struct Ran {
    /// The maps.
    pub tables: Tables,
    /// The packet.
    pub packet: Packet,
    /// As octets.
    pub frame: Vec<u8>,
    /// What became of it.
    pub traced: Traced,
}

/// Runs the packet and prints every step.
pub fn trace(bpffs: &Path, described: &Described, json: bool) -> Result<bool> {
    let ran = run(&Pins::new(bpffs), described)?;
    let row = steps::row(
        &ran.tables,
        &ran.packet,
        &described.interface,
        &ran.frame,
        &ran.traced,
    );
    if json {
        output::print_json(&[row])?;
    } else {
        output::print(&screen::screen(&row, Paint::stdout()))?;
    }
    Ok(true)
}

/// Runs the packet through a tracing instance on these pins.
///
/// # Errors
/// No pins, no such interface, or a packet that cannot be.
pub fn run(pins: &Pins, described: &Described) -> Result<Ran> {
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
    let packet = described.packet(mac)?;
    let frame = packet.frame()?;
    let traced = Tracer::open(pins)?.run(link.ifindex, &frame)?;
    Ok(Ran {
        tables,
        packet,
        frame,
        traced,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        packet: Described,
    }

    fn packet(words: &str) -> Result<Packet, String> {
        let fixed = "trace --interface eth0";
        let line = Line::try_parse_from(format!("{fixed} {words}").split_whitespace());
        let line = line.map_err(|error| error.to_string())?;
        line.packet.packet([2; 6]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_packet_is_described_in_words_or_numbers() {
        let v4 = "--src 192.0.2.1 --dst 192.0.2.2";
        let v6 = "--src 2001:db8::1 --dst 2001:db8::2";
        let plain = packet(v4).unwrap();
        assert_eq!((plain.protocol, plain.fragment), (Protocol::Udp, Fragment::Whole));
        assert_eq!((plain.tcp_flags, plain.icmp, plain.dscp), (SYN, (ECHO, 0), 0));
        let tcp = packet(&format!(
            "{v4} --proto tcp --tcp-flags syn,ack --dscp af11 --fragment first"
        ))
        .unwrap();
        assert_eq!(
            (tcp.tcp_flags, tcp.dscp, tcp.fragment),
            (0x12, 10, Fragment::First)
        );
        let icmp =
            format!("{v6} --proto icmp --icmp-type packet-too-big --flow-label 7 --fragment dont-fragment");
        let icmp = packet(&icmp).unwrap();
        assert_eq!((icmp.icmp, icmp.flow_label), ((2, 0), 7));
        let coded = packet(&format!("{v4} --proto icmp --icmp-type 3 --icmp-code 13")).unwrap();
        assert_eq!(coded.icmp, (3, 13));
    }

    #[test]
    fn an_option_that_is_for_other_packets_is_refused() {
        let v4 = "--src 192.0.2.1 --dst 192.0.2.2";
        for (words, said) in [
            ("--tcp-flags syn", "--tcp-flags is for TCP: add --proto tcp"),
            ("--icmp-type 8", "are for ICMP: add --proto icmp"),
            ("--icmp-code 1", "are for ICMP: add --proto icmp"),
            ("--flow-label 1", "--flow-label is for IPv6"),
            (
                "--proto icmp --icmp-type packet-too-big",
                "\"packet-too-big\" is not a type of ICMP: use a number",
            ),
            (
                "--proto tcp --tcp-flags sin",
                "\"sin\" is not a TCP flag: use none, all, or of fin, syn",
            ),
            ("--dscp 64", "\"64\" is not a DSCP: use cs0 to cs7"),
            (
                "--fragment second",
                "[possible values: dont-fragment, none, first, later, last]",
            ),
            ("--flow-label 1048576", "1048576 is not in 0..=1048575"),
        ] {
            let error = packet(&format!("{v4} {words}")).unwrap_err();
            assert!(error.contains(said), "{words} says {error}");
        }
    }
}
