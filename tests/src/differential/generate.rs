//! Frames from a seed: sound packets to every kind of destination, most of them then damaged somewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};

use super::{
    address, chance,
    mutate::mutate,
    octets,
    payload::{self, Payload},
    topology::{INGRESSES, PORTS, Port, mac},
    unhex,
};
use crate::{frame, random::Random};

/// Octets of the shortest and the longest frame that is sent.
const SHORTEST: usize = 14;
const LONGEST: usize = 2014;

/// A frame to send.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number: with the seed, all that is needed to make it again.
    pub index: u64,
    /// The port it goes into.
    pub port: usize,
    /// Its octets.
    pub frame: Vec<u8>,
    /// What it is.
    pub story: String,
    /// Its source, where it is sound up to there.
    pub source: Option<IpAddr>,
    /// Whether somebody gave it, so that no seed makes it.
    pub given: bool,
}

/// Makes the frame of a number.
pub fn case(seed: u64, index: u64) -> Case {
    let mut r = beginning(seed, index);
    let mut case = undamaged(&mut r, index);
    if chance(&mut r, 45) {
        case.source = None;
        mutate(&mut r, &mut case);
    }
    fit(case)
}

/// The same frame before anything was damaged.
pub fn sound(seed: u64, index: u64) -> Case {
    fit(undamaged(&mut beginning(seed, index), index))
}

/// A frame that somebody gives, as `PORT:HEXADECIMAL`.
///
/// # Errors
/// It is none that can be sent.
pub fn given(text: &str) -> Result<Case> {
    let (name, digits) = text
        .split_once(':')
        .context("PORT:HEXADECIMAL is expected, as in0:ffff...")?;
    let port = PORTS[..INGRESSES]
        .iter()
        .position(|port| port.name == name)
        .with_context(|| {
            let names: Vec<&str> = PORTS[..INGRESSES].iter().map(|port| port.name).collect();
            format!("{name}: frames are sent into {}", names.join(", "))
        })?;
    let frame = unhex(digits)?;
    ensure!(
        (SHORTEST..=LONGEST).contains(&frame.len()),
        "{} octets: {SHORTEST} to {LONGEST} can be sent",
        frame.len()
    );
    Ok(Case {
        index: 0,
        port,
        source: source(&frame),
        frame,
        story: "given".into(),
        given: true,
    })
}

/// The source that an untagged IP frame says it is from.
pub fn source(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [8, 0] => {
            let octets: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
            Some(octets.into())
        }
        [0x86, 0xdd] => {
            let octets: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
            Some(octets.into())
        }
        _ => None,
    }
}

fn beginning(seed: u64, index: u64) -> Random {
    Random::new(Random::new(seed.rotate_left(32) ^ index).bits())
}

/// More than the far end may send, less than a header: neither leaves the host.
fn fit(mut case: Case) -> Case {
    case.frame.truncate(LONGEST);
    case.frame.resize(case.frame.len().max(SHORTEST), 0);
    case
}

fn undamaged(r: &mut Random, index: u64) -> Case {
    let port = if chance(r, 60) { 0 } else { r.below(INGRESSES) };
    let mut case = match r.below(100) {
        0..54 => ipv4(r, index, port),
        54..96 => ipv6(r, index, port),
        _ => other(r, index, port),
    };
    if chance(r, 10) && case.frame.len() < 60 {
        case.frame.resize(60, 0);
        case.story += "; padded";
    }
    case
}

/// The MACs of a frame that comes in at a port: mostly right.
fn macs(r: &mut Random, port: Port) -> ([u8; 6], [u8; 6], &'static str) {
    let source = mac(port.number, *r.pick(&[2, 3, 9]));
    let wrong = |r: &mut Random| -> ([u8; 6], &'static str) {
        match r.below(6) {
            0 => ([0xff; 6], "to the broadcast MAC"),
            1 => ([1, 0, 0x5e, 0, 0, 1], "to a multicast MAC"),
            2 => ([0x33, 0x33, 0, 0, 0, 1], "to a multicast MAC"),
            3 => (mac(1 + (port.number + 1) % 5, 1), "to another port's MAC"),
            4 => ([0; 6], "to the zero MAC"),
            _ => (mac(r.bits() as u8, 7), "to a stranger's MAC"),
        }
    };
    match r.below(100) {
        0..5 => {
            let (destination, name) = wrong(r);
            (destination, source, name)
        }
        5 => (mac(port.number, 1), wrong(r).0, "from an odd MAC"),
        6 => (mac(port.number, 1), mac(port.number, 1), "from the router's MAC"),
        _ => (mac(port.number, 1), source, ""),
    }
}

