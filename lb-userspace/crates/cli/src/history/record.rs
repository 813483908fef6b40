//! One record for people: a line, and more below it where there is more to say.

use hotlb_api::wire::{CutConnection, Phase, Record, Summary};
use hotlb_sys::reader::printable;

use super::words::{one_line, took};

/// At most this number of cut connections is listed.
const CUT_LISTED: usize = 20;

/// The lines of a record of `rollout`, in which hotlb has cut connections or not: at least one.
pub(super) fn lines(record: &Record, rollout: &Summary, cuts: bool) -> Vec<String> {
    match record {
        Record::Phase { phase, attempt, .. } => vec![format!(
            "phase {}{}",
            phase.name(),
            repeated(*attempt, "attempt")
        )],
        Record::Word {
            done,
            active,
            fallback,
            epoch,
        } => {
            let name = |id: &Option<u32>| generation(*id, rollout);
            vec![format!(
                "steering word {}: active {}, fallback {}, epoch {epoch}",
                if *done { "stored" } else { "to be stored" },
                name(active),
                name(fallback)
            )]
        }
        Record::HookBegun {
            phase,
            index,
            attempt,
            command,
            reentrant,
        } => vec![format!(
            "{} started: {}{}{}",
            hook(*phase, *index),
            one_line(command),
            repeated(*attempt, "run"),
            if *reentrant { "" } else { " (not re-entrant)" }
        )],
        Record::HookEnded { .. } => hook_ended(record),
        Record::Check {
            name,
            ok,
            detail,
            took_us,
        } => vec![format!(
            "check {}: {}{}, {}",
            one_line(name),
            if *ok { "passed" } else { "failed" },
            took_us.map_or_else(String::new, |us| format!(" after {}", took(us / 1000))),
            one_line(detail)
        )],
        Record::Figure { name, value, unit } => vec![figure(name, *value, unit)],
        Record::Cut { connections } => cut(connections),
        Record::Lost { lost } if lost.sum() == 0 && cuts => {
            vec!["lost no connections except those that were cut".to_owned()]
        }
        Record::Lost { lost } => vec![losses(lost.sum(), &lost.by_name())],
        Record::Note { text } => {
            let lines: Vec<String> = text.lines().map(printable).collect();
            if lines.is_empty() {
                vec!["(empty note)".to_owned()]
            } else {
                lines
            }
        }
    }
}

fn hook(phase: Phase, index: u32) -> String {
    format!("hook {} #{}", phase.name(), u64::from(index) + 1)
}

/// "lost 3 connections: 2 unanswered, 1 queued".
fn losses(sum: u64, by_name: &[(&str, u64)]) -> String {
    let parts: Vec<String> = by_name
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
        .collect();
    if parts.is_empty() {
        return "lost no connections".to_owned();
    }
    format!("lost {sum} connections: {}", parts.join(", "))
}

/// Only what was not the first time is worth saying.
fn repeated(attempt: u32, what: &str) -> String {
    if attempt > 1 {
        format!(" ({what} {attempt})")
    } else {
        String::new()
    }
}

fn generation(id: Option<u32>, rollout: &Summary) -> String {
    let Some(id) = id else {
        return "none".to_owned();
    };
    let named = [Some(&rollout.to), rollout.from.as_ref()];
    named
        .into_iter()
        .flatten()
        .find(|generation| generation.id == id)
        .map_or_else(|| format!("#{id}"), |named| printable(&named.name))
}

fn hook_ended(record: &Record) -> Vec<String> {
    let Record::HookEnded {
        phase,
        index,
        attempt,
        ok,
        outcome,
        output,
        dropped,
        took_ms,
    } = record
    else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "{} {} after {}: {}{}",
        hook(*phase, *index),
        if *ok { "succeeded" } else { "failed" },
        took(*took_ms),
        one_line(outcome),
        repeated(*attempt, "run")
    )];
    lines.extend(output.lines().map(|line| format!("| {}", printable(line))));
    if *dropped > 0 {
        lines.push(format!("({dropped} more bytes of output were discarded)"));
    }
    lines
}

