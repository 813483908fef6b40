//! An earlier release's journal is brought to the present tables, or stays as it was.
//!
//! There is one version of the tables so far. The journals here are of that one, which f4d529e wrote; the versions behind
//! it are this file's own.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::*;
use crate::{
    fault::FAULTS,
    incident::{Incident, IncidentId},
    journal::schema::Step,
};

/// The tables of f4d529e, word for word: what is in the field is not what the code says today.
const OF_F4D529E: &str = "
CREATE TABLE rollout (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    service   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    from_id   INTEGER,
    from_name TEXT,
    to_id     INTEGER NOT NULL,
    to_name   TEXT NOT NULL,
    who_uid   INTEGER,
    who_pid   INTEGER,
    who_name  TEXT NOT NULL,
    trace     TEXT NOT NULL,
    boot      TEXT NOT NULL,
    began_ms  INTEGER NOT NULL,
    ended_ms  INTEGER,
    phase     TEXT,
    outcome   TEXT,
    reason    TEXT
) STRICT;
CREATE INDEX rollout_of_service ON rollout (service, id);
CREATE INDEX rollout_unfinished ON rollout (service, id) WHERE outcome IS NULL;
CREATE TABLE record (
    rollout INTEGER NOT NULL REFERENCES rollout (id) ON DELETE CASCADE,
    seq     INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (rollout, seq)
) STRICT;
CREATE TABLE trial (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL) STRICT;
INSERT INTO trial VALUES (1, 0);
PRAGMA application_id = 0x686f746c;
PRAGMA user_version = 1;
";

/// Where a process that is to die in a migration has its journal, and where it dies.
const PLACE: &str = "HOTLB_TEST_JOURNAL";
const WHERE: &str = "HOTLB_TEST_DIES";

/// Version 2: the table that others refer to is replaced, as a column that goes or changes its type needs it.
fn replaces_a_table(work: &rusqlite::Connection) -> rusqlite::Result<()> {
    let table: String = work.query_row(
        "SELECT sql FROM sqlite_schema WHERE name = 'rollout'",
        [],
        |row| row.get(0),
    )?;
    work.execute_batch(&table.replacen("rollout", "rollout_new", 1))?;
    work.execute_batch(
        "INSERT INTO rollout_new SELECT * FROM rollout;
         DROP TABLE rollout;",
    )?;
    dies_at("a table is half replaced");
    work.execute_batch(
        "ALTER TABLE rollout_new RENAME TO rollout;
         CREATE INDEX rollout_of_service ON rollout (service, id);
         CREATE INDEX rollout_unfinished ON rollout (service, id) WHERE outcome IS NULL;",
    )
}

/// Version 3.
fn adds_an_index(work: &rusqlite::Connection) -> rusqlite::Result<()> {
    dies_at("before the last step");
    work.execute_batch("CREATE INDEX rollout_by_end ON rollout (ended_ms)")?;
    dies_at("before the commit");
    Ok(())
}

fn fails(work: &rusqlite::Connection) -> rusqlite::Result<()> {
    work.execute_batch("DROP TABLE record; SELECT * FROM nowhere")
}

fn tears(work: &rusqlite::Connection) -> rusqlite::Result<()> {
    work.execute_batch("DELETE FROM rollout")
}

fn dies_at(place: &str) {
    if env::var(WHERE).is_ok_and(|wanted| wanted == place) {
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    }
}

pub(super) const FIRST: Schema = Schema::with(&[]);
const SECOND: Schema = Schema::with(&[replaces_a_table]);
const THIRD_STEPS: &[Step] = &[replaces_a_table, adds_an_index];
pub(super) const THIRD: Schema = Schema::with(THIRD_STEPS);
pub(super) const FAILING: Schema = Schema::with(&[adds_an_index, fails]);
const TEARING: Schema = Schema::with(&[tears]);

pub(super) fn of(schema: Schema, path: PathBuf) -> Journal {
    Journal::start(path, schema, Retention::default(), None)
}

/// A journal that f4d529e made, with a rollout of each kind of end, records, an incident and a trace to be delivered.
pub(super) async fn written_by_f4d529e(directory: &TempDir) -> Vec<RolloutDetail> {
    let path = file(directory);
    {
        let connection = other(&path);
        connection
            .pragma_update_and_check(None, "journal_mode", "wal", |_row| Ok(()))
            .unwrap();
        connection.execute_batch(OF_F4D529E).unwrap();
    }
    let journal = of(FIRST, path.clone());
    for number in 0..3 {
        let id = journal.begin(new("web")).await.unwrap();
        journal.record(id, note(&"x".repeat(40_000))).await.unwrap();
        if number > 0 {
            journal.finish(id, done()).await.unwrap();
        }
    }
    journal.keep_incident(incident()).await.unwrap();
    let told = all_of(&journal).await;
    close(journal).await;
    // By hand: how many traces were lost is known to the process, for which other tests count.
    other(&path)
        .execute_batch(
            "CREATE TABLE outbox (rollout INTEGER PRIMARY KEY REFERENCES rollout (id) ON DELETE CASCADE) STRICT;
             INSERT INTO outbox VALUES (1);",
        )
        .unwrap();
    assert_eq!(told.len(), 3);
    told
}

