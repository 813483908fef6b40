//! Windows as a table.

use comfy_table::{CellAlignment, Table};
use hotlb_api::wire::{Window, WindowQuantiles, Windows};
use hotlb_sys::reader::printable;

use super::super::{
    history::words::date,
    table::{lines, plain},
};

const COLUMNS: [&str; 9] = [
    "OPENED",
    "REQUESTS",
    "SERVICE p50/p90/p99",
    "WAIT p50/p90/p99",
    "CPU",
    "LOST",
    "DROPPED",
    "QUEUE",
    "LIVE",
];

/// Windows with their scores.
pub(super) fn table(windows: &Windows) -> String {
    if windows.windows.is_empty() {
        return format!(
            "no windows of {} yet: there is one per second for each generation that can have \
             clients, unless the service is configured with `incidents = false`",
            printable(&windows.service)
        );
    }
    let mut table = empty(["WHEN", "GENERATION", "SCORE"]);
    for scored in &windows.windows {
        let mut row = vec![
            date(scored.window.at_ms),
            printable(&scored.generation),
            scored
                .score
                .map_or("-".to_owned(), |score| format!("{score:.2}")),
        ];
        row.extend(values(&scored.window));
        table.add_row(row);
    }
    lines(&table, " ")
}

/// Windows of one generation; the one that ended at `unusual` is marked.
pub(super) fn rows(windows: &[Window], unusual: Option<i64>) -> String {
    let mut table = empty(["", "WHEN"]);
    for window in windows {
        let mark = if Some(window.at_ms) == unusual {
            ">"
        } else {
            ""
        };
        let mut row = vec![mark.to_owned(), date(window.at_ms)];
        row.extend(values(window));
        table.add_row(row);
    }
    lines(&table, " ")
}

fn empty<const N: usize>(first: [&str; N]) -> Table {
    let mut table = plain(first.into_iter().chain(COLUMNS));
    for column in table.column_iter_mut().skip(N) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn values(window: &Window) -> [String; 9] {
    [
        window.opened.to_string(),
        window.requests.to_string(),
        quantiles(window.service),
        quantiles(window.wait),
        window.cpu_us.map_or("-".to_owned(), time),
        window.lost.to_string(),
        window.dropped.to_string(),
        window.queue.to_string(),
        window.live.to_string(),
    ]
}

fn quantiles(of: WindowQuantiles) -> String {
    if of.count == 0 {
        return "-".to_owned();
    }
    format!("{} / {} / {}", time(of.p50), time(of.p90), time(of.p99))
}

/// "420us", "3.2ms", "1.5s".
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn time(us: u64) -> String {
    match us as f64 {
        us if us < 1_000.0 => format!("{us}us"),
        us if us < 1_000_000.0 => format!("{:.1}ms", us / 1e3),
        us => format!("{:.1}s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unusual_one_is_marked() {
        let window = |at_ms| Window {
            at_ms,
            ..Window::default()
        };
        let text = rows(&[window(1_000), window(2_000)], Some(2_000));
        let marked: Vec<_> = text.lines().filter(|line| line.contains('>')).collect();
        assert_eq!(marked.len(), 1, "{text}");
        assert!(marked[0].contains("00:00:02"), "{text}");
        assert_eq!(time(999), "999us");
        assert_eq!(time(3_210), "3.2ms");
        assert_eq!(time(1_500_000), "1.5s");
    }
}
