//! Incidents: those there were, one in full, and the windows they are found in.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::Response,
};

use super::{
    Control,
    history::{Asked, answer, filter, not_understood},
};
use crate::api::wire::IncidentId;

/// GET `/v1/incidents`.
pub(super) async fn list(
    State(control): State<Arc<Control>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    match filter(asked) {
        Ok(filter) => answer(control.agent.incidents(filter).await),
        Err(refused) => *refused,
    }
}

/// GET `/v1/incidents/{id}`.
pub(super) async fn show(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Response {
    match id.parse::<IncidentId>() {
        Ok(id) => answer(control.agent.incident(id).await),
        Err(error) => not_understood(&error.to_string()),
    }
}

/// GET `/v1/services/{service}/windows`.
pub(super) async fn windows(
    State(control): State<Arc<Control>>,
    Path(service): Path<String>,
) -> Response {
    answer(control.agent.windows(&service).await)
}
