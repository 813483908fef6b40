//! Requests that only look: answered by whoever has the services.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{request::Parts, uri::PathAndQuery},
    response::Response,
};

use super::Control;
use crate::{agent::View, forward::forward};

/// What this agent can see. Once it was handed over, nobody gets that: its successor has answered instead.
pub(super) struct Own(pub(super) View);

impl FromRequestParts<Arc<Control>> for Own {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        control: &Arc<Control>,
    ) -> Result<Self, Response> {
        let view = control.agent.look().await;
        if view.is_a_successors() {
            let socket = control.agent.places().socket();
            let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
            match forward(&socket, path, &parts.headers).await {
                Ok(answer) => return Err(answer),
                // It has died: what this agent knows is the best there is.
                Err(error) => {
                    tracing::warn!(%error, path, "failed to forward a request to the successor");
                }
            }
        }
        Ok(Self(view))
    }
}
