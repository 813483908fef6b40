//! What is written down of a rollout, and how long that is waited for.

use std::{future::Future, sync::Arc, time::Duration};

use tracing::Instrument as _;

use super::{super::VerbError, Rollouts, late::Unwritten};
use crate::{
    rollout::Phase,
    store::journal::{End, JournalError, NewRollout, Record, RolloutId, Stamped},
};

/// How long a rollback waits for the journal.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes down what happens in one rollout.
pub(super) struct Minutes {
    rollouts: Arc<Rollouts>,
    token: u64,
    /// How the journal calls it, once it does.
    id: Option<RolloutId>,
    /// What the journal is told first, until it has been.
    new: Option<NewRollout>,
    /// What is to be written down with the next thing that matters.
    pending: Vec<Stamped>,
    /// Whether it starts its candidate.
    starts: bool,
}

impl Minutes {
    /// Of a rollout that the journal does not know.
    pub(super) fn begin(
        rollouts: &Arc<Rollouts>,
        token: u64,
        new: NewRollout,
        starts: bool,
    ) -> Self {
        Self {
            rollouts: Arc::clone(rollouts),
            token,
            id: None,
            new: Some(new),
            pending: Vec::new(),
            starts,
        }
    }

    /// Of one that an earlier agent began.
    pub(super) fn go_on(rollouts: &Arc<Rollouts>, token: u64, id: RolloutId, starts: bool) -> Self {
        Self {
            rollouts: Arc::clone(rollouts),
            token,
            id: Some(id),
            new: None,
            pending: Vec::new(),
            starts,
        }
    }

    /// How the journal calls it.
    pub(super) fn id(&self) -> Option<RolloutId> {
        self.id
    }

    /// How it is called.
    pub(super) fn name(&self) -> String {
        self.id
            .map_or_else(|| "the rollout".to_owned(), |id| id.to_string())
    }

    /// Writes something down with the next thing that is written, for each write waits for the disk.
    pub(super) fn later(&mut self, record: Record) {
        self.pending.push(record.into());
    }

    /// Writes something down that happens in `phase`, and what is still to be written down before it.
    pub(super) async fn record(&mut self, phase: Phase, record: Record) -> Result<(), VerbError> {
        self.later(record);
        self.flush(phase).await
    }

    /// Writes down what nobody waits for: if that fails, `status` says so.
    pub(super) async fn note(&mut self, phase: Phase, record: Record) {
        if let Err(error) = self.record(phase, record).await {
            tracing::error!(%error, "failed to record an event of the rollout in the journal");
        }
    }

    /// Writes down what is still to be.
    pub(super) async fn flush(&mut self, phase: Phase) -> Result<(), VerbError> {
        let journal = self.rollouts.journal.clone();
        let records = self.pending.clone();
        match (self.id, &self.new) {
            (Some(_), _) if records.is_empty() => return Ok(()),
            (Some(id), _) => in_time(phase, journal.record_all(id, records)).await?,
            (None, Some(new)) => {
                if self.starts {
                    // No agent finds a rollout whose candidate it does not know, unless the ledger cannot be written: that is
                    // said when the verb ends.
                    let _unrecorded = self.rollouts.state.ledger().written().await;
                }
                let id = in_time(phase, journal.begin_with(new.clone(), records)).await?;
                self.id = Some(id);
                self.new = None;
                tracing::Span::current().record("rollout", tracing::field::display(id));
                self.rollouts.rollout_is_called(self.token, id).await;
            }
            (None, None) => {}
        }
        self.pending.clear();
        Ok(())
    }

    /// Writes down how it ended: soon, or, if that is not possible, in the background until it is.
    /// `stands` says where, to a journal that does not know it yet; `refused` whether it was given
    /// up because it could not be written down.
    pub(super) async fn end(&mut self, phase: Phase, stands: Record, refused: bool, end: End) {
        if self.id.is_none() && refused && self.flush(phase).await.is_err() {
            // Nothing was done, and whoever wanted it was told so.
            return;
        }
        let mut records = std::mem::take(&mut self.pending);
        if self.new.is_some() {
            records.push(stands.into());
        }
        let unwritten = Unwritten {
            id: self.id,
            new: self.new.take(),
            records,
            end,
        };
        // A task of its own: what is tried is not given up half-way.
        let writing = unwritten.write_in_the_end(self.rollouts.journal.clone());
        let writing = tokio::spawn(writing.in_current_span());
        if let Ok(Ok(id)) = tokio::time::timeout(PATIENCE, writing).await {
            self.id = id;
        }
    }
}

/// A rollback does not wait for a disk that does not answer.
async fn in_time<T>(
    phase: Phase,
    written: impl Future<Output = Result<T, JournalError>>,
) -> Result<T, VerbError> {
    if phase <= Phase::Swap {
        return written.await.map_err(VerbError::Unjournaled);
    }
    match tokio::time::timeout(PATIENCE, written).await {
        Ok(result) => result.map_err(VerbError::Unjournaled),
        Err(_elapsed) => Err(VerbError::System {
            doing: "write the journal",
            source: std::io::ErrorKind::TimedOut.into(),
        }),
    }
}
