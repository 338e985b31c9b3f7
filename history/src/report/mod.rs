//! Reports: pure functions of a history and a question.
//!
//! # What is a sample
//! Carriers bill the 95th percentile of five-minute samples, so that is what is counted here. A sample is an interval as it was
//! recorded, and its value is its octets over its true length, as bits a second:
//!
//! - intervals that touch, and whose middles lie in the same five minutes of the clock, are one (`[history] interval` may be
//!   shorter, and a restart ends one early);
//! - between 150 and 450 seconds it is one sample, of the month in which its middle lies;
//! - longer (the controller was away): as many samples as there are five minutes in it, rounded, all of its mean rate. They are
//!   counted as *averaged*. Of one that crosses the end of the month each month gets its part;
//! - shorter (a restart): it is put together with the one before or behind it that it touches, until they are long enough; alone
//!   it is left out of the percentile, and counted as such.
//!
//! Nothing is made up for times without intervals: they are *gaps*, and listed. What is not in an interval that is here
//! was nought.
//!
//! # Which rank
//! Of N samples in ascending order, the floor(N / 20) highest are discarded and the next is the percentile: the one at place
//! N - floor(N / 20), counted from one. 30 days have 8,640 samples, of which 432 are discarded. Each direction has its own
//! percentile, and the larger of the two is billed.

pub mod calendar;
pub mod capacity;
pub mod commit;
pub mod curves;
pub mod names;
pub mod p95;
pub mod peering;
pub mod samples;

use crate::Error;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] Error),
    /// Nothing was recorded then.
    #[error("the history has nothing of {period}: {has}")]
    Nothing {
        /// Which time.
        period: String,
        /// What it has.
        has: String,
    },
    /// What was recorded then is too short to be a sample.
    #[error("{period} has no sample of five minutes: the history begins at {since}, and has {has}; {next}")]
    TooShort {
        /// Which time.
        period: String,
        /// When the history begins.
        since: String,
        /// What it has of that time.
        has: String,
        /// When there will be one.
        next: String,
    },
    /// It has not come yet.
    #[error("{0} has not begun")]
    Future(String),
    /// No such time zone.
    #[error(
        "`{0}` is no time zone: write one as /usr/share/zoneinfo has them, such as Europe/Zurich, or UTC"
    )]
    Zone(String),
    /// No such name.
    #[error("the history has no {what} `{name}`: {known}")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A question that cannot be answered as it is.
    #[error("{0}")]
    Question(String),
}

impl Trouble {
    /// No such name; names some of those there are, the likeliest first.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Trouble {
        const SOME: usize = 12;
        let mut known: Vec<&str> = known.into_iter().collect();
        known.sort_by_key(|known| (!known.contains(name) && !name.contains(known), known.to_string()));
        known.dedup();
        let more = known.len().saturating_sub(SOME);
        let list = known[..known.len().min(SOME)].join(", ");
        let known = match (known.is_empty(), more) {
            (true, _) => "it has none at all".to_string(),
            (false, 0) => format!("it has {list}"),
            (false, more) => format!("it has {list} and {more} more"),
        };
        Trouble::Unknown {
            what,
            name: name.to_string(),
            known,
        }
    }
}
