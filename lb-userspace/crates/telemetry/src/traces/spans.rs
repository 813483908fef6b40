//! The spans of a rollout, from what the journal has of it: pure, and the same each time.
//!
//! The rollout is the root (or a child of the caller's span); a phase lasts from its record to the
//! next one's, so that the phases add up to the rollout; hooks and probes are children of their
//! phase. Times are the journal's, to the millisecond.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::parts;
use crate::{
    lineage::Lineage,
    rollout::Phase,
    store::journal::{Entry, Outcome, Record, RolloutDetail, RolloutKind, Summary},
};

/// A span, before it has its place in the trace.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: Cow<'static, str>,
    /// What its id is made of.
    pub(super) key: String,
    /// Milliseconds since 1970.
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) attributes: Vec<KeyValue>,
    /// Why it failed, if it did.
    pub(super) failure: Option<String>,
    /// What happened meanwhile.
    pub(super) events: SpanEvents,
    /// What it is made of.
    pub(super) children: Vec<Part>,
}

/// All spans of a rollout that is over, the root first; none if the caller wants none.
pub(super) fn spans(told: &RolloutDetail) -> Vec<SpanData> {
    let lineage = Lineage::of(told);
    let Ok(trace) = TraceId::from_hex(&told.trace) else {
        return Vec::new();
    };
    if !lineage.is_sampled() {
        return Vec::new();
    }
    let family = Family {
        trace,
        lineage: &lineage,
    };
    let mut spans = Vec::new();
    let own = family.lineage.root(trace);
    let parent = lineage.parent();
    family.add(
        &mut spans,
        rollout(told),
        own,
        parent.unwrap_or(SpanId::INVALID),
    );
    if let Some(root) = spans.first_mut() {
        root.parent_span_is_remote = parent.is_some();
        root.span_kind = SpanKind::Server;
    }
    spans
}

/// What the spans of a rollout have in common.
struct Family<'a> {
    trace: TraceId,
    lineage: &'a Lineage,
}

impl Family<'_> {
    fn add(&self, spans: &mut Vec<SpanData>, part: Part, own: SpanId, parent: SpanId) {
        let flags = TraceFlags::SAMPLED;
        spans.push(SpanData {
            span_context: SpanContext::new(self.trace, own, flags, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: part.name,
            start_time: moment(part.begin),
            end_time: moment(part.end),
            attributes: part.attributes,
            dropped_attributes_count: 0,
            events: part.events,
            links: SpanLinks::default(),
            status: part.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("hotlb")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        });
        for child in part.children {
            let id = self.lineage.part(self.trace, &child.key);
            self.add(spans, child, id, own);
        }
    }
}

/// Milliseconds since 1970, as the clock has them.
pub(super) fn moment(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis.try_into().unwrap_or_default())
}

fn rollout(told: &RolloutDetail) -> Part {
    let rollout = &told.summary;
    let took = i64::try_from(rollout.took_ms.unwrap_or_default()).unwrap_or(i64::MAX);
    let end = rollout.began_ms.saturating_add(took);
    let lost = told
        .entries
        .iter()
        .rev()
        .find_map(|entry| match &entry.record {
            Record::Lost { lost } => {
                let sum = i64::try_from(lost.sum()).unwrap_or(i64::MAX);
                Some(KeyValue::new("hotlb.lost", sum))
            }
            _ => None,
        });
    Part {
        name: rollout.kind.name().into(),
        key: String::new(),
        begin: rollout.began_ms,
        end,
        attributes: described(rollout).into_iter().chain(lost).collect(),
        failure: failure(rollout),
        events: SpanEvents::default(),
        children: phases(rollout, &told.entries, end),
    }
}

/// Why a rollout is a failure. For a rollback, to be rolled back is what was asked for.
fn failure(rollout: &Summary) -> Option<String> {
    let failed = match (rollout.outcome, rollout.kind) {
        (Some(Outcome::RolledBack), kind) => kind != RolloutKind::Rollback,
        (Some(Outcome::Refused), _) => true,
        (Some(Outcome::Done) | None, _) => false,
    };
    failed.then(|| rollout.reason.clone().unwrap_or_default())
}

fn described(rollout: &Summary) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("hotlb.service", rollout.service.clone()),
        KeyValue::new("hotlb.rollout", rollout.id.to_string()),
        KeyValue::new("hotlb.kind", rollout.kind.name()),
        KeyValue::new("hotlb.to", rollout.to.name.clone()),
        KeyValue::new("user.name", rollout.who.name.clone()),
    ];
    let from = rollout.from.as_ref().map(|from| from.name.clone());
    let uid = rollout.who.uid.map(|uid| uid.to_string());
    let outcome = rollout.outcome.map(|outcome| outcome.name().to_owned());
    let optional = [
        ("hotlb.from", from),
        ("hotlb.outcome", outcome),
        ("hotlb.reason", rollout.reason.clone()),
        ("user.id", uid),
    ];
    let known = |(name, value): (_, Option<String>)| Some(KeyValue::new(name, value?));
    attributes.extend(optional.into_iter().filter_map(known));
    attributes
}

