//! What goes in comes out: in order, whole, and after a restart.

mod fence;
mod migration;
mod outbox;
mod retention;
mod successor;
mod trouble;

use std::{future::Future, path::Path, time::Duration};

use futures_util::future::join_all;
use tempfile::TempDir;

use super::{worker::TICK, *};
use crate::{
    clock::{self, Deadline},
    rollout::Phase,
};

/// A directory of the test's own with a journal in it.
fn scene() -> (TempDir, Journal) {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(file(&directory));
    (directory, journal)
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("hotlb.db")
}

fn generation(id: u32) -> GenerationRef {
    GenerationRef {
        id,
        name: format!("gen{id}"),
    }
}

fn new(service: &str) -> NewRollout {
    NewRollout {
        service: service.to_owned(),
        kind: RolloutKind::Upgrade,
        from: Some(generation(1)),
        to: generation(2),
        who: Who {
            uid: Some(1000),
            pid: Some(4711),
            name: "ops".to_owned(),
        },
        trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        boot: "boot".to_owned(),
    }
}

fn note(text: &str) -> Record {
    Record::Note {
        text: text.to_owned(),
    }
}

fn done() -> End {
    End {
        outcome: Outcome::Done,
        reason: None,
    }
}

fn all() -> HistoryFilter {
    HistoryFilter::default()
}

/// Asks again until it succeeds.
async fn in_the_end<T, F: Future<Output = Result<T, JournalError>>>(
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        match ask().await {
            Ok(value) => return value,
            Err(error) => assert!(deadline.left().is_some(), "in vain: {error}"),
        }
    }
}

/// Ends the journal and waits until its file is closed: the log goes with that.
async fn close(journal: Journal) {
    let mut log = journal.worker.path().to_owned().into_os_string();
    log.push("-wal");
    drop(journal);
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    while Path::new(&log).exists() {
        assert!(deadline.left().is_some(), "it is not closed");
        pace.tick().await;
    }
}

