//! The one writer.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::{
    DAY, Error, Figures, Kind, Reader, Retention, Series, SeriesId, Subject,
    codec::{BLOCK, Block, Point},
    compact::Todo,
    figures, read, schema,
};

/// Intervals in a day, at most: a day is packed in memory, block by block. Clocks that go wrong, or a sampler that is asked
/// for shorter intervals, begin another.
pub(crate) const MOST_INTERVALS: i64 = 320;

/// Names that wait for the next interval, at most: a full table's first interval has as many as the table has prefixes, and those beyond
/// go to the database ahead of it.
const NAMES: usize = 1 << 14;

/// What a series counted in an interval: a difference, not a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The series, by [`History::series_id`].
    pub series: SeriesId,
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// An interval, and everything that was counted in it.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// When it began, seconds since 1970, as the clock then said.
    pub start: i64,
    /// How long it really was, by a clock that only goes forward.
    pub milliseconds: u64,
    /// Samples in any order. Those of the same series are added; those of nothing are left out.
    pub samples: Vec<Sample>,
}

/// The sampler's own state, of which nothing is known here.
#[derive(Clone, Copy, Debug)]
pub enum State<'a> {
    /// It is as before.
    Same,
    /// Behind what is here.
    Patch(&'a [u8]),
    /// In place of all that is here.
    Whole(&'a [u8]),
}

/// A day as it is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Today {
    pub id: i64,
    pub date: i64,
    pub first: i64,
    pub last: i64,
    pub packed: bool,
}

/// The history, for its one writer.
pub struct History {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) retention: Retention,
    pub(crate) today: Option<Today>,
    /// What is to be packed, where that is known.
    pub(crate) todo: Option<Todo>,
    /// The number behind the highest, by subject.
    next: HashMap<Subject, u32>,
    /// Numbers that were given and are not in the database: they go there with the next interval.
    fresh: HashMap<(Subject, String), u32>,
    facts: HashMap<(Subject, u32, String), String>,
    /// Which file the write-ahead log is, once something was written.
    wal: Option<Inode>,
    /// The file in its place is not open: another one was there, and could not be used.
    is_lost: bool,
    /// Held as long as this lives.
    lock: File,
}

/// Device and number of a file.
type Inode = (u64, u64);

fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

impl History {
    /// Opens the history of a directory, which is made where it is missing.
    ///
    /// # Errors
    /// Another writer has it, it is not ours, it is damaged, there is no room, or it cannot be written. Nothing is changed then,
    /// and it can be tried again.
    pub fn open(directory: &Path, retention: Retention) -> Result<History, Error> {
        let lock = schema::lock(directory)?;
        let (connection, path) = schema::open(directory)?;
        let today = today(&connection).map_err(|why| Error::of(&path, &why))?;
        Ok(History {
            connection,
            path,
            retention,
            today,
            todo: None,
            next: HashMap::new(),
            fresh: HashMap::new(),
            facts: HashMap::new(),
            wal: None,
            is_lost: false,
            lock,
        })
    }

