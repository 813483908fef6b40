//! Where a rollout stands in its trace. It is a part of the rollout's plan, so that whoever goes
//! on with the rollout goes on with the trace.

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use hotlb_core::trace_parent::{HEADER, NoTraceParent, TraceParent};

use crate::store::journal::{Record, RolloutDetail};

/// A rollout's place in its trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The rollout's own span: 16 hexadecimal digits. Empty in the plans of releases that knew
    /// no spans.
    #[serde(default)]
    root: String,
    /// The caller's span, if there is one: 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// The caller does not want the trace recorded.
    #[serde(default)]
    unsampled: bool,
}

impl Lineage {
    /// A new rollout's, and the trace it belongs to: the caller's, or one of its own.
    pub fn begin(parent: Option<&TraceParent>) -> (String, Self) {
        let ids = RandomIdGenerator::default();
        let trace = parent.map_or_else(
            || ids.new_trace_id().to_string(),
            |parent| parent.trace().to_owned(),
        );
        let lineage = Self {
            root: ids.new_span_id().to_string(),
            parent: parent.map(|parent| parent.span().to_owned()),
            unsampled: parent.is_some_and(|parent| !parent.is_sampled()),
        };
        (trace, lineage)
    }

    /// That of a rollout in the journal.
    pub(super) fn of(told: &RolloutDetail) -> Self {
        let plan = told.entries.iter().find_map(|entry| match &entry.record {
            Record::Phase { state, .. } => state.pointer("/plan/lineage").cloned(),
            _ => None,
        });
        // A fail-over has no plan; its trace is its own.
        plan.and_then(|plan| serde_json::from_value(plan).ok())
            .unwrap_or_default()
    }

    /// Whether the trace is to be sent.
    pub fn is_sampled(&self) -> bool {
        !self.unsampled
    }

    /// The caller's span.
    pub(super) fn parent(&self) -> Option<SpanId> {
        SpanId::from_hex(self.parent.as_ref()?).ok()
    }

    /// The rollout's own span.
    pub(super) fn root(&self, trace: TraceId) -> SpanId {
        let written = SpanId::from_hex(&self.root).ok();
        let written = written.filter(|&id| id != SpanId::INVALID);
        written.unwrap_or_else(|| derived(&trace.to_string(), "rollout"))
    }

    /// The span of a part of the rollout: every agent finds the same one.
    pub(super) fn part(&self, trace: TraceId, part: &str) -> SpanId {
        derived(&format!("{trace}/{}", self.root(trace)), part)
    }

    /// The `traceparent` that one run of a hook gets: that of its own span.
    pub fn of_hook(&self, trace: &str, hook: &HookSpan<'_>) -> String {
        let id = TraceId::from_hex(trace).unwrap_or(TraceId::INVALID);
        let span = self.part(id, &hook.part());
        format!("00-{trace}-{span}-{:02x}", u8::from(self.is_sampled()))
    }
}

/// What tells one run of a hook from all others of its rollout.
#[derive(Clone, Copy, Debug)]
pub struct HookSpan<'a> {
    /// The phase's name.
    pub phase: &'a str,
    /// The hook's number.
    pub index: u32,
    /// Which of its runs.
    pub attempt: u32,
}

impl HookSpan<'_> {
    pub(super) fn part(&self) -> String {
        format!("hook/{}/{}/{}", self.phase, self.index, self.attempt)
    }
}

/// The same for every release: a hook may outlive the agent that started it.
fn derived(of: &str, part: &str) -> SpanId {
    let digest = Sha256::digest(format!("{of}/{part}"));
    let (first, _) = digest.split_first_chunk().unwrap_or((&[1; 8], &[]));
    SpanId::from_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_hook_gets_the_span_that_is_sent_later() {
        let (trace, lineage) = Lineage::begin(None);
        let hook = HookSpan {
            phase: "validate",
            index: 1,
            attempt: 2,
        };
        let given = lineage.of_hook(&trace, &hook);
        let id = TraceId::from_hex(&trace).unwrap();
        let span = lineage.part(id, "hook/validate/1/2");
        assert_eq!(given, format!("00-{trace}-{span}-01"));
        let again: Lineage =
            serde_json::from_value(serde_json::to_value(&lineage).unwrap()).unwrap();
        assert_eq!(again.of_hook(&trace, &hook), given);
    }

    #[test]
    fn a_rollout_is_a_child_of_its_caller() {
        let caller: TraceParent = format!("00-{TRACE}-b7ad6b7169203331-00").parse().unwrap();
        let (trace, lineage) = Lineage::begin(Some(&caller));
        assert_eq!(trace, TRACE);
        assert_eq!(lineage.parent().unwrap().to_string(), "b7ad6b7169203331");
        assert!(!lineage.is_sampled());
        let (_, second) = Lineage::begin(Some(&caller));
        assert_ne!(lineage, second, "two rollouts of one trace");
    }
}
