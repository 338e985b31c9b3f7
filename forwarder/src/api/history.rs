//! Samples of the past, as many as a picture has room for.
//!
//! Each question opens the history anew: it sees what is committed, and holds nothing that could keep old samples from being
//! cleared away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use axum::{extract::State as Shared, http::StatusCode, response::Response};
use forwarder_history::{
    Direction, Error, History, Kind, Reader, Recorded, Series, SeriesId, Which,
    report::{
        Trouble,
        names::{Traffic, accounts},
    },
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ApiContext,
    handlers::{Server, refused},
    question::{Asked, Query},
};
use crate::{clock::unix_seconds, stats::accounts::ELSEWHERE};

/// What was counted in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRow {
    /// When it began, seconds since 1970.
    pub time: i64,
    /// How much of it was watched.
    pub milliseconds: u64,
    /// How many samples it is the sum of.
    pub samples: u64,
    /// Received, or from there, or to an account: packets; null of what has no direction.
    pub in_packets: Option<u64>,
    /// Octets of those.
    pub in_bytes: Option<u64>,
    /// Octets a second of the sample with the most.
    pub in_bytes_per_second_most: Option<u64>,
    /// Sent, or to there, or from an account; of what has no direction, all: packets.
    pub out_packets: u64,
    /// Octets of those.
    pub out_bytes: u64,
    /// Octets a second of the sample with the most.
    pub out_bytes_per_second_most: u64,
}

/// Something that has a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryNameRow {
    /// What it is: "interface", "prefix"...
    pub of: String,
    /// What it is called there.
    pub name: String,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An interface, as its driver counts.
    Interface,
    /// An interface, as the fast path forwards.
    Forwarded,
    /// A prefix.
    Prefix,
    /// The network that prefixes come from.
    OriginAs,
    /// The network that they are heard from.
    NeighbourAs,
    /// A filter rule.
    Rule,
    /// An account with its parts: what crosses the edge.
    Account,
    /// From one account to another, or elsewhere: over the edge and not.
    AccountPair,
}

impl Of {
    /// All.
    pub const ALL: [Of; 8] = [
        Of::Interface,
        Of::Forwarded,
        Of::Prefix,
        Of::OriginAs,
        Of::NeighbourAs,
        Of::Rule,
        Of::Account,
        Of::AccountPair,
    ];

    /// The word in questions.
    pub const fn name(self) -> &'static str {
        match self {
            Of::Interface => "interface",
            Of::Forwarded => "forwarded",
            Of::Prefix => "prefix",
            Of::OriginAs => "origin-as",
            Of::NeighbourAs => "neighbour-as",
            Of::Rule => "rule",
            Of::Account => "account",
            Of::AccountPair => "account-pair",
        }
    }

    /// The kind of its series, one direction of it.
    const fn kind(self) -> Kind {
        match self {
            Of::Interface => Kind::InterfaceOut,
            Of::Forwarded => Kind::ForwardedOut,
            Of::Prefix => Kind::PrefixOut,
            Of::OriginAs => Kind::OriginAsOut,
            Of::NeighbourAs => Kind::NeighbourAsOut,
            Of::Rule => Kind::Rule,
            Of::Account | Of::AccountPair => Kind::AccountOutside,
        }
    }

    /// Its series of this name; of an account there are many.
    fn series(self, name: &str) -> Result<Series, String> {
        let name = match self {
            Of::Prefix => match name.parse::<IpNet>() {
                Ok(prefix) => prefix.trunc().to_string(),
                Err(_) => return Err(format!("{name:?} is no prefix: write 192.0.2.0/24")),
            },
            Of::OriginAs | Of::NeighbourAs => match name.parse::<u32>() {
                Ok(number) => number.to_string(),
                Err(_) => return Err(format!("{name:?} is no number of an AS: write 64500")),
            },
            Of::Interface | Of::Forwarded | Of::Rule | Of::Account | Of::AccountPair => name.to_string(),
        };
        Series::of(self.kind(), &name).ok_or_else(|| format!("{name:?} is no {}", self.name()))
    }
}

impl std::str::FromStr for Of {
    type Err = String;

    fn from_str(word: &str) -> Result<Of, String> {
        let found = Of::ALL.into_iter().find(|of| of.name() == word);
        found.ok_or_else(|| {
            let names = Of::ALL.map(Of::name).join(", ");
            format!("there is no history of {word:?}: ask for one of {names}")
        })
    }
}

