//! Reading: what was counted, by series and interval.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    Error, Figures, Kind, Series, SeriesId, Subject,
    codec::{self, BLOCK, Block, Chunk, Fault, Point},
    error::Trouble,
    figures, schema,
};

/// The history as it was when this was opened, whatever is written since. Open one for a question and drop it: what it sees cannot
/// be cleared away as long as it lives.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
    limit: u64,
    looked_through: Cell<u64>,
}

/// An interval that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its number: later ones have higher ones, whatever clocks said.
    pub seq: i64,
    /// When it began, seconds since 1970.
    pub start: i64,
    /// How long it was.
    pub milliseconds: u64,
}

impl Recorded {
    /// When it ended, milliseconds since 1970.
    pub fn end_ms(&self) -> i64 {
        self.start
            .saturating_mul(1_000)
            .saturating_add_unsigned(self.milliseconds)
    }
}

/// What a series counted in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// The interval.
    pub seq: i64,
    /// The series' number.
    pub id: u32,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// Which series of a kind.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// All.
    All,
    /// Those with these numbers, in ascending order.
    Only(&'a [u32]),
}

impl Which<'_> {
    fn has(self, id: u32) -> bool {
        match self {
            Which::All => true,
            Which::Only(ids) => ids.binary_search(&id).is_ok(),
        }
    }

    /// Blocks to look into; `None` for all.
    fn blocks(self) -> Option<Vec<u32>> {
        let Which::Only(ids) = self else { return None };
        let mut blocks: Vec<u32> = ids.iter().map(|id| id / BLOCK).collect();
        blocks.dedup();
        Some(blocks)
    }
}

impl Reader {
    pub(crate) fn open(directory: &Path) -> Result<Reader, Error> {
        let (connection, path) = schema::open_read(directory)?;
        // The transaction begins with what is read first.
        connection
            .execute_batch("BEGIN; SELECT 1 FROM day LIMIT 1;")
            .map_err(|why| Error::of(&path, &why))?;
        Ok(Reader {
            connection,
            path,
            limit: u64::MAX,
            looked_through: Cell::new(0),
        })
    }

    /// The same, which refuses ([`Error::TooMuch`]) to look through more than so many samples in all. Those of other series that
    /// are unpacked on the way count, and so does each row and each place of a curve: it is a limit of time and memory.
    #[must_use]
    pub fn limited(self, limit: u64) -> Reader {
        Reader { limit, ..self }
    }

    /// Notes that so much is to be looked through, before it is.
    pub(crate) fn look_through(&self, samples: u64) -> Result<(), Error> {
        self.note(samples).map_err(|trouble| trouble.of(&self.path))
    }

    fn note(&self, samples: u64) -> Result<(), Trouble> {
        let sum = self.looked_through.get().saturating_add(samples);
        self.looked_through.set(sum);
        if sum > self.limit {
            return Err(Trouble::TooMuch(self.limit));
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn answer<T>(&self, answer: rusqlite::Result<T>) -> Result<T, Error> {
        answer.map_err(|why| Error::of(&self.path, &why))
    }

    /// Intervals of which some part lies in these seconds since 1970, `to` excluded, in the order in which they were written.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn intervals(&self, from: i64, to: i64) -> Result<Vec<Recorded>, Error> {
        let sql = "SELECT seq, start, milliseconds FROM interval
                   WHERE start < ?2 AND (start + (milliseconds + 999) / 1000 > ?1 OR start = ?1) ORDER BY seq";
        let read = || {
            let mut select = self.connection.prepare(sql)?;
            let rows = select.query_map(params![from, to], |row| {
                Ok(Recorded {
                    seq: row.get(0)?,
                    start: row.get(1)?,
                    milliseconds: row.get::<_, i64>(2)?.unsigned_abs(),
                })
            })?;
            rows.collect()
        };
        let recorded: Vec<Recorded> = self.answer(read())?;
        self.look_through(recorded.len() as u64)?;
        Ok(recorded)
    }

    /// The number of a series; `None` when it never counted anything.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn find(&self, series: &Series) -> Result<Option<SeriesId>, Error> {
        let kind = series.kind();
        let id = self.answer(id(&self.connection, kind.subject(), &series.name()))?;
        Ok(id.map(|id| SeriesId { kind, id }))
    }

