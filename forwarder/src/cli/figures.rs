//! Readers that are a table: interfaces, drops, counters, routes.

use anyhow::{Result, bail};

use super::{
    candidates,
    filter::words::bits,
    output::{self, Paint, grouped, octets, or_dash},
    reader::{Figures, Reader, link_stats},
};
use crate::stats::{self, By, CounterRow, DropRow, InterfaceRow, RouteRow, Routes, json, routes::Selection};

/// `forwarder interfaces`
pub fn interfaces(reader: &Reader, json: bool) -> Result<bool> {
    let figures = reader.fetch("/v1/interfaces", |tables| {
        stats::interfaces(tables, &Default::default(), &link_stats())
    })?;
    if json {
        figures.print_json()?;
        return Ok(true);
    }
    let columns = [
        ("ifname", false),
        ("role", false),
        ("mode", false),
        ("received", true),
        ("bytes", true),
        ("forwarded", true),
        ("passed", true),
        ("dropped", true),
        ("sent", true),
        ("lost", true),
        ("open in", true),
        ("open out", true),
    ];
    let row = |row: InterfaceRow| {
        let residue = |residue: Option<i64>| residue.map_or("-".to_string(), |packets| packets.to_string());
        vec![
            row.ifname,
            or_dash(row.role.as_deref()),
            row.mode,
            grouped(row.received_packets),
            octets(row.received_bytes),
            grouped(row.forwarded_packets),
            grouped(row.passed_packets),
            grouped(row.dropped_packets),
            grouped(row.sent_packets),
            grouped(row.redirect_errors + row.transmit_errors),
            residue(row.ingress_residue),
            residue(row.egress_residue),
        ]
    };
    let rows: Vec<_> = figures.rows()?.into_iter().map(row).collect();
    output::print(&output::table(&columns, rows, Paint::stdout()))?;
    Ok(true)
}

/// `forwarder drops`
pub fn drops(reader: &Reader, all: bool, json: bool) -> Result<bool> {
    let figures = reader.fetch(&format!("/v1/drops?all={all}"), |tables| {
        stats::drops(tables, all)
    })?;
    if json {
        figures.print_json()?;
        return Ok(true);
    }
    let columns = [
        ("ifname", false),
        ("verdict", false),
        ("reason", false),
        ("packets", true),
        ("bytes", true),
        ("what it means", false),
    ];
    let row = |row: DropRow| {
        vec![
            row.ifname,
            row.verdict,
            row.reason,
            grouped(row.packets),
            row.bytes.map_or("-".to_string(), octets),
            row.help,
        ]
    };
    let rows: Vec<_> = figures.rows()?.into_iter().map(row).collect();
    if rows.is_empty() {
        output::print("nothing was dropped, passed to the kernel or lost yet\n")?;
    } else {
        output::print(&output::table(&columns, rows, Paint::stdout()))?;
    }
    Ok(true)
}

/// `forwarder counters`
pub fn counters(reader: &Reader, by: By, top: Option<usize>, all: bool, json: bool) -> Result<bool> {
    let name = by.name();
    let limit = top.map(|top| format!("&top={top}")).unwrap_or_default();
    let path = format!("/v1/counters?by={name}&all={all}{limit}");
    let figures = reader.fetch(&path, |tables| stats::counters(tables, by, top, all))?;
    if let Figures::Read(_) = figures
        && let Some(why) = by.missing(&reader.tables()?)
    {
        bail!("{why}");
    }
    if json {
        figures.print_json()?;
        return Ok(true);
    }
    let rows = figures.rows()?;
    if rows.is_empty() {
        output::print("nothing was forwarded yet\n")?;
        return Ok(true);
    }
    let total = rows.iter().map(|row| row.bytes).sum::<u64>().max(1);
    let figures = |row: &CounterRow| {
        vec![
            grouped(row.packets),
            octets(row.bytes),
            format!("{:.1} %", row.bytes as f64 * 100.0 / total as f64),
        ]
    };
    let tail = [("packets", true), ("bytes", true), ("share", true)];
    type Key = fn(&CounterRow) -> Vec<String>;
    let (head, key): (&[output::Column], Key) = match by {
        By::Prefix => (&[("prefix", false)], |row| vec![or_dash(row.prefix.as_deref())]),
        By::SourcePrefix => (&[("from prefix", false)], |row| {
            vec![or_dash(row.prefix.as_deref())]
        }),
        By::AccountPair => (&[("from", false), ("to", false), ("edge", false)], |row| {
            let edge = row
                .outside
                .map(|outside| if outside { "crossed" } else { "inside" });
            vec![
                or_dash(row.from.as_deref()),
                or_dash(row.to.as_deref()),
                or_dash(edge),
            ]
        }),
        By::Account => return accounts(&rows),
        By::Interface => (&[("sent to", false)], |row| vec![or_dash(row.ifname.as_deref())]),
        By::OriginAs => (&[("origin AS", false), ("prefixes", true)], |row| {
            as_cells(&row.origin_as, row)
        }),
        By::NeighbourAs => (&[("neighbour AS", false), ("prefixes", true)], |row| {
            as_cells(&row.neighbour_as, row)
        }),
        By::NextHop => (
            &[
                ("next hop", false),
                ("for", false),
                ("ifname", false),
                ("state", false),
            ],
            |row| {
                vec![
                    or_dash(row.nexthop.as_deref()),
                    or_dash(row.af.as_deref()),
                    or_dash(row.ifname.as_deref()),
                    or_dash(row.state.as_deref()),
                ]
            },
        ),
    };
    let columns = [head, &tail].concat();
    let rows = rows.iter().map(|row| [key(row), figures(row)].concat());
    output::print(&output::table(&columns, rows, Paint::stdout()))?;
    Ok(true)
}

