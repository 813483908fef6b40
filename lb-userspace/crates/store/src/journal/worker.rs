//! The thread that has the file open, and what is asked of it.

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

use super::{
    Drill, JournalError, Trouble, database::Database, drill::Drilling, fence::Fence,
    health::Health, schema::Schema, write,
};

pub(super) const TICK: Duration = Duration::from_secs(1);

/// Longest wait of a check for what the disk says.
const LOOK: Duration = Duration::from_millis(100);

/// Longer than another process may keep the database locked.
const PATIENCE: u32 = 10;

pub(super) type Work = Box<dyn FnOnce(&mut Database) + Send>;

/// What a request does to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// A way to the thread; clones share it. The thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    path: PathBuf,
    /// The thread's work, in order. Not bounded: everybody waits for the answer to what they
    /// sent. Closing it ends the thread.
    work: Sender<Work>,
    health: Arc<Health>,
    /// How many [`TICK`]s a request may wait for the disk. Counted, not measured, so that an
    /// agent that was stopped for a minute does not find its time used up.
    patience: u32,
    /// Holds back what is asked for through this handle.
    fence: Arc<Fence>,
    /// Holds back everybody's writes while a former agent may still need the file as it is.
    charge: Arc<Fence>,
}

impl Worker {
    /// Starts the thread, for the file at `path`.
    pub(super) fn start(path: PathBuf, schema: Schema, drill: Option<Drill>) -> Self {
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
            patience: PATIENCE,
            fence: Arc::default(),
            charge: Arc::default(),
        }
    }

    /// Why the file cannot be written now, as far as is known; does not wait.
    pub(super) fn trouble(&self) -> Option<String> {
        self.health.trouble().map(|trouble| trouble.to_string())
    }

    /// Why it cannot be written now: found out by writing, unless that was done a moment ago. A disk that takes its time
    /// is waited for by the attempt, not by who asks.
    pub(super) async fn check(&self) -> Option<String> {
        if self.health.begins_check() {
            let worker = self.clone();
            let trying = tokio::spawn(async move {
                let tried = worker.run(|database| {
                    write::attempt(database);
                    Ok(())
                });
                let tried = tried.await;
                worker.health.ends_check();
                tried
            });
            let tried = timeout(LOOK, trying).await;
            if let Ok(Ok(Err(JournalError::Unusable { trouble, .. }))) = tried {
                return Some(trouble.to_string());
            }
        }
        self.trouble()
    }

    /// Has the thread write something, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(Kind::Write, work).await
    }

    /// Has the thread do something that leaves the file as it is, and waits for it.
    pub(super) async fn read<T: Send + 'static>(
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

    /// Has the thread do something some time.
    pub(super) fn later(&self, kind: Kind, work: impl FnOnce(&mut Database) + Send + 'static) {
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

    /// Writes nothing before [`Worker::take_charge`] if the file has to be migrated.
    pub(super) async fn stand_beside(&self) -> Result<(), JournalError> {
        let charge = Arc::clone(&self.charge);
        self.read(move |database| {
            if database.stand_beside()? {
                charge.hold();
            }
            Ok(())
        })
        .await
    }

    /// Migrates the file if that has to be done, and does what was asked for meanwhile.
    pub(super) async fn take_charge(&self) -> Result<(), JournalError> {
        let charge = Arc::clone(&self.charge);
        self.read(move |database| {
            let migrated = database.take_charge();
            charge.release(database);
            migrated
        })
        .await
    }

    /// A way to the same thread that can be held by itself.
    pub(super) fn fenced(&self) -> Self {
        Self {
            fence: Arc::default(),
            ..self.clone()
        }
    }

    /// Has nothing more done that is asked for through this one or its clones.
    pub(super) async fn hold(&self) -> Result<(), JournalError> {
        self.fence.hold();
        // The thread does everything in order.
        self.fenced().read(|_database| Ok(())).await
    }

    /// Goes on, with what was asked for meanwhile first.
    pub(super) fn go_on(&self) {
        for work in self.fence.opened() {
            // A write among them knows what else may hold it.
            self.later(Kind::Read, work);
        }
    }

    fn unusable(&self, trouble: Trouble) -> JournalError {
        JournalError::Unusable {
            path: self.path.clone(),
            trouble,
        }
    }
}

#[cfg(test)]
impl Worker {
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Has requests wait for so many [`TICK`]s.
    pub(super) fn has_patience(&mut self, ticks: u32) {
        self.patience = ticks;
    }

    /// How much waits.
    pub(super) fn parked(&self) -> usize {
        self.fence.parked() + self.charge.parked()
    }
}
