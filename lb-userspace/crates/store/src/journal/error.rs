//! What can be wrong with the journal, in the operator's words.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use rusqlite::{Error as SqlError, ErrorCode};
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use thiserror::Error;

use super::RolloutId;
use crate::incident::IncidentId;

/// The journal did not do what was asked of it.
///
/// After a failed write it is not known whether the record is on the disk: what is written is
/// written before it is done, and an intent that was never carried out does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// It cannot be read or written now.
    #[error("the journal {path} cannot be used: {trouble}")]
    Unusable {
        /// The database.
        path: PathBuf,
        /// Why.
        trouble: Trouble,
    },
    /// There is no such rollout.
    #[error("rollout {0} is not in the journal; see `hotlb history`")]
    UnknownRollout(RolloutId),
    /// There is no such incident.
    #[error("incident {0} is not in the journal; see `hotlb incidents`")]
    UnknownIncident(IncidentId),
    /// The rollout has ended already.
    #[error("rollout {0} has already ended")]
    Over(RolloutId),
}

/// Why the journal cannot be used. It is tried again with the next request; no restart is needed
/// once the cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// A newer hotlb wrote it.
    #[error(
        "it has schema version {found}, but this hotlb knows version {known}; run the hotlb that \
         wrote it, or move it aside: the agent then creates a new one"
    )]
    Newer {
        /// Its version.
        found: u32,
        /// [`super::SCHEMA`].
        known: u32,
    },
    /// An older hotlb wrote it, and a step to the present tables failed.
    #[error(
        "it has schema version {found}, and migrating it to version {known} failed ({reason}); it was \
         not changed: run the hotlb that wrote it, or move it aside: the agent then creates a new one"
    )]
    NotMigrated {
        /// Its version.
        found: u32,
        /// [`super::SCHEMA`].
        known: u32,
        /// What failed.
        reason: String,
    },
    /// It belongs to another program.
    #[error(
        "it is the database of another program; move it aside, or set HOTLB_STATE_DIR: the agent \
         then creates a new one"
    )]
    Foreign,
    /// It is no database, or a broken one. It is never replaced by itself: what it knows may be
    /// needed to put a half-done rollout right.
    #[error(
        "it is damaged or not a database ({0}), and was not changed: restore it, or move it aside \
         together with its -wal and -shm; the agent then creates a new one"
    )]
    Damaged(String),
    /// No space is left.
    #[error("its file system is full; free some space")]
    Full,
    /// Nothing can be written there.
    #[error("its file system is read-only; mount it read-write")]
    ReadOnly,
    /// Somebody else has it.
    #[error("another process keeps it locked; end that process (`fuser` names it)")]
    Locked,
    /// Its directory is gone.
    #[error("the directory {0} does not exist; create it")]
    NoDirectory(PathBuf),
    /// The agent may not write it.
    #[error(
        "the agent is not permitted to read and write it; give it to the agent's user, mode 0600"
    )]
    NotPermitted,
    /// The file system cannot do what a write-ahead log needs.
    #[error("its file system does not support shared memory; put HOTLB_STATE_DIR on a local one")]
    NoWal,
    /// The disk does not answer.
    #[error("its disk does not respond")]
    Slow,
    /// The thread that writes it is gone: a bug.
    #[error("the journal writer thread exited; restart the agent and report this bug")]
    Gone,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Trouble {
    /// What `error` at `path` means.
    pub(super) fn of_io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::NoDirectory(directory(path).to_owned()),
            ErrorKind::PermissionDenied => Self::NotPermitted,
            ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Other(error.to_string()),
        }
    }

    /// What `error` means for the database at `path`.
    pub(super) fn of_sql(path: &Path, error: &SqlError) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::of_place(path).unwrap_or_else(|| Self::Other(error.to_string())),
        }
    }

    /// What is wrong with the place itself: `SQLite` says "disk I/O error" or "unable to open"
    /// for most of it.
    fn of_place(path: &Path) -> Option<Self> {
        let found = match statvfs(directory(path)) {
            Ok(found) => found,
            Err(error) => return Some(Self::of_io(path, &error.into())),
        };
        if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Some(Self::ReadOnly);
        }
        // Room for less than one page of the database.
        if found.f_bavail == 0 || found.f_files > 0 && found.f_favail == 0 {
            return Some(Self::Full);
        }
        // Not by opening it: closing it again would give up the locks of an open connection.
        let may = access(path, Access::READ_OK | Access::WRITE_OK);
        may.err().map(|error| Self::of_io(path, &error.into()))
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

/// Why a piece of work on the database failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// `SQLite` failed.
    Sql(SqlError),
    /// The database cannot be used.
    Trouble(Trouble),
    /// The request was wrong.
    Refused(JournalError),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

impl Fault {
    /// The error for who asked for the work on the database at `path`.
    pub(super) fn at(self, path: &Path) -> JournalError {
        match self {
            Self::Refused(error) => error,
            fault => JournalError::Unusable {
                path: path.to_owned(),
                trouble: fault.trouble(path),
            },
        }
    }

    /// What is wrong with the database at `path`.
    pub(super) fn trouble(self, path: &Path) -> Trouble {
        match self {
            Self::Trouble(trouble) => trouble,
            Self::Sql(error) => Trouble::of_sql(path, &error),
            Self::Refused(error) => Trouble::Other(error.to_string()),
        }
    }
}