    /// Every series of a kind, by its number. It may be one of which only the other direction ever counted.
    ///
    /// # Errors
    /// The database cannot be read, or has a name that cannot be.
    pub fn series(&self, kind: Kind) -> Result<BTreeMap<u32, Series>, Error> {
        let read = || {
            let mut select = self
                .connection
                .prepare("SELECT id, name FROM series WHERE subject = ?")?;
            let rows = select.query_map([kind.subject() as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(u32, String)>>>()
        };
        self.answer(read())?
            .into_iter()
            .map(|(id, name)| Ok((id, self.meant(kind, &name)?)))
            .collect()
    }

    /// The series of a number.
    ///
    /// # Errors
    /// As [`Reader::series`].
    pub fn name(&self, series: SeriesId) -> Result<Option<Series>, Error> {
        self.answer(name(&self.connection, series.kind.subject(), series.id))?
            .map(|name| self.meant(series.kind, &name))
            .transpose()
    }

    fn meant(&self, kind: Kind, name: &str) -> Result<Series, Error> {
        Series::of(kind, name)
            .ok_or_else(|| Error::corrupt(&self.path, format!("{name:?} is no name of {kind:?}")))
    }

    /// What [`crate::History::describe`] was told under this name about the subjects of a kind, by number.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn facts(&self, kind: Kind, name: &str) -> Result<BTreeMap<u32, String>, Error> {
        let read = || {
            let mut select = self
                .connection
                .prepare("SELECT id, value FROM fact WHERE subject = ? AND name = ?")?;
            let rows = select.query_map(params![kind.subject() as i64, name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect()
        };
        self.answer(read())
    }

    /// Gives every sample of some series of a kind in intervals with these numbers, in no order.
    ///
    /// # Errors
    /// The database cannot be read, or is damaged.
    pub fn read(
        &self,
        kind: Kind,
        which: Which<'_>,
        seqs: RangeInclusive<i64>,
        mut each: impl FnMut(Value),
    ) -> Result<(), Error> {
        self.samples(kind, which, seqs, &mut each)
            .map_err(|trouble| trouble.of(&self.path))
    }

    fn samples(
        &self,
        kind: Kind,
        which: Which<'_>,
        seqs: RangeInclusive<i64>,
        each: &mut dyn FnMut(Value),
    ) -> Result<(), Trouble> {
        let (from, to) = (*seqs.start(), *seqs.end());
        let days = {
            let mut select = self.connection.prepare_cached(
                "SELECT id, first_seq, last_seq, packed FROM day WHERE last_seq >= ? AND first_seq <= ? ORDER BY id",
            )?;
            let rows = select.query_map([from, to], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<(i64, i64, i64, bool)>>>()?
        };
        let blocks = which.blocks();
        for (day, first, last, packed) in days {
            let mut chosen = |point: Point| {
                let seq = first + i64::from(point.at);
                if seq >= from && seq <= to {
                    each(Value {
                        seq,
                        id: point.id,
                        packets: point.packets,
                        bytes: point.bytes,
                    });
                }
            };
            self.chunks(kind, which, blocks.as_deref(), day, &mut chosen)?;
            if !packed {
                for seq in from.max(first)..=to.min(last) {
                    let at = u32::try_from(seq - first).map_err(|_| Fault::Range)?;
                    self.blocks(kind, which, blocks.as_deref(), (seq, at), &mut chosen)?;
                }
            }
        }
        Ok(())
    }

    fn chunks(
        &self,
        kind: Kind,
        which: Which<'_>,
        blocks: Option<&[u32]>,
        day: i64,
        each: &mut dyn FnMut(Point),
    ) -> Result<(), Trouble> {
        let columns = "block, series, ids, samples, counts, sizes, gaps, packets, bytes";
        let mut take = |row: &Row<'_>| -> Result<(), Trouble> {
            let (block, series) = (row.get(0)?, row.get(1)?);
            self.note(1)?;
            // The other columns, which are pages of their own, are fetched only where they are needed.
            let ids: Vec<u8> = row.get(2)?;
            if let Which::Only(_) = which
                && !codec::ids(&ids, series, block)?
                    .into_iter()
                    .any(|id| which.has(id))
            {
                return Ok(());
            }
            let samples: i64 = row.get(3)?;
            self.note(samples.unsigned_abs())?;
            let chunk = Chunk {
                series,
                ids,
                samples,
                counts: row.get(4)?,
                sizes: row.get(5)?,
                gaps: row.get(6)?,
                packets: row.get(7)?,
                bytes: row.get(8)?,
            };
            Ok(chunk.unpack(block, |id| which.has(id), &mut *each)?)
        };
        match blocks {
            None => {
                let sql = format!("SELECT {columns} FROM chunk WHERE day = ? AND kind = ?");
                let mut select = self.connection.prepare_cached(&sql)?;
                let mut rows = select.query(params![day, kind as i64])?;
                while let Some(row) = rows.next()? {
                    take(row)?;
                }
            }
            Some(blocks) => {
                let sql = format!("SELECT {columns} FROM chunk WHERE day = ? AND kind = ? AND block = ?");
                let mut select = self.connection.prepare_cached(&sql)?;
                for block in blocks {
                    let mut rows = select.query(params![day, kind as i64, block])?;
                    while let Some(row) = rows.next()? {
                        take(row)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn blocks(
        &self,
        kind: Kind,
        which: Which<'_>,
        blocks: Option<&[u32]>,
        (seq, at): (i64, u32),
        each: &mut dyn FnMut(Point),
    ) -> Result<(), Trouble> {
        let columns = "block, count, ids, packets, bytes";
        let mut take = |row: &Row<'_>| -> Result<(), Trouble> {
            let (number, block) = block(row)?;
            self.note(1 + block.count.unsigned_abs())?;
            for point in block.unpack(number, at)? {
                if which.has(point.id) {
                    each(point);
                }
            }
            Ok(())
        };
        match blocks {
            None => {
                let sql = format!("SELECT {columns} FROM sample WHERE seq = ? AND kind = ?");
                let mut select = self.connection.prepare_cached(&sql)?;
                let mut rows = select.query(params![seq, kind as i64])?;
                while let Some(row) = rows.next()? {
                    take(row)?;
                }
            }
            Some(blocks) => {
                let sql = format!("SELECT {columns} FROM sample WHERE seq = ? AND kind = ? AND block = ?");
                let mut select = self.connection.prepare_cached(&sql)?;
                for block in blocks {
                    let mut rows = select.query(params![seq, kind as i64, block])?;
                    while let Some(row) = rows.next()? {
                        take(row)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is in it, and how much room it takes.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn figures(&self) -> Result<Figures, Error> {
        self.answer(figures::figures(&self.connection, &self.path))
    }
}

/// A row of the running day: block, count, ids, packets, bytes.
pub(crate) fn block(row: &Row<'_>) -> rusqlite::Result<(u32, Block)> {
    let block = Block {
        count: row.get(1)?,
        ids: row.get(2)?,
        packets: row.get(3)?,
        bytes: row.get(4)?,
    };
    Ok((row.get(0)?, block))
}

/// The number of a name.
pub(crate) fn id(connection: &Connection, subject: Subject, name: &str) -> rusqlite::Result<Option<u32>> {
    connection
        .prepare_cached("SELECT id FROM series WHERE subject = ? AND name = ?")?
        .query_row(params![subject as i64, name], |row| row.get(0))
        .optional()
}

/// The name of a number.
pub(crate) fn name(connection: &Connection, subject: Subject, id: u32) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT name FROM series WHERE subject = ? AND id = ?")?
        .query_row(params![subject as i64, id], |row| row.get(0))
        .optional()
}
