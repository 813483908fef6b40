//! How long clients waited.

use serde::{Deserialize, Serialize};

use super::Histogram;

/// How long clients waited, of a generation or of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    /// From the handshake to the first byte that the server reads.
    pub queue_wait: Histogram,
    /// From the first byte of a request to the first byte of its answer.
    pub service_time: Histogram,
    /// From the handshake to the end of the connection.
    pub lifetime: Histogram,
}

impl Latencies {
    /// Adds those of others.
    pub fn add(&mut self, other: &Self) {
        self.queue_wait.add(&other.queue_wait);
        self.service_time.add(&other.service_time);
        self.lifetime.add(&other.lifetime);
    }
}
