//! The file: its tables, its mark, and who may open it.

use std::{
    ffi::c_int,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    ptr::from_mut,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, ffi};

use crate::Error;

/// The database's name in its directory.
pub const FILE: &str = "history.db";
/// Held by the one writer; says who that is.
pub const LOCK: &str = "history.lock";

/// `PRAGMA application_id`: "FwdH".
const APPLICATION: i64 = 0x4677_6448;
/// `PRAGMA user_version`. What else stands in the file follows from it: a change of tables, kinds or columns is another number.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE series (             -- what a number stands for
    subject INTEGER NOT NULL,
    name    TEXT NOT NULL,
    id      INTEGER NOT NULL,
    PRIMARY KEY (subject, name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX series_id ON series (subject, id);
CREATE TABLE fact (               -- what else is known of it: a role, a speed
    subject INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (subject, id, name)
) WITHOUT ROWID;
CREATE TABLE day (                -- intervals that stand one behind the other and begin on the same UTC day
    id        INTEGER PRIMARY KEY,
    date      INTEGER NOT NULL,   -- days since 1970
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    packed    INTEGER NOT NULL    -- 1: all of it is in chunks
);
CREATE TABLE interval (
    seq          INTEGER PRIMARY KEY,
    start        INTEGER NOT NULL,    -- seconds since 1970
    milliseconds INTEGER NOT NULL,    -- how long it really was
    day          INTEGER NOT NULL
);
CREATE TABLE sample (             -- days that are not packed yet
    seq     INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    block   INTEGER NOT NULL,     -- id / 4096
    count   INTEGER NOT NULL,
    ids     BLOB NOT NULL,        -- these by pco
    packets BLOB NOT NULL,
    bytes   BLOB NOT NULL
);
CREATE UNIQUE INDEX sample_place ON sample (seq, kind, block);
CREATE TABLE chunk (              -- packed days
    day     INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    block   INTEGER NOT NULL,
    series  INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    ids     BLOB NOT NULL,        -- these by pco
    counts  BLOB NOT NULL,
    sizes   BLOB NOT NULL,
    gaps    BLOB NOT NULL,
    packets BLOB NOT NULL,
    bytes   BLOB NOT NULL
);
CREATE INDEX chunk_place ON chunk (day, kind, block);
CREATE TABLE state (              -- the sampler's own, in order
    id     INTEGER PRIMARY KEY,
    whole  INTEGER NOT NULL,      -- 1: replaces all before it
    octets BLOB NOT NULL
);
";

/// How long somebody who checkpoints or copies may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// Locks a directory for the one writer.
pub fn lock(directory: &Path) -> Result<File, Error> {
    let denied = |path: &Path| {
        let path = path.to_path_buf();
        move |why| Error::Directory { path, why }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(directory)
        .map_err(denied(directory))?;
    let path = directory.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(denied(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(16).read_to_string(&mut text);
            let holder = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Busy { path, holder });
        }
        Err(TryLockError::Error(why)) => return Err(Error::Directory { path, why }),
    }
    // Only for the message above: a full disk must not keep anybody from opening.
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(file)
}

/// Opens for writing; makes it where there is none.
pub fn open(directory: &Path) -> Result<(Connection, PathBuf), Error> {
    let path = directory.join(FILE);
    plain(&path)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&path, flags).map_err(|why| Error::of(&path, &why))?;
    prepare(&connection, &path).map_err(|fault| fault.into_error(&path))?;
    Ok((connection, path))
}

/// Refuses what is there and no file: a pipe would be waited for without end.
fn plain(path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => Err(Error::Foreign {
            path: path.to_path_buf(),
            why: if metadata.is_dir() {
                "it is a directory".to_string()
            } else {
                "it is no file".to_string()
            },
        }),
        _ => Ok(()),
    }
}

/// SQLite's answer, or ours.
enum Fault {
    Sqlite(rusqlite::Error),
    Ours(Error),
}

