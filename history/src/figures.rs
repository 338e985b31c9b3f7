//! How much there is, and how much room it takes.

use std::{ffi::CString, mem::MaybeUninit, os::unix::ffi::OsStrExt, path::Path};

use rusqlite::Connection;
use serde::Serialize;

/// The history in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Octets of the database.
    pub bytes: u64,
    /// Octets of them that are free for what comes next.
    pub free_bytes: u64,
    /// Octets of the write-ahead log.
    pub log_bytes: u64,
    /// Octets that the file system has left for us.
    pub disk_free_bytes: Option<u64>,
    /// Where the earliest interval begins, seconds since 1970.
    pub first: Option<i64>,
    /// Where the last one written ends.
    pub last: Option<i64>,
    /// Intervals.
    pub intervals: u64,
    /// Days, and how many of them are packed.
    pub days: u64,
    /// Of these.
    pub packed_days: u64,
    /// Names of series.
    pub names: u64,
}

pub(crate) fn figures(connection: &Connection, path: &Path) -> rusqlite::Result<Figures> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let page = pragma("page_size")?;
    let (first, intervals): (Option<i64>, i64) =
        connection.query_row("SELECT min(start), count(*) FROM interval", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let last: Option<i64> = connection.query_row(
        "SELECT max(seq), start + (milliseconds + 500) / 1000 FROM interval",
        [],
        |row| row.get(1),
    )?;
    let (days, packed): (i64, i64) =
        connection.query_row("SELECT count(*), coalesce(sum(packed), 0) FROM day", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // Numbers are given one after the other, so the highest tells how many; to count a million rows takes long.
    let names: i64 = connection.query_row(
        "WITH RECURSIVE subjects (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM subjects WHERE n < 16)
         SELECT coalesce(sum(1 + (SELECT max(id) FROM series WHERE subject = n)), 0) FROM subjects",
        [],
        |row| row.get(0),
    )?;
    Ok(Figures {
        bytes: unsigned(page * pragma("page_count")?),
        free_bytes: unsigned(page * pragma("freelist_count")?),
        log_bytes: path
            .with_extension("db-wal")
            .metadata()
            .map_or(0, |metadata| metadata.len()),
        disk_free_bytes: disk_free(path),
        first,
        last,
        intervals: unsigned(intervals),
        days: unsigned(days),
        packed_days: unsigned(packed),
        names: unsigned(names),
    })
}

fn disk_free(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and there is memory for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure.
    let answer = unsafe { answer.assume_init() };
    Some(answer.f_bavail.saturating_mul(answer.f_frsize))
}
