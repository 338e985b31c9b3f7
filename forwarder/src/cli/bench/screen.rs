//! What was measured and worked out, for people.

use super::{
    Report,
    capacity::{CostRow, DRIVER_NS, LinkRow, Row},
};
use crate::cli::output::{self, Column, Paint};

const COSTS: [Column; 6] = [
    ("family", false),
    ("destinations", false),
    ("ns", true),
    ("5 %", true),
    ("95 %", true),
    ("packets/s per core", true),
];

const LINKS: [Column; 9] = [
    ("link", false),
    ("speed", false),
    ("frames", false),
    ("packets/s", true),
    ("IPv4 hot", true),
    ("IPv4 cold", true),
    ("IPv6 hot", true),
    ("IPv6 cold", true),
    ("+ driver", true),
];

/// The answer as text.
pub fn screen(report: &Report, paint: Paint) -> String {
    let costs = report.rows.iter().filter_map(|row| match row {
        Row::Cost(cost) => Some(cost_cells(cost)),
        Row::Link(_) => None,
    });
    let links = report.rows.iter().filter_map(|row| match row {
        Row::Link(link) => Some(link_cells(link)),
        Row::Cost(_) => None,
    });
    let mut text = format!("{}\n{}\n{}\n\n", report.machine, report.ingress, report.method);
    text += &output::table(&COSTS, costs, paint);
    text += "hot: 64 destinations again and again; cold: uniform over the table's prefixes, up to 524,288 of them.\n\n";
    text += &format!(
        "{}\n",
        paint.bold("Cores that a link takes when it is full, received:")
    );
    text += &output::table(&LINKS, links, paint);
    text += &format!(
        "64: the shortest frames, 84 octets on the wire; imix: 7 of 64, 4 of 594, 1 of 1518 octets; 1500: packets of 1500 octets.\n\
         Measured is the program, from frame to verdict. What driver and NIC take is not in it, and was not measured: + driver\n\
         assumes {DRIVER_NS:.0} ns a packet, plain XDP redirect on one core (mlx5, 3.6 GHz; CoNEXT 2018). See docs/line-rate.md.\n"
    );
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}

fn cost_cells(cost: &CostRow) -> Vec<String> {
    vec![
        cost.family.into(),
        cost.destinations.into(),
        format!("{:.1}", cost.ns),
        format!("{:.1}", cost.ns_low),
        format!("{:.1}", cost.ns_high),
        output::grouped(cost.packets_per_second),
    ]
}

fn link_cells(link: &LinkRow) -> Vec<String> {
    let dash = || "-".to_string();
    let cores = |cores: Option<f64>| cores.map_or_else(dash, |cores| format!("{cores:.2}"));
    let mut cells = vec![
        link.ifname.clone().unwrap_or_else(|| "all".into()),
        link.link_speed.map_or_else(dash, speed),
        link.frames.into(),
        link.packets_per_second.map_or_else(dash, output::grouped),
    ];
    cells.extend(link.cores().map(cores));
    cells.push(cores(link.cores_driver));
    cells
}

/// Bits each second as links have them.
fn speed(bits: u64) -> String {
    match bits {
        1_000_000_000.. => format!("{} Gbit/s", bits as f64 / 1e9),
        _ => format!("{} Mbit/s", bits as f64 / 1e6),
    }
}
