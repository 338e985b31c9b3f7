//! What is done with days that are over: they are packed, and one day forgotten. In slices, between which the writer may write.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::{
    DAY, Error, History,
    codec::{self, Fault, Point},
    error::Trouble,
    read,
};

/// How long samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days.
    pub days: u32,
}

impl Default for Retention {
    /// Thirteen months: the same month of last year is there when this one is over.
    fn default() -> Retention {
        Retention { days: 13 * 31 }
    }
}

/// What a slice of maintenance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There is nothing to do until another day begins.
    Nothing,
    /// So many samples of a day were packed.
    Packed {
        /// Days since 1970.
        date: i64,
        /// Samples.
        samples: u64,
    },
    /// All of a day is packed.
    DayPacked {
        /// Days since 1970.
        date: i64,
    },
    /// Rows of a day that is too old were deleted; `done` with the last of them.
    Forgotten {
        /// Days since 1970.
        date: i64,
        /// All of that day.
        done: bool,
    },
    /// Octets were given back to the file system.
    Shrunk {
        /// How many.
        bytes: u64,
    },
}

/// What of a day is to be packed.
#[derive(Debug)]
pub(crate) struct Todo {
    day: i64,
    date: i64,
    first: i64,
    last: i64,
    /// Kinds and blocks, the next one last.
    rest: Vec<(i64, u32)>,
}

/// A day is forgotten by the clock only if all of so many last intervals were: a clock that was wrong for less than a day
/// forgets nothing.
const WITNESSES: i64 = 288;

/// Rows deleted in a slice.
const ROWS: i64 = 512;

/// Pages given back in a slice, and from how many free ones on: what a day needs before it is packed stays.
const PAGES: i64 = 2_048;
const SPARE: i64 = 131_072;

impl History {
    /// Does one slice of what is to be done, less than half a second, and says what it was. Call it until it answers
    /// [`Work::Nothing`], some time after every interval. `now` is the clock's, seconds since 1970.
    ///
    /// # Errors
    /// No room, or the database is damaged. Nothing of the slice was done then, and it is tried again by the next call.
    pub fn maintain(&mut self, now: i64) -> Result<Work, Error> {
        self.slice(now).map_err(|trouble| trouble.of(&self.path))
    }

    fn slice(&mut self, now: i64) -> Result<Work, Trouble> {
        if let Some(work) = self.forget(now)? {
            return Ok(work);
        }
        if self.todo.is_none() {
            self.todo = next_day(&self.connection)?;
        }
        if let Some(mut todo) = self.todo.take() {
            let work = self.pack(&mut todo)?;
            self.todo = (!matches!(work, Work::DayPacked { .. })).then_some(todo);
            return Ok(work);
        }
        self.shrink()
    }

