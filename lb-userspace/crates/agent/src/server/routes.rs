//! What can be asked.

use std::{future::Future, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequest, Path, Request, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use serde::de::DeserializeOwned;

use super::{
    Control,
    answer::{failure, stream, stream_ungated, verb_failure},
    caller::InTrace,
    flows, history, incidents,
    own::Own,
    peer::Peer,
    profile::profile,
    scrapes,
};
use crate::{
    agent::{Fulfilled, Reporter, Service, VerbError},
    api::wire::{
        AdoptRequest, AgentUpgradeRequest, DeployRequest, Done, ExecRequest, Failure,
        PromoteRequest, RollbackRequest, RolloutOptions, Status, StopRequest, UpgradeRequest,
        VERSION, VERSION_HEADER,
    },
};

type Shared = State<Arc<Control>>;

pub(super) fn router(control: Arc<Control>) -> Router {
    let verbs = Router::new()
        .route("/v1/services/{service}/deploy", post(deploy))
        .route("/v1/services/{service}/exec", post(exec))
        .route("/v1/services/{service}/adopt", post(adopt))
        .route("/v1/services/{service}/promote", post(promote))
        .route("/v1/services/{service}/upgrade", post(upgrade))
        .route("/v1/services/{service}/rollback", post(rollback))
        .route("/v1/services/{service}/stop", post(stop))
        .route("/v1/services/{service}/profile", post(profile))
        .route("/v1/agent/upgrade", post(upgrade_agent))
        .route("/v1/down", post(down))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&control),
            may_operate,
        ));
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/history", get(history::list))
        .route("/v1/history/{id}", get(history::show))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::show))
        .route("/v1/services/{service}/windows", get(incidents::windows))
        .route("/v1/services/{service}/flows", get(flows::list))
        .merge(verbs)
        .layer(middleware::from_fn(same_version))
        // Collectors ask for a form, not for a version, also through an agent of another version.
        .route("/v1/metrics", get(metrics))
        .route("/v1/openapi.json", get(openapi))
        .fallback(unknown)
        .with_state(control)
}

async fn status(Own(view): Own) -> Json<Status> {
    Json(view.status().await)
}

async fn metrics(State(control): Shared, headers: HeaderMap) -> Response {
    scrapes::answer(&control.agent, &headers).await
}

async fn openapi() -> impl axum::response::IntoResponse {
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    (json, hotlb_api::OPENAPI)
}

async fn deploy(
    State(control): Shared,
    Path(service): Path<String>,
    Asked(request): Asked<DeployRequest>,
) -> Response {
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service.deploy(request, &reporter).await
    };
    on_service(&control, &service, "deploy", verb).await
}

async fn exec(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(service): Path<String>,
    Asked(request): Asked<ExecRequest>,
) -> Response {
    let Some(pid) = peer.root_process() else {
        return not_permitted(format!(
            "{} cannot become a generation: hotlb exec must run as root; it sets the service's \
             user itself (no User= in the unit)",
            peer.describe()
        ));
    };
    let service = match control.agent.service(&service).await {
        Ok(service) => service,
        Err(error) => return failure(StatusCode::NOT_FOUND, verb_failure(&error)),
    };
    let what = format!("exec on service {}", service.name());
    // Until the answer is known, for a successor could not give it.
    let _pass = match control.gate.enter(what, Fulfilled::default()) {
        Ok(pass) => pass,
        Err(error) => return failure(StatusCode::CONFLICT, verb_failure(&error.into())),
    };
    match service.exec(request, pid).await {
        Ok(spec) => Json(spec).into_response(),
        Err(error) => {
            tracing::warn!(%error, pid, "failed to take a process in by exec");
            failure(StatusCode::CONFLICT, verb_failure(&error))
        }
    }
}

async fn adopt(
    State(control): Shared,
    Path(service): Path<String>,
    Asked(request): Asked<AdoptRequest>,
) -> Response {
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service.adopt(request, &reporter).await
    };
    on_service(&control, &service, "adopt", verb).await
}

async fn promote(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    trace: InTrace,
    Path(service): Path<String>,
    Asked(request): Asked<PromoteRequest>,
) -> Response {
    if let Some(refused) = refuse_hooks(peer, &request.options) {
        return refused;
    }
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service
            .promote(request, trace.caller(peer), &reporter)
            .await
    };
    on_service(&control, &service, "promote", verb).await
}

async fn upgrade(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    trace: InTrace,
    Path(service): Path<String>,
    Asked(request): Asked<UpgradeRequest>,
) -> Response {
    if let Some(refused) = refuse_hooks(peer, &request.options) {
        return refused;
    }
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service
            .upgrade(request, trace.caller(peer), &reporter)
            .await
    };
    on_service(&control, &service, "upgrade", verb).await
}

async fn rollback(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    trace: InTrace,
    Path(service): Path<String>,
    Asked(request): Asked<RollbackRequest>,
) -> Response {
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service
            .rollback(request, trace.caller(peer), &reporter)
            .await
    };
    on_service(&control, &service, "rollback", verb).await
}

