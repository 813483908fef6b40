//! `hotlb history show`: one rollout in full.

use std::fmt::Write as _;

use hotlb_api::wire::{Record, RolloutDetail, Summary};
use hotlb_sys::reader::printable;

use super::{
    record,
    words::{date, one_line, outcome, took, what, when, who},
};

/// The rollout for people.
pub(super) fn text(told: &RolloutDetail, now_ms: i64) -> String {
    let mut text = head(told, now_ms);
    if told.entries.is_empty() {
        text.push_str("\n  no further records\n");
        return text;
    }
    text.push('\n');
    let is_cut =
        |record: &Record| matches!(record, Record::Cut { connections } if !connections.is_empty());
    let cuts = told.entries.iter().any(|entry| is_cut(&entry.record));
    for entry in &told.entries {
        let since = u64::try_from(entry.at_ms.saturating_sub(told.summary.began_ms)).unwrap_or(0);
        let lines = record::lines(&entry.record, &told.summary, cuts);
        let mut lines = lines.iter();
        if let Some(first) = lines.next() {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{:>12}  {first}", format!("+{}", took(since)));
        }
        for line in lines {
            let _infallible = writeln!(text, "{:12}    {line}", "");
        }
    }
    text
}

fn head(told: &RolloutDetail, now_ms: i64) -> String {
    let summary = &told.summary;
    let service = printable(&summary.service);
    let mut text = format!("{}  {} of {service}\n", summary.id, what(summary));
    let rows = [
        ("by", who(&summary.who)),
        ("began", began(summary, now_ms)),
        ("outcome", ended(summary)),
        ("trace", printable(&told.trace)),
    ];
    for (name, value) in rows {
        let _infallible = writeln!(text, "  {name:<8} {value}");
    }
    text
}

fn began(summary: &Summary, now_ms: i64) -> String {
    let date = date(summary.began_ms);
    let when = when(summary.began_ms, now_ms);
    let age = if when == date {
        String::new()
    } else {
        format!(" ({when})")
    };
    match summary.took_ms {
        Some(ms) => format!("{date}{age}, took {}", took(ms)),
        None => format!("{date}{age}"),
    }
}

fn ended(summary: &Summary) -> String {
    match &summary.reason {
        Some(reason) => format!("{}: {}", outcome(summary), one_line(reason)),
        None => outcome(summary),
    }
}

#[cfg(test)]
mod tests {
    use hotlb_api::wire::{Entry, Phase, Record};

    use super::{super::words::tests::summary, *};

    #[test]
    fn head_and_records_with_their_times() {
        let entry = |seq: u32, record| Entry {
            at_ms: 1_000_000 + i64::from(seq) * 1_500,
            seq,
            record,
        };
        let told = RolloutDetail {
            summary: summary(),
            trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            boot: String::new(),
            entries: vec![
                entry(
                    0,
                    Record::Phase {
                        phase: Phase::PreLoad,
                        attempt: 1,
                        state: serde_json::Value::Null,
                    },
                ),
                entry(
                    1,
                    Record::Note {
                        text: "one\ntwo".to_owned(),
                    },
                ),
            ],
        };
        let expected = "\
r42  promote gen1 -> gen2 of web
  by       ops (uid 1000, pid 4711)
  began    1970-01-01T00:16:40Z (1m ago), took 4s 120ms
  outcome  rolled back: it crashed with \u{fffd}[31m
  trace    0af7651916cd43dd8448eb211c80319c

         +0s  phase pre_load
    +1s 500ms  one
                two
";
        let text = text(&told, 1_060_000);
        let squeezed = |text: &str| -> Vec<String> {
            text.lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(squeezed(&text), squeezed(expected), "{text}");
    }

    #[test]
    fn a_rollout_without_records_is_told_too() {
        let told = RolloutDetail {
            summary: summary(),
            trace: String::new(),
            boot: String::new(),
            entries: Vec::new(),
        };
        assert!(text(&told, 0).contains("no further records"));
    }
}
