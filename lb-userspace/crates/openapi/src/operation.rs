//! What the operations have in common.

use hotlb_api::wire::{Line, VERSION, VERSION_HEADER};
use serde_json::{Value, json};

use crate::schemas::Schemas;

/// A question: `schema` is the answer.
pub(crate) fn get(summary: &str, parameters: &[Value], answer: &str, schema: &Value) -> Value {
    json!({
        "get": {
            "summary": summary,
            "parameters": in_a_version(parameters),
            "responses": { "200": as_json(answer, schema), "default": component("responses/Failed") },
        }
    })
}

/// A request with one answer.
pub(crate) fn post(summary: &str, body: &Value, answer: &str, schema: &Value) -> Value {
    json!({
        "post": {
            "summary": summary,
            "parameters": in_a_version(&[service()]),
            "requestBody": required(body),
            "responses": { "200": as_json(answer, schema), "default": component("responses/Failed") },
        }
    })
}

/// A request that the agent works on, and reports what it does.
pub(crate) fn verb(summary: &str, parameters: &[Value], body: Option<&Value>) -> Value {
    let mut verb = json!({
        "summary": summary,
        "parameters": in_a_version(parameters),
        "responses": { "200": component("responses/Lines"), "default": component("responses/Failed") },
    });
    if let (Some(body), Some(verb)) = (body, verb.as_object_mut()) {
        verb.insert("requestBody".to_owned(), required(body));
    }
    json!({ "post": verb })
}

/// With the header that says which version of the API is meant.
fn in_a_version(parameters: &[Value]) -> Value {
    let version = [component("parameters/version")];
    version.iter().chain(parameters).cloned().collect()
}

/// The service in the path.
pub(crate) fn service() -> Value {
    component("parameters/service")
}

/// The span in the header.
pub(crate) fn traceparent() -> Value {
    component("parameters/traceparent")
}

/// The service in the query.
pub(crate) fn of_service() -> Value {
    component("parameters/of_service")
}

/// The id in the path.
pub(crate) fn id(pattern: &str) -> Value {
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "schema": { "type": "string", "pattern": pattern },
    })
}

/// How many there may be in the answer.
pub(crate) fn limit(default: u32) -> Value {
    json!({
        "name": "limit",
        "in": "query",
        "description": "the answer lists at most this many",
        "schema": { "type": "integer", "minimum": 0, "default": default },
    })
}

/// The parameters that several operations have.
pub(crate) fn parameters() -> Value {
    json!({
        "version": {
            "name": VERSION_HEADER,
            "in": "header",
            "required": true,
            "description": "the version of the API that the request is of",
            "schema": { "const": VERSION },
        },
        "service": {
            "name": "service",
            "in": "path",
            "required": true,
            "description": "the service's name; \"-\" is the only one there is",
            "schema": { "type": "string" },
        },
        "of_service": {
            "name": "service",
            "in": "query",
            "description": "of this service only; \"-\" or nothing for all",
            "schema": { "type": "string" },
        },
        "traceparent": {
            "name": "traceparent",
            "in": "header",
            "required": false,
            "description": "W3C Trace Context: the span whose child the rollout is; one that cannot be read is none",
            "schema": { "type": "string" },
        },
    })
}

/// The responses that several operations have.
pub(crate) fn responses(schemas: &mut Schemas) -> Value {
    let line = schemas.response::<Line>();
    let lines = "One JSON value a line: progress lines, then done or error";
    json!({
        "Lines": { "description": lines, "content": { "application/x-ndjson": { "schema": line } } },
        "Failed": as_json("Why it failed: what happened, what it means, what to do", &line),
    })
}

fn component(name: &str) -> Value {
    json!({ "$ref": format!("#/components/{name}") })
}

fn as_json(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn required(body: &Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": body } } })
}
