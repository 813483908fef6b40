//! What the agent tells about flows.

use super::{Agent, VerbError, start};
use crate::api::{client::Client, wire::FlowList};

impl Agent {
    /// The newest `limit` flows of a service. As [`Agent::status`], a successor is asked once there
    /// is one.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`], [`VerbError::NoDatagrams`], or what the kernel says.
    pub async fn flows(&self, service: &str, limit: usize) -> Result<FlowList, VerbError> {
        // Held to the end: a hand-over waits for whoever looks.
        let services = self.services.read().await;
        if services.is_a_successors() {
            let name = if service.is_empty() {
                super::ONLY
            } else {
                service
            };
            let asked = Client::new(&self.places().socket())
                .flows(name, limit)
                .await;
            if let Ok(flows) = asked {
                return Ok(flows);
            }
        }
        let service = start::named(&services.all(), service)?;
        service.list_flows(limit).await
    }
}
