//! Rollouts in words; nothing that comes from elsewhere drives the terminal.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use hotlb_api::wire::{Outcome, RolloutKind, Summary, Who};
use hotlb_sys::reader::printable;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// "promote gen1 -> gen2".
pub(super) fn what(summary: &Summary) -> String {
    let kind = match summary.kind {
        RolloutKind::Promote => "promote",
        RolloutKind::Upgrade => "upgrade",
        RolloutKind::Rollback => "rollback",
        RolloutKind::FailOver => "fail-over",
    };
    let to = printable(&summary.to.name);
    match &summary.from {
        Some(from) => format!("{kind} {} -> {to}", printable(&from.name)),
        None => format!("{kind} {to}"),
    }
}

/// "ops (uid 1000, pid 4711)".
pub(super) fn who(who: &Who) -> String {
    let numbers: Vec<String> = [("uid", who.uid), ("pid", who.pid)]
        .into_iter()
        .filter_map(|(name, number)| Some(format!("{name} {}", number?)))
        .collect();
    let name = printable(&who.name);
    if numbers.is_empty() {
        name
    } else {
        format!("{name} ({})", numbers.join(", "))
    }
}

/// "3m 12s ago" within a day, else the date; both in milliseconds since 1970.
pub(crate) fn when(at_ms: i64, now_ms: i64) -> String {
    match now_ms.saturating_sub(at_ms) {
        age @ 0..DAY_MS => format!("{} ago", seconds(u64::try_from(age).unwrap_or(0))),
        _ => date(at_ms),
    }
}

/// "2026-11-22T21:42:02Z".
pub(crate) fn date(at_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    let mut text = String::new();
    let written = UNIX_EPOCH
        .checked_add(since)
        .map(|at| write!(text, "{}", humantime::format_rfc3339_seconds(at)));
    // The format ends with the year 9999.
    match written {
        Some(Ok(())) => text,
        _ => format!("{at_ms} ms since 1970"),
    }
}

/// The two greatest units: "1m 3s", "4s 120ms".
pub(crate) fn took(ms: u64) -> String {
    let whole = humantime::format_duration(Duration::from_millis(ms)).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn seconds(ms: u64) -> String {
    took(ms - ms % 1000)
}

/// "done", or where it stands.
pub(super) fn outcome(summary: &Summary) -> String {
    match (summary.outcome, summary.phase) {
        (Some(Outcome::Done), _) => "done".to_owned(),
        (Some(Outcome::RolledBack), _) => "rolled back".to_owned(),
        (Some(Outcome::Refused), _) => "refused".to_owned(),
        (None, Some(phase)) => format!("in progress ({})", phase.name()),
        (None, None) => "in progress".to_owned(),
    }
}

/// The text on one line.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| printable(line.trim())).collect();
    lines.join(" ")
}

#[cfg(test)]
pub(super) mod tests {
    use hotlb_api::wire::{GenerationRef, RolloutId};

    use super::*;

    pub(in crate::history) fn summary() -> Summary {
        let generation = |id| GenerationRef {
            id,
            name: format!("gen{id}"),
        };
        Summary {
            id: RolloutId(42),
            service: "web".to_owned(),
            kind: RolloutKind::Promote,
            from: Some(generation(1)),
            to: generation(2),
            who: Who {
                uid: Some(1000),
                pid: Some(4711),
                name: "ops".to_owned(),
            },
            began_ms: 1_000_000,
            took_ms: Some(4_120),
            phase: None,
            outcome: Some(Outcome::RolledBack),
            reason: Some("it crashed\nwith \u{1b}[31m".to_owned()),
        }
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(when(0, 192_500), "3m 12s ago");
        assert_eq!(when(0, 300), "0s ago");
        assert_eq!(when(0, DAY_MS), "1970-01-01T00:00:00Z");
        // The clock was set back since.
        assert_eq!(when(5_000, 1_000), "1970-01-01T00:00:05Z");
        assert!(when(i64::MAX, i64::MIN).contains("since 1970"));
        assert_eq!(took(4_120), "4s 120ms");
        assert_eq!(took(3_600_000 * 25 + 7), "1day 1h");
    }

    #[test]
    fn what_others_wrote_does_not_drive_the_terminal() {
        let mut odd = summary();
        odd.who.name = "o\u{7}ps".to_owned();
        odd.to.name = "\u{1b}[2J".to_owned();
        assert_eq!(who(&odd.who), "o\u{fffd}ps (uid 1000, pid 4711)");
        assert_eq!(what(&odd), "promote gen1 -> \u{fffd}[2J");
        assert_eq!(one_line("a\n\tb\u{1b}c\r\n"), "a b\u{fffd}c");
    }
}
