//! A handle that is held, and a second process with the same file.

use super::*;

#[tokio::test]
async fn nothing_is_written_through_a_handle_that_is_held() {
    let (directory, journal) = scene();
    let service = journal.fenced();
    let id = service.begin(new("web")).await.unwrap();
    service.hold().await.unwrap();
    let finished = tokio::spawn({
        let service = service.clone();
        async move { service.finish(id, done()).await }
    });
    // A handle beside it, through the same thread: what was asked for before has been passed by.
    while service.worker.parked() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.unfinished("web").await.unwrap().len(), 1);
    journal.close().await.unwrap();

    let successor = Journal::open(file(&directory));
    let other = successor.begin(new("api")).await.unwrap();
    successor
        .record(id, note("by the successor"))
        .await
        .unwrap();
    successor.close().await.unwrap();

    assert!(!finished.is_finished());
    service.go_on();
    finished.await.unwrap().unwrap();
    assert!(journal.unfinished("web").await.unwrap().is_empty());
    assert!(journal.show(other).await.unwrap().is_some());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written() {
    let (_directory, journal) = scene();
    let service = journal.fenced();
    let id = service.begin(new("web")).await.unwrap();
    service.hold().await.unwrap();
    let given_up = tokio::spawn({
        let service = service.clone();
        async move { service.finish(id, done()).await }
    });
    while service.worker.parked() == 0 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    service.go_on();
    assert_eq!(service.unfinished("web").await.unwrap().len(), 1);
}
