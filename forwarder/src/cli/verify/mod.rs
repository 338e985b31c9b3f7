//! `forwarder verify`: every prefix of data path and kernel, and whether both do the same with it.
//!
//! The kernel is asked for an address that each prefix alone decides, pipelined; the data path's answer is read from its tables by
//! the program's own walk. Routes change while this runs: what differs is asked again before it is called a difference.

mod witness;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Serialize;

use self::witness::witnesses;
use super::{
    lookup::interface_names,
    output::{self, Paint, grouped},
    progress,
    reader::Reader,
};
use crate::{
    dataplane::Tables,
    netlink::{
        dump::{self, Family},
        lookup::{RouteQuery, route_get_many},
    },
    shadow::agreement::{self, Agreement},
    stats::{path::Paths, prefixes},
};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    /// The prefix.
    prefix: String,
    /// An address of it, which both were asked for.
    address: String,
    /// What the data path does.
    data_path: String,
    /// What the kernel does.
    kernel: String,
    /// Why that is not the same.
    why: String,
}

/// How long what differs gets before it is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Outcome {
    same: u64,
    left: u64,
    backup: u64,
    differ: Vec<(IpAddr, IpNet)>,
    differences: Vec<Difference>,
}

/// Prints the differences; "no" when there are any.
pub fn verify(reader: &Reader, json: bool) -> Result<bool> {
    let begun = Instant::now();
    let tables = reader.tables()?;
    let asked = questions(&tables)?;
    let mut outcome = compare(&tables, &asked)?;
    if !outcome.differ.is_empty() {
        std::thread::sleep(AGAIN_AFTER);
        let again = compare(&tables, &outcome.differ)?;
        outcome.same += again.same;
        outcome.left += again.left;
        outcome.backup += again.backup;
        outcome.differences = again.differences;
    }
    let differences = outcome.differences;
    let equal = differences.is_empty();
    let paint = Paint::stdout();
    if json {
        output::print_json(&differences)?;
    } else {
        if !equal {
            let columns = [
                ("prefix", false),
                ("data path", false),
                ("kernel", false),
                ("why", false),
            ];
            let rows = differences.iter().map(|difference| {
                vec![
                    difference.prefix.clone(),
                    difference.data_path.clone(),
                    difference.kernel.clone(),
                    difference.why.clone(),
                ]
            });
            output::print(&output::table(&columns, rows, paint))?;
        }
        let differ = format!("{} differ", grouped(differences.len() as u64));
        output::print(&format!(
            "{} addresses asked in {:.1} s: {} the same, {} left to the kernel, {} on their backup, {}\n",
            grouped(asked.len() as u64),
            begun.elapsed().as_secs_f64(),
            grouped(outcome.same),
            grouped(outcome.left),
            grouped(outcome.backup),
            if equal {
                paint.good(&differ)
            } else {
                paint.bad(&differ)
            }
        ))?;
    }
    Ok(equal)
}

/// An address for every prefix on either side, one that no longer prefix decides.
fn questions(tables: &Tables) -> Result<Vec<(IpAddr, IpNet)>> {
    let line = progress::line("reading prefixes", None);
    let mut all: Vec<IpNet> = Vec::new();
    for (_, prefix, _) in prefixes::laid(tables) {
        all.push(prefix);
        line.inc(1);
    }
    for family in Family::ALL {
        dump::dump_routes(family, dump::EVERY_TABLE, &mut |route| {
            all.push(route.prefix.trunc());
            line.inc(1);
        })
        .context("cannot read the kernel's routes")?;
    }
    line.finish_and_clear();
    Ok(witnesses(all))
}

fn compare(tables: &Tables, asked: &[(IpAddr, IpNet)]) -> Result<Outcome> {
    let names = interface_names()?;
    let ifname = |ifindex: u32| {
        names
            .get(&ifindex)
            .cloned()
            .unwrap_or_else(|| format!("if{ifindex}"))
    };
    let mut paths = Paths::new(tables);
    let mut outcome = Outcome::default();
    let line = progress::line("comparing", Some(asked.len() as u64));
    let queries = asked.iter().map(|(address, _)| RouteQuery::matching(*address));
    let answers = route_get_many(queries).context("cannot ask the kernel")?;
    for (answer, (address, prefix)) in answers.zip(asked) {
        let (_, answer) = answer.context("the kernel stopped answering")?;
        let decision = paths.decide(*address);
        match agreement::compare(*address, &decision, &answer) {
            Agreement::Same => outcome.same += 1,
            Agreement::Punt => outcome.left += 1,
            Agreement::Backup => outcome.backup += 1,
            Agreement::Differs(why) => {
                outcome.differ.push((*address, *prefix));
                outcome.differences.push(Difference {
                    prefix: prefix.to_string(),
                    address: address.to_string(),
                    data_path: agreement::decision_text(&decision),
                    kernel: agreement::answer_text(&answer, &ifname),
                    why,
                });
            }
        }
        line.inc(1);
    }
    line.finish_and_clear();
    Ok(outcome)
}
