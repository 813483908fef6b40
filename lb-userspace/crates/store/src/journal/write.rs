//! What is written: one transaction each.

use std::time::Instant;

use rusqlite::{Transaction, named_params, params};

use super::{
    End, JournalError, NewRollout, Record, RolloutId, Stamped,
    database::Database,
    error::{Fault, Trouble},
    kept,
    outbox::{self, Outbox},
};
use crate::{clock, config::Retention};

/// So many of the newest rollouts are kept whatever their age: a clock that jumps into the future
/// makes all of them look old, and must not empty the history.
const KEPT_AT_ANY_AGE: u32 = 10;

pub(super) fn begin(
    database: &mut Database,
    new: &NewRollout,
    records: &[Stamped],
    outbox: Option<&Outbox>,
) -> Result<RolloutId, JournalError> {
    let now = clock::now();
    // What is written first may have happened before.
    let began = records.iter().map(|record| record.at).min();
    let began = began.map_or(now, |first| first.min(now));
    let wall = clock::unix_millis_at(began);
    let id = database.write(|transaction| {
        transaction.execute(
            "INSERT INTO rollout (service, kind, from_id, from_name, to_id, to_name,
                                  who_uid, who_pid, who_name, trace, boot, began_ms)
             VALUES (:service, :kind, :from_id, :from_name, :to_id, :to_name,
                     :who_uid, :who_pid, :who_name, :trace, :boot, :began_ms)",
            named_params! {
                ":service": new.service,
                ":kind": new.kind.name(),
                ":from_id": new.from.as_ref().map(|from| from.id),
                ":from_name": new.from.as_ref().map(|from| &from.name),
                ":to_id": new.to.id,
                ":to_name": new.to.name,
                ":who_uid": new.who.uid,
                ":who_pid": new.who.pid,
                ":who_name": new.who.name,
                ":trace": new.trace,
                ":boot": new.boot,
                ":began_ms": wall,
            },
        )?;
        let id = RolloutId(transaction.last_insert_rowid());
        for Stamped { record, at } in records {
            insert(
                transaction,
                id,
                wall.saturating_add(since(began, *at)),
                record,
            )?;
        }
        if let Some(outbox) = outbox {
            outbox.enter(transaction, id)?;
        }
        Ok(id)
    })?;
    database.begun(id, wall, began);
    Ok(id)
}

pub(super) fn record(
    database: &mut Database,
    id: RolloutId,
    records: &[Stamped],
) -> Result<(), JournalError> {
    let stamped = records
        .iter()
        .map(|Stamped { record, at }| (database.moment(id, *at), record));
    let stamped: Vec<_> = stamped.collect();
    database.write(|transaction| {
        exists(transaction, id)?;
        for (moment, record) in stamped {
            insert(transaction, id, moment, record)?;
        }
        Ok(())
    })
}

/// Milliseconds from one moment to a later one.
pub(super) fn since(began: Instant, at: Instant) -> i64 {
    let since = at.saturating_duration_since(began).as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn insert(
    transaction: &Transaction<'_>,
    id: RolloutId,
    moment: i64,
    record: &Record,
) -> Result<(), Fault> {
    let body = serde_json::to_string(record)
        .map_err(|error| Trouble::Other(format!("a record has no JSON: {error}")))?;
    // Times of one rollout never go back, whatever the clock does between two agents.
    transaction.execute(
        "INSERT INTO record (rollout, seq, at_ms, kind, body)
         SELECT ?1, coalesce(max(seq), 0) + 1, max(?2, coalesce(max(at_ms), ?2)), ?3, ?4
         FROM record WHERE rollout = ?1",
        params![id.0, moment, record.kind(), body],
    )?;
    if let Record::Phase { phase, .. } = record {
        transaction.execute(
            "UPDATE rollout SET phase = ?2 WHERE id = ?1",
            params![id.0, phase.name()],
        )?;
    }
    Ok(())
}

pub(super) fn finish(
    database: &mut Database,
    id: RolloutId,
    end: &End,
) -> Result<(), JournalError> {
    let moment = database.moment(id, clock::now());
    database.write(|transaction| {
        exists(transaction, id)?;
        let ended = transaction.execute(
            "UPDATE rollout SET outcome = ?2, reason = ?3, ended_ms = max(?4, began_ms,
                 coalesce((SELECT max(at_ms) FROM record WHERE rollout = ?1), began_ms))
             WHERE id = ?1 AND outcome IS NULL",
            params![id.0, end.outcome.name(), end.reason, moment],
        )?;
        if ended == 0 {
            return Err(JournalError::Over(id).into());
        }
        Ok(())
    })?;
    database.ended(id);
    Ok(())
}

fn exists(transaction: &Transaction<'_>, id: RolloutId) -> Result<(), Fault> {
    let found: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM rollout WHERE id = ?1)",
        [id.0],
        |row| row.get(0),
    )?;
    if found {
        Ok(())
    } else {
        Err(JournalError::UnknownRollout(id).into())
    }
}

/// Removes finished rollouts that are too many or too old. A rollout is as old as the latest one
/// before it, so that one made while the clock was wrong does not go before its time.
pub(super) fn prune(database: &mut Database, retention: Retention) -> Result<u64, JournalError> {
    let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
    let oldest = clock::unix_millis().saturating_sub(age);
    let removed = database.write_aside(|transaction| {
        let untold = outbox::count(transaction)?;
        let removed = transaction.execute(
            "WITH ranked AS (
                 SELECT id, outcome, row_number() OVER (ORDER BY id DESC) AS place,
                        max(coalesce(ended_ms, began_ms)) OVER (ORDER BY id) AS at_ms
                 FROM rollout)
             DELETE FROM rollout WHERE id IN (
                 SELECT id FROM ranked WHERE outcome IS NOT NULL
                 AND (place > ?1 OR at_ms < ?2 AND place > ?3))",
            params![retention.rollouts, oldest, KEPT_AT_ANY_AGE],
        )?;
        let left = outbox::count(transaction)?;
        outbox::lost(transaction, untold.saturating_sub(left))?;
        Ok(removed)
    })?;
    kept::expire(database.path(), retention.age);
    Ok(u64::try_from(removed).unwrap_or(u64::MAX))
}

/// Writes something of no meaning, to find out whether anything can be written.
pub(super) fn attempt(database: &mut Database) {
    let result = database.write_aside(|transaction| {
        transaction.execute("UPDATE trial SET number = number + 1", [])?;
        Ok(())
    });
    // What came of it is known now, and that was all.
    drop(result);
}
