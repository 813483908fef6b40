//! The history: rollouts that were, and one in full.

use axum::{
    Json,
    extract::{Path, Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    answer::{failure, verb_failure},
    own::Own,
};
use crate::{
    agent::{ONLY, VerbError},
    api::wire::{Failure, RolloutId},
    store::journal::{HistoryFilter, JournalError},
};

/// How many rollouts are listed when nobody says.
const LIMIT: u32 = 100;

/// What follows the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    service: Option<String>,
    limit: Option<u32>,
}

/// GET `/v1/history`.
pub(super) async fn list(Own(view): Own, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    match filter(asked) {
        Ok(filter) => answer(view.history(filter).await),
        Err(refused) => *refused,
    }
}

/// What is asked for, or the refusal.
pub(super) fn filter(
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<HistoryFilter, Box<Response>> {
    let refused = |rejection: QueryRejection| Box::new(not_understood(&rejection.body_text()));
    let Query(asked) = asked.map_err(refused)?;
    let only = |name: &String| name.is_empty() || name == ONLY;
    Ok(HistoryFilter {
        service: asked.service.filter(|name| !only(name)),
        limit: Some(asked.limit.unwrap_or(LIMIT)),
    })
}

/// GET `/v1/history/{id}`.
pub(super) async fn show(Own(view): Own, Path(id): Path<String>) -> Response {
    match id.parse::<RolloutId>() {
        Ok(id) => answer(view.rollout(id).await),
        Err(error) => not_understood(&error.to_string()),
    }
}

pub(super) fn answer<T: Serialize>(result: Result<T, VerbError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => failure(status(&error), verb_failure(&error)),
    }
}

fn status(error: &VerbError) -> StatusCode {
    match error {
        VerbError::Journal(JournalError::Unusable { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::NOT_FOUND,
    }
}

pub(super) fn not_understood(why: &str) -> Response {
    failure(
        StatusCode::BAD_REQUEST,
        Failure {
            code: "bad_request".to_owned(),
            message: format!("invalid request: {why}"),
            exit: 2,
        },
    )
}
