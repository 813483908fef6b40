//! Profiles: for root only, and made as long as who asked waits for them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{ConnectInfo, Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{
    Control,
    answer::{failure, verb_failure},
    peer::Peer,
    routes::{Asked, not_permitted},
};
use crate::{agent::Fulfilled, api::wire::ProfileRequest};

pub(super) async fn profile(
    State(control): State<Arc<Control>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    Asked(request): Asked<ProfileRequest>,
) -> Response {
    if !peer.is_the_agents_own() {
        return not_permitted(format!(
            "{} is an operator, but only root may request a profile, because it reads the memory \
             of the server's processes; use sudo",
            peer.describe()
        ));
    }
    let service = match control.agent.service(&service).await {
        Ok(service) => service,
        Err(error) => return failure(StatusCode::NOT_FOUND, verb_failure(&error)),
    };
    let what = format!("profile of service {}", service.name());
    // A successor of the agent could not give the answer.
    let _pass = match control.gate.enter(what, Fulfilled::default()) {
        Ok(pass) => pass,
        Err(error) => return failure(StatusCode::CONFLICT, verb_failure(&error.into())),
    };
    match service.profile(request).await {
        Ok(profile) => {
            tracing::info!(
                service = service.name(),
                took_ms = profile.took_ms,
                own_cpu_ms = profile.own_cpu_ms,
                "took a profile"
            );
            Json(profile).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "failed to take a profile");
            failure(StatusCode::CONFLICT, verb_failure(&error))
        }
    }
}
