//! What the agent tells about flows.

use super::{Agent, ONLY, VerbError, start};
use crate::api::wire::FlowList;

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
        if let Some(successor) = self.successor(&services) {
            let name = if service.is_empty() { ONLY } else { service };
            if let Ok(flows) = successor.flows(name, limit).await {
                return Ok(flows);
            }
        }
        let service = start::named(&services.all(), service)?;
        service.list_flows(limit).await
    }
}
