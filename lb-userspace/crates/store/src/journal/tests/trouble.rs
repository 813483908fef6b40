//! The journal cannot be used: it says why, and works again when the cause is gone. (What needs a
//! file system of its own is in the integration test `journal`.)

use std::{fs, os::unix::fs::PermissionsExt as _, sync::mpsc};

use caps::{CapSet, Capability};

use super::*;

/// Everything fails, with a reason that contains `part`.
async fn refuses(journal: &Journal, part: &str) {
    let error = journal.begin(new("web")).await.unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
    assert!(
        error.contains("hotlb.db"),
        "it does not say which file: {error}"
    );
    let trouble = journal.trouble().expect("it is known");
    assert!(trouble.contains(part), "{trouble}");
    let checked = journal.check().await.expect("it is found out");
    assert!(checked.contains(part), "{checked}");
}

async fn works_again(journal: &Journal) -> RolloutId {
    let id = in_the_end(|| journal.begin(new("web"))).await;
    journal.record(id, note("")).await.unwrap();
    assert_eq!(journal.trouble(), None);
    assert_eq!(journal.check().await, None);
    id
}

#[tokio::test]
async fn garbage_is_left_alone_until_it_is_moved_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let garbage =
        b"this is no database at all, but it is long enough to look like one. ".repeat(99);
    fs::write(&path, &garbage).unwrap();
    let journal = Journal::open(path.clone());
    refuses(&journal, "move it aside").await;
    journal.history(all()).await.unwrap_err();
    journal.unfinished("web").await.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), garbage, "it was changed");
    fs::rename(&path, directory.path().join("aside")).unwrap();
    works_again(&journal).await;
}

#[tokio::test]
async fn a_database_that_breaks_under_way_is_noticed() {
    let (directory, journal) = scene();
    let path = file(&directory);
    let id = works_again(&journal).await;
    close(journal).await;
    let length = fs::metadata(&path).unwrap().len();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let journal = Journal::open(path.clone());
    refuses(&journal, "damaged").await;
    journal.show(id).await.unwrap_err();
    assert_eq!(fs::metadata(&path).unwrap().len(), length);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    let (directory, journal) = scene();
    works_again(&journal).await;
    close(journal).await;
    other(&file(&directory))
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let journal = Journal::open(file(&directory));
    refuses(&journal, "version 7").await;
    refuses(&journal, "version 1").await;
    journal.history(all()).await.unwrap_err();
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    other(&file(&directory))
        .execute_batch("CREATE TABLE song (title TEXT)")
        .unwrap();
    let journal = Journal::open(file(&directory));
    refuses(&journal, "another program").await;
}

#[tokio::test]
async fn a_directory_that_is_gone_is_named() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("state");
    let journal = Journal::open(inner.join("hotlb.db"));
    refuses(&journal, "state").await;
    fs::create_dir(&inner).unwrap();
    works_again(&journal).await;
    fs::remove_dir_all(&inner).unwrap();
    refuses(&journal, "does not exist").await;
    fs::create_dir(&inner).unwrap();
    let id = works_again(&journal).await;
    assert_eq!(id, RolloutId(1), "it is another journal");
}

#[tokio::test]
async fn without_permission_it_says_so() {
    // The thread that writes inherits that, and root is bound by the mode like anybody else.
    for capability in [
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_DAC_READ_SEARCH,
    ] {
        caps::drop(None, CapSet::Effective, capability).unwrap();
    }
    let (directory, journal) = scene();
    let id = works_again(&journal).await;
    close(journal).await;
    let mode = |mode| fs::set_permissions(file(&directory), fs::Permissions::from_mode(mode));
    mode(0o000).unwrap();
    let journal = Journal::open(file(&directory));
    refuses(&journal, "not permitted to read and write").await;
    journal.history(all()).await.unwrap_err();
    mode(0o400).unwrap();
    refuses(&journal, "not permitted to read and write").await;
    let told = journal.show(id).await.unwrap();
    assert!(told.is_some(), "what may be read is not");
    mode(0o600).unwrap();
    works_again(&journal).await;
}

#[tokio::test]
async fn what_another_process_locks_is_waited_for_but_not_for_ever() {
    let (directory, journal) = scene();
    works_again(&journal).await;
    let connection = other(&file(&directory));
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    refuses(&journal, "locked").await;
    assert_eq!(
        journal.history(all()).await.unwrap().len(),
        1,
        "it can be read"
    );
    connection.execute_batch("ROLLBACK").unwrap();
    works_again(&journal).await;
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_not_written_any_more() {
    let (directory, journal) = scene();
    let id = works_again(&journal).await;
    fs::rename(file(&directory), directory.path().join("aside.db")).unwrap();
    let error = journal.record(id, note("lost")).await.unwrap_err();
    assert_eq!(error, JournalError::UnknownRollout(id));
    works_again(&journal).await;
    let aside = other(&directory.path().join("aside.db"));
    let records: u32 = aside
        .query_row("SELECT count(*) FROM record", [], |row| row.get(0))
        .unwrap();
    assert_eq!(records, 1);
}

#[tokio::test]
async fn it_is_for_its_owner_alone() {
    let (directory, journal) = scene();
    works_again(&journal).await;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_drill_is_a_full_disk_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let drill = "full@2+2".parse().unwrap();
    let journal = Journal::with(file(&directory), Retention::default(), Some(drill));
    let id = journal.begin(new("web")).await.unwrap();
    journal.record(id, note("1")).await.unwrap_err();
    refuses(&journal, "full").await;
    works_again(&journal).await;
    assert!(journal.show(id).await.unwrap().unwrap().entries.is_empty());
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for() {
    let (_directory, mut journal) = scene();
    journal.worker.has_patience(1);
    let id = works_again(&journal).await;
    let (go_on, hold) = mpsc::channel::<()>();
    journal.worker.later(Kind::Write, move |_database| {
        let _go_on = hold.recv();
    });
    let error = journal.record(id, note("never")).await.unwrap_err();
    assert!(error.to_string().contains("does not respond"), "{error}");
    let begun = clock::now();
    refuses(&journal, "does not respond").await;
    assert!(clock::now() - begun < TICK, "every request waits again");
    drop(go_on);
    in_the_end(|| journal.record(id, note("later"))).await;
    assert_eq!(journal.trouble(), None);
    let entries = journal.show(id).await.unwrap().unwrap().entries;
    let written: Vec<_> = entries.iter().map(|entry| &entry.record).collect();
    assert_eq!(
        written,
        [&note(""), &note("later")],
        "it was not waited for"
    );
}