async fn stop(
    State(control): Shared,
    Path(service): Path<String>,
    Asked(request): Asked<StopRequest>,
) -> Response {
    let verb = |service: Arc<Service>, reporter: Reporter| async move {
        service
            .stop(&request.generation, request.park, &reporter)
            .await
    };
    on_service(&control, &service, "stop", verb).await
}

async fn down(State(control): Shared) -> Response {
    let gate = Arc::clone(&control.gate);
    stream(&gate, "down", |reporter| async move {
        reporter.step("ending all generations");
        let left = control.agent.down().await?;
        control.ended.send_replace(true);
        let message = match left.as_slice() {
            [] => "all generations ended; nothing is left",
            _ => "hotlb has ended its part, but not everything is gone",
        };
        Ok(Done {
            message: message.to_owned(),
            warnings: left,
            ..Done::default()
        })
    })
}

/// Hooks run as root: whoever may only operate cannot name new ones.
fn refuse_hooks(peer: Peer, options: &RolloutOptions) -> Option<Response> {
    if options.hooks.is_empty() || peer.is_the_agents_own() {
        return None;
    }
    Some(not_permitted(
        "hooks run as root, so only root may add hooks with --hook; other users get those of the \
         configuration"
            .to_owned(),
    ))
}

async fn upgrade_agent(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(request): Asked<AgentUpgradeRequest>,
) -> Response {
    if !peer.is_the_agents_own() && (request.binary.is_some() || request.config.is_some()) {
        // An agent runs as root: whoever chooses its program or configuration is root.
        return not_permitted(format!(
            "{} may upgrade the agent to the program at its usual path, but may not name another \
             program or configuration; use sudo",
            peer.describe()
        ));
    }
    stream_ungated(|reporter| async move {
        Ok(control
            .upgrades
            .ask(&control.gate, request, reporter)
            .await?)
    })
}

/// Runs a verb on the service of this name.
async fn on_service<F>(
    control: &Control,
    name: &str,
    what: &str,
    verb: impl FnOnce(Arc<Service>, Reporter) -> F,
) -> Response
where
    F: Future<Output = Result<Done, VerbError>> + Send + 'static,
{
    match control.agent.service(name).await {
        Ok(service) => {
            let what = format!("{what} on service {}", service.name());
            stream(&control.gate, &what, |reporter| {
                let done = verb(Arc::clone(&service), reporter);
                async move {
                    let done = done.await;
                    // Also after a failure: what was done before it is known then.
                    let unrecorded = service.unrecorded().await;
                    let mut done = done?;
                    done.warnings.extend(unrecorded);
                    Ok(done)
                }
            })
        }
        Err(error) => failure(StatusCode::NOT_FOUND, verb_failure(&error)),
    }
}

/// A request's body as JSON; what is not understood is answered as any other failure.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(failure(
                StatusCode::BAD_REQUEST,
                Failure {
                    code: "bad_request".to_owned(),
                    message: format!("invalid request: {}", rejection.body_text()),
                    exit: 2,
                },
            )),
        }
    }
}

/// Lets a verb pass only for who may operate.
async fn may_operate(
    State(control): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let who = peer.describe();
    let what = request.uri().path().to_owned();
    if peer.may_operate(&control) {
        tracing::info!(who, what, "request received");
        return next.run(request).await;
    }
    tracing::warn!(who, what, "request not permitted");
    not_permitted(format!(
        "{who} has read-only access; use sudo, or add the user to [agent] operators"
    ))
}

pub(super) fn not_permitted(message: String) -> Response {
    let failed = Failure {
        code: "not_permitted".to_owned(),
        message,
        exit: 4,
    };
    failure(StatusCode::FORBIDDEN, failed)
}

/// Refuses clients of another version.
async fn same_version(request: Request, next: Next) -> Response {
    let theirs = request
        .headers()
        .get(VERSION_HEADER)
        .and_then(|value| value.to_str().ok());
    if theirs.and_then(|value| value.parse().ok()) == Some(VERSION) {
        return next.run(request).await;
    }
    let theirs = theirs.unwrap_or("none").escape_debug().to_string();
    let failed = Failure {
        code: "version".to_owned(),
        message: format!(
            "the client speaks API version {theirs}, but this agent ({}) speaks version {VERSION}; \
             use the hotlb of the agent's version{}",
            env!("CARGO_PKG_VERSION"),
            own_program()
        ),
        exit: 8,
    };
    failure(StatusCode::UPGRADE_REQUIRED, failed)
}

/// ", PATH": where this agent's program is, if it still is there.
fn own_program() -> String {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.map_or_else(String::new, |path| format!(", {}", path.display()))
}

async fn unknown(request: Request) -> Response {
    let failed = Failure {
        code: "unknown_path".to_owned(),
        message: format!(
            "this agent ({}) has no endpoint {} {}; GET /v1/openapi.json lists them all",
            env!("CARGO_PKG_VERSION"),
            request.method(),
            request.uri().path()
        ),
        exit: 8,
    };
    failure(StatusCode::NOT_FOUND, failed).into_response()
}