    /// Opens the history of a directory for reading.
    ///
    /// # Errors
    /// There is none, it is not ours, or it is damaged.
    pub fn open_read(directory: &Path) -> Result<Reader, Error> {
        Reader::open(directory)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of a series; a new one where it has none. It stays the same for as long as the history is, across restarts; what
    /// is asked often may keep it. Some microseconds.
    ///
    /// # Errors
    /// The database cannot be read, or it has 2^32 names.
    pub fn series_id(&mut self, series: &Series) -> Result<SeriesId, Error> {
        let kind = series.kind();
        let key = (kind.subject(), series.name());
        let id = match self.fresh.get(&key) {
            Some(id) => *id,
            None => match self.known(key.0, &key.1)? {
                Some(id) => id,
                None => {
                    let id = self.number(key.0)?;
                    self.fresh.insert(key, id);
                    // Where there is no room they wait, and the commit says so.
                    if self.fresh.len().is_multiple_of(NAMES) && self.name_now().is_ok() {
                        self.fresh = HashMap::new();
                    }
                    id
                }
            },
        };
        Ok(SeriesId { kind, id })
    }

    /// The series of a number; `None` where the history has none of that number.
    ///
    /// # Errors
    /// The database cannot be read, or has a name that cannot be.
    pub fn series(&self, id: SeriesId) -> Result<Option<Series>, Error> {
        let subject = id.kind.subject();
        let fresh = self.fresh.iter();
        let mut fresh = fresh.filter(|((of, _), number)| *of == subject && **number == id.id);
        let name = match fresh.next() {
            Some(((_, name), _)) => Some(name.clone()),
            None => {
                read::name(&self.connection, subject, id.id).map_err(|why| Error::of(&self.path, &why))?
            }
        };
        let meant = |name: String| {
            Series::of(id.kind, &name)
                .ok_or_else(|| Error::corrupt(&self.path, format!("{name:?} is no name of {:?}", id.kind)))
        };
        name.map(meant).transpose()
    }

    /// Whether the files that are written are those in the directory: nobody has deleted them, or put others in their place.
    pub fn is_in_place(&self) -> bool {
        let wal = || {
            let there = fs::metadata(self.wal_path());
            there.ok().map(|metadata| inode(&metadata))
        };
        !self.is_lost && !schema::has_moved(&self.connection) && (self.wal.is_none() || self.wal == wal())
    }

    fn wal_path(&self) -> PathBuf {
        self.path.with_extension("db-wal")
    }

    /// Goes on in the file that is in the directory now, or in a new one: numbers of series are others than before.
    ///
    /// # Errors
    /// As [`History::open`]. Nothing can be written then, and it can be tried again.
    pub fn reopen(&mut self) -> Result<(), Error> {
        let path = self.path.clone();
        let directory = path.parent().unwrap_or(Path::new("."));
        let of = |why: rusqlite::Error| Error::of(&path, &why);
        let has_moved = schema::has_moved(&self.connection);
        if !self.is_lost {
            // Where only the log was taken away, what was in it goes to the file.
            let _ = self.connection.pragma_query(None, "wal_checkpoint", |_| Ok(()));
            // Before the other is opened: both would use the -shm file of that name.
            drop(std::mem::replace(
                &mut self.connection,
                Connection::open_in_memory().map_err(of)?,
            ));
            self.is_lost = true;
            let wal = self.wal_path();
            let there = fs::metadata(&wal).map(|metadata| inode(&metadata));
            // The log of the file that went would be read as that of the one that came.
            if has_moved && there.is_ok_and(|there| self.wal == Some(there)) {
                let denied = |path: &Path| {
                    let path = path.to_path_buf();
                    move |why| Error::Directory { path, why }
                };
                fs::remove_file(&wal).map_err(denied(&wal))?;
            }
        }
        let lock = fs::metadata(directory.join(schema::LOCK)).map(|metadata| inode(&metadata));
        let ours = self.lock.metadata().map(|metadata| inode(&metadata));
        if !ours.is_ok_and(|ours| lock.is_ok_and(|lock| lock == ours)) {
            self.lock = schema::lock(directory)?;
        }
        let (connection, path) = schema::open(directory)?;
        self.today = today(&connection).map_err(|why| Error::of(&path, &why))?;
        self.connection = connection;
        self.path = path;
        self.is_lost = false;
        self.wal = None;
        self.todo = None;
        self.next.clear();
        self.fresh.clear();
        self.facts.clear();
        Ok(())
    }

    /// Writes the names that wait: a number without samples is that of something which has counted nothing.
    fn name_now(&mut self) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        names(&transaction, &self.fresh, &HashMap::new())?;
        transaction.commit()
    }

    fn known(&self, subject: Subject, name: &str) -> Result<Option<u32>, Error> {
        read::id(&self.connection, subject, name).map_err(|why| Error::of(&self.path, &why))
    }

    /// The next free number of a subject.
    fn number(&mut self, subject: Subject) -> Result<u32, Error> {
        let next = match self.next.get(&subject) {
            Some(next) => *next,
            None => {
                let sql = "SELECT max(id) FROM series WHERE subject = ?";
                let highest: Option<u32> = self
                    .connection
                    .query_row(sql, [subject as i64], |row| row.get(0))
                    .map_err(|why| Error::of(&self.path, &why))?;
                match highest {
                    None => 0,
                    Some(highest) => behind(highest, &self.path)?,
                }
            }
        };
        self.next.insert(subject, behind(next, &self.path)?);
        Ok(next)
    }