fn figure(name: &str, value: f64, unit: &str) -> String {
    let name = one_line(name);
    if value.is_nan() {
        format!("{name}: unknown")
    } else {
        format!(
            "{name}: {} {}",
            (value * 1000.0).round() / 1000.0,
            one_line(unit)
        )
    }
}

fn cut(connections: &[CutConnection]) -> Vec<String> {
    let count = connections.len();
    let mut lines = vec![match count {
        1 => "1 connection was cut".to_owned(),
        _ => format!("{count} connections were cut"),
    }];
    lines.extend(connections.iter().take(CUT_LISTED).map(one_cut));
    if count > CUT_LISTED {
        lines.push(format!(
            "and {} more; use --output json to list all",
            count - CUT_LISTED
        ));
    }
    lines
}

fn one_cut(connection: &CutConnection) -> String {
    let age = connection
        .age_ms
        .map_or_else(String::new, |ms| format!(", open for {}", took(ms)));
    format!(
        "{} -> {}  {}{age}: {}",
        connection.peer,
        connection.local,
        one_line(&connection.state),
        one_line(&connection.how)
    )
}

#[cfg(test)]
mod tests {
    use super::{super::words::tests::summary, *};

    fn text(record: &Record) -> String {
        lines(record, &summary(), false).join("\n")
    }

    #[test]
    fn a_word_names_the_generations_it_can() {
        let record = Record::Word {
            done: false,
            active: Some(2),
            fallback: Some(7),
            epoch: 9,
        };
        assert_eq!(
            text(&record),
            "steering word to be stored: active gen2, fallback #7, epoch 9"
        );
    }

    #[test]
    fn the_output_of_a_hook_is_below_it() {
        let record = Record::HookEnded {
            phase: Phase::Validate,
            index: 0,
            attempt: 2,
            ok: false,
            outcome: "exited with code 3".to_owned(),
            output: "no\u{1b}[2J\nway\n".to_owned(),
            dropped: 5,
            took_ms: 400,
        };
        assert_eq!(
            text(&record),
            "hook validate #1 failed after 400ms: exited with code 3 (run 2)\n\
             | no\u{fffd}[2J\n| way\n(5 more bytes of output were discarded)"
        );
    }

    #[test]
    fn of_many_cut_connections_the_first_are_listed() {
        let connection = CutConnection {
            peer: "10.0.0.1:5000".parse().unwrap(),
            local: "10.0.0.2:80".parse().unwrap(),
            age_ms: Some(61_000),
            state: "ESTABLISHED".to_owned(),
            how: "destroyed".to_owned(),
        };
        let all = |count| Record::Cut {
            connections: vec![connection.clone(); count],
        };
        assert_eq!(
            text(&all(1)),
            "1 connection was cut\n\
             10.0.0.1:5000 -> 10.0.0.2:80  ESTABLISHED, open for 1m 1s: destroyed"
        );
        assert_eq!(lines(&all(20), &summary(), false).len(), 21);
        let many = lines(&all(25), &summary(), false);
        assert_eq!(many.len(), 22);
        assert_eq!(many[21], "and 5 more; use --output json to list all");
    }

    #[test]
    fn a_figure_that_is_no_number_is_unknown() {
        let record = |value| Record::Figure {
            name: "p99".to_owned(),
            value,
            unit: "ms".to_owned(),
        };
        assert_eq!(text(&record(1.5)), "p99: 1.5 ms");
        assert_eq!(text(&record(0.613_310_999_999)), "p99: 0.613 ms");
        assert_eq!(text(&record(f64::NAN)), "p99: unknown");
    }

    const NONE: &str =
        r#"{"queued":0,"unanswered":0,"mid_response":0,"idle":0,"refused":0,"abandoned":0}"#;

    #[test]
    fn who_was_cut_was_lost() {
        let lost = Record::Lost {
            lost: serde_json::from_str(NONE).unwrap(),
        };
        assert_eq!(text(&lost), "lost no connections");
        let cut = lines(&lost, &summary(), true).join("\n");
        assert_eq!(cut, "lost no connections except those that were cut");
    }
}
