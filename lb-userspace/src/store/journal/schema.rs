//! The tables, and how a database is known to have them.

use rusqlite::{Connection, TransactionBehavior};

use super::error::{Fault, Trouble};

/// The version of the tables, kept in `user_version`.
pub const SCHEMA: u32 = 1;

/// "hotl", kept in `application_id`: the file is hotlb's.
const APPLICATION: u32 = 0x686f_746c;

const TABLES: &str = "
CREATE TABLE rollout (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    service   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    from_id   INTEGER,
    from_name TEXT,
    to_id     INTEGER NOT NULL,
    to_name   TEXT NOT NULL,
    who_uid   INTEGER,
    who_pid   INTEGER,
    who_name  TEXT NOT NULL,
    trace     TEXT NOT NULL,
    boot      TEXT NOT NULL,
    began_ms  INTEGER NOT NULL,
    ended_ms  INTEGER,
    phase     TEXT,
    outcome   TEXT,
    reason    TEXT
) STRICT;
CREATE INDEX rollout_of_service ON rollout (service, id);
CREATE INDEX rollout_unfinished ON rollout (service, id) WHERE outcome IS NULL;
CREATE TABLE record (
    rollout INTEGER NOT NULL REFERENCES rollout (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (rollout, seq)
) STRICT;
-- Written to find out whether anything can be.
CREATE TABLE trial (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL) STRICT;
INSERT INTO trial VALUES (1, 0);
";

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nothing yet.
    Empty,
    /// A journal of [`SCHEMA`].
    Journal,
}

/// Refuses a database that is not a journal of this version.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    look(connection).map(drop)
}

/// Makes the tables if there are none yet. True if they were made.
pub(super) fn make(connection: &mut Connection) -> Result<bool, Fault> {
    if look(connection)? == Found::Journal {
        return Ok(false);
    }
    let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work.execute_batch(TABLES)?;
    work.pragma_update(None, "application_id", APPLICATION)?;
    work.pragma_update(None, "user_version", SCHEMA)?;
    work.commit()?;
    Ok(true)
}

fn look(connection: &Connection) -> Result<Found, Fault> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let application: u32 = number("application_id")?;
    let version: u32 = number("user_version")?;
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(Found::Empty),
        (APPLICATION, SCHEMA, _) => Ok(Found::Journal),
        (APPLICATION, found, _) if found > SCHEMA => Err(Trouble::Newer {
            found,
            known: SCHEMA,
        }
        .into()),
        _ => Err(Trouble::Foreign.into()),
    }
}