impl Fault {
    fn into_error(self, path: &Path) -> Error {
        match self {
            Fault::Sqlite(error) => Error::of(path, &error),
            Fault::Ours(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        Fault::Sqlite(error)
    }
}

fn prepare(connection: &Connection, path: &Path) -> Result<(), Fault> {
    connection.busy_timeout(PATIENCE)?;
    let known = check(connection, path)?;
    if !known {
        // Before the first page is written, or never.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    keep_wal(connection)?;
    if !known {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// Whether the file is ours (or empty: false). Reads only.
fn check(connection: &Connection, path: &Path) -> Result<bool, Fault> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    if application != APPLICATION {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application == 0 && version == 0 && tables == 0 {
            return Ok(false);
        }
        return Err(Fault::Ours(Error::Foreign {
            path: path.to_path_buf(),
            why: format!("it is the database of another program (application id {application:#x})"),
        }));
    }
    if version != VERSION {
        return Err(Fault::Ours(Error::Version {
            path: path.to_path_buf(),
            found: version,
            known: VERSION,
        }));
    }
    Ok(true)
}

/// Keeps the -wal and -shm files when the writer ends: a reader that may not write the directory cannot make them.
fn keep_wal(connection: &Connection) -> Result<(), Fault> {
    let code = control(connection, ffi::SQLITE_FCNTL_PERSIST_WAL, &mut 1);
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(Fault::Sqlite(rusqlite::Error::SqliteFailure(
        ffi::Error::new(code),
        None,
    )))
}

/// Whether the file that is open is another than the one in its place, or nothing is there.
pub fn has_moved(connection: &Connection) -> bool {
    let mut moved: c_int = 0;
    control(connection, ffi::SQLITE_FCNTL_HAS_MOVED, &mut moved) == ffi::SQLITE_OK && moved != 0
}

/// One of the operations that take a number or answer one.
fn control(connection: &Connection, operation: c_int, number: &mut c_int) -> c_int {
    // SAFETY: the connection is open, "main" ends with a zero, and these operations take a pointer to an int.
    unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            operation,
            from_mut(number).cast(),
        )
    }
}

/// Opens for reading, beside the writer or without it.
pub fn open_read(directory: &Path) -> Result<(Connection, PathBuf), Error> {
    let path = directory.join(FILE);
    let absent = || Error::Absent {
        directory: directory.to_path_buf(),
    };
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(absent()),
        Err(why) => {
            return Err(Error::Directory { path, why });
        }
    }
    plain(&path)?;
    // The error is SQLite's "unable to open" otherwise, for a file that we may not read as well as for a strange one.
    if let Err(why) = File::open(&path) {
        return Err(Error::Other {
            path,
            why: format!("it cannot be read: {why}"),
        });
    }
    let first = connect(&path, false).and_then(|connection| {
        let known = check(&connection, &path)?;
        Ok((connection, known))
    });
    let wal = path.with_extension("db-wal");
    let (connection, known) = match first {
        // A copy in a directory that cannot be written: nobody changes it, so no -wal is needed. A live one has its -wal.
        Err(Fault::Sqlite(_)) if !wal.exists() => {
            let connection = connect(&path, true).map_err(|fault| fault.into_error(&path))?;
            let known = check(&connection, &path).map_err(|fault| fault.into_error(&path))?;
            (connection, known)
        }
        other => other.map_err(|fault| fault.into_error(&path))?,
    };
    if !known {
        return Err(absent());
    }
    Ok((connection, path))
}

fn connect(path: &Path, immutable: bool) -> Result<Connection, Fault> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = if immutable {
        Connection::open_with_flags(uri(path), flags)?
    } else {
        Connection::open_with_flags(path, flags.difference(OpenFlags::SQLITE_OPEN_URI))?
    };
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// The file as a URI: every octet that means something there is escaped.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_string();
    for octet in path.as_os_str().as_encoded_bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(*octet as char),
            other => uri += &format!("%{other:02X}"),
        }
    }
    uri + "?immutable=1"
}