/// Names at most in an answer.
const NAMES: usize = 10_000;

/// Samples that are looked through at most for one answer.
const MOST: u64 = 64 << 20;

/// Opens it for one answer.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn open(directory: &Path) -> Result<Reader, Error> {
    Ok(History::open_read(directory)?.limited(MOST))
}

/// What a series is called in questions.
fn called(series: &Series) -> String {
    let account = |name: &str| match name {
        "" => ELSEWHERE.to_string(),
        name => name.to_string(),
    };
    match series {
        Series::Account { from, to, .. } => format!("{} -> {}", account(from), account(to)),
        other => other.name(),
    }
}

/// What has a history of this kind, in order.
///
/// # Errors
/// There is no history, or it cannot be read.
pub fn names(directory: &Path, of: Of) -> Result<Vec<HistoryNameRow>, Error> {
    let reader = open(directory)?;
    let names: BTreeSet<String> = match of {
        Of::Account => {
            let known = match accounts(&reader, &[], Traffic::Outside) {
                Ok(known) => known,
                Err(Trouble::History(error)) => return Err(error),
                // There are none.
                Err(_) => Vec::new(),
            };
            known.into_iter().map(|account| account.name).collect()
        }
        _ => reader.series(of.kind())?.values().map(called).collect(),
    };
    let row = |name| HistoryNameRow {
        of: of.name().into(),
        name,
    };
    Ok(names.into_iter().take(NAMES).map(row).collect())
}

/// A question for samples.
#[derive(Clone, Debug)]
pub struct Question {
    /// Of what.
    pub of: Of,
    /// What it is called.
    pub name: String,
    /// From when, seconds since 1970.
    pub from: i64,
    /// Up to when, not included.
    pub to: i64,
    /// Rows at most.
    pub points: usize,
}

/// Why there are no rows.
#[derive(Debug)]
pub enum Refusal {
    /// The question makes no sense, or nothing is known of that.
    Question(String),
    /// There is nothing of that time.
    Nothing(String),
    /// The history cannot be read.
    History(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::TooMuch { .. } => Refusal::Question(format!(
                "{error}; `forwarder report` reads the files itself, and has no such limit"
            )),
            other => Refusal::History(other),
        }
    }
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Refusal {
        match trouble {
            Trouble::History(error) => error.into(),
            Trouble::Nothing { .. } | Trouble::TooShort { .. } | Trouble::Future(_) => {
                Refusal::Nothing(trouble.to_string())
            }
            Trouble::Zone(_) | Trouble::Unknown { .. } | Trouble::Question(_) => {
                Refusal::Question(trouble.to_string())
            }
        }
    }
}

/// Samples, added up to at most so many rows of equal length. Where nothing was watched there is no row.
///
/// # Errors
/// What is wrong with the question, or with the history.
pub fn rows(directory: &Path, question: &Question) -> Result<Vec<HistoryRow>, Refusal> {
    let reader = open(directory)?;
    let about = about(&reader, question)?;
    let intervals = reader.intervals(question.from, question.to)?;
    let way = |direction| {
        let series = about.series.iter().filter(|(_, way)| *way == direction);
        samples(&reader, series.map(|(series, _)| *series), &intervals)
    };
    let sent = way(Direction::Out)?;
    let received = about.directed.then(|| way(Direction::In)).transpose()?;
    Ok(added_up(question, &intervals, received.as_ref(), &sent))
}

/// What a question is about.
struct About {
    /// Series, and the direction that each is in. What has no direction is out.
    series: Vec<(SeriesId, Direction)>,
    directed: bool,
}

fn about(reader: &Reader, question: &Question) -> Result<About, Refusal> {
    let of = question.of;
    let unknown = || {
        Refusal::Question(format!(
            "{0} {1} has no history: /v1/history/names?of={0} tells what has",
            of.name(),
            question.name
        ))
    };
    let (series, directed) = match of {
        Of::Account => {
            let named = accounts(reader, std::slice::from_ref(&question.name), Traffic::Outside)?;
            let series = named.into_iter().flat_map(|account| account.target.series);
            (series.collect(), true)
        }
        Of::AccountPair => {
            let known = reader.series(of.kind())?;
            let found = known
                .into_iter()
                .find(|(_, series)| called(series) == question.name);
            let (id, _) = found.ok_or_else(unknown)?;
            let kinds = [Kind::AccountOutside, Kind::AccountInside];
            let series = kinds.map(|kind| (SeriesId::new(kind, id), Direction::Out));
            (series.into(), false)
        }
        _ => {
            let series = of.series(&question.name).map_err(Refusal::Question)?;
            let id = reader.find(&series)?.ok_or_else(unknown)?;
            let (into, out) = (id.towards(Direction::In), id.towards(Direction::Out));
            let series = [(out, Direction::Out), (into, Direction::In)];
            let directed = into != out;
            (series[..1 + usize::from(directed)].to_vec(), directed)
        }
    };
    Ok(About { series, directed })
}