/// The phases that were entered, each with what happened until the next.
fn phases(rollout: &Summary, entries: &[Entry], end: i64) -> Vec<Part> {
    let is_phase = |entry: &Entry| matches!(entry.record, Record::Phase { .. });
    let entered: Vec<usize> = (0..entries.len())
        .filter(|&at| entries.get(at).is_some_and(is_phase))
        .collect();
    let stretches = entered.iter().enumerate().filter_map(|(number, &at)| {
        let next = entered.get(number + 1).copied();
        let inside = entries.get(at..next.unwrap_or(entries.len()))?;
        let (first, rest) = inside.split_first()?;
        let ended = next.and_then(|next| entries.get(next));
        let until = ended.map_or(end, |next| next.at_ms);
        let leads_back = ended.is_some_and(|next| {
            let phase = Phase::RollingBack;
            matches!(&next.record, Record::Phase { phase: other, .. } if *other == phase)
        });
        let failure = leads_back.then(|| rollout.reason.clone().unwrap_or_default());
        phase(number, first, rest, until, failure)
    });
    stretches.collect()
}

fn phase(
    number: usize,
    entry: &Entry,
    inside: &[Entry],
    until: i64,
    failure: Option<String>,
) -> Option<Part> {
    let Record::Phase { phase, attempt, .. } = &entry.record else {
        return None;
    };
    if phase.is_over() {
        return None;
    }
    Some(Part {
        name: phase.name().into(),
        key: format!("phase/{number}"),
        begin: entry.at_ms,
        end: until,
        attributes: vec![
            KeyValue::new("hotlb.phase", phase.name()),
            KeyValue::new("hotlb.attempt", i64::from(*attempt)),
        ],
        failure,
        events: parts::events(inside),
        children: parts::hooks(inside, until)
            .chain(parts::probes(number, inside))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::{GenerationRef, RolloutId, Who};

    fn told(kind: RolloutKind, outcome: Outcome, records: Vec<Record>) -> RolloutDetail {
        let entries = (1..).zip(records).map(|(seq, record)| Entry {
            at_ms: 1000 + 10 * i64::from(seq),
            seq,
            record,
        });
        RolloutDetail {
            summary: Summary {
                id: RolloutId(7),
                service: "web".to_owned(),
                kind,
                from: None,
                to: GenerationRef {
                    id: 1,
                    name: "gen1".to_owned(),
                },
                who: Who {
                    uid: None,
                    pid: None,
                    name: "agent".to_owned(),
                },
                began_ms: 1000,
                took_ms: Some(500),
                phase: None,
                outcome: Some(outcome),
                reason: Some("why".to_owned()),
            },
            trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            boot: "boot".to_owned(),
            entries: entries.collect(),
        }
    }

    fn phase(phase: Phase) -> Record {
        Record::Phase {
            phase,
            attempt: 1,
            state: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_fail_over_is_one_span_and_no_error() {
        let told = told(RolloutKind::FailOver, Outcome::Done, Vec::new());
        let spans = spans(&told);
        let [root] = spans.as_slice() else {
            panic!("{spans:?}");
        };
        assert_eq!(root.name, "fail_over");
        assert_eq!(root.parent_span_id, SpanId::INVALID);
        assert_eq!(root.status, Status::Unset);
        let took = root.end_time.duration_since(root.start_time).unwrap();
        assert_eq!(took, Duration::from_millis(500));
    }

    #[test]
    fn a_hook_without_an_end_and_the_phase_that_failed_are_errors() {
        let begun = Record::HookBegun {
            phase: Phase::Swap,
            index: 0,
            attempt: 1,
            command: "true".to_owned(),
            reentrant: false,
        };
        let records = vec![
            phase(Phase::Validate),
            phase(Phase::Swap),
            begun,
            phase(Phase::RollingBack),
        ];
        let told = told(RolloutKind::Promote, Outcome::RolledBack, records);
        let spans = spans(&told);
        let is_error: Vec<_> = spans
            .iter()
            .map(|span| (span.name.as_ref(), span.status != Status::Unset))
            .collect();
        assert_eq!(
            is_error,
            [
                ("promote", true),
                ("validate", false),
                ("swap", true),
                ("hook swap", true),
                ("rolling_back", false)
            ]
        );
        assert_eq!(spans[3].parent_span_id, spans[2].span_context.span_id());
        assert_eq!(spans[3].end_time, spans[2].end_time);
        assert_eq!(spans, super::spans(&told), "the same each time");
    }

    #[test]
    fn who_does_not_record_gets_nothing() {
        let state = serde_json::json!({"plan": {"lineage": {"unsampled": true}}});
        let record = Record::Phase {
            phase: Phase::Swap,
            attempt: 1,
            state,
        };
        let told = told(RolloutKind::Promote, Outcome::Done, vec![record]);
        assert_eq!(spans(&told), []);
    }
}
