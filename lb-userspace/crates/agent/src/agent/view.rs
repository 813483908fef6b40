//! Looking at the services without changing anything.

use std::sync::Arc;

use tokio::sync::OwnedRwLockReadGuard;

use super::{Agent, Service, VerbError, footing, quiesce::Services, start};
use crate::{
    api::wire::{FlowList, History, Incident, IncidentId, IncidentList, Status, VERSION, Windows},
    generation::output,
    observed::{Observed, OwnProcess},
    store::journal::{HistoryFilter, JournalError, RolloutDetail, RolloutId},
};

/// The services while somebody looks at them: a hand-over waits for whoever does.
///
/// Whoever has one asks for no other: with a hand-over between the two, each would wait for the other.
#[derive(Debug)]
pub struct View {
    agent: Arc<Agent>,
    services: OwnedRwLockReadGuard<Services>,
}

impl Agent {
    /// The services, to be looked at. While they are handed over this waits for the outcome.
    pub async fn look(self: &Arc<Self>) -> View {
        View {
            agent: Arc::clone(self),
            services: Arc::clone(&self.services).read_owned().await,
        }
    }
}

impl View {
    /// Whether they are a successor's, which serves on this agent's socket: it is to be asked, and not this agent.
    pub fn is_a_successors(&self) -> bool {
        self.services.is_a_successors()
    }

    /// Everything the agent knows.
    pub async fn status(&self) -> Status {
        self.agent.status_of(self.services.all()).await
    }

    /// The service of this name; with an empty name the only one there is.
    pub(super) fn service(&self, name: &str) -> Result<Arc<Service>, VerbError> {
        start::named(&self.services.all(), name)
    }

    /// Everything there is to measure, of this moment.
    pub async fn observe(&self) -> Observed {
        let all = self.services.all();
        let mut services = Vec::with_capacity(all.len());
        for service in all.values() {
            services.push(service.observe(self.agent.expire).await);
        }
        let dropped = output::dropped(&self.agent.places().outputs().dropped());
        let of = |service: &String| dropped.get(service).map_or(0, |dropped| dropped.bytes);
        Observed {
            dropped: all
                .keys()
                .map(|service| (service.clone(), of(service)))
                .collect(),
            journal_writable: self.agent.journal().trouble().is_none(),
            supports: footing::observe(),
            process: OwnProcess::read().ok(),
            services,
        }
    }

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

    /// The newest `limit` flows of a service.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`], [`VerbError::NoDatagrams`], or what the kernel says.
    pub async fn flows(&self, service: &str, limit: usize) -> Result<FlowList, VerbError> {
        self.service(service)?.list_flows(limit).await
    }
}