/// Packets and octets by the number of the interval.
type Samples = BTreeMap<i64, (u64, u64)>;

/// The sums of these series.
fn samples(
    reader: &Reader,
    series: impl Iterator<Item = SeriesId>,
    intervals: &[Recorded],
) -> Result<Samples, Error> {
    let mut found = Samples::new();
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else {
        return Ok(found);
    };
    let mut kinds: BTreeMap<Kind, BTreeSet<u32>> = BTreeMap::new();
    for series in series {
        kinds.entry(series.kind()).or_default().insert(series.id());
    }
    for (kind, ids) in kinds {
        let ids: Vec<u32> = ids.into_iter().collect();
        reader.read(kind, Which::Only(&ids), first.seq..=last.seq, |value| {
            let sum = found.entry(value.seq).or_default();
            sum.0 = sum.0.saturating_add(value.packets);
            sum.1 = sum.1.saturating_add(value.bytes);
        })?;
    }
    Ok(found)
}

fn added_up(
    question: &Question,
    intervals: &[Recorded],
    received: Option<&Samples>,
    sent: &Samples,
) -> Vec<HistoryRow> {
    let span = question.to.saturating_sub(question.from).max(1);
    let points = i64::try_from(question.points.max(1)).unwrap_or(i64::MAX);
    let step = (span / points + i64::from(span % points != 0)).max(1);
    let mut rows: BTreeMap<i64, HistoryRow> = BTreeMap::new();
    for interval in intervals {
        // One that began before is in the first row.
        let place = (interval.start - question.from).max(0) / step;
        let row = rows.entry(place).or_insert_with(|| HistoryRow {
            time: interval.start,
            in_packets: received.map(|_| 0),
            in_bytes: received.map(|_| 0),
            in_bytes_per_second_most: received.map(|_| 0),
            ..HistoryRow::default()
        });
        row.time = row.time.min(interval.start);
        row.milliseconds += interval.milliseconds;
        row.samples += 1;
        let rate = |bytes: u64| {
            let each = u128::from(bytes) * 1_000 / u128::from(interval.milliseconds.max(1));
            u64::try_from(each).unwrap_or(u64::MAX)
        };
        // An interval without a sample is one in which nothing was counted.
        let (packets, bytes) = sent.get(&interval.seq).copied().unwrap_or_default();
        row.out_packets += packets;
        row.out_bytes += bytes;
        row.out_bytes_per_second_most = row.out_bytes_per_second_most.max(rate(bytes));
        if let Some(received) = received {
            let (packets, bytes) = received.get(&interval.seq).copied().unwrap_or_default();
            row.in_packets = row.in_packets.map(|sum| sum + packets);
            row.in_bytes = row.in_bytes.map(|sum| sum + bytes);
            let most = row.in_bytes_per_second_most;
            row.in_bytes_per_second_most = most.map(|most| most.max(rate(bytes)));
        }
    }
    rows.into_values().collect()
}

/// Rows at most in an answer, and those without a word about it.
pub(super) const POINTS_MOST: usize = 10_000;
const POINTS: usize = 1_000;
/// What is asked for without a word about it: the day before now.
const SPAN: i64 = 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamesQuery {
    of: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    of: String,
    name: String,
    from: Option<i64>,
    to: Option<i64>,
    points: Option<usize>,
}

impl HistoryQuery {
    fn question(self, now: i64) -> Result<Question, String> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or_else(|| to.saturating_sub(SPAN));
        let points = self.points.unwrap_or(POINTS);
        if from >= to {
            return Err("from must be before to, both in seconds since 1970".into());
        }
        if !(1..=POINTS_MOST).contains(&points) {
            return Err(format!("points may be from 1 to {POINTS_MOST}"));
        }
        Ok(Question {
            of: self.of.parse()?,
            name: self.name,
            from,
            to,
            points,
        })
    }
}

