//! The journal: what each rollout is about to do, durable before it is done, and with that the
//! history of all rollouts.
//!
//! One `SQLite` file, one thread that has it open: callers wait for the disk without blocking
//! their runtime. Rollouts are ordered by their ids and records by their `seq`; times are for
//! people only. Whoever uses it decides what a failed write means; it never decides itself.

mod database;
mod drill;
mod error;
mod fence;
mod health;
mod incidents;
mod kept;
mod migrate;
mod outbox;
mod read;
mod reading;
mod schema;
mod stamped;
mod worker;
mod write;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use self::{
    outbox::Outbox,
    schema::Schema,
    worker::{Kind, Worker},
};
use crate::config::{IncidentRetention, Retention};

pub use self::{
    drill::{Drill, DrillError},
    error::{JournalError, Trouble},
    outbox::dropped as dropped_traces,
    schema::SCHEMA,
    stamped::Stamped,
};
pub use hotlb_core::history::{
    CutConnection, End, Entry, GenerationRef, HistoryFilter, NewRollout, NoRolloutId, Outcome,
    Record, RolloutDetail, RolloutId, RolloutKind, Summary, Who,
};

/// A handle of the journal; clones share it. It is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    worker: Worker,
    retention: Retention,
    /// How many incidents are kept.
    incidents: IncidentRetention,
    /// Rollouts whose traces are to be delivered, if they are.
    outbox: Option<Arc<Outbox>>,
}

impl Journal {
    /// The journal at `path`. It never fails: if the database cannot be opened every write fails
    /// with the reason, until it can (which is tried again with each write, once a second at
    /// most).
    pub fn open(path: PathBuf) -> Self {
        Self::with(path, Retention::default(), None)
    }

    /// The same with a drill, and a retention that is enforced now and after each rollout.
    pub fn with(path: PathBuf, retention: Retention, drill: Option<Drill>) -> Self {
        let journal = Self::start(path, Schema::OWN, retention, drill);
        journal.prune_later();
        journal
    }

    fn start(path: PathBuf, schema: Schema, retention: Retention, drill: Option<Drill>) -> Self {
        Self {
            worker: Worker::start(path, schema, drill),
            retention,
            incidents: IncidentRetention::default(),
            outbox: None,
        }
    }

    /// The journal at `path`, for the successor of an agent that may still take up again. If it has to be migrated, nothing is written
    /// until [`Journal::take_charge`]: who asks for it waits, and who reads is told what the file will be.
    ///
    /// # Errors
    ///
    /// When it has to be migrated, and cannot be.
    pub async fn beside_former(
        path: PathBuf,
        retention: Retention,
        drill: Option<Drill>,
    ) -> Result<Self, JournalError> {
        let journal = Self::start(path, Schema::OWN, retention, drill);
        journal.worker.stand_beside().await?;
        journal.prune_later();
        Ok(journal)
    }

    /// No former agent needs the file any more: migrates it if that has to be done, and does what was asked for
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// When the migration failed: the file is as it was, and every write tries again.
    pub async fn take_charge(&self) -> Result<(), JournalError> {
        self.worker.take_charge().await
    }

    /// A handle of the same journal that can be held by itself, with its clones.
    #[must_use]
    pub fn fenced(&self) -> Self {
        Self {
            worker: self.worker.fenced(),
            ..self.clone()
        }
    }

    /// Has nothing more done that is asked for through this handle or its clones: who asks waits,
    /// if need be for ever. What was asked for before is done when this returns.
    ///
    /// # Errors
    ///
    /// When the disk does not answer: what was asked for may still be done.
    pub async fn hold(&self) -> Result<(), JournalError> {
        self.worker.hold().await
    }

    /// Goes on, with what was asked for meanwhile first.
    pub fn go_on(&self) {
        self.worker.go_on();
    }

    /// Closes the file until somebody needs it again.
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.worker
            .read(|database| {
                database.close();
                Ok(())
            })
            .await
    }

    /// Why it cannot be written now, as far as is known; does not wait.
    pub fn trouble(&self) -> Option<String> {
        self.worker.trouble()
    }

    /// Why it cannot be written now: found out by writing, unless that was done a moment ago. A disk that takes its time
    /// is waited for by the attempt, not by who asks.
    pub async fn check(&self) -> Option<String> {
        self.worker.check().await
    }

    /// A rollout begins. Nothing may be changed for it before this returns.
    pub async fn begin(&self, new: NewRollout) -> Result<RolloutId, JournalError> {
        self.begin_with(new, Vec::<Stamped>::new()).await
    }

    /// A rollout begins, with these steps: one write to the disk.
    pub async fn begin_with(
        &self,
        new: NewRollout,
        records: Vec<impl Into<Stamped> + Send>,
    ) -> Result<RolloutId, JournalError> {
        let records: Vec<Stamped> = records.into_iter().map(Into::into).collect();
        let outbox = self.outbox.clone();
        self.worker
            .run(move |database| write::begin(database, &new, &records, outbox.as_deref()))
            .await
    }

    /// Writes down a step of a rollout; it is durable when this returns.
    pub async fn record(&self, id: RolloutId, record: Record) -> Result<(), JournalError> {
        self.record_all(id, vec![record]).await
    }

    /// Writes down several steps at once: all of them are durable, or none.
    pub async fn record_all(
        &self,
        id: RolloutId,
        records: Vec<impl Into<Stamped> + Send>,
    ) -> Result<(), JournalError> {
        let records: Vec<Stamped> = records.into_iter().map(Into::into).collect();
        self.worker
            .run(move |database| write::record(database, id, &records))
            .await
    }

    /// The rollout is over.
    pub async fn finish(&self, id: RolloutId, end: End) -> Result<(), JournalError> {
        self.worker
            .run(move |database| write::finish(database, id, &end))
            .await?;
        if let Some(outbox) = &self.outbox {
            outbox.ring();
        }
        self.prune_later();
        Ok(())
    }

    /// The rollouts of `service` that are not over, newest last, with all their records.
    pub async fn unfinished(&self, service: &str) -> Result<Vec<RolloutDetail>, JournalError> {
        let service = service.to_owned();
        self.worker
            .read(move |database| {
                database.read(|connection| read::unfinished(connection, &service))
            })
            .await
    }

    /// Rollouts in short, newest first.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<Summary>, JournalError> {
        self.worker
            .read(move |database| database.read(|connection| read::history(connection, &filter)))
            .await
    }

    /// One rollout with all its records, if there is such a one.
    pub async fn show(&self, id: RolloutId) -> Result<Option<RolloutDetail>, JournalError> {
        self.worker
            .read(move |database| database.read(|connection| read::show(connection, id)))
            .await
    }

    /// Removes finished rollouts beyond `retention`; how many.
    pub async fn prune(&self, retention: Retention) -> Result<u64, JournalError> {
        self.worker
            .run(move |database| write::prune(database, retention))
            .await
    }

    fn prune_later(&self) {
        let retention = self.retention;
        // Nobody waits for it, and if it fails that is known as any other trouble.
        self.worker.later(Kind::Write, move |database| {
            drop(write::prune(database, retention));
        });
    }
}
