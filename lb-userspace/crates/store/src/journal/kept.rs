//! The former file of a journal that was migrated, beside it: for a release that cannot read the present one.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirEntry, File},
    io::{self, ErrorKind},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};

use super::error::{Fault, Trouble};
use crate::clock;

/// Behind the journal's name, and before the version of the tables in the copy.
const MARK: &str = ".schema-";

/// Behind the name of a copy that is not complete.
const UNFINISHED: &str = ".new";

/// All pages in one step: nobody else writes meanwhile.
const ALL: i32 = -1;

/// Copies the journal at `path`, whose tables have version `found`, and says where the copy is. It is durable then.
///
/// By `SQLite`, not byte by byte: part of the journal may still be in the write-ahead log, and closing any other
/// descriptor of the file would give up the locks of whoever has it open.
pub(super) fn keep(path: &Path, found: u32) -> Result<PathBuf, Fault> {
    let kept = with_suffix(path, &format!("{MARK}{found}"));
    let unfinished = with_suffix(&kept, UNFINISHED);
    let failed = |error: io::Error| Fault::from(Trouble::of_io(path, &error));
    // An earlier attempt may have been killed, or the disk was full then.
    remove(&unfinished).map_err(failed)?;
    let made = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished);
    made.map_err(failed)?;
    let copied = copy_to(path, &unfinished);
    if copied.is_err() {
        // Of a full disk it would take the rest.
        drop(fs::remove_file(&unfinished));
    }
    copied?;
    let named = fs::rename(&unfinished, &kept).and_then(|()| sync_directory(path));
    named.map_err(failed)?;
    Ok(kept)
}

fn copy_to(path: &Path, to: &Path) -> Result<(), Fault> {
    let no_mutex = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | no_mutex)?;
    let mut copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE | no_mutex)?;
    copy.pragma_update(None, "synchronous", "full")?;
    // Nothing is there to go back to, and one on the disk would be rolled into the next attempt's file.
    copy.pragma_update_and_check(None, "journal_mode", "memory", |_row| Ok(()))?;
    self::copy(&from, &mut copy)
}

/// Copies everything of one database into an empty one.
pub(super) fn copy(from: &Connection, to: &mut Connection) -> Result<(), Fault> {
    let copying = Backup::new(from, to)?;
    match copying.step(ALL)? {
        StepResult::Done => Ok(()),
        // Somebody writes who is not bound by the agent's lock.
        _ => Err(Trouble::Locked.into()),
    }
}

/// Removes the copies that earlier migrations of the journal at `path` left.
pub(super) fn remove_others(path: &Path, kept: &Path) {
    remove_where(path, |entry| entry.path() != kept);
}

/// Removes copies of the journal at `path` that are older than `age`: what the history forgets is not to be found there
/// any more either.
pub(super) fn expire(path: &Path, age: Duration) {
    let limit = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let oldest = clock::unix_millis().saturating_sub(limit);
    remove_where(path, |entry| made(entry).is_some_and(|made| made < oldest));
}

fn made(entry: &DirEntry) -> Option<i64> {
    let modified = entry.metadata().ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn remove_where(path: &Path, wanted: impl Fn(&DirEntry) -> bool) {
    for entry in copies(path).filter(|entry| wanted(entry)) {
        match fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(
                path = %entry.path().display(),
                "removed the copy of an earlier journal"
            ),
            Err(error) => tracing::warn!(
                path = %entry.path().display(),
                %error,
                "failed to remove the copy of an earlier journal"
            ),
        }
    }
}

/// The copies of the journal at `path`, complete or not.
fn copies(path: &Path) -> impl Iterator<Item = DirEntry> {
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut start = path.file_name().unwrap_or_default().to_owned();
    start.push(MARK);
    let entries = fs::read_dir(directory).ok().into_iter().flatten().flatten();
    entries.filter(move |entry| is_copy(&entry.file_name(), &start))
}

fn is_copy(name: &OsStr, start: &OsStr) -> bool {
    let Some(rest) = name.as_bytes().strip_prefix(start.as_bytes()) else {
        return false;
    };
    let version = rest.strip_suffix(UNFINISHED.as_bytes()).unwrap_or(rest);
    !version.is_empty() && version.iter().all(u8::is_ascii_digit)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or_else(|| Path::new("/")))?.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