    /// Notes something about a series' subject, which reports may use: an interface's `role` ("transit") and `speed` (bits a second),
    /// an account's `commit`. The last word counts. It is written with the next interval.
    ///
    /// # Errors
    /// As [`History::series_id`].
    pub fn describe(&mut self, series: &Series, name: &str, value: &str) -> Result<(), Error> {
        let id = self.series_id(series)?;
        let key = (id.kind.subject(), id.id, name.to_string());
        self.facts.insert(key, value.to_string());
        Ok(())
    }

    /// Writes an interval with its samples, new names, and the sampler's state: all of it or nothing. It is on the disk when this
    /// returns. Answers the interval's number.
    ///
    /// # Errors
    /// No room, or another reason why nothing was written. The history is as before and can be tried again, with the same
    /// interval or a longer one in its place.
    pub fn commit(&mut self, interval: &Interval, state: State<'_>) -> Result<i64, Error> {
        let mut blocks = Vec::new();
        // One kind after the other: all of them at once would be as much again as the samples.
        for kind in Kind::ALL {
            let points = sorted(&interval.samples, kind);
            for points in points.chunk_by(|a, b| a.id / BLOCK == b.id / BLOCK) {
                let block = Block::pack(points).map_err(|why| Error::Other {
                    path: self.path.clone(),
                    why: why.to_string(),
                })?;
                blocks.push((kind as u8, points[0].id / BLOCK, block));
            }
        }
        let today = self
            .written(interval, state, &blocks)
            .map_err(|why| Error::of(&self.path, &why))?;
        self.today = Some(today);
        // A full table's first interval has as many names as the table has prefixes: their room does not stay.
        self.fresh = HashMap::new();
        self.facts.clear();
        self.wal = fs::metadata(self.wal_path())
            .ok()
            .map(|metadata| inode(&metadata));
        Ok(today.last)
    }

    fn written(
        &mut self,
        interval: &Interval,
        state: State<'_>,
        blocks: &[(u8, u32, Block)],
    ) -> rusqlite::Result<Today> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        names(&transaction, &self.fresh, &self.facts)?;
        let today = next_interval(&transaction, self.today, interval)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO sample (seq, kind, block, count, ids, packets, bytes) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?;
            for (kind, number, block) in blocks {
                insert.execute(params![
                    today.last,
                    kind,
                    number,
                    block.count,
                    block.ids,
                    block.packets,
                    block.bytes
                ])?;
            }
        }
        let (whole, octets) = match state {
            State::Same => (false, None),
            State::Patch(octets) => (false, Some(octets)),
            State::Whole(octets) => (true, Some(octets)),
        };
        if whole {
            transaction.execute("DELETE FROM state", [])?;
        }
        if let Some(octets) = octets {
            transaction
                .prepare_cached("INSERT INTO state (whole, octets) VALUES (?, ?)")?
                .execute(params![whole, octets])?;
        }
        transaction.commit()?;
        Ok(today)
    }

    /// Writes the sampler's state in the place of the one that is there, without an interval.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn keep_state(&mut self, octets: &[u8]) -> Result<(), Error> {
        let mut write = || {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM state", [])?;
            transaction.execute("INSERT INTO state (whole, octets) VALUES (TRUE, ?)", [octets])?;
            transaction.commit()
        };
        write().map_err(|why| Error::of(&self.path, &why))
    }

    /// The sampler's state: the last whole one and the patches behind it, in order. Empty where there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn state(&self) -> Result<Vec<Vec<u8>>, Error> {
        let read = || {
            let mut select = self
                .connection
                .prepare_cached("SELECT octets FROM state ORDER BY id")?;
            let rows = select.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|why| Error::of(&self.path, &why))
    }

    /// What is in it, and how much room it takes.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn figures(&self) -> Result<Figures, Error> {
        figures::figures(&self.connection, &self.path).map_err(|why| Error::of(&self.path, &why))
    }

    /// Reads every page and index: whether the file is whole. Takes as long as reading all of it.
    ///
    /// # Errors
    /// What is damaged.
    pub fn check(&self) -> Result<(), Error> {
        let answer: String = self
            .connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|why| Error::of(&self.path, &why))?;
        match answer.as_str() {
            "ok" => Ok(()),
            damage => Err(Error::corrupt(&self.path, damage)),
        }
    }

    /// Lets the file have at most so many pages of 4096 octets, as a quota would.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(|why| Error::of(&self.path, &why))
    }
}