/// A connection as another process would have it.
fn other(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

#[tokio::test]
async fn a_rollout_is_told_as_it_was_written_after_a_restart_too() {
    let (directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    let records = [
        Record::Phase {
            phase: Phase::Swap,
            attempt: 1,
            state: serde_json::json!({"epoch": 3}),
        },
        Record::Word {
            done: false,
            active: Some(2),
            fallback: Some(1),
            epoch: 4,
        },
        note("\u{0} äöü \u{1b}[31m"),
        note(&"x".repeat(64 * 1024)),
    ];
    for record in &records {
        journal.record(id, record.clone()).await.unwrap();
    }
    close(journal).await;

    let journal = Journal::open(file(&directory));
    let unfinished = journal.unfinished("web").await.unwrap();
    let [told] = unfinished.as_slice() else {
        panic!("{unfinished:?}");
    };
    let written: Vec<_> = told.entries.iter().map(|e| e.record.clone()).collect();
    assert_eq!(written, records);
    let places: Vec<_> = told.entries.iter().map(|e| e.seq).collect();
    assert_eq!(places, [1, 2, 3, 4]);
    assert_eq!(told.summary.id, id);
    assert_eq!(told.summary.phase, Some(Phase::Swap));
    assert_eq!((told.summary.outcome, told.summary.took_ms), (None, None));
    assert_eq!(told.summary.who, new("web").who);
    assert_eq!(told.summary.from, Some(generation(1)));
    assert_eq!(
        (told.trace.as_str(), told.boot.as_str()),
        (new("web").trace.as_str(), "boot")
    );

    let end = End {
        outcome: Outcome::RolledBack,
        reason: Some("it crashed".to_owned()),
    };
    journal.finish(id, end).await.unwrap();
    assert!(journal.unfinished("web").await.unwrap().is_empty());
    let told = journal.show(id).await.unwrap().unwrap();
    assert_eq!(told.summary.outcome, Some(Outcome::RolledBack));
    assert_eq!(told.summary.reason.as_deref(), Some("it crashed"));
    assert!(told.summary.took_ms.is_some());
    let json = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<RolloutDetail>(&json).unwrap(), told);
}

#[tokio::test]
async fn lists_by_service_and_newest_first() {
    let (_directory, journal) = scene();
    let mut ids = Vec::new();
    for service in ["web", "api", "web", "web"] {
        ids.push(journal.begin(new(service)).await.unwrap());
    }
    journal.finish(ids[0], done()).await.unwrap();
    let listed = |filter| async {
        let found = journal.history(filter).await.unwrap();
        found.iter().map(|summary| summary.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(all()).await, [ids[3], ids[2], ids[1], ids[0]]);
    let web = HistoryFilter {
        service: Some("web".to_owned()),
        limit: Some(2),
    };
    assert_eq!(listed(web).await, [ids[3], ids[2]]);
    let unfinished = journal.unfinished("web").await.unwrap();
    let unfinished: Vec<_> = unfinished.iter().map(|told| told.summary.id).collect();
    assert_eq!(unfinished, [ids[2], ids[3]]);
    assert!(journal.unfinished("other").await.unwrap().is_empty());
}

#[tokio::test]
async fn records_of_many_writers_have_places_without_gaps() {
    let (_directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    let writers = (0..50).map(|n| {
        let journal = journal.clone();
        async move { journal.record(id, note(&n.to_string())).await }
    });
    for result in join_all(writers).await {
        result.unwrap();
    }
    let told = journal.show(id).await.unwrap().unwrap();
    let places: Vec<_> = told.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(places, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let (_directory, journal) = scene();
    let nobody = RolloutId(7);
    assert_eq!(journal.show(nobody).await, Ok(None));
    let error = journal.record(nobody, note("")).await.unwrap_err();
    assert_eq!(error, JournalError::UnknownRollout(nobody));
    let error = journal.finish(nobody, done()).await.unwrap_err();
    assert_eq!(error, JournalError::UnknownRollout(nobody));
    let id = journal.begin(new("web")).await.unwrap();
    journal.finish(id, done()).await.unwrap();
    let error = journal.finish(id, done()).await.unwrap_err();
    assert_eq!(error, JournalError::Over(id));
    assert_eq!(journal.trouble(), None, "a wrong request is no trouble");
}

#[tokio::test]
async fn the_times_of_a_rollout_do_not_go_back() {
    let (directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    close(journal).await;
    // The agent before this one lived in the future.
    let future = clock::unix_millis() + 1_000_000;
    other(&file(&directory))
        .execute("UPDATE rollout SET began_ms = ?1", [future])
        .unwrap();
    let journal = Journal::open(file(&directory));
    journal.record(id, note("")).await.unwrap();
    journal.finish(id, done()).await.unwrap();
    let told = journal.show(id).await.unwrap().unwrap();
    assert_eq!(told.summary.took_ms, Some(0));
}

#[tokio::test]
async fn a_record_that_is_not_known_does_not_hide_the_others() {
    let (directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    journal.record(id, note("first")).await.unwrap();
    let body = r#"{"kind":"dance","steps":3}"#;
    other(&file(&directory))
        .execute(
            "INSERT INTO record VALUES (?1, 2, 0, 'dance', ?2)",
            (id.0, body),
        )
        .unwrap();
    journal.record(id, note("last")).await.unwrap();
    let entries = journal.show(id).await.unwrap().unwrap().entries;
    assert_eq!(entries.len(), 3);
    let Record::Note { text } = &entries[1].record else {
        panic!("{entries:?}");
    };
    assert!(text.contains("dance"), "{text}");
}

/// How long a record takes here: `cargo test --release -p lb-userspace --lib -- --nocapture
/// how_long_a_record_takes`; `HOTLB_TEST_DIR` says on which disk.
#[tokio::test]
async fn how_long_a_record_takes() {
    let place = std::env::var_os("HOTLB_TEST_DIR").unwrap_or_else(|| "/var/tmp".into());
    let directory = tempfile::tempdir_in(place).unwrap();
    let journal = Journal::open(file(&directory));
    let id = journal.begin(new("web")).await.unwrap();
    let mut took = Vec::new();
    for n in 0..200 {
        let begun = clock::now();
        journal.record(id, note(&n.to_string())).await.unwrap();
        took.push(clock::now() - begun);
    }
    took.sort_unstable();
    println!(
        "a record: median {:?}, p90 {:?}, greatest {:?}",
        took[100], took[180], took[199]
    );
}
