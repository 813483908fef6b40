//! The routes, with what each takes and answers.

use hotlb_api::wire::{
    AdoptRequest, AgentUpgradeRequest, DeployRequest, ExecAnswer, ExecRequest, FlowList, History,
    Incident, IncidentList, Profile, ProfileRequest, PromoteRequest, RollbackRequest,
    RolloutDetail, Status, StopRequest, UpgradeRequest, Windows,
};
use serde_json::{Map, Value, json};

use crate::{
    operation::{get, id, limit, of_service, post, service, traceparent, verb},
    schemas::Schemas,
};

/// All routes, by path.
pub(crate) fn all(schemas: &mut Schemas) -> Map<String, Value> {
    let mut routes = questions(schemas);
    routes.extend(verbs(schemas));
    routes
        .into_iter()
        .map(|(path, operation)| (path.to_owned(), operation))
        .collect()
}

fn questions(schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    let text = json!({ "schema": { "type": "string" } });
    vec![
        (
            "/v1/status",
            get(
                "Everything the agent knows",
                &[],
                "The status",
                &schemas.response::<Status>(),
            ),
        ),
        (
            "/v1/metrics",
            json!({ "get": {
                "summary": "The metrics, as at [agent] metrics",
                "responses": { "200": {
                    "description": "OpenMetrics, or the form that the header Accept names",
                    "content": {
                        "application/openmetrics-text": text,
                        "text/plain": text,
                        "application/vnd.google.protobuf": {},
                    },
                } },
            } }),
        ),
        (
            "/v1/history",
            get(
                "Rollouts in short, newest first",
                &[of_service(), limit(100)],
                "The rollouts",
                &schemas.response::<History>(),
            ),
        ),
        (
            "/v1/history/{id}",
            get(
                "One rollout with everything that was recorded about it",
                &[id("^r?[0-9]+$")],
                "The rollout",
                &schemas.response::<RolloutDetail>(),
            ),
        ),
        (
            "/v1/incidents",
            get(
                "Incidents in short, newest first",
                &[of_service(), limit(100)],
                "The incidents",
                &schemas.response::<IncidentList>(),
            ),
        ),
        (
            "/v1/incidents/{id}",
            get(
                "One incident with everything that was kept of it",
                &[id("^i?[0-9]+$")],
                "The incident",
                &schemas.response::<Incident>(),
            ),
        ),
        (
            "/v1/services/{service}/windows",
            get(
                "The newest windows of the service's generations, oldest first, and their scores",
                &[service()],
                "The windows",
                &schemas.response::<Windows>(),
            ),
        ),
        (
            "/v1/services/{service}/flows",
            get(
                "The flows of UDP clients, those with the latest datagrams first",
                &[service(), limit(1000)],
                "The flows",
                &schemas.response::<FlowList>(),
            ),
        ),
        (
            "/v1/openapi.json",
            json!({ "get": {
                "summary": "This document",
                "responses": { "200": { "description": "OpenAPI", "content": { "application/json": {} } } },
            } }),
        ),
    ]
}

fn verbs(schemas: &mut Schemas) -> Vec<(&'static str, Value)> {
    vec![
        (
            "/v1/services/{service}/deploy",
            verb(
                "Start a generation; ends when it is ready",
                &[service()],
                Some(&schemas.request::<DeployRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/exec",
            post(
                "Make the process that asks, which is root's, a generation; the answer says what it has to do",
                &schemas.request::<ExecRequest>(),
                "What is left to do",
                &schemas.response::<ExecAnswer>(),
            ),
        ),
        (
            "/v1/services/{service}/adopt",
            verb(
                "Make a running server that shares its port a generation",
                &[service()],
                Some(&schemas.request::<AdoptRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/promote",
            verb(
                "Make a generation active; ends when its bake is over and the former one is drained",
                &[service(), traceparent()],
                Some(&schemas.request::<PromoteRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/upgrade",
            verb(
                "Start a generation and make it active, as one rollout; ends as promote does",
                &[service(), traceparent()],
                Some(&schemas.request::<UpgradeRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/rollback",
            verb(
                "Cancel the rollout in progress; without one, activate the generation that was active before the \
                 last promote, or the one that is named",
                &[service(), traceparent()],
                Some(&schemas.request::<RollbackRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/stop",
            verb(
                "End a generation; the active one only with park, and clients wait then",
                &[service()],
                Some(&schemas.request::<StopRequest>()),
            ),
        ),
        (
            "/v1/services/{service}/profile",
            post(
                "Where one generation, or two at the same moment, spend CPU time; for root only. Sampling ends when \
                 the connection does",
                &schemas.request::<ProfileRequest>(),
                "The stacks that were sampled",
                &schemas.response::<Profile>(),
            ),
        ),
        (
            "/v1/agent/upgrade",
            verb(
                "Replace the agent by another hotlb, which takes over everything; only root may name a program or \
                 configuration",
                &[],
                Some(&schemas.request::<AgentUpgradeRequest>()),
            ),
        ),
        (
            "/v1/down",
            verb(
                "End all generations, parking listeners, pins and the agent",
                &[],
                None,
            ),
        ),
    ]
}