/// Octets behind the IP header, so that packets often are as long as an MTU allows, or one more.
fn length(r: &mut Random, header: usize) -> usize {
    let limits = [576, 1280, 1300, 1400, 1492, 1500];
    match r.below(10) {
        0..4 => r.below(64),
        4..6 => r.below(1480),
        6 => 1480usize.saturating_sub(r.below(20)),
        _ => (*r.pick(&limits) + r.below(5)).saturating_sub(2 + header),
    }
}

fn hop_limit(r: &mut Random) -> u8 {
    match r.below(100) {
        0..60 => 64,
        60..64 => 0,
        64..70 => 1,
        70..76 => 2,
        76..84 => 255,
        _ => r.bits() as u8,
    }
}

fn ipv4(r: &mut Random, index: u64, port: usize) -> Case {
    let ingress = PORTS[port];
    let (to, destination) = address::destination4(r);
    let source = address::source4(r, ingress, destination);
    let options = if chance(r, 8) { options4(r) } else { Vec::new() };
    let room = length(r, 20 + options.len());
    let payload = payload::any(r, source.into(), destination.into(), room);
    let (mac_to, mac_from, mac_name) = macs(r, ingress);
    let ttl = hop_limit(r);
    let mut frame = frame::ipv4(
        (mac_to, mac_from),
        source,
        destination,
        payload.protocol,
        ttl,
        &[&options[..], &payload.octets].concat(),
    );
    frame[14] += (options.len() / 4) as u8;
    frame[15] = *r.pick(&[0, 0, 0, 0x10, 0x08, 0x1c, 0xff, 0x03]);
    frame[18..20].copy_from_slice(&(r.bits() as u16).to_be_bytes());
    let flags: u16 = match r.below(20) {
        0..9 => 0x4000,
        9..16 => 0,
        16 => 0x2000,
        17 => 0x2000 | r.below(0x2000) as u16,
        18 => r.below(0x2000) as u16,
        _ => r.bits() as u16,
    };
    frame[20..22].copy_from_slice(&flags.to_be_bytes());
    frame::fix_checksum(&mut frame);
    Case {
        index,
        port,
        frame,
        story: format!(
            "IPv4 {} to {destination} ({to}) from {source} ttl {ttl} flags {flags:#x} options {} {mac_name}",
            payload.name,
            options.len(),
        ),
        source: mac_name.is_empty().then_some(IpAddr::V4(source)),
        given: false,
    }
}

