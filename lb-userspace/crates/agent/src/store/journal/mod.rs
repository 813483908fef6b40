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
mod write;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use self::{
    database::Database, drill::Drilling, fence::Fence, health::Health, outbox::Outbox,
    schema::Schema,
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

const TICK: Duration = Duration::from_secs(1);

/// Longest wait of a check for what the disk says.
const LOOK: Duration = Duration::from_millis(100);

/// Longer than another process may keep the database locked.
const PATIENCE: u32 = 10;

/// A handle of the journal; clones share it. It is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
    /// The thread's work, in order. Not bounded: everybody waits for the answer to what they
    /// sent. Closing it ends the thread.
    work: Sender<Work>,
    health: Arc<Health>,
    retention: Retention,
    /// How many incidents are kept.
    incidents: IncidentRetention,
    /// How many [`TICK`]s a request may wait for the disk. Counted, not measured, so that an
    /// agent that was stopped for a minute does not find its time used up.
    patience: u32,
    /// Holds back what is asked for through this handle.
    fence: Arc<Fence>,
    /// Holds back everybody's writes while a former agent may still need the file as it is.
    charge: Arc<Fence>,
    /// Rollouts whose traces are to be delivered, if they are.
    outbox: Option<Arc<Outbox>>,
}

type Work = Box<dyn FnOnce(&mut Database) + Send>;

/// What a request does to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
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
        let (work, todo) = mpsc::channel::<Work>();
        let health = Arc::new(Health::default());
        let mut database = Database::new(
            path.clone(),
            schema,
            Drilling::new(drill),
            Arc::clone(&health),
        );
        let known = Arc::clone(&health);
        let run = move || {
            for work in todo {
                work(&mut database);
                known.goes_on();
            }
        };
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(run);
        if let Err(error) = thread {
            // The channel is closed then, and every request says that nobody writes.
            tracing::error!(%error, "failed to start the thread of the journal");
        }
        Self {
            path,
            work,
            health,
            retention,
            incidents: IncidentRetention::default(),
            patience: PATIENCE,
            fence: Arc::default(),
            charge: Arc::default(),
            outbox: None,
        }
    }

    /// Why it cannot be written now, as far as is known; does not wait.
    pub fn trouble(&self) -> Option<String> {
        self.health.trouble().map(|trouble| trouble.to_string())
    }

    /// Why it cannot be written now: found out by writing, unless that was done a moment ago. A disk that takes its time
    /// is waited for by the attempt, not by who asks.
    pub async fn check(&self) -> Option<String> {
        if self.health.begins_check() {
            let journal = self.clone();
            let trying = tokio::spawn(async move {
                let tried = journal.run(|database| {
                    write::attempt(database);
                    Ok(())
                });
                let tried = tried.await;
                journal.health.ends_check();
                tried
            });
            let tried = timeout(LOOK, trying).await;
            if let Ok(Ok(Err(JournalError::Unusable { trouble, .. }))) = tried {
                return Some(trouble.to_string());
            }
        }
        self.trouble()
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
        self.run(move |database| write::begin(database, &new, &records, outbox.as_deref()))
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
        self.run(move |database| write::record(database, id, &records))
            .await
    }

    /// The rollout is over.
    pub async fn finish(&self, id: RolloutId, end: End) -> Result<(), JournalError> {
        self.run(move |database| write::finish(database, id, &end))
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
        self.read(move |database| {
            database.read(|connection| read::unfinished(connection, &service))
        })
        .await
    }

    /// Rollouts in short, newest first.
    pub async fn history(&self, filter: HistoryFilter) -> Result<Vec<Summary>, JournalError> {
        self.read(move |database| database.read(|connection| read::history(connection, &filter)))
            .await
    }

    /// One rollout with all its records, if there is such a one.
    pub async fn show(&self, id: RolloutId) -> Result<Option<RolloutDetail>, JournalError> {
        self.read(move |database| database.read(|connection| read::show(connection, id)))
            .await
    }

    /// Removes finished rollouts beyond `retention`; how many.
    pub async fn prune(&self, retention: Retention) -> Result<u64, JournalError> {
        self.run(move |database| write::prune(database, retention))
            .await
    }

    /// Has the thread write something, and waits for it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(Kind::Write, work).await
    }

    /// Has the thread do something that leaves the file as it is, and waits for it.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(Kind::Read, work).await
    }

    /// Has the thread do something and waits for it. What has not begun when nobody waits for it
    /// any more is never done; what has begun is done to its end.
    async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&mut Database) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        if self.health.is_stuck() {
            return Err(self.unusable(Trouble::Slow));
        }
        let (tell, mut told) = oneshot::channel();
        self.later(kind, move |database| {
            if !tell.is_closed() {
                // Whoever asked may have gone.
                let _gone = tell.send(work(database));
            }
        });
        let mut ticks = 0;
        while ticks < self.patience {
            match timeout(TICK, &mut told).await {
                Ok(Ok(result)) => return result,
                Ok(Err(_gone)) => return Err(self.unusable(Trouble::Gone)),
                // It has not begun.
                Err(_tick) if self.is_held(kind) => {}
                Err(_tick) => ticks += 1,
            }
        }
        self.health.stuck();
        Err(self.unusable(Trouble::Slow))
    }

    fn prune_later(&self) {
        let retention = self.retention;
        // Nobody waits for it, and if it fails that is known as any other trouble.
        self.later(Kind::Write, move |database| {
            drop(write::prune(database, retention));
        });
    }

    /// Has the thread do something some time.
    fn later(&self, kind: Kind, work: impl FnOnce(&mut Database) + Send + 'static) {
        let (fence, charge) = (Arc::clone(&self.fence), Arc::clone(&self.charge));
        let work = move |database: &mut Database| match kind {
            Kind::Read => work(database),
            Kind::Write => charge.pass(database, Box::new(work)),
        };
        let work = move |database: &mut Database| fence.pass(database, Box::new(work));
        // If the thread is gone, so is whoever would answer, and that is noticed.
        let _gone = self.work.send(Box::new(work));
    }

    /// Whether nothing of this kind is done for now.
    fn is_held(&self, kind: Kind) -> bool {
        self.fence.is_held() || kind == Kind::Write && self.charge.is_held()
    }

    fn unusable(&self, trouble: Trouble) -> JournalError {
        JournalError::Unusable {
            path: self.path.clone(),
            trouble,
        }
    }
}
