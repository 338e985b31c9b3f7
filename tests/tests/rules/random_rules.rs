//! Rules and packets that meet often: both take their values from small stocks.

use std::net::IpAddr;

use forwarder::filter::{
    ranges::Ranges,
    rule::{Action, Family, Match, Origin, Rule},
};
use forwarder_tests::{frame, random::Random};
use ipnet::IpNet;

const ADDRESSES4: [[u8; 4]; 8] = [
    [203, 0, 113, 1],
    [203, 0, 113, 200],
    [203, 0, 112, 7],
    [198, 51, 100, 1],
    [8, 8, 8, 8],
    [9, 255, 0, 1],
    [192, 0, 3, 4],
    [1, 2, 3, 4],
];
const ADDRESSES6: [u128; 8] = [
    0x2a00_0001_0002_0003_0000_0000_0000_0001,
    0x2a00_0001_0002_0003_0000_0000_0000_0002,
    0x2a00_0001_0002_0004_0000_0000_0000_0001,
    0x2a00_0001_0003_0003_ffff_ffff_ffff_ffff,
    0x2a00_0002_0000_0000_0000_0000_0000_0000,
    0x2001_0db8_0000_0000_0000_0000_0000_0001,
    0x2620_00fe_0000_0000_0000_0000_0000_00fe,
    0x3fff_ffff_ffff_ffff_ffff_ffff_ffff_ffff,
];
const PORTS: [u16; 8] = [0, 22, 53, 80, 123, 443, 1024, 65535];
const PROTOCOLS: [u8; 8] = [1, 6, 17, 6, 17, 58, 47, 50];

fn address(random: &mut Random, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from(*random.pick(&ADDRESSES4)),
        Family::V6 => IpAddr::from(random.pick(&ADDRESSES6).to_be_bytes()),
    }
}

fn prefixes(random: &mut Random, family: Family) -> Vec<IpNet> {
    let bits = if family == Family::V4 { 32 } else { 128 };
    (0..1 + random.below(3))
        .filter_map(|_| {
            // Mostly long, sometimes everything.
            let length = if random.below(12) == 0 {
                0
            } else {
                bits - random.below(bits) / 3
            };
            Some(IpNet::new(address(random, family), length as u8).ok()?.trunc())
        })
        .collect()
}

fn ranges(random: &mut Random, stock: &[u32], most: u32) -> Ranges {
    let count = random.below(4);
    let of = (0..count).map(|_| {
        let first = *random.pick(stock);
        match random.below(4) {
            0 => first..=most,
            1 => 0..=first,
            2 => first..=first.saturating_add(random.below(200) as u32).min(most),
            _ => first..=first,
        }
    });
    Ranges::of(of.collect::<Vec<_>>())
}

/// How likely a condition is, in a hundred.
fn perhaps<T>(random: &mut Random, percent: usize, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.below(100) < percent).then(|| make(random))
}

fn condition(random: &mut Random) -> Match {
    let ports = PORTS.map(u32::from);
    let family = if random.below(2) == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let names = [
        vec!["left".to_string()],
        vec!["right".into()],
        vec!["left".into(), "right".into()],
        vec!["gone".into()],
    ];
    Match {
        destination: perhaps(random, 60, |r| prefixes(r, family)),
        source: perhaps(random, 30, |r| prefixes(r, family)),
        interfaces: perhaps(random, 10, |r| r.pick(&names).clone()),
        protocol: perhaps(random, 40, |r| ranges(r, &PROTOCOLS.map(u32::from), 255)),
        port: perhaps(random, 15, |r| ranges(r, &ports, 65_535)),
        source_port: perhaps(random, 15, |r| ranges(r, &ports, 65_535)),
        destination_port: perhaps(random, 15, |r| ranges(r, &ports, 65_535)),
        icmp_type: perhaps(random, 4, |r| ranges(r, &[0, 3, 8, 128], 255)),
        icmp_code: perhaps(random, 4, |r| ranges(r, &[0, 1, 4], 255)),
        tcp_flags: perhaps(random, 6, |r| ranges(r, &[0, 2, 16, 18, 0x812], 4_095)),
        length: perhaps(random, 10, |r| ranges(r, &[20, 40, 60, 100, 1500], 65_535)),
        dscp: perhaps(random, 8, |r| ranges(r, &[0, 10, 46, 63], 63)),
        fragment: perhaps(random, 10, |r| ranges(r, &[0, 1, 2, 4, 10], 15)),
        flow_label: perhaps(random, if family == Family::V6 { 5 } else { 0 }, |r| {
            ranges(r, &[0, 1, 0x3ff, 0x400, 0xabcde, 0xfffff], 0xf_ffff)
        }),
        family: perhaps(random, 60, |_| family),
    }
}

