//! The rows of `forwarder report`, made by the same code from the controller's own history.
//!
//! The command reads the files itself, however long that takes. Here somebody waits for an answer and others for their turn, so what is
//! looked through for one answer has a limit (`history`): accounts, interfaces and carriers of a year are far below it, and the largest
//! of a million prefixes above.

use axum::{extract::State as Shared, http::StatusCode, response::Response};
use forwarder_history::{
    Reader,
    report::{
        calendar::{Month, Period, Zone},
        capacity, commit,
        names::{By, Traffic, asn},
        p95, peering,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    ApiContext,
    handlers::{Server, refused},
    history::{Refusal, answer, directory, open},
    question::{Asked, Query},
};
use crate::{clock::unix_seconds, config::bits_per_second};

/// Rows of the largest prefixes or networks at most: each is a curve of a month.
pub(super) const TOP_MOST: usize = 100;
/// Months in one answer at most.
const MONTHS_MOST: i64 = 13;
/// Times below a contract at most.
pub(super) const LONGEST_MOST: usize = 1_000;
/// Days back at most.
pub(super) const DAYS_MOST: u32 = 3_660;

/// What a report is made from.
struct Desk {
    reader: Reader,
    zone: Zone,
    now: i64,
}

impl Desk {
    fn open(context: &ApiContext, zone: Option<&str>) -> Result<Desk, Refusal> {
        Ok(Desk {
            zone: Zone::of(zone.unwrap_or("UTC"))?,
            reader: open(&directory(context)?)?,
            now: i64::try_from(unix_seconds()).unwrap_or(i64::MAX),
        })
    }

    /// A month, or this one.
    fn period(&self, month: Option<Month>) -> Period {
        month
            .unwrap_or_else(|| Month::at(&self.zone, self.now))
            .period(&self.zone)
    }
}

/// A word of a question, read as the command reads it.
fn word<T: std::str::FromStr<Err = String>>(word: Option<&str>) -> Result<Option<T>, Refusal> {
    word.map(str::parse).transpose().map_err(Refusal::Question)
}

fn rate(word: Option<&str>) -> Result<Option<u64>, Refusal> {
    word.map(bits_per_second).transpose().map_err(Refusal::Question)
}

fn up_to(what: &str, number: usize, most: usize) -> Result<usize, Refusal> {
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(Refusal::Question(format!("{what} may be from 1 to {most}")))
}

/// What is given for one name needs the name.
fn of_one(name: Option<&String>, what: &str, rate: Option<u64>) -> Result<Vec<(String, u64)>, Refusal> {
    match (name, rate) {
        (_, None) => Ok(Vec::new()),
        (Some(name), Some(rate)) => Ok(vec![(name.clone(), rate)]),
        (None, Some(_)) => Err(Refusal::Question(format!("{what} goes with name"))),
    }
}

/// Answers with rows, or with why there are none.
async fn rows<Q: Send + 'static, T: Serialize + Send + 'static>(
    server: Server,
    query: Asked<Q>,
    report: fn(&ApiContext, &Q) -> Result<Vec<T>, Refusal>,
) -> Response {
    match query {
        Ok(Query(query)) => {
            server
                .rows_or(move |context| report(context, &query), answer)
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why.text()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct P95Query {
    by: Option<String>,
    name: Option<String>,
    month: Option<String>,
    time_zone: Option<String>,
    traffic: Option<String>,
    top: Option<usize>,
}

pub(super) async fn p95(Shared(server): Shared<Server>, query: Asked<P95Query>) -> Response {
    rows(server, query, |context, query| {
        let question = p95::Question {
            by: word(query.by.as_deref())?.unwrap_or(By::Account),
            names: query.name.clone().into_iter().collect(),
            top: Some(up_to("top", query.top.unwrap_or(p95::TOP), TOP_MOST)?),
            traffic: word(query.traffic.as_deref())?.unwrap_or(Traffic::Outside),
        };
        let month = word(query.month.as_deref())?;
        let desk = Desk::open(context, query.time_zone.as_deref())?;
        let report = p95::p95(&desk.reader, &question, &desk.period(month), &desk.zone, desk.now)?;
        Ok(report.rows)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitQuery {
    by: Option<String>,
    name: Option<String>,
    commit: Option<String>,
    month: Option<String>,
    until: Option<String>,
    time_zone: Option<String>,
    longest: Option<usize>,
}

fn committed(context: &ApiContext, query: &CommitQuery) -> Result<commit::Report, Refusal> {
    let by = query.by.as_deref().map(commit::by).transpose();
    let by = by.map_err(Refusal::Question)?.unwrap_or(By::Carrier);
    let contracted = rate(query.commit.as_deref())?;
    let month = word(query.month.as_deref())?;
    let until: Option<Month> = word(query.until.as_deref())?;
    if until.is_some() && month.is_none() {
        return Err(Refusal::Question("until goes with month".into()));
    }
    let longest = up_to("longest", query.longest.unwrap_or(commit::LONGEST), LONGEST_MOST)?;
    let desk = Desk::open(context, query.time_zone.as_deref())?;
    let (from, to) = commit::months(month, until, Month::at(&desk.zone, desk.now));
    let question = commit::Question {
        by,
        names: query.name.clone().into_iter().collect(),
        commits: of_one(query.name.as_ref(), "commit", contracted)?,
        from,
        to,
        longest,
        curves: false,
    };
    let months = question.from.months_to(question.to);
    if months > MONTHS_MOST {
        return Err(Refusal::Question(format!(
            "at most {MONTHS_MOST} months at a time"
        )));
    }
    Ok(commit::commit(&desk.reader, &question, &desk.zone, desk.now)?)
}

pub(super) async fn commit(Shared(server): Shared<Server>, query: Asked<CommitQuery>) -> Response {
    rows(
        server,
        query,
        |context, query| Ok(committed(context, query)?.rows),
    )
    .await
}

pub(super) async fn shortfalls(Shared(server): Shared<Server>, query: Asked<CommitQuery>) -> Response {
    rows(server, query, |context, query| {
        Ok(committed(context, query)?.shortfalls)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CapacityQuery {
    name: Option<String>,
    speed: Option<String>,
    share: Option<f64>,
    days: Option<u32>,
    time_zone: Option<String>,
}

pub(super) async fn capacity(Shared(server): Shared<Server>, query: Asked<CapacityQuery>) -> Response {
    rows(server, query, |context, query| {
        let percent = query.share.unwrap_or(capacity::PERCENT);
        if !(percent > 0.0 && percent <= 100.0) {
            return Err(Refusal::Question(
                "share is percent: above 0 and up to 100".into(),
            ));
        }
        let days = query.days.unwrap_or(capacity::DAYS);
        up_to("days", days as usize, DAYS_MOST as usize)?;
        let question = capacity::Question {
            names: query.name.clone().into_iter().collect(),
            speeds: of_one(query.name.as_ref(), "speed", rate(query.speed.as_deref())?)?,
            bonds: Vec::new(),
            percent,
            days,
        };
        let desk = Desk::open(context, query.time_zone.as_deref())?;
        Ok(capacity::capacity(&desk.reader, &question, &desk.zone, desk.now)?.rows)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeeringQuery {
    asn: Option<String>,
    month: Option<String>,
    top: Option<usize>,
    time_zone: Option<String>,
}

pub(super) async fn peering(Shared(server): Shared<Server>, query: Asked<PeeringQuery>) -> Response {
    rows(server, query, |context, query| {
        let network = query.asn.as_deref().map(|word| {
            asn(word).ok_or_else(|| Refusal::Question(format!("`{word}` is no AS number: write 64500")))
        });
        let question = peering::Question {
            asn: network.transpose()?,
            top: up_to("top", query.top.unwrap_or(p95::TOP), TOP_MOST)?,
        };
        let month = word(query.month.as_deref())?;
        let desk = Desk::open(context, query.time_zone.as_deref())?;
        let period = desk.period(month);
        Ok(peering::peering(&desk.reader, &question, &period, &desk.zone, desk.now)?.rows)
    })
    .await
}
