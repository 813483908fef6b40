//! Answering scrapes.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::bounded::Bounded;
use crate::{
    agent::Agent,
    door::{Closing, Doorway},
    forward::forward,
    telemetry::metrics::{Format, render},
};

/// Where the control socket has them.
const METRICS: &str = "/v1/metrics";

/// Serves `/metrics` through `doorway` until `closing` returns and the last scrape is answered.
pub(crate) async fn serve(
    agent: Arc<Agent>,
    doorway: Doorway<TcpListener>,
    closing: Closing,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .with_state(agent);
    axum::serve(Bounded::new(doorway), router)
        .with_graceful_shutdown(closing)
        .await
}

async fn metrics(State(agent): State<Arc<Agent>>, headers: HeaderMap) -> Response {
    answer(&agent, &headers).await
}

/// The answer to a scrape of `agent`. Where its services are a successor's, that one gives it: no
/// scrape is missed while an agent is upgraded.
pub(super) async fn answer(agent: &Arc<Agent>, headers: &HeaderMap) -> Response {
    let view = agent.look().await;
    if view.is_a_successors() {
        let answer = forward(&agent.places().socket(), METRICS, headers).await;
        return answer.unwrap_or_else(|error| failed(error.to_string()));
    }
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept);
    match render(&view.observe().await, format) {
        Ok(answer) => ([(header::CONTENT_TYPE, format.content_type())], answer).into_response(),
        Err(error) => failed(error.to_string()),
    }
}

fn failed(why: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
}
