//! What the agent tells about incidents.

use super::{Agent, ONLY, VerbError, start};
use crate::{
    api::wire::{Incident, IncidentId, IncidentList, VERSION, Windows},
    store::journal::HistoryFilter,
};

/// How many incidents are listed when nobody says.
const LIMIT: u32 = 100;

impl Agent {
    /// Incidents in short, newest first. As [`Agent::status`], a successor is asked once there is
    /// one.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`] for a service that neither is configured nor has an incident.
    pub async fn incidents(&self, filter: HistoryFilter) -> Result<IncidentList, VerbError> {
        // Held to the end: a hand-over waits for whoever looks.
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services) {
            let limit = filter.limit.unwrap_or(LIMIT);
            let asked = successor.incidents(filter.service.as_deref(), limit).await;
            if let Ok(incidents) = asked {
                return Ok(incidents);
            }
        }
        let service = filter.service.clone();
        let incidents = self.journal().incidents(filter).await?;
        if let Some(service) = service.filter(|_| incidents.is_empty()) {
            start::named(&services.all(), &service)?;
        }
        Ok(IncidentList {
            api: VERSION,
            incidents,
        })
    }

    /// All there is to say of one incident.
    pub async fn incident(&self, id: IncidentId) -> Result<Incident, VerbError> {
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services)
            && let Ok(incident) = successor.incident(id).await
        {
            return Ok(incident);
        }
        let incident = self.journal().incident(id).await?;
        drop(services);
        Ok(incident)
    }

    /// The newest windows of a service's generations.
    pub async fn windows(&self, service: &str) -> Result<Windows, VerbError> {
        let services = self.services.read().await;
        if let Some(successor) = self.successor(&services) {
            let name = if service.is_empty() { ONLY } else { service };
            if let Ok(windows) = successor.windows(name).await {
                return Ok(windows);
            }
        }
        let service = start::named(&services.all(), service)?;
        Ok(service.windows())
    }
}
