//! What the agent tells about flows.

use super::{VerbError, view::View};
use crate::api::wire::FlowList;

impl View {
    /// The newest `limit` flows of a service.
    ///
    /// # Errors
    ///
    /// [`VerbError::UnknownService`], [`VerbError::NoDatagrams`], or what the kernel says.
    pub async fn flows(&self, service: &str, limit: usize) -> Result<FlowList, VerbError> {
        self.service(service)?.list_flows(limit).await
    }
}
