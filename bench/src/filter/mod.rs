//! `filter`: what refusing packets costs. Three measurements of the real program on one router:
//!
//! ```text
//! replace  a FlowSpec neighbour's 1,000 rules for 1,000 others, by the controller's own functions
//! rules    harness -> the program, with sets of 0 to 1,000 rules in force in turns
//! flood    live frames from spoofed sources -> XDP_DROP | nftables | rp_filter | the program, all on one CPU
//! ```

mod flood;
mod replace;
mod rules;

use anyhow::{Context, Result};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use forwarder::dataplane::program::XDP;
use serde::Serialize;
use xtask::bench::{Options, Tables};

use crate::inside;
use crate::object::{Object, Room};
use crate::report;
use crate::router::Router;
use crate::run;
use crate::table::{Family, Table};
use forwarder_history::plot::{Chart, Group};

/// Prefixes of each table: what is measured stands in front of the look-up.
const PREFIXES: usize = 4_096;

/// What `--only` may name.
const PARTS: [&str; 3] = ["replace", "rules", "flood"];

/// A row.
#[derive(Serialize)]
#[serde(untagged)]
enum Row {
    Replace(replace::Row),
    Rules(rules::Row),
    Flood(flood::Row),
}

/// Runs the bench and prints what it found.
///
/// # Errors
/// A packet is not treated as it should be, or something is missing.
pub fn bench(options: &Options) -> Result<()> {
    let words = || options.only.split_whitespace();
    let named = words().any(|word| PARTS.contains(&word));
    let wants = |part: &str| !named || words().any(|word| word == part);
    let tables = Table::both(&Tables {
        mrt: None,
        table_v4: None,
        table_v6: None,
        prefixes_v4: PREFIXES,
        prefixes_v6: PREFIXES,
    })?;
    let router = Router::with_routes(&tables)?;
    router.route_back()?;
    let (mut controller, _) = inside::start(&router)?;
    let mut shipped = Xdp::from_pin(router.pins.programs().join(XDP), XdpAttachType::Interface)
        .context("cannot open forwarder's pinned program")?;
    let mut object = Object::load(&router.pins, &tables, Room::None)?;
    let cpu = run::pin(options.cpu)?;
    let method = report::surroundings(&tables, Some(cpu));
    let mut rows = Vec::new();
    let mut groups = Vec::new();
    if wants("replace") {
        let row = replace::measure(options, &router, &shipped, &mut controller)?;
        replace::show(options, &method, &row)?;
        rows.push(Row::Replace(row));
    }
    if wants("rules") {
        let mut arena = rules::Arena::open(&router, controller.engine.view(), &shipped, &mut object)?;
        let found = rules::measure(options, &mut arena, &tables)?;
        rules::show(options, &method, &found)?;
        groups.extend(Family::ALL.map(|family| Group {
            name: format!("{family} rules"),
            bars: found.bars(family),
        }));
        rows.extend(found.rows.into_iter().map(Row::Rules));
    }
    // From now on the ingress interface carries whatever is being measured.
    drop(controller);
    router.detach()?;
    if wants("flood") {
        let found = flood::measure(options, &router, &mut shipped, &mut object, &tables[0])?;
        flood::show(options, &method, &found)?;
        groups.push(Group {
            name: "spoofed flood".to_owned(),
            bars: flood::bars(&found.rows),
        });
        rows.extend(found.rows.into_iter().map(Row::Flood));
    }
    if options.json {
        report::print(true, &rows, "", &[], &[], |_| Vec::new())?;
    }
    let chart = Chart {
        title: "Filters, on one CPU: nanoseconds a packet of 64 octets".to_owned(),
        notes: method,
        groups,
    };
    report::plot(options, "filter", &chart)
}

/// Prints one of the tables; JSON comes at the end, as one array.
fn print<R: Serialize>(
    options: &Options,
    rows: &[R],
    title: &str,
    method: &[String],
    columns: &[&str],
    cells: impl Fn(&R) -> Vec<String>,
) -> Result<()> {
    for line in method {
        eprintln!("filter: {line}");
    }
    if options.json {
        return Ok(());
    }
    report::print(false, rows, title, method, columns, cells)?;
    println!();
    Ok(())
}

/// Whether a figure is what it should be, in words.
fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
