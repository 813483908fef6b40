//! A successor leaves an older journal as it is until the former agent has left.

use std::fs;

use super::{
    migration::{FAILING, FIRST, THIRD, all_of, beside, of, version, written_by_f4d529e},
    *,
};

/// A successor that stands beside the agent in charge, as [`Journal::beside_former`] has it.
async fn beside_former(schema: Schema, path: PathBuf) -> Result<Journal, JournalError> {
    let journal = of(schema, path);
    journal.worker.stand_beside().await?;
    journal.prune_later();
    Ok(journal)
}

#[tokio::test]
async fn a_successor_migrates_once_the_former_agent_has_left() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = written_by_f4d529e(&directory).await;
    let before = fs::read(file(&directory)).unwrap();
    let successor = beside_former(THIRD, file(&directory)).await.unwrap();
    // What services do when they are opened.
    let service = successor.fenced();
    assert_eq!(all_of(&service).await, written);
    let unfinished = service.unfinished("web").await.unwrap();
    let id = unfinished[0].summary.id;
    let finished = tokio::spawn({
        let service = service.clone();
        async move {
            service.record(id, note("by the successor")).await?;
            service.finish(id, done()).await
        }
    });
    // The prune of the start, and this.
    while successor.worker.parked() < 2 {
        tokio::task::yield_now().await;
    }
    // They can be held meanwhile, too.
    service.hold().await.unwrap();
    service.go_on();
    assert_eq!(service.unfinished("web").await.unwrap().len(), 1);
    assert!(!finished.is_finished());
    assert_eq!(
        fs::read(file(&directory)).unwrap(),
        before,
        "it was changed"
    );
    assert!(beside(&directory).is_empty());

    successor.take_charge().await.unwrap();
    finished.await.unwrap().unwrap();
    assert!(service.unfinished("web").await.unwrap().is_empty());
    assert_eq!(version(&file(&directory)), (3, true));
    assert_eq!(beside(&directory), ["hotlb.db.schema-1"]);
    let now = all_of(&successor).await;
    let with_its_own = written
        .iter_mut()
        .find(|told| told.summary.id == id)
        .unwrap();
    assert_eq!(
        now.iter()
            .find(|told| told.summary.id == id)
            .unwrap()
            .entries
            .len(),
        with_its_own.entries.len() + 1
    );
}

#[tokio::test]
async fn a_former_agent_takes_up_again_with_its_own_file() {
    let directory = tempfile::tempdir().unwrap();
    let written = written_by_f4d529e(&directory).await;
    let successor = beside_former(THIRD, file(&directory)).await.unwrap();
    assert_eq!(all_of(&successor).await, written);
    drop(successor);
    let former = of(FIRST, file(&directory));
    assert_eq!(all_of(&former).await, written);
    former.begin(new("web")).await.unwrap();
    close(former).await;
    assert_eq!(version(&file(&directory)), (1, false));
    assert!(beside(&directory).is_empty());
}

#[tokio::test]
async fn a_successor_that_could_not_migrate_does_not_take_over() {
    let directory = tempfile::tempdir().unwrap();
    written_by_f4d529e(&directory).await;
    let error = beside_former(FAILING, file(&directory)).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(version(&file(&directory)), (1, false));
}

#[tokio::test]
async fn a_successor_with_nothing_to_migrate_writes_at_once() {
    let (directory, journal) = scene();
    journal.begin(new("web")).await.unwrap();
    close(journal).await;
    let path = file(&directory);
    let successor = Journal::beside_former(path.clone(), Retention::default(), None);
    let successor = successor.await.unwrap();
    successor.begin(new("web")).await.unwrap();
    successor.take_charge().await.unwrap();
    close(successor).await;
    fs::remove_file(&path).unwrap();
    let successor = Journal::beside_former(path, Retention::default(), None);
    successor.await.unwrap().begin(new("web")).await.unwrap();
}