fn incident() -> Incident {
    Incident {
        summary: crate::incident::Summary {
            id: IncidentId(0),
            service: "web".to_owned(),
            generation: "gen1".to_owned(),
            at_ms: clock::unix_millis(),
            score: 0.75,
            reason: "slow".to_owned(),
            rollout: None,
            bytes: 0,
        },
        beside: None,
        windows: Vec::new(),
        beside_windows: Vec::new(),
        took_ms: 0,
        connections: Vec::new(),
        profile: None,
        notes: Vec::new(),
    }
}

pub(super) async fn all_of(journal: &Journal) -> Vec<RolloutDetail> {
    let mut told = Vec::new();
    for summary in journal.history(all()).await.unwrap() {
        told.extend(journal.show(summary.id).await.unwrap());
    }
    told
}

/// What a file is, read by itself.
pub(super) fn version(path: &Path) -> (u32, bool) {
    let connection = other(path);
    let whole: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok", "{}", path.display());
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let indexed = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'rollout_by_end')",
        [],
        |row| row.get(0),
    );
    (version.unwrap(), indexed.unwrap())
}

fn kept(directory: &TempDir, version: u32) -> PathBuf {
    directory.path().join(format!("hotlb.db.schema-{version}"))
}

/// The files beside the journal and its log.
pub(super) fn beside(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| !["hotlb.db", "hotlb.db-wal", "hotlb.db-shm"].contains(&name.as_str()))
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn an_older_journal_is_migrated_and_the_former_file_kept() {
    let directory = tempfile::tempdir().unwrap();
    let written = written_by_f4d529e(&directory).await;

    let journal = of(THIRD, file(&directory));
    assert_eq!(all_of(&journal).await, written);
    assert_eq!(journal.incidents(all()).await.unwrap().len(), 1);
    // References still lead from the records to the table that was replaced.
    let one = Retention {
        rollouts: 1,
        ..Retention::default()
    };
    assert_eq!(journal.prune(one).await.unwrap(), 1);
    assert_eq!(journal.begin(new("web")).await.unwrap(), RolloutId(4));
    close(journal).await;
    assert_eq!(version(&file(&directory)), (3, true));
    let (torn, untold): (u32, u32) = other(&file(&directory))
        .query_row(
            "SELECT (SELECT count(*) FROM record WHERE rollout NOT IN (SELECT id FROM rollout)),
                    (SELECT count(*) FROM outbox)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(torn, 0, "records of a rollout that was forgotten");
    assert_eq!(untold, 1);

    // The copy is a whole journal, which the former release goes on with.
    assert_eq!(beside(&directory), ["hotlb.db.schema-1"]);
    let copy = kept(&directory, 1);
    let mode = fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(version(&copy), (1, false));
    let former = of(FIRST, copy);
    assert_eq!(all_of(&former).await, written);
    assert_eq!(former.begin(new("web")).await.unwrap(), RolloutId(4));
}

#[tokio::test]
async fn a_journal_of_today_is_opened_as_it_is() {
    let (directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    close(journal).await;
    let journal = Journal::open(file(&directory));
    assert!(journal.show(id).await.unwrap().is_some());
    assert!(beside(&directory).is_empty());
}

#[tokio::test]
async fn a_new_journal_has_taken_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let journal = of(THIRD, file(&directory));
    journal.begin(new("web")).await.unwrap();
    close(journal).await;
    assert_eq!(version(&file(&directory)), (3, true));
    assert!(beside(&directory).is_empty());
}

#[tokio::test]
async fn only_the_last_copy_is_kept_and_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    written_by_f4d529e(&directory).await;
    for (schema, former) in [(SECOND, 1), (THIRD, 2)] {
        let journal = of(schema, file(&directory));
        journal.begin(new("web")).await.unwrap();
        close(journal).await;
        assert_eq!(beside(&directory), [format!("hotlb.db.schema-{former}")]);
    }
    fs::write(directory.path().join("hotlb.db.schema-of-mine"), "").unwrap();
    let journal = of(THIRD, file(&directory));
    let retention = Retention::default();
    journal.prune(retention).await.unwrap();
    assert_eq!(beside(&directory).len(), 2, "it is not old yet");
    let age = retention.age + Duration::from_mins(1);
    let made = std::time::UNIX_EPOCH
        + Duration::from_millis(clock::unix_millis().try_into().unwrap())
        - age;
    let copy = fs::File::options()
        .write(true)
        .open(kept(&directory, 2))
        .unwrap();
    copy.set_modified(made).unwrap();
    journal.prune(retention).await.unwrap();
    assert_eq!(beside(&directory), ["hotlb.db.schema-of-mine"]);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_file_as_it_was() {
    for schema in [FAILING, TEARING] {
        let directory = tempfile::tempdir().unwrap();
        let written = written_by_f4d529e(&directory).await;
        let journal = of(schema, file(&directory));
        let error = journal.begin(new("web")).await.unwrap_err().to_string();
        assert!(
            error.contains("version 1") && error.contains("was not changed"),
            "{error}"
        );
        assert!(journal.trouble().is_some());
        close(journal).await;
        assert_eq!(version(&file(&directory)), (1, false));
        assert!(beside(&directory).is_empty());
        assert_eq!(all_of(&of(FIRST, file(&directory))).await, written);
    }
}

#[tokio::test]
async fn a_full_disk_leaves_the_file_as_it_was_until_there_is_space() {
    for (full_at, copies) in [(1, 0), (2, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let written = written_by_f4d529e(&directory).await;
        let drill = format!("full@{full_at}+1").parse().unwrap();
        let journal = Journal::start(file(&directory), THIRD, Retention::default(), Some(drill));
        assert_eq!(all_of(&journal).await, written, "it can be read");
        let error = journal.begin(new("web")).await.unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
        assert_eq!(version(&file(&directory)), (1, false));
        assert_eq!(beside(&directory).len(), copies);
        in_the_end(|| journal.begin(new("web"))).await;
        assert_eq!(journal.trouble(), None);
        close(journal).await;
        assert_eq!(version(&file(&directory)), (3, true));
        assert_eq!(beside(&directory), ["hotlb.db.schema-1"]);
    }
}

#[tokio::test]
async fn an_older_journal_that_cannot_be_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let written = written_by_f4d529e(&directory).await;
    let locks = other(&file(&directory));
    locks.execute_batch("BEGIN IMMEDIATE").unwrap();
    let journal = of(THIRD, file(&directory));
    assert_eq!(all_of(&journal).await, written);
    let error = journal.begin(new("web")).await.unwrap_err().to_string();
    assert!(error.contains("locked"), "{error}");
    assert!(beside(&directory).is_empty());
    locks.execute_batch("ROLLBACK").unwrap();
    in_the_end(|| journal.begin(new("web"))).await;
}

/// A process that dies at any write of a migration leaves the old journal or the new one, and the next agent has the
/// new one.
#[tokio::test]
async fn killed_at_each_write_of_a_migration() {
    // The copy, the commit, a rollout.
    let writes = (1..=3).map(|write| (format!("kill@{write}"), String::new(), write >= 2));
    let steps = [
        "a table is half replaced",
        "before the last step",
        "before the commit",
    ];
    let steps = steps.map(|step| (String::new(), step.to_owned(), false));
    for (drill, step, migrated) in writes.chain(steps) {
        let directory = tempfile::tempdir().unwrap();
        let written = written_by_f4d529e(&directory).await;
        // Of an attempt that died in the copy.
        let unfinished = directory.path().join("hotlb.db.schema-1.new");
        fs::write(&unfinished, "half a copy").unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact"])
            .arg("journal::tests::migration::a_process_that_is_killed")
            .env(FAULTS, &drill)
            .env(WHERE, &step)
            .env(PLACE, file(&directory))
            .output()
            .unwrap();
        let (drill, step) = (drill.as_str(), step.as_str());
        assert_eq!(output.status.signal(), Some(9), "{drill}{step}: {output:?}");
        let expected = if migrated { (3, true) } else { (1, false) };
        assert_eq!(version(&file(&directory)), expected, "{drill}{step}");
        if step.is_empty() {
            assert_eq!(version(&kept(&directory, 1)), (1, false), "{drill}");
        }

        let journal = of(THIRD, file(&directory));
        let mut told = all_of(&journal).await;
        told.retain(|told| told.summary.id <= RolloutId(3));
        assert_eq!(told, written, "{drill}{step}");
        close(journal).await;
        assert_eq!(version(&file(&directory)), (3, true), "{drill}{step}");
        assert_eq!(beside(&directory), ["hotlb.db.schema-1"], "{drill}{step}");
    }
}

/// Not a test: what `killed_at_each_write_of_a_migration` runs.
#[tokio::test]
#[ignore = "run by killed_at_each_write_of_a_migration"]
async fn a_process_that_is_killed() {
    let path = env::var_os(PLACE).expect("where the journal is");
    let drill = Drill::from_env().unwrap();
    let journal = Journal::start(path.into(), THIRD, Retention::default(), drill);
    // As every agent does first.
    journal.unfinished("web").await.unwrap();
    journal.begin(new("web")).await.unwrap();
}