fn behind(number: u32, path: &Path) -> Result<u32, Error> {
    number.checked_add(1).ok_or_else(|| Error::Other {
        path: path.to_path_buf(),
        why: "it has as many names as it can have".into(),
    })
}

/// Samples of a kind by id, each once, without those of nothing.
fn sorted(samples: &[Sample], kind: Kind) -> Vec<Point> {
    let of = samples
        .iter()
        .filter(|sample| sample.series.kind == kind && (sample.packets != 0 || sample.bytes != 0));
    let mut points = Vec::with_capacity(of.clone().count());
    points.extend(of.map(|sample| Point {
        id: sample.series.id,
        at: 0,
        packets: sample.packets,
        bytes: sample.bytes,
    }));
    points.sort_unstable_by_key(|point: &Point| point.id);
    points.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            kept.packets = kept.packets.saturating_add(later.packets);
            kept.bytes = kept.bytes.saturating_add(later.bytes);
        }
        same
    });
    points
}

fn names(
    transaction: &Transaction<'_>,
    fresh: &HashMap<(Subject, String), u32>,
    facts: &HashMap<(Subject, u32, String), String>,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO series (subject, name, id) VALUES (?, ?, ?)")?;
    for ((subject, name), id) in fresh {
        insert.execute(params![*subject as i64, name, id])?;
    }
    let mut replace = transaction
        .prepare_cached("INSERT OR REPLACE INTO fact (subject, id, name, value) VALUES (?, ?, ?, ?)")?;
    for ((subject, id, name), value) in facts {
        replace.execute(params![*subject as i64, id, name, value])?;
    }
    Ok(())
}

/// Writes the interval down, in its day, or as the first of another.
fn next_interval(
    transaction: &Transaction<'_>,
    today: Option<Today>,
    interval: &Interval,
) -> rusqlite::Result<Today> {
    let date = interval.start.div_euclid(DAY);
    let seq = today.map_or(1, |today| today.last + 1);
    let same = today
        .filter(|today| today.date == date && !today.packed && today.last - today.first + 1 < MOST_INTERVALS);
    let today = match same {
        Some(today) => {
            transaction
                .prepare_cached("UPDATE day SET last_seq = ? WHERE id = ?")?
                .execute(params![seq, today.id])?;
            Today { last: seq, ..today }
        }
        None => {
            let id = today.map_or(1, |today| today.id + 1);
            transaction
                .prepare_cached(
                    "INSERT INTO day (id, date, first_seq, last_seq, packed) VALUES (?, ?, ?, ?, 0)",
                )?
                .execute(params![id, date, seq, seq])?;
            Today {
                id,
                date,
                first: seq,
                last: seq,
                packed: false,
            }
        }
    };
    transaction
        .prepare_cached("INSERT INTO interval (seq, start, milliseconds, day) VALUES (?, ?, ?, ?)")?
        .execute(params![
            seq,
            interval.start,
            i64::try_from(interval.milliseconds).unwrap_or(i64::MAX),
            today.id
        ])?;
    Ok(today)
}

fn today(connection: &Connection) -> rusqlite::Result<Option<Today>> {
    let sql = "SELECT id, date, first_seq, last_seq, packed FROM day ORDER BY id DESC LIMIT 1";
    connection
        .query_row(sql, [], |row| {
            Ok(Today {
                id: row.get(0)?,
                date: row.get(1)?,
                first: row.get(2)?,
                last: row.get(3)?,
                packed: row.get(4)?,
            })
        })
        .optional()
}
