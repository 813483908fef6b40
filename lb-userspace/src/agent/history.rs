//! What the agent tells about rollouts.

use super::{Agent, VerbError};
use crate::{
    api::wire::{History, VERSION},
    store::journal::{HistoryFilter, JournalError, RolloutId, Told},
};

impl Agent {
    /// Rollouts in short, newest first.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`] for a service that neither is configured nor has a rollout.
    pub async fn history(&self, filter: HistoryFilter) -> Result<History, VerbError> {
        let service = filter.service.clone();
        let rollouts = self.journal().history(filter).await?;
        if let Some(service) = service.filter(|_| rollouts.is_empty()) {
            self.service(&service)?;
        }
        Ok(History {
            api: VERSION,
            rollouts,
        })
    }

    /// All there is to say of one rollout.
    pub async fn rollout(&self, id: RolloutId) -> Result<Told, VerbError> {
        let told = self.journal().show(id).await?;
        Ok(told.ok_or(JournalError::UnknownRollout(id))?)
    }
}
