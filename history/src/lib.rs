//! History: what was counted in every interval, kept for months, exactly, in one SQLite database.
//!
//! It knows neither maps nor routes. A sampler tells it what came in since the last time ([`History::commit`]); reports ask
//! a [`Reader`]. One writer, any number of readers beside it, in other processes and after its death.
//!
//! ```text
//! sampler -> series_id, commit -> running day: one row per interval, kind and block of 4096 ids
//!                                     | maintain, when the day is over
//!                                     v
//!                                 finished days: chunks of some ten thousand samples, series by series -> Reader -> reports
//! ```
//!
//! # What holds at every moment
//!
//! - A commit is one transaction with everything that belongs to an interval, and is on the disk when `commit` returns
//!   (`synchronous=FULL`: in WAL mode NORMAL would lose what was not checkpointed at a power cut). So the state that the sampler
//!   keeps here is always that of the last interval that is here.
//! - Names may be there before the first interval that has them: of a full table's first interval they are more than should be in memory.
//! - Intervals are keyed by a number that only goes up. Their times are facts about them: an hour that comes twice, because a
//!   clock was set back, is in here twice.
//! - A sample is in exactly one place: in a row of the running day, or in a chunk. Both sides of the move are one transaction,
//!   and what was packed is unpacked and compared before the original goes.
//! - No sample for a series in an interval that is here means that nothing was counted. No interval means that nobody looked.
//! - A file that is not ours is not touched, nor one of a version that we do not know.

pub mod codec;
mod compact;
mod error;
mod figures;
pub mod plot;
mod read;
pub mod report;
mod schema;
mod series;
mod write;

pub use compact::{Retention, Work};
pub use error::Error;
pub use figures::Figures;
pub use read::{Reader, Recorded, Value, Which};
pub use schema::FILE;
pub use series::{Direction, Kind, SHARED, Series, SeriesId, Subject};
pub use write::{History, Interval, Sample, State};

/// Where the history is, unless the configuration says otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/forwarder";

/// What a sample is meant to span, in seconds: what is billed by carriers.
pub const INTERVAL: i64 = 300;

/// Seconds of a UTC day.
pub(crate) const DAY: i64 = 86_400;
