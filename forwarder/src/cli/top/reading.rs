//! One reading of everything that the screen shows: from the controller, or from the pinned maps where none runs.

use anyhow::{Context, Result};
use hyper::body::Bytes;
use ipnet::IpNet;
use serde::de::DeserializeOwned;

use super::{
    past::{DAY, Past},
    rates::Listing,
};
use crate::{
    cli::{
        client::Refused,
        reader::{Reader, link_stats},
    },
    clock::{monotonic_ns, unix_seconds},
    dataplane::Tables,
    stats::{
        self, By, CandidateRow, CounterRow, DropRow, InterfaceRow, RouteRow, Routes, RuleRow, StatusRow,
        rates::RateRow, routes::Selection, status::Now,
    },
};

/// Prefixes or networks in a listing.
const MOST: usize = 1000;

/// Everything, within a moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When, in seconds of a clock that does not jump.
    pub at: f64,
    /// Health.
    pub status: StatusRow,
    /// Interfaces.
    pub interfaces: Listing<InterfaceRow>,
    /// What was passed, dropped, lost.
    pub drops: Listing<DropRow>,
    /// Next hops, idle ones too.
    pub next_hops: Listing<CounterRow>,
    /// Prefixes.
    pub prefixes: Destinations,
    /// The ASes that they come from.
    pub networks: Destinations,
    /// Accounts; none where none are configured.
    pub accounts: Listing<CounterRow>,
    /// Filter rules; `None` where no controller runs.
    pub rules: Option<Listing<RuleRow>>,
    /// The prefix that somebody looks at.
    pub detail: Option<Detail>,
}

/// One prefix.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Which.
    pub prefix: IpNet,
    /// What is laid: a row for each next hop.
    pub routes: Listing<RouteRow>,
    /// Every source's route, the best first; `None` where no controller runs.
    pub candidates: Option<Vec<CandidateRow>>,
    /// What the history says of its past day.
    pub past: Past,
}

/// What is not asked for anew each time: the past changes every five minutes.
#[derive(Default)]
pub struct Kept {
    past: Option<(IpNet, f64, Past)>,
}

/// Seconds after which the past is asked for again.
const AGAIN: f64 = 60.0;

/// Reads it all, and of a prefix what is known of it.
///
/// # Errors
/// Neither a controller nor maps; or an answer that cannot be read.
pub fn read(reader: &Reader, prefix: Option<IpNet>, kept: &mut Kept) -> Result<Reading> {
    let at = seconds();
    let status = listing(reader, "/v1/status", |tables| {
        let interfaces = stats::interfaces(tables, &Default::default(), &link_stats());
        vec![stats::status(tables, None, &interfaces, Now::read())]
    })?;
    Ok(Reading {
        at,
        status: status.rows.into_iter().next().context("a status without a row")?,
        interfaces: listing(reader, "/v1/interfaces", |tables| {
            stats::interfaces(tables, &Default::default(), &link_stats())
        })?,
        drops: listing(reader, "/v1/drops", |tables| stats::drops(tables, false))?,
        next_hops: listing(reader, "/v1/counters?by=next-hop&all=true", |tables| {
            stats::counters(tables, By::NextHop, None, true)
        })?,
        prefixes: destinations(reader, By::Prefix)?,
        networks: destinations(reader, By::OriginAs)?,
        accounts: accounts(reader)?,
        rules: known(reader, "/v1/filter")?,
        detail: prefix.map(|prefix| detail(reader, prefix, kept)).transpose()?,
    })
}

/// Where packets go.
#[derive(Clone, Debug)]
pub enum Destinations {
    /// As the controller has measured it, of all that there are.
    Rates(Vec<RateRow>),
    /// Without one: those that have counted most since they were laid. One that has just begun may not be among them.
    Counted(Listing<CounterRow>),
}

fn destinations(reader: &Reader, by: By) -> Result<Destinations> {
    let path = format!("/v1/top?by={}&top={MOST}", by.name());
    match reader.ask_controller(&path)? {
        Some(body) => rows(&body).map(Destinations::Rates),
        None => {
            let tables = reader.tables()?;
            timed(|| Ok(stats::counters(&tables, by, Some(MOST), false))).map(Destinations::Counted)
        }
    }
}

