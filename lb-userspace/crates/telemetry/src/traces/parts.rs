//! What happens in a phase: hooks, probes, and what is worth an event.

use opentelemetry::{KeyValue, trace::Event};
use opentelemetry_sdk::trace::SpanEvents;

use super::spans::{Part, moment};
use crate::{
    lineage::HookSpan,
    store::journal::{Entry, Record},
};

/// How much of a hook's output its span has: the end of it, in bytes.
const TAIL: usize = 2048;

/// The hooks that were started; one without an end is one that an agent did not outlive.
pub(super) fn hooks(inside: &[Entry], until: i64) -> impl Iterator<Item = Part> {
    inside.iter().enumerate().filter_map(move |(at, entry)| {
        let Record::HookBegun {
            phase,
            index,
            attempt,
            command,
            ..
        } = &entry.record
        else {
            return None;
        };
        let span = HookSpan {
            phase: phase.name(),
            index: *index,
            attempt: *attempt,
        };
        let mut part = Part {
            name: format!("hook {}", phase.name()).into(),
            key: span.part(),
            begin: entry.at_ms,
            end: until,
            attributes: vec![
                KeyValue::new("hotlb.phase", phase.name()),
                KeyValue::new("hotlb.hook.index", i64::from(*index)),
                KeyValue::new("hotlb.attempt", i64::from(*attempt)),
                KeyValue::new("hotlb.hook.command", command.clone()),
            ],
            failure: Some("the agent ended while it ran".to_owned()),
            events: SpanEvents::default(),
            children: Vec::new(),
        };
        let later = inside.get(at..).unwrap_or_default();
        if let Some(end) = later.iter().find(|entry| ends(&entry.record, &span)) {
            ended(&mut part, end);
        }
        Some(part)
    })
}

fn ends(record: &Record, span: &HookSpan<'_>) -> bool {
    matches!(record, Record::HookEnded { phase, index, attempt, .. }
        if (phase.name(), *index, *attempt) == (span.phase, span.index, span.attempt))
}

fn ended(part: &mut Part, entry: &Entry) {
    let Record::HookEnded {
        ok,
        outcome,
        output,
        dropped,
        ..
    } = &entry.record
    else {
        return;
    };
    part.end = entry.at_ms;
    part.failure = (!ok).then(|| outcome.clone());
    let dropped = i64::try_from(*dropped).unwrap_or(i64::MAX);
    part.attributes.extend([
        KeyValue::new("hotlb.hook.outcome", outcome.clone()),
        KeyValue::new("hotlb.hook.output", tail(output).to_owned()),
        KeyValue::new("hotlb.hook.dropped_bytes", dropped),
    ]);
}

/// The last bytes of a text, from a whole character on.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(TAIL);
    let whole = (from..=text.len()).find(|&at| text.is_char_boundary(at));
    whole.and_then(|at| text.get(at..)).unwrap_or_default()
}

/// The probes whose time was taken.
pub(super) fn probes(phase: usize, inside: &[Entry]) -> impl Iterator<Item = Part> {
    inside.iter().filter_map(move |entry| {
        let Record::Check {
            name,
            ok,
            detail,
            took_us: Some(took),
        } = &entry.record
        else {
            return None;
        };
        let took_ms = i64::try_from(took / 1000).unwrap_or_default();
        Some(Part {
            name: format!("probe {name}").into(),
            key: format!("probe/{phase}/{}", entry.seq),
            begin: entry.at_ms.saturating_sub(took_ms),
            end: entry.at_ms,
            attributes: vec![
                KeyValue::new("hotlb.probe.detail", detail.clone()),
                KeyValue::new(
                    "hotlb.probe.took_us",
                    i64::try_from(*took).unwrap_or(i64::MAX),
                ),
            ],
            failure: (!ok).then(|| detail.clone()),
            events: SpanEvents::default(),
            children: Vec::new(),
        })
    })
}

/// What has a moment and no length.
pub(super) fn events(inside: &[Entry]) -> SpanEvents {
    let mut events = SpanEvents::default();
    events.events.extend(inside.iter().filter_map(event));
    events
}

fn event(entry: &Entry) -> Option<Event> {
    let (name, attributes) = match &entry.record {
        Record::Word {
            done,
            active,
            epoch,
            ..
        } => {
            let name = if *done {
                "word stored"
            } else {
                "word intended"
            };
            let active = active.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
            let attributes = vec![
                KeyValue::new("hotlb.active", active),
                KeyValue::new("hotlb.epoch", i64::from(*epoch)),
            ];
            (name.to_owned(), attributes)
        }
        Record::Figure { name, value, unit } => (
            name.clone(),
            vec![
                KeyValue::new("hotlb.value", *value),
                KeyValue::new("hotlb.unit", unit.clone()),
            ],
        ),
        Record::Cut { connections } => {
            let count = i64::try_from(connections.len()).unwrap_or(i64::MAX);
            let attributes = vec![KeyValue::new("hotlb.connections", count)];
            ("connections cut".to_owned(), attributes)
        }
        Record::Lost { lost } => {
            let by_name = lost.by_name().into_iter().map(|(name, count)| {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                KeyValue::new(format!("hotlb.lost.{name}"), count)
            });
            ("losses".to_owned(), by_name.collect())
        }
        Record::Note { text } => (text.clone(), Vec::new()),
        Record::Check {
            name,
            ok,
            detail,
            took_us: None,
        } => (
            format!("check {name}"),
            vec![
                KeyValue::new("hotlb.ok", *ok),
                KeyValue::new("hotlb.detail", detail.clone()),
            ],
        ),
        Record::Phase { .. }
        | Record::HookBegun { .. }
        | Record::HookEnded { .. }
        | Record::Check { .. } => return None,
    };
    Some(Event::new(name, moment(entry.at_ms), attributes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_whole_characters() {
        assert_eq!(tail("short"), "short");
        let long = "\u{e4}".repeat(TAIL);
        assert_eq!(tail(&long).len(), TAIL);
        let odd = format!("{long}x");
        assert_eq!(tail(&odd).len(), TAIL - 1);
    }
}
