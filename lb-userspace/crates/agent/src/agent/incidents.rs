//! What the agent tells about incidents.

use super::{VerbError, view::View};
use crate::{
    api::wire::{Incident, IncidentId, IncidentList, VERSION, Windows},
    store::journal::HistoryFilter,
};

impl View {
    /// Incidents in short, newest first.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`] for a service that neither is configured nor has an incident.
    pub async fn incidents(&self, filter: HistoryFilter) -> Result<IncidentList, VerbError> {
        let service = filter.service.clone();
        let incidents = self.agent.journal().incidents(filter).await?;
        if let Some(service) = service.filter(|_| incidents.is_empty()) {
            self.service(&service)?;
        }
        Ok(IncidentList {
            api: VERSION,
            incidents,
        })
    }

    /// All there is to say of one incident.
    pub async fn incident(&self, id: IncidentId) -> Result<Incident, VerbError> {
        Ok(self.agent.journal().incident(id).await?)
    }

    /// The newest windows of a service's generations.
    pub fn windows(&self, service: &str) -> Result<Windows, VerbError> {
        Ok(self.service(service)?.windows())
    }
}
