//! What can go wrong with a history: which, where, why, and what to do.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::codec::Fault;

/// A history that cannot be used, or not now.
#[derive(Debug, Error)]
pub enum Error {
    /// There is none.
    #[error(
        "there is no history in {}: name its directory, or wait for the controller's first interval",
        directory.display()
    )]
    Absent {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The directory cannot be made or written.
    #[error("cannot write in {}: {why}; give the controller a directory that it may write", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// Another controller writes it.
    #[error(
        "{} is written by another controller{}: stop that one, or give this one a directory of its own",
        path.display(), holder.map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, where it said so.
        holder: Option<u32>,
    },
    /// Somebody else's file.
    #[error("{} is not a history of forwarder: {why}; it was left as it is: move it away, or name another directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that is known.
        why: String,
    },
    /// Written by a version that knows more.
    #[error(
        "{} has version {found}, and this program knows {known}: use the newer program, or move the file away",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It contradicts itself.
    #[error(
        "{} is damaged: {why}; move it away with its -wal and -shm files, and try `sqlite3 FILE .recover` or a copy",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A question that would take too long.
    #[error("that is more than {limit} samples to look through: ask for fewer things, or for a shorter time")]
    TooMuch {
        /// How many may be.
        limit: u64,
    },
    /// No room.
    #[error("no room to write {}: {why}; make room, and it goes on by itself", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// It may be read but not written.
    #[error("{} cannot be written: {why}; it must belong to the controller's user, on a file system mounted for writing", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// Anything else.
    #[error("{}: {why}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
}

impl Error {
    /// Whether only room is missing.
    pub const fn is_full(&self) -> bool {
        matches!(self, Error::Full { .. })
    }

    /// What SQLite says of a file.
    pub(crate) fn of(path: &Path, error: &rusqlite::Error) -> Error {
        let (path, why) = (path.to_path_buf(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Error::Full { path, why },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                Error::ReadOnly { path, why }
            }
            Some(ErrorCode::DatabaseCorrupt) => Error::Corrupt { path, why },
            Some(ErrorCode::NotADatabase) => Error::Foreign { path, why },
            // A write that failed for another reason than room: a quota, a dying disk.
            Some(ErrorCode::SystemIoFailure) if is_quota(error) => Error::Full { path, why },
            _ => match error {
                // A column of another type than we write.
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => Error::Corrupt { path, why },
                _ => Error::Other { path, why },
            },
        }
    }

    pub(crate) fn corrupt(path: &Path, why: impl ToString) -> Error {
        Error::Corrupt {
            path: path.to_path_buf(),
            why: why.to_string(),
        }
    }
}

/// SQLite tells ENOSPC apart, and calls EDQUOT a failed write.
fn is_quota(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE)
        && std::io::Error::last_os_error().raw_os_error() == Some(libc::EDQUOT)
}

/// What was wrong with a row, before it is known of which file.
pub(crate) enum Trouble {
    /// What SQLite says.
    Sqlite(rusqlite::Error),
    /// It contradicts itself.
    Damaged(Fault),
    /// What was packed is not what is unpacked.
    Different,
    /// More samples than so many.
    TooMuch(u64),
}

impl Trouble {
    /// In a file.
    pub fn of(self, path: &Path) -> Error {
        match self {
            Trouble::Sqlite(error) => Error::of(path, &error),
            Trouble::Damaged(fault) => Error::corrupt(path, fault),
            Trouble::Different => Error::corrupt(path, "a packed day is not what it was"),
            Trouble::TooMuch(limit) => Error::TooMuch { limit },
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        Trouble::Sqlite(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Damaged(fault)
    }
}
