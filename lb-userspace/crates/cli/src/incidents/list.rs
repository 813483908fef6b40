//! The table of `hotlb incidents`.

use hotlb_api::wire::IncidentSummary;
use hotlb_sys::reader::printable;

use super::super::{
    history::words::{one_line, when},
    table::{cut, newest, none_yet, plain},
};

/// Characters of a reason; `incidents show` has all of it.
const REASON_WIDTH: usize = 90;

/// The incidents for people; `limit` were asked for.
pub(super) fn table(
    incidents: &[IncidentSummary],
    service: Option<&str>,
    limit: u32,
    now_ms: i64,
) -> String {
    if incidents.is_empty() {
        return none_yet("incidents", service);
    }
    let mut table = plain([
        "ID",
        "WHEN",
        "SERVICE",
        "GENERATION",
        "SCORE",
        "ROLLOUT",
        "REASON",
    ]);
    for incident in incidents {
        table.add_row([
            incident.id.to_string(),
            when(incident.at_ms, now_ms),
            printable(&incident.service),
            printable(&incident.generation),
            format!("{:.2}", incident.score),
            incident
                .rollout
                .as_deref()
                .map_or("-".to_owned(), printable),
            shorten(&incident.reason),
        ]);
    }
    newest(&table, limit)
}

fn shorten(reason: &str) -> String {
    cut(one_line(reason), REASON_WIDTH)
}

#[cfg(test)]
mod tests {
    use hotlb_api::wire::IncidentId;

    use super::*;

    #[test]
    fn each_has_a_line_and_none_is_said() {
        assert_eq!(table(&[], None, 20, 0), "no incidents yet");
        assert_eq!(table(&[], Some("web"), 20, 0), "no incidents of web yet");
        let incident = IncidentSummary {
            id: IncidentId(7),
            service: "web".to_owned(),
            generation: "gen2".to_owned(),
            at_ms: 1_000_000,
            score: 0.873,
            reason: "service time p90 41 ms\u{1b}[31m, usually 3.0 ms".to_owned(),
            rollout: Some("r3".to_owned()),
            bytes: 5,
        };
        let text = table(&[incident], None, 1, 1_060_000);
        for part in [
            "i7",
            "1m ago",
            "web",
            "gen2",
            "0.87",
            "r3",
            "usually 3.0 ms",
            "--limit",
        ] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
