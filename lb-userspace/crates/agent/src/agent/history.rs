//! What the agent tells about rollouts.

use super::{VerbError, view::View};
use crate::{
    api::wire::{History, VERSION},
    store::journal::{HistoryFilter, JournalError, RolloutDetail, RolloutId},
};

impl View {
    /// Rollouts in short, newest first.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`] for a service that neither is configured nor has a rollout.
    pub async fn history(&self, filter: HistoryFilter) -> Result<History, VerbError> {
        let service = filter.service.clone();
        let rollouts = self.agent.journal().history(filter).await?;
        if let Some(service) = service.filter(|_| rollouts.is_empty()) {
            self.service(&service)?;
        }
        Ok(History {
            api: VERSION,
            rollouts,
        })
    }

    /// All there is to say of one rollout.
    pub async fn rollout(&self, id: RolloutId) -> Result<RolloutDetail, VerbError> {
        let told = self.agent.journal().show(id).await?;
        Ok(told.ok_or(JournalError::UnknownRollout(id))?)
    }
}