/// What accounts have counted. Where there are none the controller refuses to list them.
fn accounts(reader: &Reader) -> Result<Listing<CounterRow>> {
    let path = "/v1/counters?by=account&all=true";
    timed(|| match reader.ask_controller(path) {
        Ok(Some(body)) => rows(&body),
        Ok(None) => {
            let tables = reader.tables()?;
            Ok(match By::Account.missing(&tables) {
                Some(_) => Vec::new(),
                None => stats::counters(&tables, By::Account, None, true),
            })
        }
        Err(why) if why.is::<Refused>() => Ok(Vec::new()),
        Err(why) => Err(why),
    })
}

/// A prefix's past day, asked for once a minute.
fn past(reader: &Reader, prefix: IpNet, kept: &mut Kept) -> Result<Past> {
    if let Some((of, at, past)) = &kept.past
        && *of == prefix
        && seconds() - at < AGAIN
    {
        return Ok(past.clone());
    }
    let until = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
    let path = format!(
        "/v1/history?of=prefix&name={prefix}&from={}&to={until}&points=288",
        until - DAY
    );
    let past = match reader.ask_controller(&path) {
        Ok(Some(body)) => Past::Samples {
            until,
            rows: rows(&body)?,
        },
        Ok(None) => Past::Nothing("only a running controller tells it here".into()),
        Err(why) => match why.downcast::<Refused>() {
            Ok(Refused(why)) => Past::Nothing(why),
            Err(why) => return Err(why),
        },
    };
    kept.past = Some((prefix, seconds(), past.clone()));
    Ok(past)
}

/// What is laid for a prefix, and what every source says of it.
fn detail(reader: &Reader, prefix: IpNet, kept: &mut Kept) -> Result<Detail> {
    // The listing begins with the prefix itself, and its more specific ones may be a whole table.
    let mut routes = listing(reader, &format!("/v1/routes?prefix={prefix}&limit=1"), |tables| {
        Routes::new(tables, Selection::Within(prefix)).take(1)
    })?;
    let name = prefix.to_string();
    routes.rows.retain(|row: &RouteRow| row.prefix == name);
    let candidates = known(reader, &format!("/v1/candidates?prefix={prefix}"))?;
    Ok(Detail {
        prefix,
        routes,
        candidates: candidates.map(|listing| listing.rows),
        past: past(reader, prefix, kept)?,
    })
}

/// Rows from the controller, or worked out from the maps.
fn listing<T: DeserializeOwned>(
    reader: &Reader,
    path: &str,
    work: impl FnOnce(&Tables) -> Vec<T>,
) -> Result<Listing<T>> {
    timed(|| match reader.ask_controller(path)? {
        Some(body) => rows(&body),
        None => Ok(work(&reader.tables()?)),
    })
}

/// Rows that only a controller knows; `None` where none runs, or it has no time to say.
fn known<T: DeserializeOwned>(reader: &Reader, path: &str) -> Result<Option<Listing<T>>> {
    match reader.ask_controller(path) {
        Ok(None) => Ok(None),
        Ok(Some(body)) => timed(|| rows(&body)).map(Some),
        Err(why) if why.is::<Refused>() => Ok(None),
        Err(why) => Err(why),
    }
}

fn rows<T: DeserializeOwned>(body: &Bytes) -> Result<Vec<T>> {
    serde_json::from_slice(body)
        .context("the controller's answer cannot be read: is it of another version than this program?")
}

/// The moment of a listing is the middle of its question and answer.
fn timed<T>(read: impl FnOnce() -> Result<Vec<T>>) -> Result<Listing<T>> {
    let asked = seconds();
    let rows = read()?;
    Ok(Listing {
        at: f64::midpoint(asked, seconds()),
        rows,
    })
}

fn seconds() -> f64 {
    monotonic_ns() as f64 / 1e9
}