/// Where it is; nothing where none is kept.
pub(super) fn directory(context: &ApiContext) -> Result<PathBuf, Refusal> {
    let history = context.state().history;
    if history.directory.is_empty() {
        return Err(Refusal::Question(
            "no history is kept: [history] says so, or the controller has just begun".into(),
        ));
    }
    Ok(history.directory.into())
}

pub(super) fn answer(why: Refusal) -> Response {
    match why {
        Refusal::Question(why) => refused(StatusCode::BAD_REQUEST, why),
        Refusal::Nothing(why) => refused(StatusCode::NOT_FOUND, why),
        Refusal::History(why @ Error::Absent { .. }) => refused(StatusCode::NOT_FOUND, why.to_string()),
        Refusal::History(why) => refused(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
    }
}

pub(super) async fn list(Shared(server): Shared<Server>, query: Asked<NamesQuery>) -> Response {
    let of = match query {
        Ok(Query(NamesQuery { of })) => of.parse::<Of>(),
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
    };
    match of {
        Ok(of) => {
            server
                .rows_or(move |context| Ok(names(&directory(context)?, of)?), answer)
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why),
    }
}

pub(super) async fn samples_of(Shared(server): Shared<Server>, query: Asked<HistoryQuery>) -> Response {
    let question = match query {
        Ok(Query(query)) => {
            let now = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
            query.question(now)
        }
        Err(why) => return refused(StatusCode::BAD_REQUEST, why.text()),
    };
    match question {
        Ok(question) => {
            server
                .rows_or(move |context| rows(&directory(context)?, &question), answer)
                .await
        }
        Err(why) => refused(StatusCode::BAD_REQUEST, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(from: i64, to: i64, points: usize) -> Question {
        Question {
            of: Of::Interface,
            name: "transit0".into(),
            from,
            to,
            points,
        }
    }

    fn intervals(count: i64) -> Vec<Recorded> {
        let interval = |seq| Recorded {
            seq,
            start: 1_000 + seq * 300,
            milliseconds: 300_000,
        };
        (0..count).map(interval).collect()
    }

    #[test]
    fn samples_are_added_up_to_as_many_rows_as_there_is_room_for() {
        let intervals = intervals(10);
        let sent: Samples = (0..10)
            .map(|seq| (seq, (10, 300_000 * (seq as u64 + 1))))
            .collect();
        let received = Samples::from([(3, (7, 600))]);
        let all = added_up(&question(1_000, 4_000, 1_000), &intervals, Some(&received), &sent);
        assert_eq!(all.len(), 10);
        assert_eq!((all[3].in_packets, all[4].in_packets), (Some(7), Some(0)));
        let five = added_up(&question(1_000, 4_000, 5), &intervals, Some(&received), &sent);
        assert_eq!(five.len(), 5);
        assert_eq!(
            five[0],
            HistoryRow {
                time: 1_000,
                milliseconds: 600_000,
                samples: 2,
                in_packets: Some(0),
                in_bytes: Some(0),
                in_bytes_per_second_most: Some(0),
                out_packets: 20,
                out_bytes: 900_000,
                out_bytes_per_second_most: 2_000,
            }
        );
        let sum = |rows: &[HistoryRow]| rows.iter().map(|row| row.out_bytes).sum::<u64>();
        assert_eq!(sum(&five), sum(&all), "nothing is lost");
        let whole = added_up(&question(1_000, 4_000, 1), &intervals, None, &sent);
        assert_eq!((whole.len(), whole[0].in_bytes), (1, None));
    }

    #[test]
    fn where_nothing_was_watched_there_is_no_row() {
        let mut some = intervals(10);
        some.drain(3..7);
        let rows = added_up(&question(1_000, 4_000, 10), &some, None, &Samples::new());
        let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
        assert_eq!(times, [1_000, 1_300, 1_600, 3_100, 3_400, 3_700]);
    }

    #[test]
    fn a_name_must_be_one() {
        assert!(Of::Prefix.series("192.0.2.1/24").is_ok());
        assert!(
            Of::Prefix
                .series("transit0")
                .unwrap_err()
                .contains("is no prefix")
        );
        assert!(
            Of::OriginAs
                .series("AS64500")
                .unwrap_err()
                .contains("write 64500")
        );
        assert!("colour".parse::<Of>().unwrap_err().contains("one of interface"));
        for of in Of::ALL {
            assert_eq!(of.name().parse::<Of>(), Ok(of));
        }
    }
}
