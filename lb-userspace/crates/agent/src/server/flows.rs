//! Flows of a service.

use axum::{
    extract::{Path, Query, rejection::QueryRejection},
    response::Response,
};
use serde::Deserialize;

use super::{
    history::{answer, not_understood},
    own::Own,
};

/// How many flows are listed when nobody says.
const LIMIT: usize = 1000;

/// What follows the question mark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<usize>,
}

/// GET `/v1/services/{service}/flows`.
pub(super) async fn list(
    Own(view): Own,
    Path(service): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    match asked {
        Ok(Query(asked)) => {
            let limit = asked.limit.unwrap_or(LIMIT);
            answer(view.flows(&service, limit).await)
        }
        Err(refused) => not_understood(&refused.body_text()),
    }
}
