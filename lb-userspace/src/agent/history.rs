//! What the agent tells about rollouts.

use super::{Agent, VerbError, start};
use crate::{
    api::wire::{History, VERSION},
    store::journal::{HistoryFilter, JournalError, RolloutId, Told},
};

/// How many rollouts are listed when nobody says.
const LIMIT: u32 = 100;

impl Agent {
    /// Rollouts in short, newest first. As [`Agent::status`], a successor is asked once there is
    /// one.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`] for a service that neither is configured nor has a rollout.
    pub async fn history(&self, filter: HistoryFilter) -> Result<History, VerbError> {
        // Held to the end: a hand-over waits for whoever looks.
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services) {
            let limit = filter.limit.unwrap_or(LIMIT);
            let asked = successor.history(filter.service.as_deref(), limit).await;
            if let Ok(history) = asked {
                return Ok(history);
            }
        }
        let service = filter.service.clone();
        let rollouts = self.journal().history(filter).await?;
        if let Some(service) = service.filter(|_| rollouts.is_empty()) {
            start::named(&services.all(), &service)?;
        }
        Ok(History {
            api: VERSION,
            rollouts,
        })
    }

    /// All there is to say of one rollout.
    pub async fn rollout(&self, id: RolloutId) -> Result<Told, VerbError> {
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services)
            && let Ok(told) = successor.rollout(id).await
        {
            return Ok(told);
        }
        let told = self.journal().show(id).await?;
        drop(services);
        Ok(told.ok_or(JournalError::UnknownRollout(id))?)
    }
}
