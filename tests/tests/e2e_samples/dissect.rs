//! What tshark reads in datagrams.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use forwarder_tests::lab::{Lab, run};
use serde_json::Value;

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was sent on.
    Forwarded,
    /// It was thrown away.
    Dropped,
    /// The kernel has it.
    #[default]
    Kernel,
}

/// What a collector is told of a packet. Numbers are as tshark writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its first octets, in hexadecimal digits with colons.
    pub header: String,
    /// Octets of the frame.
    pub length: u64,
    /// One in so many.
    pub rate: u64,
    /// Where it came in.
    pub input: u64,
    /// Where it went out; 0 where it did not.
    pub output: u64,
    pub fate: Fate,
    /// Empty: none.
    pub next_hop: String,
    /// Lengths of the prefixes of source and destination.
    pub lengths: [u64; 2],
    /// AS that the source is from, the one next to us, the one next to us on the way to the destination, and the destination's.
    pub ases: [u64; 4],
    /// Source, destination, their ports, protocol, octets of the IP packet; IPFIX alone.
    pub ip: Option<(String, String, [u64; 4])>,
}

/// Reads datagrams, as frames, with tshark: samples of sFlow, records of IPFIX, in the order in which they came.
pub fn dissect(lab: &Lab, frames: &[Vec<u8>]) -> Result<[Vec<Told>; 2]> {
    let path = lab.dir().join("samples.pcap");
    // pcap, microseconds, Ethernet.
    let mut pcap: Vec<u8> = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    for frame in frames {
        let length = frame.len() as u32;
        pcap.extend([0, 0, length, length].into_iter().flat_map(u32::to_le_bytes));
        pcap.extend(frame);
    }
    fs::write(&path, pcap)?;
    let text = run(Command::new("tshark").arg("-r").arg(&path).args([
        "-d",
        "udp.port==6343,sflow",
        "-d",
        "udp.port==4739,cflow",
        "-T",
        "json",
        "--no-duplicate-keys",
    ]))?;
    for words in ["_ws.malformed", "no_template_found", "_ws.expert"] {
        let at = text.find(words);
        let around = at.map(|at| &text[at.saturating_sub(600)..text.len().min(at + 200)]);
        // The sampled octets end where they end.
        ensure!(
            around.is_none_or(|around| around.contains("_tree\"")),
            "tshark says {words}: {around:?}"
        );
    }
    let packets: Value = serde_json::from_str(&text).context("tshark -T json")?;
    let mut told = [Vec::new(), Vec::new()];
    for packet in packets.as_array().into_iter().flatten() {
        let layers = &packet["_source"]["layers"];
        for sample in named(&layers["sflow"], "Flow sample") {
            told[0].push(sflow(sample)?);
        }
        for set in named(&layers["cflow"], "Set ") {
            for flow in named(set, "Flow ") {
                // Not the record of how packets are chosen.
                if flow.get("cflow.data_link_frame_section").is_some() {
                    told[1].push(ipfix(flow)?);
                } else {
                    let how = ["cflow.selector_algorithm", "cflow.sampling_size"];
                    ensure!(
                        how.map(|key| number(flow, key).ok()) == [Some(3), Some(1)],
                        "{flow}"
                    );
                }
            }
        }
    }
    Ok(told)
}

/// Members whose name begins so; those of one name are in an array.
fn named<'a>(object: &'a Value, start: &str) -> Vec<&'a Value> {
    let members = object.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| name.starts_with(start))
        .flat_map(|(_, value)| match value {
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        })
        .collect()
}

fn text(object: &Value, key: &str) -> Result<String> {
    let value = object[key].as_str();
    value
        .map(String::from)
        .with_context(|| format!("no {key} in {object:#}"))
}

fn number(object: &Value, key: &str) -> Result<u64> {
    text(object, key)?
        .parse()
        .with_context(|| format!("{key} in {object:#}"))
}

/// The first of these that is there.
fn either(object: &Value, keys: [&str; 2]) -> Option<String> {
    keys.into_iter()
        .find_map(|key| object[key].as_str())
        .map(String::from)
}

