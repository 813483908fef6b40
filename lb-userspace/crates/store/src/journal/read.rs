//! What is read back.

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    Entry, GenerationRef, HistoryFilter, Outcome, Record, RolloutDetail, RolloutId, RolloutKind,
    Summary, Who,
    error::{Fault, Trouble},
};
use crate::rollout::Phase;

const ROLLOUT: &str = "id, service, kind, from_id, from_name, to_id, to_name, who_uid, who_pid, \
                       who_name, began_ms, ended_ms, phase, outcome, reason, trace, boot";

/// The rollouts of a service that are not over, newest last.
pub(super) fn unfinished(
    connection: &Connection,
    service: &str,
) -> Result<Vec<RolloutDetail>, Fault> {
    let mut query = connection.prepare(&format!(
        "SELECT {ROLLOUT} FROM rollout WHERE outcome IS NULL AND service = ?1 ORDER BY id"
    ))?;
    let found = query.query_and_then([service], told)?;
    let found = found.collect::<Result<Vec<_>, Fault>>()?;
    found
        .into_iter()
        .map(|told| with_entries(connection, told))
        .collect()
}

/// Rollouts in short, newest first.
pub(super) fn history(
    connection: &Connection,
    filter: &HistoryFilter,
) -> Result<Vec<Summary>, Fault> {
    newest(connection, "rollout", ROLLOUT, filter, |row| {
        Ok(told(row)?.summary)
    })
}

/// The rows of `table` that `filter` lets through, newest first.
pub(super) fn newest<T>(
    connection: &Connection,
    table: &str,
    columns: &str,
    filter: &HistoryFilter,
    read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut query = connection.prepare(&format!(
        "SELECT {columns} FROM {table} WHERE :service IS NULL OR service = :service
         ORDER BY id DESC LIMIT :limit"
    ))?;
    let found = query.query_and_then(
        // A negative limit is none.
        named_params! {
            ":service": filter.service,
            ":limit": filter.limit.map_or(-1, i64::from),
        },
        read,
    )?;
    found.collect()
}

/// One rollout with everything.
pub(super) fn show(connection: &Connection, id: RolloutId) -> Result<Option<RolloutDetail>, Fault> {
    let mut query = connection.prepare(&format!("SELECT {ROLLOUT} FROM rollout WHERE id = ?1"))?;
    let found = query.query_row([id.0], |row| Ok(told(row))).optional()?;
    found
        .map(|told| with_entries(connection, told?))
        .transpose()
}

fn with_entries(connection: &Connection, mut told: RolloutDetail) -> Result<RolloutDetail, Fault> {
    let mut query = connection
        .prepare("SELECT seq, at_ms, kind, body FROM record WHERE rollout = ?1 ORDER BY seq")?;
    let found = query.query_map([told.summary.id.0], entry)?;
    told.entries = found.collect::<rusqlite::Result<_>>()?;
    Ok(told)
}

fn told(row: &Row<'_>) -> Result<RolloutDetail, Fault> {
    let from = match (row.get("from_id")?, row.get("from_name")?) {
        (Some(id), Some(name)) => Some(GenerationRef { id, name }),
        _ => None,
    };
    let began_ms: i64 = row.get("began_ms")?;
    let ended_ms: Option<i64> = row.get("ended_ms")?;
    let summary = Summary {
        id: RolloutId(row.get("id")?),
        service: row.get("service")?,
        kind: named(&RolloutKind::ALL, RolloutKind::name, &text(row, "kind")?)?,
        from,
        to: GenerationRef {
            id: row.get("to_id")?,
            name: row.get("to_name")?,
        },
        who: Who {
            uid: row.get("who_uid")?,
            pid: row.get("who_pid")?,
            name: row.get("who_name")?,
        },
        began_ms,
        took_ms: ended_ms.map(|ended| u64::try_from(ended.saturating_sub(began_ms)).unwrap_or(0)),
        phase: row
            .get::<_, Option<String>>("phase")?
            .map(|name| named(&Phase::ALL, Phase::name, &name))
            .transpose()?,
        outcome: row
            .get::<_, Option<String>>("outcome")?
            .map(|name| named(&Outcome::ALL, Outcome::name, &name))
            .transpose()?,
        reason: row.get("reason")?,
    };
    Ok(RolloutDetail {
        summary,
        trace: row.get("trace")?,
        boot: row.get("boot")?,
        entries: Vec::new(),
    })
}

fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    row.get(column)
}

fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, wanted: &str) -> Result<T, Trouble> {
    all.iter()
        .copied()
        .find(|&one| name(one) == wanted)
        .ok_or_else(|| Trouble::Damaged(format!("what is \"{}\"?", wanted.escape_debug())))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let body: String = row.get("body")?;
    let kind: String = row.get("kind")?;
    Ok(Entry {
        at_ms: row.get("at_ms")?,
        seq: row.get("seq")?,
        record: serde_json::from_str(&body).unwrap_or_else(|error| Record::Note {
            text: format!("a record ({kind}) that cannot be read: {error}"),
        }),
    })
}
