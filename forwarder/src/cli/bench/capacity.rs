//! What links can carry, and how many cores that is.

use serde::Serialize;

use super::{
    course::family,
    ingress::Served,
    measure::{self, Cost},
};

/// Octets beside a frame on the wire: preamble, start of frame and the gap behind it (IEEE 802.3, 4.4.2).
const BESIDE: f64 = 20.0;
/// Nanoseconds that driver and NIC take for a packet that is only redirected: one core, 8.46 M packets/s (mlx5, Xeon E5-1650 v4 at
/// 3.6 GHz, Linux 4.17; the benchmarks beside "The eXpress Data Path", CoNEXT 2018). Of another machine: assumed, not measured.
pub const DRIVER_NS: f64 = 118.0;

/// A mix of frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frames {
    /// Its name.
    pub name: &'static str,
    /// Octets of a frame, its checksum among them, on average.
    pub octets: f64,
}

/// Those that rates are worked out for: the shortest; seven of 64 octets, four of 594, one of 1518; packets of 1500 octets.
pub const FRAMES: [Frames; 3] = [
    Frames {
        name: "64",
        octets: 64.0,
    },
    Frames {
        name: "imix",
        octets: (7.0 * 64.0 + 4.0 * 594.0 + 1518.0) / 12.0,
    },
    Frames {
        name: "1500",
        octets: 1518.0,
    },
];

impl Frames {
    /// Packets each second that fill a link.
    pub fn rate(self, bits_per_second: u64) -> f64 {
        bits_per_second as f64 / 8.0 / (self.octets + BESIDE)
    }
}

/// A row of the answer.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// What a packet costs.
    Cost(CostRow),
    /// What a link can carry.
    Link(LinkRow),
}

/// What a packet costs.
#[derive(Clone, Debug, Serialize)]
pub struct CostRow {
    /// "cost".
    row: &'static str,
    /// Where packets seemed to come in.
    pub ifname: String,
    /// The CPU.
    pub cpu: usize,
    /// "IPv4", "IPv6".
    pub family: &'static str,
    /// "hot": 64 destinations again and again; "cold": all over the table.
    pub destinations: &'static str,
    /// Rounds.
    pub rounds: usize,
    /// Nanoseconds a packet, the median of the rounds.
    pub ns: f64,
    /// Their 5th percentile.
    pub ns_low: f64,
    /// Their 95th.
    pub ns_high: f64,
    /// What a core that does nothing else would do, by the median.
    pub packets_per_second: u64,
}

/// What a link can carry, and how many cores the program takes of that: null where nobody tells or it was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct LinkRow {
    /// "link", or "links" for all of them together.
    row: &'static str,
    /// The link; null for all of them together.
    pub ifname: Option<String>,
    /// Bits each second, in one direction.
    pub link_speed: Option<u64>,
    /// "64", "imix" or "1500".
    pub frames: &'static str,
    /// Packets each second that come in when it is full.
    pub packets_per_second: Option<u64>,
    /// Cores, IPv4 hot.
    pub cores_ipv4_hot: Option<f64>,
    /// Cores, IPv4 cold.
    pub cores_ipv4_cold: Option<f64>,
    /// Cores, IPv6 hot.
    pub cores_ipv6_hot: Option<f64>,
    /// Cores, IPv6 cold.
    pub cores_ipv6_cold: Option<f64>,
    /// Cores that driver and NIC take beside them, as assumed.
    pub cores_driver: Option<f64>,
}

