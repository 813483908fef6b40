//! In whose trace something is asked for: the `traceparent` header.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::peer::Peer;
use crate::{
    agent::Caller,
    lineage::{HEADER, TraceParent},
};

/// The caller's span, if it says one. As W3C Trace Context has it, one that cannot be read is none.
pub(super) struct InTrace(Option<TraceParent>);

impl InTrace {
    /// Who asks, in this trace.
    pub(super) fn caller(self, peer: Peer) -> Caller {
        Caller {
            who: peer.who(),
            parent: self.0,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InTrace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let said = parts
            .headers
            .get(HEADER)
            .and_then(|value| value.to_str().ok());
        Ok(Self(said.and_then(|text| text.parse().ok())))
    }
}
