//! Incidents: those there were, one in full, and the windows they are found in.

use axum::{
    extract::{Path, Query, rejection::QueryRejection},
    response::Response,
};

use super::{
    history::{Asked, answer, filter, not_understood},
    own::Own,
};
use crate::api::wire::IncidentId;

/// GET `/v1/incidents`.
pub(super) async fn list(Own(view): Own, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    match filter(asked) {
        Ok(filter) => answer(view.incidents(filter).await),
        Err(refused) => *refused,
    }
}

/// GET `/v1/incidents/{id}`.
pub(super) async fn show(Own(view): Own, Path(id): Path<String>) -> Response {
    match id.parse::<IncidentId>() {
        Ok(id) => answer(view.incident(id).await),
        Err(error) => not_understood(&error.to_string()),
    }
}

/// GET `/v1/services/{service}/windows`.
pub(super) async fn windows(Own(view): Own, Path(service): Path<String>) -> Response {
    answer(view.windows(&service))
}
