//! Rule sets and packets: what the compiled tables say of a packet is what asking one rule after the other says.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forwarder::filter::{
    compile::{self, Placed, Router},
    naive::{self, Fields},
    ranges::Ranges,
    rule::{Action, FRAGMENT_MAX, Family, Match, Origin, Rule, TCP_FLAGS_MAX},
};
use forwarder_common::rules::{
    Asked, Common, Dimension, Key, NO_FLAGS, NO_ICMP, NO_PORT, NO_PROTOCOL, PROCEED, Set4, Set6, WORDS,
    class_of_label, class4, class6, concern4, concern6, concerns,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libfuzzer_sys::fuzz_target;

const RULES: usize = 70;
const PACKETS: usize = 16;
const INTERFACES: [&str; 3] = ["a", "b", "gone"];

/// The rules that a packet meets, by the compiled tables.
type Ask = dyn Fn(&Fields, u32) -> Vec<usize>;

fuzz_target!(|data: &[u8]| {
    let mut source = Octets(data);
    let family = if source.byte() & 1 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let count = usize::from(source.byte()) % (RULES + 1);
    let rules: Vec<Rule> = (0..count).map(|at| rule(&mut source, at, family)).collect();
    let placed: Vec<Placed<'_>> = rules
        .iter()
        .enumerate()
        .map(|(slot, rule)| Placed {
            rule,
            slot: slot as u32,
        })
        .collect();
    let port = |name: &str| {
        INTERFACES[..2]
            .iter()
            .position(|known| *known == name)
            .map(|at| at as u32 + 1)
    };
    let router = Router { port: &port, cpus: 2 };
    // What does not fit is an error, and there is nothing to ask.
    let ask: Box<Ask> = match family {
        Family::V4 => match compile::ipv4(&placed, router) {
            Ok(set) => Box::new(move |packet, interface| ask4(&set, packet, interface)),
            Err(_) => return,
        },
        Family::V6 => match compile::ipv6(&placed, router) {
            Ok(set) => Box::new(move |packet, interface| ask6(&set, packet, interface)),
            Err(_) => return,
        },
    };
    for _ in 0..PACKETS {
        let (packet, interface) = packet(&mut source, family, &rules);
        let said = ask(&packet, interface as u32 + 1);
        assert_eq!(
            said,
            naive::ask(&rules, &packet, INTERFACES[interface]).met,
            "{packet:?}"
        );
    }
});

/// Octets of the input, and zeros behind them.
struct Octets<'a>(&'a [u8]);

impl Octets<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn number(&mut self, octets: usize) -> u128 {
        (0..octets).fold(0, |number, _| number << 8 | u128::from(self.byte()))
    }

    /// One in four.
    fn rarely(&mut self) -> bool {
        self.byte() & 3 == 3
    }
}

fn address(source: &mut Octets<'_>, family: Family) -> IpAddr {
    match family {
        // Few different octets, so that prefixes meet.
        Family::V4 => Ipv4Addr::from(source.number(4) as u32 & 0x0303_83c3).into(),
        Family::V6 => Ipv6Addr::from(source.number(16) & 0x2003_0303_0303_0303_8303_0303_0303_c303).into(),
    }
}

fn prefixes(source: &mut Octets<'_>, family: Family) -> Vec<IpNet> {
    let count = source.byte() % 4;
    (0..count)
        .filter_map(|_| {
            let length = source.byte();
            let net = match address(source, family) {
                IpAddr::V4(address) => Ipv4Net::new(address, length % 33).ok()?.trunc().into(),
                IpAddr::V6(address) => Ipv6Net::new(address, length % 129).ok()?.trunc().into(),
            };
            Some(net)
        })
        .collect()
}

fn ranges(source: &mut Octets<'_>, most: u32) -> Ranges {
    let count = source.byte() % 4;
    Ranges::of((0..count).map(|_| {
        let first = source.number(3) as u32 % (most + 1);
        // Upside down too.
        first..=(first + u32::from(source.byte())).min(most).saturating_sub(3)
    }))
}

fn rule(source: &mut Octets<'_>, number: usize, family: Family) -> Rule {
    let what = source.number(2) as u16;
    let bit = |at: u32| what >> at & 1 != 0;
    let mut when = Match {
        destination: bit(0).then(|| prefixes(source, family)),
        source: bit(1).then(|| prefixes(source, family)),
        protocol: bit(2).then(|| ranges(source, 255)),
        port: bit(3).then(|| ranges(source, 65_535)),
        source_port: bit(4).then(|| ranges(source, 65_535)),
        destination_port: bit(5).then(|| ranges(source, 65_535)),
        icmp_type: bit(6).then(|| ranges(source, 255)),
        icmp_code: bit(7).then(|| ranges(source, 255)),
        tcp_flags: bit(8).then(|| ranges(source, TCP_FLAGS_MAX)),
        length: bit(9).then(|| ranges(source, 65_535)),
        dscp: bit(10).then(|| ranges(source, 63)),
        fragment: bit(11).then(|| ranges(source, FRAGMENT_MAX)),
        flow_label: bit(12).then(|| ranges(source, 0xf_ffff)),
        ..Match::default()
    };
    if bit(13) {
        let names = source.byte();
        let named = |at: &usize| names >> at & 1 != 0;
        when.interfaces = Some(
            (0..3)
                .filter(named)
                .map(|at| INTERFACES[at].to_string())
                .collect(),
        );
    }
    if source.rarely() {
        when.family = Some(if source.byte() & 1 == 0 {
            Family::V4
        } else {
            Family::V6
        });
    }
    Rule {
        name: number.to_string(),
        origin: Origin::Config(number + 1),
        when,
        action: if bit(14) { Action::Drop } else { Action::Accept },
        proceed: bit(15) && source.rarely(),
        mark: None,
    }
}

