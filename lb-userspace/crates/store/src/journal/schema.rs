//! The tables, and how a database is known to have them.

use rusqlite::Connection;

use super::error::{Fault, Trouble};

/// The version of the tables, kept in `user_version`.
pub const SCHEMA: u32 = 1;

/// "hotl", kept in `application_id`: the file is hotlb's.
pub(super) const APPLICATION: u32 = 0x686f_746c;

/// The tables of version 1. Never changed: a new journal gets them too, and every step after them.
pub(super) const TABLES: &str = "
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

/// One step forward: from the tables of one version to those of the next.
pub(super) type Step = fn(&Connection) -> rusqlite::Result<()>;

/// The way from version 1 to [`SCHEMA`], in order. A step is never changed once it was released.
pub(super) const STEPS: &[Step] = &[];

const _: () = assert!(
    STEPS.len() + 1 == SCHEMA as usize,
    "every version has its step"
);

/// The versions a program knows: a test has steps of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schema {
    steps: &'static [Step],
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet.
    Empty,
    /// A journal of this version, which is an earlier one.
    Older(u32),
    /// A journal of the present version.
    Present,
}

impl Schema {
    /// This program's.
    pub(super) const OWN: Self = Self { steps: STEPS };

    #[cfg(test)]
    pub(super) const fn with(steps: &'static [Step]) -> Self {
        Self { steps }
    }

    /// The present version.
    pub(super) fn version(self) -> u32 {
        u32::try_from(self.steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1))
    }

    /// The steps that a journal of version `found` lacks.
    pub(super) fn since(self, found: u32) -> impl Iterator<Item = Step> {
        let done = usize::try_from(found).map_or(usize::MAX, |found| found.saturating_sub(1));
        self.steps.iter().copied().skip(done)
    }

    /// What `connection` leads to. What is not a journal, or a newer one, is refused.
    pub(super) fn look(self, connection: &Connection) -> Result<Found, Fault> {
        let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
        let application: u32 = number("application_id")?;
        let version: u32 = number("user_version")?;
        let tables: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let known = self.version();
        match (application, version, tables) {
            (0, 0, 0) => Ok(Found::Empty),
            (APPLICATION, found, _) if found == known => Ok(Found::Present),
            (APPLICATION, found, _) if found > known => Err(Trouble::Newer { found, known }.into()),
            (APPLICATION, found @ 1.., _) => Ok(Found::Older(found)),
            _ => Err(Trouble::Foreign.into()),
        }
    }
}
