//! The description of the control API for programs: `openapi.json`.
//!
//! The schemas are generated from the types of `hotlb_api::wire`, whose comments are their descriptions. Only the
//! routes are written here. A test compares the document that is checked in, which the agent serves, with
//! [`document`].
//!
//! It is a crate by itself so that only what is built beside it has the types with their schemas: `hotlb-api` alone
//! links no generator, and the workspace compiles each crate once (decision 0033).

#![forbid(unsafe_code)]

#[cfg(test)]
mod docs;
mod operation;
mod routes;
mod schemas;

pub use schemas::TwoMeanings;

use hotlb_api::wire::{VERSION, VERSION_HEADER};
use serde_json::{Value, json};

use self::schemas::Schemas;

/// The document.
///
/// # Errors
///
/// When a type would need one schema in requests and another in responses.
pub fn document() -> Result<Value, TwoMeanings> {
    let mut schemas = Schemas::new();
    let routes = routes::all(&mut schemas);
    let responses = operation::responses(&mut schemas);
    Ok(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hotlb control API",
            "version": VERSION.to_string(),
            "description": format!(
                "HTTP on the unix socket <runtime dir>/api.sock. Every request under /v1 but /v1/metrics and \
                 /v1/openapi.json carries the header {VERSION_HEADER}: {VERSION}. In a path, the service \"-\" is the \
                 only one there is.",
            ),
        },
        "paths": routes,
        "components": {
            "parameters": operation::parameters(),
            "responses": responses,
            "schemas": schemas.into_components()?,
        },
    }))
}