/// A set of rules: some sets have a handful, some hundreds.
pub fn rules(random: &mut Random, set: usize) -> Vec<Rule> {
    let count = match set % 10 {
        0 => 0,
        1..=5 => 1 + random.below(20),
        6..=8 => 50 + random.below(200),
        _ => 2_000,
    };
    let mut proceeding = 0;
    (0..count)
        .map(|number| {
            let proceed = proceeding < 30 && random.below(6) == 0;
            proceeding += usize::from(proceed);
            let drop = random.below(3) == 0;
            Rule {
                name: format!("rule {number}"),
                origin: if random.below(2) == 0 {
                    Origin::Config(number)
                } else {
                    Origin::FlowSpec(1)
                },
                when: condition(random),
                action: if drop { Action::Drop } else { Action::Accept },
                proceed: proceed && !drop,
                mark: (!drop && random.below(4) == 0).then(|| random.below(64) as u8),
            }
        })
        .collect()
}

fn transport(random: &mut Random, protocol: u8) -> Vec<u8> {
    let mut octets: Vec<u8> = (0..random.below(48)).map(|_| random.bits() as u8).collect();
    if matches!(protocol, 6 | 17) && octets.len() >= 4 {
        octets[..2].copy_from_slice(&random.pick(&PORTS).to_be_bytes());
        octets[2..4].copy_from_slice(&random.pick(&PORTS).to_be_bytes());
    }
    if protocol == 6 && octets.len() >= 14 {
        octets[12] = (5 << 4) | random.below(16) as u8 & 8;
        octets[13] = *random.pick(&[2, 16, 18, 0, 255]);
    }
    if matches!(protocol, 1 | 58) && octets.len() >= 2 {
        octets[0] = *random.pick(&[0, 3, 8, 128, 135]);
        octets[1] = random.below(5) as u8;
    }
    octets
}

/// A frame: every header sound, everything else as it comes.
pub fn frame(random: &mut Random, macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
    let protocol = *random.pick(&PROTOCOLS);
    let payload = transport(random, protocol);
    let mut frame = if random.below(2) == 0 {
        ipv4(random, macs, protocol, &payload)
    } else {
        ipv6(random, macs, protocol, &payload)
    };
    // As Ethernet pads, and sometimes more than that.
    if random.below(3) == 0 {
        let length = frame.len().max(60) + random.below(2) * random.below(20);
        frame.resize(length, 0xee);
    }
    frame
}

fn ipv4(random: &mut Random, macs: ([u8; 6], [u8; 6]), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (*random.pick(&ADDRESSES4), *random.pick(&ADDRESSES4));
    let mut frame = frame::ipv4(macs, source.into(), destination.into(), protocol, 64, payload);
    frame[15] = random.bits() as u8;
    if random.below(4) == 0 {
        let options = 4 * (1 + random.below(10));
        frame.splice(34..34, std::iter::repeat_n(1, options));
        frame[14] = 0x45 + (options / 4) as u8;
        let length = (20 + options + payload.len()) as u16;
        frame[16..18].copy_from_slice(&length.to_be_bytes());
    }
    if random.below(3) == 0 {
        let place = *random.pick(&[0x4000u16, 0x2000, 0x2001, 0x0010, 0x6000, 0x1fff]);
        frame[20..22].copy_from_slice(&place.to_be_bytes());
    }
    frame::fix_checksum(&mut frame);
    frame
}

fn ipv6(random: &mut Random, macs: ([u8; 6], [u8; 6]), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (mut next, mut body) = (protocol, payload.to_vec());
    if random.below(3) == 0 {
        for _ in 0..1 + random.below(8) {
            let kind = *random.pick(&[0u8, 43, 44, 51, 60]);
            let mut header = vec![next, 0, 0, 0, 0, 0, 0, 0];
            match kind {
                44 => {
                    let place = *random.pick(&[0u16, 1, 8, 9, 0xfff8]);
                    header[2..4].copy_from_slice(&place.to_be_bytes());
                    // Reserved; whoever takes it for a length goes astray.
                    header[1] = random.below(3) as u8;
                }
                51 => {
                    header[1] = random.below(4) as u8;
                    header.resize((usize::from(header[1]) + 2) * 4, 7);
                }
                _ => {
                    header[1] = random.below(3) as u8;
                    header.resize((usize::from(header[1]) + 1) * 8, 7);
                }
            }
            header.extend(body);
            (next, body) = (kind, header);
        }
        // Cut short somewhere.
        if random.below(6) == 0 {
            body.truncate(random.below(body.len() + 1));
        }
    }
    let (source, destination) = (*random.pick(&ADDRESSES6), *random.pick(&ADDRESSES6));
    let mut frame = frame::ipv6(macs, source.into(), destination.into(), next, 64, &body);
    let label = *random.pick(&[0u32, 1, 0x3ff, 0x400, 0xabcde, 0xfffff]);
    let first = 6 << 28 | (random.bits() as u32 & 0xff) << 20 | label;
    frame[14..18].copy_from_slice(&first.to_be_bytes());
    frame
}

/// The frame with this DSCP.
pub fn marked(frame: &[u8], dscp: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[12] == 8 {
        frame[15] = frame[15] & 3 | dscp << 2;
        frame::fix_checksum(&mut frame);
    } else {
        let word = u16::from_be_bytes([frame[14], frame[15]]);
        let word = word & 0xf03f | u16::from(dscp) << 6;
        frame[14..16].copy_from_slice(&word.to_be_bytes());
    }
    frame
}
