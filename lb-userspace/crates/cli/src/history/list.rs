//! The table of `hotlb history`.

use comfy_table::CellAlignment;
use hotlb_api::wire::Summary;
use hotlb_sys::reader::printable;

use super::super::table::{cut, newest, none_yet, plain};
use super::words::{one_line, outcome, took, what, when, who};

/// Characters of a reason; `history show` has all of it.
const REASON_WIDTH: usize = 48;

/// The rollouts for people; `limit` were asked for.
pub(super) fn table(
    rollouts: &[Summary],
    service: Option<&str>,
    limit: u32,
    now_ms: i64,
) -> String {
    if rollouts.is_empty() {
        return none_yet("rollouts", service);
    }
    let mut table = plain([
        "ID", "SERVICE", "WHAT", "WHO", "WHEN", "TOOK", "OUTCOME", "REASON",
    ]);
    for rollout in rollouts {
        table.add_row(row(rollout, now_ms));
    }
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    newest(&table, limit)
}

fn row(rollout: &Summary, now_ms: i64) -> [String; 8] {
    [
        rollout.id.to_string(),
        printable(&rollout.service),
        what(rollout),
        who(&rollout.who),
        when(rollout.began_ms, now_ms),
        rollout.took_ms.map_or_else(|| "-".to_owned(), took),
        outcome(rollout),
        rollout.reason.as_deref().map_or_else(String::new, shorten),
    ]
}

fn shorten(reason: &str) -> String {
    cut(one_line(reason), REASON_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::{super::words::tests::summary, *};

    #[test]
    fn nothing_yet_is_said() {
        assert_eq!(table(&[], None, 20, 0), "no rollouts yet");
        assert_eq!(table(&[], Some("web"), 20, 0), "no rollouts of web yet");
    }

    #[test]
    fn a_rollout_has_one_line() {
        let text = table(&[summary()], None, 20, 1_060_000);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for part in [
            "r42",
            "web",
            "promote gen1 -> gen2",
            "ops (uid 1000, pid 4711)",
            "1m ago",
            "4s 120ms",
            "rolled back",
            "it crashed with",
        ] {
            assert!(lines[1].contains(part), "no {part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_list_that_was_cut_says_so() {
        let text = table(&[summary(), summary()], None, 2, 0);
        assert!(text.contains("--limit"), "{text}");
    }

    #[test]
    fn a_long_reason_is_cut() {
        let mut long = summary();
        long.reason = Some("no ".repeat(100));
        let text = table(&[long], None, 20, 1_060_000);
        assert!(
            text.lines().all(|line| line.chars().count() <= 170),
            "{text}"
        );
    }
}