/// IPv4 options, a multiple of four octets: record route, timestamp, router alert, source routes, nonsense.
fn options4(r: &mut Random) -> Vec<u8> {
    let hop = Ipv4Addr::new(20, 0, 3, 2).octets();
    let mut options = match r.below(8) {
        0 => vec![1, 1, 1, 0],
        1 => vec![148, 4, 0, 0],
        2 => vec![7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        3 => vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        4 => [&[131, 7, 4][..], &hop].concat(),
        5 => [&[137, 7, 4][..], &hop].concat(),
        6 => vec![7, 3, 4],
        _ => {
            let length = 4 + 4 * r.below(9);
            octets(r, length)
        }
    };
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

fn ipv6(r: &mut Random, index: u64, port: usize) -> Case {
    let ingress = PORTS[port];
    let (to, destination) = address::destination6(r);
    let source = address::source6(r, ingress, destination);
    let room = length(r, 40);
    let mut payload = payload::any(r, source.into(), destination.into(), room);
    let name = payload.name;
    let chain = if chance(r, 15) {
        extend(r, &mut payload)
    } else {
        String::new()
    };
    let (mac_to, mac_from, mac_name) = macs(r, ingress);
    let hop_limit = if name == "other ICMP" && chance(r, 60) {
        255
    } else {
        hop_limit(r)
    };
    let mut frame = frame::ipv6(
        (mac_to, mac_from),
        source,
        destination,
        payload.protocol,
        hop_limit,
        &payload.octets,
    );
    if chance(r, 30) {
        let word = 0x6000_0000 | r.bits() as u32 & 0x0fff_ffff;
        frame[14..18].copy_from_slice(&word.to_be_bytes());
    }
    Case {
        index,
        port,
        frame,
        story: format!(
            "IPv6 {name} to {destination} ({to}) from {source} hop limit {hop_limit} {chain} {mac_name}"
        ),
        source: (mac_name.is_empty() && chain.is_empty()).then_some(IpAddr::V6(source)),
        given: false,
    }
}

/// Puts one to four extension headers in front; answers their names.
fn extend(r: &mut Random, payload: &mut Payload) -> String {
    let mut names = String::from("behind");
    for _ in 0..1 + r.below(4) {
        let kind = *r.pick(&[0u8, 43, 44, 51, 60, 135, 139, 140, 253]);
        let mut header = vec![payload.protocol, 0, 0, 0, 0, 0, 0, 0];
        match kind {
            0 | 60 => header[2..8].copy_from_slice(r.pick::<[u8; 6]>(&[
                [1, 4, 0, 0, 0, 0],
                [5, 2, 0, 0, 1, 0],
                [0, 0, 0, 0, 0, 0],
                [0x3e, 4, 1, 2, 3, 4],
                [0x7e, 4, 1, 2, 3, 4],
                [0xbe, 4, 1, 2, 3, 4],
                [0xfe, 4, 1, 2, 3, 4],
                [0xc2, 4, 0, 1, 0, 0],
                [1, 200, 0, 0, 0, 0],
            ])),
            43 => {
                header[2] = *r.pick(&[0, 2, 3, 4, 99]);
                header[3] = *r.pick(&[0, 1, 2]);
                header.extend(Ipv6Addr::new(0x2a30, 0, 0, 0, 0, 0, 0, 9).octets());
                header[1] = 2;
            }
            44 => {
                let random = r.bits() as u16;
                let word = *r.pick(&[0, 1, 8, 9, 0x100, 0xfff8, random]);
                header[2..4].copy_from_slice(&word.to_be_bytes());
                header[4..8].copy_from_slice(&r.bits().to_be_bytes()[..4]);
            }
            51 => {
                header[1] = 1;
                header.extend(octets(r, 4));
            }
            _ => {}
        }
        names += &format!(" {kind}");
        header.extend(&payload.octets);
        payload.octets = header;
        payload.protocol = kind;
    }
    names
}

/// Neither IPv4 nor IPv6, or hidden behind something.
fn other(r: &mut Random, index: u64, port: usize) -> Case {
    let ingress = PORTS[port];
    let Port { number, .. } = ingress;
    let (to, from) = (mac(number, 1), mac(number, 2));
    let (story, frame) = match r.below(6) {
        0 => {
            let operation = *r.pick(&[1, 1, 1, 2]);
            let to = if chance(r, 50) { [0xff; 6] } else { to };
            let mut frame = frame::ethernet(to, from, 0x0806);
            frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
            // Only a static neighbour: the kernel learns from these, and would tell forwarder a little later.
            frame.extend([&from[..], &[20, 0, number, 2, 0, 0, 0, 0, 0, 0, 20, 0]].concat());
            frame.extend([number, *r.pick(&[1, 2, 9, 0])]);
            ("ARP", frame)
        }
        1 | 2 => {
            let mut inner = if chance(r, 50) {
                ipv4(r, index, port).frame
            } else {
                ipv6(r, index, port).frame
            };
            let tci = *r.pick(&[0u16, 0, 1, 100, 0x6000, 4095]);
            let tpid = *r.pick(&[0x8100u16, 0x8100, 0x88a8, 0x9100]);
            inner.splice(12..12, [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
            ("VLAN tag", inner)
        }
        3 => {
            let length = r.below(100);
            let random = r.bits() as u16;
            let kinds = [
                0x0026, 0x05dc, 0x8847, 0x8863, 0x8864, 0x8809, 0x88cc, 0x22f0, random,
            ];
            let kind = *r.pick(&kinds);
            let mut frame = frame::ethernet(to, from, kind);
            frame.extend(octets(r, length));
            ("another EtherType", frame)
        }
        4 => {
            let swapped = if chance(r, 50) {
                let mut frame = ipv4(r, index, port).frame;
                frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                frame
            } else {
                let mut frame = ipv6(r, index, port).frame;
                frame[12..14].copy_from_slice(&[8, 0]);
                frame
            };
            ("the other EtherType", swapped)
        }
        _ => {
            let length = 14 + r.below(60);
            let mut frame = octets(r, length);
            frame[..6].copy_from_slice(&to);
            frame[12..14].copy_from_slice(r.pick::<[u8; 2]>(&[[8, 0], [0x86, 0xdd]]));
            ("noise", frame)
        }
    };
    Case {
        index,
        port,
        frame,
        story: story.into(),
        source: None,
        given: false,
    }
}