/// `forwarder counters --by account`
fn accounts(rows: &[CounterRow]) -> Result<bool> {
    let columns = [
        ("account", false),
        ("in", true),
        ("out", true),
        ("inside", true),
        ("from accounts", true),
        ("to accounts", true),
        ("from elsewhere", true),
        ("to elsewhere", true),
        ("packets", true),
        ("commit", true),
    ];
    let row = |row: &CounterRow| {
        let figures = row.account.clone().unwrap_or_default();
        let name = match figures.account_state.as_str() {
            "removed" => format!("{} (removed)", figures.account),
            _ => figures.account,
        };
        vec![
            name,
            octets(figures.in_bytes),
            octets(figures.out_bytes),
            octets(figures.inside_bytes),
            octets(figures.from_accounts_bytes),
            octets(figures.to_accounts_bytes),
            octets(figures.from_elsewhere_bytes),
            octets(figures.to_elsewhere_bytes),
            grouped(row.packets),
            figures.commit.map_or("-".into(), |commit| bits(commit / 8)),
        ]
    };
    output::print(&output::table(&columns, rows.iter().map(row), Paint::stdout()))?;
    Ok(true)
}

fn as_cells(number: &Option<String>, row: &CounterRow) -> Vec<String> {
    vec![
        or_dash(number.as_deref()),
        row.prefixes.map_or("-".into(), grouped),
    ]
}

/// Rows in one piece of a printed listing.
const PIECE: usize = 4096;

/// `forwarder routes`
pub fn routes(reader: &Reader, prefix: Option<(String, Selection)>, json: bool) -> Result<bool> {
    let (text, selection) = prefix.unwrap_or((String::new(), Selection::All));
    let mut listing = Listing::default();
    match reader.ask(&format!("/v1/routes?prefix={text}"))? {
        Some(body) if json && text.is_empty() => output::print_bytes(&body)?,
        Some(body) if json => match candidates::ask(reader, &text)? {
            Some(more) => output::print_json(&candidates::together(&body, &more)?)?,
            None => output::print_bytes(&body)?,
        },
        Some(body) => {
            let rows: Vec<RouteRow> = serde_json::from_slice(&body)?;
            drop(body);
            for piece in rows.chunks(PIECE) {
                listing.print(piece)?;
            }
            listing.end(&text)?;
            if !text.is_empty()
                && let Some(body) = candidates::ask(reader, &text)?
            {
                candidates::print(&body)?;
            }
        }
        None => {
            let tables = reader.tables()?;
            let mut routes = Routes::new(&tables, selection);
            let mut encoder = json::Rows::default();
            loop {
                let piece = routes.take(PIECE);
                let mut out = Vec::new();
                match (json, piece.is_empty()) {
                    (true, true) => encoder.end(&mut out)?,
                    (true, false) => encoder.push(&mut out, &piece)?,
                    (false, true) => listing.end(&text)?,
                    (false, false) => listing.print(&piece)?,
                }
                output::print_bytes(&out)?;
                if piece.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(true)
}

/// A table printed piece by piece, its heading once. A column grows when a wider cell comes, and never shrinks.
#[derive(Default)]
struct Listing {
    widths: [usize; COLUMNS.len()],
}

const COLUMNS: [output::Column; 7] = [
    ("prefix", false),
    ("via", false),
    ("ifname", false),
    ("state", false),
    ("protocol", false),
    ("packets", true),
    ("bytes", true),
];

impl Listing {
    fn print(&mut self, rows: &[RouteRow]) -> Result<()> {
        let cells: Vec<[String; COLUMNS.len()]> = rows
            .iter()
            .map(|row| {
                [
                    row.prefix.clone(),
                    or_dash(row.via.as_deref()),
                    or_dash(row.ifname.as_deref()),
                    output::state(&row.state, row.on_backup),
                    if row.counting {
                        format!("{} (counted)", row.protocol)
                    } else {
                        row.protocol.clone()
                    },
                    row.packets.map_or(String::new(), grouped),
                    row.bytes.map_or(String::new(), octets),
                ]
            })
            .collect();
        let heading = COLUMNS.map(|(name, _)| name.to_string());
        let first = self.widths[0] == 0;
        for row in cells.iter().chain([&heading]) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let mut text = String::new();
        if first {
            text = format!("{}\n", Paint::stdout().bold(self.line(&heading).trim_end()));
        }
        for row in &cells {
            text += self.line(row).trim_end();
            text.push('\n');
        }
        output::print(&text)
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, figures)) in row.iter().zip(self.widths).zip(COLUMNS) {
            let blanks = " ".repeat(width - cell.len());
            let (before, after) = if figures {
                (blanks, String::new())
            } else {
                (String::new(), blanks)
            };
            line += &before;
            line += cell;
            line += &after;
            line += "  ";
        }
        line
    }

    fn end(&self, asked: &str) -> Result<()> {
        if self.widths[0] > 0 {
            return Ok(());
        }
        let what = match asked {
            "" => "the table is empty".to_string(),
            asked => format!("no prefix for {asked}"),
        };
        output::print(&format!("{what}\n"))
    }
}