impl LinkRow {
    /// Cores by what was measured, in the order of the columns.
    pub const fn cores(&self) -> [Option<f64>; 4] {
        [
            self.cores_ipv4_hot,
            self.cores_ipv4_cold,
            self.cores_ipv6_hot,
            self.cores_ipv6_cold,
        ]
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The row of a cost.
pub fn cost(ifname: &str, cpu: usize, rounds: usize, cost: &Cost) -> CostRow {
    let [ns_low, ns, ns_high] = cost.ns.map(|ns| rounded(ns, 10.0));
    CostRow {
        row: "cost",
        ifname: ifname.into(),
        cpu,
        family: family(cost.six),
        destinations: measure::destinations(cost.cold),
        rounds,
        ns,
        ns_low,
        ns_high,
        packets_per_second: (1e9 / cost.ns[1]) as u64,
    }
}

/// Three rows for each link; where there are several, three of all together.
pub fn links(costs: &[CostRow], links: &[Served]) -> Vec<LinkRow> {
    let mut rows = Vec::new();
    for link in links {
        rows.extend(FRAMES.map(|frames| row(costs, Some(&link.name), link.speed, frames)));
    }
    let sum: u64 = links.iter().filter_map(|link| link.speed).sum();
    if links.len() > 1 && sum != 0 {
        rows.extend(FRAMES.map(|frames| row(costs, None, Some(sum), frames)));
    }
    rows
}

fn row(costs: &[CostRow], ifname: Option<&str>, link_speed: Option<u64>, frames: Frames) -> LinkRow {
    let rate = link_speed.map(|speed| frames.rate(speed));
    let cores = |ns: f64| rate.map(|rate| rounded(rate * ns / 1e9, 100.0));
    let of = |family: &str, destinations: &str| {
        let found = costs
            .iter()
            .find(|cost| (cost.family, cost.destinations) == (family, destinations));
        found.and_then(|cost| cores(cost.ns))
    };
    LinkRow {
        row: if ifname.is_some() { "link" } else { "links" },
        ifname: ifname.map(Into::into),
        link_speed,
        frames: frames.name,
        packets_per_second: rate.map(|rate| rate as u64),
        cores_ipv4_hot: of("IPv4", "hot"),
        cores_ipv4_cold: of("IPv4", "cold"),
        cores_ipv6_hot: of("IPv6", "hot"),
        cores_ipv6_cold: of("IPv6", "cold"),
        cores_driver: cores(DRIVER_NS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::screen;

    fn served(name: &str, speed: Option<u64>) -> Served {
        Served {
            name: name.into(),
            ifindex: 1,
            interface: Default::default(),
            speed,
        }
    }

    fn costs() -> Vec<CostRow> {
        let each = [(false, 50.0), (true, 200.0)];
        each.map(|(cold, ns)| {
            cost(
                "eth0",
                3,
                40,
                &Cost {
                    six: false,
                    cold,
                    ns: [ns - 1.0, ns, ns + 1.0],
                },
            )
        })
        .to_vec()
    }

    #[test]
    fn ten_gigabits_are_what_everybody_knows() {
        let rates = FRAMES.map(|frames| frames.rate(10_000_000_000) as u64);
        assert_eq!(rates, [14_880_952, 3_273_679, 812_743]);
    }

    #[test]
    fn cores_are_packets_times_cost_and_what_is_unknown_is_null() {
        let rows = links(
            &costs(),
            &[served("eth0", Some(10_000_000_000)), served("eth1", None)],
        );
        let row = &rows[0];
        assert_eq!(row.cores(), [Some(0.74), Some(2.98), None, None], "{row:?}");
        assert_eq!(row.cores_driver, Some(1.76));
        assert_eq!((rows[3].packets_per_second, rows[3].cores_ipv4_hot), (None, None));
        assert_eq!(rows.len(), 9);
        assert_eq!(
            (rows[6].row, rows[6].packets_per_second),
            ("links", Some(14_880_952))
        );
        let json = serde_json::to_string(&Row::Link(rows[6].clone())).unwrap();
        assert!(
            json.starts_with(r#"{"row":"links","ifname":null,"link_speed":10000000000,"#),
            "{json}"
        );
    }

    #[test]
    fn the_screen_has_a_line_for_each_and_a_dash_for_what_is_unknown() {
        let costs = costs();
        let rows = links(
            &costs,
            &[served("eth0", Some(1_000_000_000)), served("eth1", None)],
        );
        let report = crate::cli::bench::Report {
            machine: "CPU 3".into(),
            ingress: "as if".into(),
            method: "by rounds".into(),
            rows: costs
                .into_iter()
                .map(Row::Cost)
                .chain(rows.into_iter().map(Row::Link))
                .collect(),
            notes: vec!["a note".into()],
        };
        let text = screen::screen(&report, crate::cli::output::Paint::off());
        assert!(text.contains("IPv4    cold          200.0"), "{text}");
        assert!(text.contains("eth0  1 Gbit/s  64      1,488,095"), "{text}");
        assert!(text.contains("eth1  -"), "{text}");
        assert!(text.contains("note: a note"), "{text}");
    }
}
