//! Who asks for a rollout, and in whose trace.

use crate::{lineage::TraceParent, store::journal::Who};

/// Who asks for a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// By the credentials the kernel gives.
    pub who: Who,
    /// The span the rollout is to be a child of, if the caller has one.
    pub parent: Option<TraceParent>,
}