    /// Packs a block of a day; where there is none left, notes that.
    fn pack(&mut self, todo: &mut Todo) -> Result<Work, Trouble> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some((kind, block)) = todo.rest.pop() else {
            transaction.execute("UPDATE day SET packed = 1 WHERE id = ?", [todo.day])?;
            transaction.commit()?;
            return Ok(Work::DayPacked { date: todo.date });
        };
        let mut points = Vec::new();
        {
            let mut select = transaction.prepare_cached(
                "SELECT block, count, ids, packets, bytes FROM sample WHERE seq = ? AND kind = ? AND block = ?",
            )?;
            let mut delete =
                transaction.prepare_cached("DELETE FROM sample WHERE seq = ? AND kind = ? AND block = ?")?;
            for seq in todo.first..=todo.last {
                let place = params![seq, kind, block];
                if let Some((number, packed)) = select.query_row(place, read::block).optional()? {
                    let at = u32::try_from(seq - todo.first).map_err(|_| Fault::Range)?;
                    points.extend(packed.unpack(number, at)?);
                    delete.execute(place)?;
                }
            }
        }
        points.sort_unstable();
        let samples = points.len() as u64;
        store(&transaction, (todo.day, kind, block), &points)?;
        transaction.commit()?;
        Ok(Work::Packed {
            date: todo.date,
            samples,
        })
    }

    /// Deletes some of a day that is too old, where there is one.
    fn forget(&mut self, now: i64) -> rusqlite::Result<Option<Work>> {
        let sure: Option<i64> = self.connection.query_row(
            "SELECT min(start) FROM interval WHERE seq > (SELECT max(seq) FROM interval) - ?",
            [WITNESSES],
            |row| row.get(0),
        )?;
        let Some(sure) = sure else { return Ok(None) };
        let oldest = now.min(sure).div_euclid(DAY) - i64::from(self.retention.days);
        let sql = "SELECT id, date, first_seq, last_seq FROM day
                   WHERE date < ? AND id < (SELECT max(id) FROM day) ORDER BY id LIMIT 1";
        let day = self
            .connection
            .query_row(sql, [oldest], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((id, date, first, last)): Option<(i64, i64, i64, i64)> = day else {
            return Ok(None);
        };
        self.todo = None;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut rows = transaction.execute(
            "DELETE FROM chunk WHERE rowid IN (SELECT rowid FROM chunk WHERE day = ? LIMIT ?)",
            [id, ROWS],
        )?;
        rows += transaction.execute(
            "DELETE FROM sample WHERE rowid IN (SELECT rowid FROM sample WHERE seq BETWEEN ? AND ? LIMIT ?)",
            [first, last, ROWS],
        )?;
        let done = rows < ROWS as usize;
        if done {
            transaction.execute("DELETE FROM interval WHERE seq BETWEEN ? AND ?", [first, last])?;
            transaction.execute("DELETE FROM day WHERE id = ?", [id])?;
        }
        transaction.commit()?;
        Ok(Some(Work::Forgotten { date, done }))
    }

    /// Gives room back that will not be needed soon.
    fn shrink(&self) -> Result<Work, Trouble> {
        let pragma = |name: &str| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let (free, all) = (pragma("freelist_count")?, pragma("page_count")?);
        if free < SPARE || free < all / 4 {
            return Ok(Work::Nothing);
        }
        let mut statement = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let back = all - pragma("page_count")?;
        Ok(match u64::try_from(back) {
            Ok(0) | Err(_) => Work::Nothing,
            Ok(pages) => Work::Shrunk {
                bytes: pages * pragma("page_size")?.unsigned_abs(),
            },
        })
    }
}

/// Writes a block's samples of a day as chunks, and reads them again before it believes it.
fn store(
    transaction: &Transaction<'_>,
    (day, kind, block): (i64, i64, u32),
    points: &[Point],
) -> Result<(), Trouble> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO chunk (day, kind, block, series, samples, ids, counts, sizes, gaps, packets, bytes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let mut same = 0;
    for chunk in codec::chunks(points)? {
        let mut place = 0;
        chunk.unpack(
            block,
            |_| true,
            |point| {
                // A series begins where the one before it ended, or somewhere else.
                if points.get(place).is_none_or(|expected| expected.id != point.id) {
                    place = points.partition_point(|earlier| earlier.id < point.id);
                }
                same += usize::from(points.get(place) == Some(&point));
                place += 1;
            },
        )?;
        insert.execute(params![
            day,
            kind,
            block,
            chunk.series,
            chunk.samples,
            chunk.ids,
            chunk.counts,
            chunk.sizes,
            chunk.gaps,
            chunk.packets,
            chunk.bytes
        ])?;
    }
    if same == points.len() {
        Ok(())
    } else {
        Err(Trouble::Different)
    }
}

/// The first day that is over and not packed. The last one is over when another has begun.
fn next_day(connection: &Connection) -> rusqlite::Result<Option<Todo>> {
    let sql = "SELECT id, date, first_seq, last_seq FROM day
               WHERE packed = 0 AND id < (SELECT max(id) FROM day) ORDER BY id LIMIT 1";
    let todo = connection
        .query_row(sql, [], |row| {
            Ok(Todo {
                day: row.get(0)?,
                date: row.get(1)?,
                first: row.get(2)?,
                last: row.get(3)?,
                rest: Vec::new(),
            })
        })
        .optional()?;
    let Some(mut todo) = todo else { return Ok(None) };
    let mut select = connection.prepare_cached(
        "SELECT DISTINCT kind, block FROM sample INDEXED BY sample_place WHERE seq BETWEEN ? AND ?",
    )?;
    let rows = select.query_map([todo.first, todo.last], |row| Ok((row.get(0)?, row.get(1)?)))?;
    todo.rest = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Some(todo))
}
