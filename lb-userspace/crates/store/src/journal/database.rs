//! The database file: opened when it is needed, given up when it is broken, tried again.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{
    RolloutId,
    drill::Drilling,
    error::{Fault, JournalError, Trouble},
    health::Health,
    migrate, reading,
    schema::Schema,
    write::since,
};
use crate::clock;

/// How long another process may keep the database locked before a write fails.
const LOCKED_LIMIT: Duration = Duration::from_secs(2);

/// Time between two tries to open a database that cannot be opened.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// The write-ahead log is cut to this size when it was larger: a page holds 4 KiB, and it is
/// written back after 1,000 pages.
const LOG_SIZE: u32 = 8 * 1024 * 1024;

/// The journal's file. Lives on the journal's own thread.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    open: Option<Open>,
    /// The last try to open it, if that failed.
    refused: Option<(Instant, Trouble)>,
    schema: Schema,
    /// What an older journal will be once it is migrated: read in its place while a former agent may still need it.
    preview: Option<Connection>,
    drilling: Drilling,
    health: Arc<Health>,
    /// When rollouts of this process began, by the wall clock and by the monotonic one.
    began: HashMap<RolloutId, (i64, Instant)>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// Device and inode: notices a file that was moved aside.
    file: Option<(u64, u64)>,
}

impl Database {
    pub(super) fn new(
        path: PathBuf,
        schema: Schema,
        drilling: Drilling,
        health: Arc<Health>,
    ) -> Self {
        Self {
            path,
            open: None,
            refused: None,
            schema,
            preview: None,
            drilling,
            health,
            began: HashMap::new(),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A former agent may have to take up again with the file as it is: if it is to be migrated, only its preview is read
    /// from here on. Whether that is so.
    pub(super) fn stand_beside(&mut self) -> Result<bool, JournalError> {
        let preview = reading::preview(&self.path, self.schema);
        self.preview = preview.map_err(|fault| fault.at(&self.path))?;
        Ok(self.preview.is_some())
    }

    /// The former agent has left: migrates what is to be.
    pub(super) fn take_charge(&mut self) -> Result<(), JournalError> {
        match self.preview.take() {
            Some(_older) => self.transact(false, |_work| Ok(())),
            None => Ok(()),
        }
    }

    /// Closes the file until it is needed again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Writes something that drills count: one transaction, durable when this returns.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        let fails = self.drilling.begins();
        let result = self.transact(fails, work);
        if result.is_ok() {
            self.drilling.became_durable();
        }
        result
    }

    /// Writes something else.
    pub(super) fn write_aside<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        let fails = self.drilling.would_fail();
        self.transact(fails, work)
    }

    fn transact<T>(
        &mut self,
        fails: bool,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        let result = if fails {
            Err(Trouble::Full.into())
        } else {
            self.attempt(work)
        };
        self.give_up_if_broken(&result);
        let result = result.map_err(|fault| fault.at(&self.path));
        self.health.tried(&result);
        result
    }

    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let connection = self.connection()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Reads; as well as it goes when the database cannot be written.
    pub(super) fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, Fault>,
    ) -> Result<T, JournalError> {
        if let Some(preview) = &self.preview {
            return work(preview).map_err(|fault| fault.at(&self.path));
        }
        let result = match self.connection() {
            Ok(connection) => snapshot(connection, work),
            Err(fault) => match reading::open(&self.path, self.schema) {
                Some(connection) => snapshot(&connection, work),
                None => Err(fault),
            },
        };
        self.give_up_if_broken(&result);
        result.map_err(|fault| fault.at(&self.path))
    }

    /// When something of `id` happened, in milliseconds since 1970: by the monotonic clock from its beginning on, so that a
    /// wall clock that jumps does not tear the rollout apart; after a restart by the wall clock.
    pub(super) fn moment(&self, id: RolloutId, at: Instant) -> i64 {
        self.began.get(&id).map_or_else(
            || clock::unix_millis_at(at),
            |&(wall, begun)| wall.saturating_add(since(begun, at)),
        )
    }

    /// Rollout `id` has begun, at this time of both clocks.
    pub(super) fn begun(&mut self, id: RolloutId, wall: i64, began: Instant) {
        self.began.insert(id, (wall, began));
    }

    /// Rollout `id` is over.
    pub(super) fn ended(&mut self, id: RolloutId) {
        self.began.remove(&id);
    }

    fn connection(&mut self) -> Result<&mut Connection, Fault> {
        let open = match self.open.take() {
            Some(open) if open.file == identity(&self.path) => open,
            former => {
                if let Some(former) = former {
                    self.leave(former);
                }
                self.open_again()?
            }
        };
        Ok(&mut self.open.insert(open).connection)
    }

    /// Somebody moved the file away. What is in the write-ahead log belongs to it, and the log
    /// itself is still where the next database will have its own.
    fn leave(&self, open: Open) {
        tracing::warn!(path = %self.path.display(), "the journal file was moved or removed");
        let written = open
            .connection
            .pragma_query(None, "wal_checkpoint", |_row| Ok(()));
        drop(open);
        if let Err(error) = written {
            tracing::warn!(
                %error,
                "failed to complete the moved journal; it may lack its last records"
            );
        }
    }

    fn open_again(&mut self) -> Result<Open, Fault> {
        if let Some((tried, trouble)) = &self.refused
            && clock::now().saturating_duration_since(*tried) < TRY_INTERVAL
        {
            return Err(trouble.clone().into());
        }
        match open(&self.path, self.schema, &mut self.drilling) {
            Ok(connection) => {
                self.refused = None;
                let file = identity(&self.path);
                Ok(Open { connection, file })
            }
            Err(fault) => {
                let trouble = fault.trouble(&self.path);
                self.refused = Some((clock::now(), trouble.clone()));
                Err(trouble.into())
            }
        }
    }

    /// A connection that met a broken file is of no more use. A full disk or a lock will pass, and
    /// what is open then can still be read.
    fn give_up_if_broken<T>(&mut self, result: &Result<T, Fault>) {
        let Err(Fault::Sql(error)) = result else {
            return;
        };
        let trouble = Trouble::of_sql(&self.path, error);
        if !matches!(trouble, Trouble::Full | Trouble::Locked) {
            self.open = None;
        }
    }
}

/// All of `work` sees one state of the database.
fn snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.unchecked_transaction()?;
    work(&transaction)
}

fn open(path: &Path, schema: Schema, drilling: &mut Drilling) -> Result<Connection, Fault> {
    touch(path)?;
    // SQLite's own locks are not needed: the connection stays on its thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCKED_LIMIT)?;
    schema.look(&connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Trouble::NoWal.into());
    }
    // FULL: the log is on the disk before a commit returns.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "journal_size_limit", LOG_SIZE)?;
    migrate::make(&mut connection, path, schema, drilling)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// Makes the file if there is none, for its owner alone: it has the hooks' output. `SQLite` would
/// make it for everybody, and would only say "unable to open" where the system says why.
///
/// Never while a connection is open: closing any descriptor of the file gives up its locks.
fn touch(path: &Path) -> Result<(), Trouble> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| Trouble::of_io(path, &error))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
