//! Looking at the services without changing anything.

use std::sync::Arc;

use tokio::sync::OwnedRwLockReadGuard;

use super::{Agent, Service, VerbError, custody::Services, start};
use crate::api::wire::Status;

/// The services while somebody looks at them: a hand-over waits for whoever does.
///
/// Whoever has one asks for no other: with a hand-over between the two, each would wait for the other.
#[derive(Debug)]
pub struct View {
    pub(super) agent: Arc<Agent>,
    pub(super) services: OwnedRwLockReadGuard<Services>,
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
}
