//! What `GET /v1/incidents` and `GET /v1/services/{service}/windows` answer. (GET
//! `/v1/incidents/{id}` is an [`Incident`].)

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::{Incident, VERSION};
use super::{IncidentSummary, Window};

/// GET `/v1/incidents`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentList {
    /// [`VERSION`].
    pub api: u32,
    /// Incidents, newest first.
    pub incidents: Vec<IncidentSummary>,
}

/// GET `/v1/services/{service}/windows`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Windows {
    /// The service.
    pub service: String,
    /// The newest windows of its generations, oldest first.
    pub windows: Vec<ScoredWindow>,
}

/// A window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoredWindow {
    /// The generation.
    pub generation: String,
    /// How unusual it is, from 0 to 1; `null` where there is too little to compare.
    pub score: Option<f64>,
    /// The window.
    #[serde(flatten)]
    pub window: Window,
}
