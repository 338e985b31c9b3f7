//! `forwarder report peering`

use anyhow::Result;
use clap::Args;
use forwarder_history::{
    plot::{Bar, Chart, Group, rate},
    report::{
        calendar::Month,
        names::asn,
        p95::TOP,
        peering::{Question, Report, Row, peering},
    },
};

use super::{Common, Desk, about, gaps, notes, percent, some, way};
use crate::cli::output::{self, Paint, octets, or_dash};

/// What can be asked.
#[derive(Debug, Args)]
pub struct Words {
    /// The network, as AS64500; without it the largest ones
    #[arg(value_name = "AS", value_parser = network)]
    network: Option<u32>,
    /// The month, as 2026-02 [default: this one]
    #[arg(long, value_name = "MONTH")]
    month: Option<Month>,
    /// How many of the largest
    #[arg(long, value_name = "N", default_value_t = TOP, value_parser = some)]
    top: usize,
    #[command(flatten)]
    common: Common,
}

fn network(text: &str) -> Result<u32, String> {
    asn(text).ok_or_else(|| format!("`{text}` is no AS number: write AS64500"))
}

/// Prints it.
pub fn run(words: &Words) -> Result<()> {
    let desk = words.common.desk()?;
    let question = Question {
        asn: words.network,
        top: words.top,
    };
    let period = desk.period(words.month);
    let report = peering(&desk.reader, &question, &period, &desk.zone, desk.now)?;
    words.common.draw(|| picture(&report, &desk, words))?;
    if words.common.rows(&report.rows)? {
        return Ok(());
    }
    let columns = [
        ("network", false),
        ("by", false),
        ("over", false),
        ("", false),
        ("p95", true),
        ("peak", true),
        ("bytes", true),
        ("over carriers", true),
        ("share", true),
        ("carriers' p95", true),
        ("without", true),
    ];
    let cells = |row: &Row| {
        vec![
            format!("AS{}", row.asn),
            row.by.to_string(),
            or_dash(row.ifname.as_deref()),
            way(row.direction),
            rate(row.p95),
            rate(row.peak),
            octets(row.bytes),
            row.carrier_bytes.map_or("-".to_string(), octets),
            percent(row.share_percent),
            row.carrier_p95.map_or("-".to_string(), rate),
            row.carrier_p95_without.map_or("-".to_string(), rate),
        ]
    };
    let mut text = about(&report.samples, &desk);
    text += "in: from the network; out: to it; over carriers and the share: what carriers sent to it, of all that they sent (or of what the \
             interface named did). By which interface packets from a network come in is not counted.\n\n";
    text += &output::table(&columns, report.rows.iter().map(cells), Paint::stdout());
    for unknown in &report.unknown {
        text += &format!(
            "\nof no {} that is known (connected, static or local): {} in, {} out\n",
            unknown.by,
            octets(unknown.bytes_in),
            octets(unknown.bytes_out)
        );
    }
    if words.network.is_some() && !report.by_interface {
        text += "\nby which interface it goes is not in the history\n";
    }
    output::print(&(text + &gaps(&report.samples, &desk)))
}

fn picture(report: &Report, desk: &Desk, words: &Words) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for row in &report.rows {
        let over = row
            .ifname
            .as_ref()
            .map_or(String::new(), |ifname| format!(" over {ifname}"));
        let name = format!("AS{} ({}){over}", row.asn, row.by);
        let bar = Bar {
            name: way(row.direction),
            value: row.p95 as f64,
            label: match row.share_percent {
                Some(share) => format!("{}, {share:.1} %", rate(row.p95)),
                None => rate(row.p95),
            },
        };
        match groups.last_mut().filter(|group| group.name == name) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group {
                name,
                bars: vec![bar],
            }),
        }
    }
    let what = words.network.map_or("The largest networks".to_string(), |asn| {
        format!("Peering with AS{asn}")
    });
    Chart {
        title: format!("{what}: 95th percentile, {}", report.samples.period.name),
        notes: notes(&report.samples, desk),
        groups,
    }
    .svg()
}
