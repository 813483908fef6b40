//! What could not be written down when it happened: it is tried again until it can be.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::store::{
    Journal,
    journal::{End, JournalError, NewRollout, RolloutId, Stamped},
};

/// Time between two tries.
const PACE: Duration = Duration::from_secs(1);

/// What is still to be written down of a rollout that is over.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// Its name, once the journal has given one.
    pub(super) id: Option<RolloutId>,
    /// What the journal is told first, if it has not been.
    pub(super) new: Option<NewRollout>,
    /// The records it lacks. The last one says that the rollout is over, where nobody may take
    /// the rollout up again.
    pub(super) records: Vec<Stamped>,
    /// How it ended.
    pub(super) end: End,
}

impl Unwritten {
    /// Writes it down, however long that takes.
    pub(super) async fn write_in_the_end(mut self, journal: Journal) -> Option<RolloutId> {
        let mut turns = interval(PACE);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = false;
        loop {
            turns.tick().await;
            match self.write(&journal).await {
                Ok(()) => return self.id,
                Err(JournalError::UnknownRollout(_)) => {
                    // Somebody removed the journal, and with it this rollout.
                    return None;
                }
                Err(error) if !said => {
                    tracing::error!(
                        rollout = ?self.id,
                        %error,
                        "failed to record the end of the rollout in the journal; trying again"
                    );
                    said = true;
                }
                Err(_again) => {}
            }
        }
    }

    async fn write(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if let Some(new) = &self.new {
            let begun = journal.begin_with(new.clone(), self.records.clone());
            self.id = Some(begun.await?);
            self.new = None;
            self.records.clear();
        }
        let Some(id) = self.id else {
            return Ok(());
        };
        if !self.records.is_empty() {
            journal.record_all(id, self.records.clone()).await?;
            self.records.clear();
        }
        match journal.finish(id, self.end.clone()).await {
            // It had been written down, and only the answer was late.
            Err(JournalError::Over(_)) => Ok(()),
            result => result,
        }
    }
}
