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

use super::schema;

/// A connection that can read the database at `path`, if there is any way to have one.
pub(super) fn open(path: &Path) -> Option<Connection> {
    if !path.exists() {
        return None;
    }
    // First the way that leaves nothing behind: the ordinary one makes a -shm, and one that was
    // made with the mode of a read-only database cannot be written afterwards.
    immutable(path).or_else(|| ordinary(path))
}

fn ordinary(path: &Path) -> Option<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    usable(Connection::open_with_flags(path, flags))
}

/// Without locks and shared memory. Only right when there is no write-ahead log to be read, that
/// is after an orderly end.
fn immutable(path: &Path) -> Option<Connection> {
    let log = fs::metadata(log_of(path)).map_or(0, |found| found.len());
    if log > 0 {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    usable(Connection::open_with_flags(immutable_uri(path), flags))
}

fn usable(opened: rusqlite::Result<Connection>) -> Option<Connection> {
    opened
        .ok()
        .filter(|connection| schema::check(connection).is_ok())
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
