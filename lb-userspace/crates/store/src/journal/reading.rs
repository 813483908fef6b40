//! Opening the database for reading alone, when it cannot be written: an agent that starts on a
//! full or read-only disk must still learn which rollout it left half done.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    error::Fault,
    migrate,
    schema::{Found, Schema},
};

/// A connection that can read the database at `path`, if there is any way to have one. An earlier release's is read from
/// memory, with the present tables.
pub(super) fn open(path: &Path, schema: Schema) -> Option<Connection> {
    let (connection, found) = opened(path, schema)?;
    match found {
        Found::Older(found) => migrate::in_memory(&connection, path, found, schema).ok(),
        Found::Present | Found::Empty => Some(connection),
    }
}

/// What the database at `path` will be once it is migrated, if it is to be.
pub(super) fn preview(path: &Path, schema: Schema) -> Result<Option<Connection>, Fault> {
    match opened(path, schema) {
        Some((connection, Found::Older(found))) => {
            migrate::in_memory(&connection, path, found, schema).map(Some)
        }
        _ => Ok(None),
    }
}

fn opened(path: &Path, schema: Schema) -> Option<(Connection, Found)> {
    if !path.exists() {
        return None;
    }
    let usable = |opened: rusqlite::Result<Connection>| {
        let connection = opened.ok()?;
        let found = schema.look(&connection).ok()?;
        Some((connection, found))
    };
    // First the way that leaves nothing behind: the ordinary one makes a -shm, and one that was
    // made with the mode of a read-only database cannot be written afterwards.
    immutable(path)
        .and_then(usable)
        .or_else(|| usable(ordinary(path)))
}

fn ordinary(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Without locks and shared memory. Only right when there is no write-ahead log to be read, that
/// is after an orderly end.
fn immutable(path: &Path) -> Option<rusqlite::Result<Connection>> {
    let log = fs::metadata(log_of(path)).map_or(0, |found| found.len());
    if log > 0 {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Some(Connection::open_with_flags(immutable_uri(path), flags))
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-wal");
    name.into()
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(uri, "%{byte:02x}");
        }
    }
    uri + "?immutable=1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_path_stays_one_path() {
        let uri = immutable_uri(Path::new("/var/a b?c#d%/hotlb.db"));
        assert_eq!(uri, "file:/var/a%20b%3fc%23d%25/hotlb.db?immutable=1");
    }
}
