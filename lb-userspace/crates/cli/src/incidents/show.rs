//! `hotlb incidents show`: one incident in full.

use std::fmt::Write as _;

use comfy_table::CellAlignment;
use hotlb_api::wire::{Incident, SlowConnection};
use hotlb_sys::reader::printable;

use super::{
    super::{
        history::words::{date, one_line, took, when},
        profile::table as profile_table,
        table::{lines, plain},
    },
    windows,
};

/// The incident for people.
pub(super) fn text(incident: &Incident, now_ms: i64) -> String {
    let summary = &incident.summary;
    let mut text = format!(
        "{}  {} of {}\n",
        summary.id,
        printable(&summary.generation),
        printable(&summary.service)
    );
    let mut rows = vec![
        ("score", format!("{:.2}", summary.score)),
        ("reason", one_line(&summary.reason)),
        (
            "when",
            format!(
                "{} ({}), captured for {}",
                date(summary.at_ms),
                when(summary.at_ms, now_ms),
                took(incident.took_ms)
            ),
        ),
    ];
    rows.extend(summary.rollout.iter().map(|id| {
        let id = printable(id);
        ("rollout", format!("{id} (hotlb history show {id})"))
    }));
    rows.extend(
        incident
            .beside
            .iter()
            .map(|name| ("beside", printable(name))),
    );
    rows.extend(incident.notes.iter().map(|note| ("note", one_line(note))));
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<8} {value}");
    }
    let name = printable(&summary.generation);
    let at = Some(summary.at_ms);
    let _infallible = write!(
        text,
        "\nwindows of {name}\n{}",
        windows::rows(&incident.windows, at)
    );
    if let Some(beside) = &incident.beside {
        let rows = windows::rows(&incident.beside_windows, at);
        let _infallible = write!(text, "\nwindows of {}\n{rows}", printable(beside));
    }
    text.push_str("\nslowest connections\n");
    text.push_str(&connections(&incident.connections));
    if let Some(profile) = &incident.profile {
        let _infallible = write!(text, "\nCPU time\n{}", profile_table(profile));
    }
    text
}

fn connections(slow: &[SlowConnection]) -> String {
    if slow.is_empty() {
        return "  no connection was waiting for the server\n".to_owned();
    }
    let mut table = plain([
        "CLIENT", "STATE", "WAITED", "AGE", "RECEIVED", "SENT", "RTT", "RESENT",
    ]);
    for connection in slow {
        let age = connection.age_us.map_or("-".to_owned(), windows::time);
        table.add_row([
            connection.client.to_string(),
            connection.phase.name().to_owned(),
            windows::time(connection.waited_us),
            age,
            connection.received.to_string(),
            connection.sent.to_string(),
            windows::time(connection.round_trip_us.into()),
            connection.retransmitted.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    lines(&table, " ")
}
