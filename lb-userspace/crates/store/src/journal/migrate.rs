//! An earlier release's journal is brought to the present tables: in one transaction, with the former file kept beside
//! it. See `docs/develop/decisions/0026-journal-migrations.md`.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    drill::Drilling,
    error::{Fault, Trouble},
    kept,
    schema::{APPLICATION, Found, Schema, TABLES},
};

/// Makes the tables in the journal at `path` if there are none, or brings earlier ones to the present version.
pub(super) fn make(
    connection: &mut Connection,
    path: &Path,
    schema: Schema,
    drilling: &mut Drilling,
) -> Result<(), Fault> {
    if schema.look(connection)? == Found::Present {
        return Ok(());
    }
    // A step may replace a table that others refer to, which is not to empty those. It cannot be set in a transaction.
    connection.pragma_update(None, "foreign_keys", false)?;
    let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Nobody else writes from here on.
    match schema.look(&work)? {
        Found::Present => Ok(()),
        Found::Empty => {
            work.execute_batch(TABLES)?;
            work.pragma_update(None, "application_id", APPLICATION)?;
            bring_forward(&work, 1, schema)?;
            work.commit()?;
            tracing::info!(path = %path.display(), "created a new journal");
            Ok(())
        }
        Found::Older(found) => migrate(work, path, found, schema, drilling),
    }
}

fn migrate(
    work: Transaction<'_>,
    path: &Path,
    found: u32,
    schema: Schema,
    drilling: &mut Drilling,
) -> Result<(), Fault> {
    // First, for it is tried again: a step that fails must not cost a copy each time.
    let brought = bring_forward(&work, found, schema);
    brought.map_err(|fault| not_migrated(path, found, schema, fault))?;
    if drilling.begins() {
        return Err(Trouble::Full.into());
    }
    // Whoever else looks, such as this, sees the file as it is until the commit.
    let kept = kept::keep(path, found)?;
    drilling.became_durable();
    if drilling.begins() {
        return Err(Trouble::Full.into());
    }
    work.commit()?;
    drilling.became_durable();
    tracing::info!(
        path = %path.display(),
        from = found,
        to = schema.version(),
        kept = %kept.display(),
        "migrated the journal; the former file was kept"
    );
    kept::remove_others(path, &kept);
    Ok(())
}

/// A copy of the journal behind `from` in memory, with the present tables: for reading, where `from` is not to be, or
/// cannot be, migrated itself.
pub(super) fn in_memory(
    from: &Connection,
    path: &Path,
    found: u32,
    schema: Schema,
) -> Result<Connection, Fault> {
    let mut copy = Connection::open_in_memory()?;
    kept::copy(from, &mut copy)?;
    copy.pragma_update(None, "foreign_keys", false)?;
    let work = copy.transaction()?;
    let brought = bring_forward(&work, found, schema);
    brought.map_err(|fault| not_migrated(path, found, schema, fault))?;
    work.commit()?;
    Ok(copy)
}

/// Takes the steps that tables of version `found` lack.
fn bring_forward(work: &Transaction<'_>, found: u32, schema: Schema) -> Result<(), Fault> {
    for step in schema.since(found) {
        step(work)?;
    }
    // What a step left without its row would be met much later, and by somebody else.
    let torn: u32 = work.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
        row.get(0)
    })?;
    if torn > 0 {
        let torn = format!("{torn} rows refer to rows that do not exist");
        return Err(Trouble::Other(torn).into());
    }
    work.pragma_update(None, "user_version", schema.version())?;
    Ok(())
}

/// What the operator can do about a step that failed; a full disk and the like say that themselves.
fn not_migrated(path: &Path, found: u32, schema: Schema, fault: Fault) -> Fault {
    match fault.trouble(path) {
        Trouble::Other(reason) => Trouble::NotMigrated {
            found,
            known: schema.version(),
            reason,
        },
        trouble => trouble,
    }
    .into()
}