/// A packet, often one that a rule has something to say about.
fn packet(source: &mut Octets<'_>, family: Family, rules: &[Rule]) -> (Fields, usize) {
    let like = rules
        .get(usize::from(source.byte()) % rules.len().max(1))
        .map(|rule| &rule.when);
    let near = |source: &mut Octets<'_>, of: Option<&Ranges>, most: u32| {
        let edges: Vec<u32> = of
            .into_iter()
            .flat_map(Ranges::iter)
            .flat_map(|r| [*r.start(), *r.end()])
            .collect();
        match edges.get(usize::from(source.byte()) % (edges.len() + 2)) {
            Some(edge) => (edge + u32::from(source.byte() & 1)).min(most),
            None => source.number(3) as u32 % (most + 1),
        }
    };
    let within = |source: &mut Octets<'_>, of: Option<&Vec<IpNet>>| match of.and_then(|nets| nets.first()) {
        Some(net) if source.byte() & 1 == 0 => net.addr(),
        _ => address(source, family),
    };
    let protocol = near(source, like.and_then(|m| m.protocol.as_ref()), 255) as u8;
    let ports = (
        near(
            source,
            like.and_then(|m| m.source_port.as_ref().or(m.port.as_ref())),
            65_535,
        ) as u16,
        near(
            source,
            like.and_then(|m| m.destination_port.as_ref().or(m.port.as_ref())),
            65_535,
        ) as u16,
    );
    let icmp = (
        near(source, like.and_then(|m| m.icmp_type.as_ref()), 255) as u8,
        near(source, like.and_then(|m| m.icmp_code.as_ref()), 255) as u8,
    );
    let flags = near(source, like.and_then(|m| m.tcp_flags.as_ref()), TCP_FLAGS_MAX) as u16;
    let shows = source.byte();
    let fields = Fields {
        source: within(source, like.and_then(|m| m.source.as_ref())),
        destination: within(source, like.and_then(|m| m.destination.as_ref())),
        protocol: (shows & 1 == 0).then_some(protocol),
        ports: (shows & 2 == 0).then_some(ports),
        icmp: (shows & 4 == 0).then_some(icmp),
        tcp_flags: (shows & 8 == 0).then_some(flags),
        length: near(source, like.and_then(|m| m.length.as_ref()), 65_535),
        dscp: near(source, like.and_then(|m| m.dscp.as_ref()), 63) as u8,
        fragment: near(source, like.and_then(|m| m.fragment.as_ref()), FRAGMENT_MAX),
        flow_label: near(source, like.and_then(|m| m.flow_label.as_ref()), 0xf_ffff),
    };
    (fields, usize::from(source.byte() & 1))
}

fn key(packet: &Fields, interface: u32) -> Key {
    Key {
        protocol: packet.protocol.map_or(NO_PROTOCOL, u32::from),
        source_port: packet.ports.map_or(NO_PORT, |(port, _)| port.into()),
        destination_port: packet.ports.map_or(NO_PORT, |(_, port)| port.into()),
        icmp_type: packet.icmp.map_or(NO_ICMP, |(number, _)| number.into()),
        icmp_code: packet.icmp.map_or(NO_ICMP, |(_, number)| number.into()),
        tcp_flags: packet.tcp_flags.map_or(NO_FLAGS, u32::from),
        length: packet.length,
        dscp: packet.dscp.into(),
        fragment: packet.fragment,
        interface,
        label: packet.flow_label,
    }
}

fn ask4(set: &Set4, packet: &Fields, interface: u32) -> Vec<usize> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (packet.source, packet.destination) else {
        return Vec::new();
    };
    if !concerns(&set.common, concern4(destination.into())) {
        return Vec::new();
    }
    let mut asked = asked(&set.common, packet, interface);
    asked.set(Dimension::Source as usize, class4(set, 1, source.into()));
    asked.set(
        Dimension::Destination as usize,
        class4(set, 0, destination.into()),
    );
    met(&set.common, &asked)
}

fn ask6(set: &Set6, packet: &Fields, interface: u32) -> Vec<usize> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (packet.source, packet.destination) else {
        return Vec::new();
    };
    let halves = |address: Ipv6Addr| ((u128::from(address) >> 64) as u64, u128::from(address) as u64);
    if !concerns(&set.common, concern6(halves(destination).0)) {
        return Vec::new();
    }
    let mut asked = asked(&set.common, packet, interface);
    asked.set(
        Dimension::FlowLabel as usize,
        class_of_label(set, packet.flow_label),
    );
    for (dimension, which, address) in [
        (Dimension::Source, 1, source),
        (Dimension::Destination, 0, destination),
    ] {
        let (high, low) = halves(address);
        asked.set(dimension as usize, class6(set, which, high, low, |number| number));
    }
    met(&set.common, &asked)
}

/// The classes of everything but addresses and flow label.
fn asked(common: &Common, packet: &Fields, interface: u32) -> Asked {
    let mut asked = Asked {
        key: key(packet, interface),
        ..Asked::default()
    };
    asked.classify(common, |number| number);
    asked
}

/// Rules of the AND, as the program takes them.
fn met(common: &Common, asked: &Asked) -> Vec<usize> {
    let left = asked.summary(common);
    let mut met = Vec::new();
    for number in 0..WORDS {
        let bits = asked.word(common, number as u32);
        assert!(
            bits == 0 || left >> number & 1 != 0,
            "the summary hides word {number}"
        );
        for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
            let rule = number * 64 + bit;
            met.push(rule);
            let verdict = &common.verdicts[rule];
            if verdict.reason != 0 || verdict.flags & PROCEED == 0 {
                return met;
            }
        }
    }
    met
}
