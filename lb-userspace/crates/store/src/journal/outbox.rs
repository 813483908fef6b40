//! Rollouts whose traces are still to be delivered: a bounded queue in the journal's own file.
//!
//! A rollout enters it in the transaction in which it begins, so no agent can die between the
//! two, and leaves it when a collector has taken its trace. The tables stand beside those of the
//! schema: a release that does not know them passes them over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rusqlite::{Connection, Transaction};
use tokio::sync::Notify;

use super::{Journal, JournalError, RolloutId, error::Fault};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS outbox (
    rollout INTEGER PRIMARY KEY REFERENCES rollout (id) ON DELETE CASCADE
) STRICT;
CREATE TABLE IF NOT EXISTS outbox_dropped (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO outbox_dropped VALUES (1, 0);
";

/// As the file has it, so that nobody has to wait for the disk to read it.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many rollouts have lost their trace since the journal was begun, because the queue was
/// full, the history was cut, or a collector refused it for good; 0 for an agent that sends no traces.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The queue, as far as it is not in the file.
#[derive(Debug)]
pub(super) struct Outbox {
    /// At most so many rollouts.
    bound: u32,
    /// Rung when a rollout is over; the exporter waits.
    rings: Notify,
}

impl Outbox {
    /// Enters a rollout that begins. The oldest goes if there are too many: what is looked for
    /// after trouble is what came last.
    pub(super) fn enter(&self, work: &Transaction<'_>, id: RolloutId) -> Result<(), Fault> {
        work.execute_batch(TABLES)?;
        work.execute("INSERT INTO outbox VALUES (?1)", [id.0])?;
        let excess = work.execute(
            "DELETE FROM outbox WHERE rollout NOT IN
                 (SELECT rollout FROM outbox ORDER BY rollout DESC LIMIT ?1)",
            [self.bound],
        )?;
        lost(work, excess)
    }

    /// A rollout is over.
    pub(super) fn ring(&self) {
        self.rings.notify_one();
    }
}

/// How many wait; to be asked before and after rollouts are forgotten.
pub(super) fn count(work: &Connection) -> Result<usize, Fault> {
    let there: bool = work.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'outbox')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(0);
    }
    let count: i64 = work.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Counts rollouts that lost their trace.
pub(super) fn lost(work: &Transaction<'_>, number: usize) -> Result<(), Fault> {
    if number == 0 {
        return Ok(());
    }
    tracing::warn!(
        number,
        "dropped traces of rollouts before a collector accepted them; `hotlb history` still has \
         the rollouts"
    );
    count_lost(work, number)
}

fn count_lost(work: &Transaction<'_>, number: usize) -> Result<(), Fault> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    work.execute("UPDATE outbox_dropped SET number = number + ?1", [number])?;
    read_dropped(work)
}

fn read_dropped(work: &Connection) -> Result<(), Fault> {
    let number: i64 = work.query_row("SELECT number FROM outbox_dropped", [], |row| row.get(0))?;
    DROPPED.store(number.try_into().unwrap_or_default(), Ordering::Relaxed);
    Ok(())
}

impl Journal {
    /// The same journal, keeping the rollouts that begin from now on, `bound` of them at most,
    /// until [`Journal::trace_delivered`] has said that their traces are elsewhere.
    #[must_use]
    pub fn keeping_traces(self, bound: u32) -> Self {
        let rings = Notify::new();
        Self {
            outbox: Some(Arc::new(Outbox { bound, rings })),
            ..self
        }
    }

    /// The rollouts that are over and whose traces were not delivered, oldest first.
    pub async fn untold(&self) -> Result<Vec<RolloutId>, JournalError> {
        self.worker
            .run(|database| {
                database.write_aside(|work| {
                    work.execute_batch(TABLES)?;
                    read_dropped(work)?;
                    let mut query = work.prepare(
                        "SELECT id FROM rollout JOIN outbox ON rollout = id
                     WHERE outcome IS NOT NULL ORDER BY id",
                    )?;
                    let found = query.query_map([], |row| row.get(0).map(RolloutId))?;
                    Ok(found.collect::<rusqlite::Result<_>>()?)
                })
            })
            .await
    }

    /// The trace of this rollout is elsewhere.
    pub async fn trace_delivered(&self, id: RolloutId) -> Result<(), JournalError> {
        self.worker
            .run(move |database| {
                database.write_aside(|work| {
                    work.execute("DELETE FROM outbox WHERE rollout = ?1", [id.0])?;
                    Ok(())
                })
            })
            .await
    }

    /// No collector will take the trace of this rollout: it is counted as dropped.
    pub async fn trace_refused(&self, id: RolloutId) -> Result<(), JournalError> {
        self.worker
            .run(move |database| {
                database.write_aside(|work| {
                    let left = work.execute("DELETE FROM outbox WHERE rollout = ?1", [id.0])?;
                    count_lost(work, left)
                })
            })
            .await
    }

    /// Waits until a rollout is over, from the last time on that somebody waited.
    pub async fn rollout_over(&self) {
        match &self.outbox {
            Some(outbox) => outbox.rings.notified().await,
            None => std::future::pending().await,
        }
    }
}
