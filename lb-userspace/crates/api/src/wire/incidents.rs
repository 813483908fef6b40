//! What `GET /v1/incidents` and `GET /v1/services/{service}/windows` answer. (GET
//! `/v1/incidents/{id}` is an [`Incident`].)

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Incident;
use super::{IncidentSummary, Window};

/// Incidents in short: the answer to `GET /v1/incidents`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct IncidentList {
    /// The version of the API.
    pub api: u32,
    /// The incidents, newest first.
    pub incidents: Vec<IncidentSummary>,
}

/// A service's windows and their scores: the answer to `GET /v1/services/{service}/windows`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Windows {
    /// The service's name.
    pub service: String,
    /// The newest windows of its generations, oldest first.
    pub windows: Vec<ScoredWindow>,
}

/// A window of a generation, and its score.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScoredWindow {
    /// The generation's name.
    pub generation: String,
    /// How unusual it is, from 0 to 1; `null` where there is too little to compare.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub score: Option<f64>,
    /// The window.
    #[serde(flatten)]
    pub window: Window,
}