fn sflow(sample: &Value) -> Result<Told> {
    let field = |key: &str| number(sample, &format!("sflow.flow_sample.{key}"));
    let output = &sample["sflow.flow_sample.output_interface_tree"];
    let format = number(output, "sflow.flow_sample.output_interface_format")?;
    let value = number(output, "sflow.flow_sample.output_interface_value")?;
    let (fate, output) = match (format, value) {
        (0, 0) => (Fate::Kernel, 0),
        (0, ifindex) => (Fate::Forwarded, ifindex),
        _ => (Fate::Dropped, 0),
    };
    let raw = &sample["Raw packet header"];
    // tshark shows the octets behind them, too, that make them a multiple of four.
    let octets = text(raw, "sflow_245.header")?;
    let length = number(raw, "sflow_245.header.sampled_header_length")?.max(1) as usize;
    let (router, gateway) = (&sample["Extended router data"], &sample["Extended gateway data"]);
    ensure!(number(gateway, "sflow_245.as")? == 64_500, "{gateway}");
    let path: Vec<u64> = match &gateway["sflow.as_type_tree"]["sflow_245.dstAS"] {
        Value::Array(all) => all
            .iter()
            .filter_map(|number| number.as_str()?.parse().ok())
            .collect(),
        Value::String(one) => vec![one.parse()?],
        _ => Vec::new(),
    };
    Ok(Told {
        header: octets.get(..length * 3 - 1).unwrap_or(&octets).to_string(),
        // With the FCS, which is what is stripped.
        length: number(raw, "sflow_245.header.frame_length")?
            - number(raw, "sflow_245.header.payload_stripped")?,
        rate: field("sampling_rate")?,
        input: field("input_interface")?,
        output,
        fate,
        next_hop: either(router, ["sflow_245.nexthop", "sflow_245.nexthop.v6"]).unwrap_or_default(),
        lengths: [
            number(router, "sflow_245.nexthop.src_mask")?,
            number(router, "sflow_245.nexthop.dst_mask")?,
        ],
        ases: [
            number(gateway, "sflow_245.srcAS")?,
            number(gateway, "sflow_245.peerAS")?,
            path.first().copied().unwrap_or(0),
            path.last().copied().unwrap_or(0),
        ],
        ip: None,
    })
}

fn ipfix(flow: &Value) -> Result<Told> {
    let field = |key: &str| number(flow, &format!("cflow.{key}"));
    let first = |keys: [&str; 2]| either(flow, keys).unwrap_or_default();
    let fate = match number(&flow["Forwarding Status"], "cflow.forwarding_status")? {
        1 => Fate::Forwarded,
        2 => Fate::Dropped,
        _ => Fate::Kernel,
    };
    let source = first(["cflow.srcaddr", "cflow.srcaddrv6"]);
    let mut told = Told {
        header: text(flow, "cflow.data_link_frame_section")?,
        length: field("data_link_frame_size")?,
        rate: field("sampling_interval")?,
        input: field("inputint")?,
        output: field("outputint")?,
        fate,
        ..Told::default()
    };
    // Not of anything but IP.
    if !source.is_empty() {
        let next_hop = first(["cflow.nexthop", "cflow.nexthopv6"]);
        if !["0.0.0.0", "::"].contains(&next_hop.as_str()) {
            told.next_hop = next_hop;
        }
        let length = |keys| first(keys).parse().context("a prefix length");
        told.lengths = [
            length(["cflow.srcmask", "cflow.srcmaskv6"])?,
            length(["cflow.dstmask", "cflow.dstmaskv6"])?,
        ];
        told.ases = [
            field("srcas")?,
            field("peer_srcas")?,
            field("peer_dstas")?,
            field("dstas")?,
        ];
        let numbers = [
            field("srcport")?,
            field("dstport")?,
            field("protocol")?,
            field("octets")?,
        ];
        told.ip = Some((source, first(["cflow.dstaddr", "cflow.dstaddrv6"]), numbers));
    }
    Ok(told)
}
