//! Traces that wait: bounded, kept over a restart, and counted when they are given up.

use super::*;

#[tokio::test]
async fn the_newest_wait_and_the_others_are_counted() {
    let (directory, journal) = scene();
    let before = dropped_traces();
    let journal = journal.keeping_traces(2);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = journal.begin(new("web")).await.unwrap();
        ids.push(id);
    }
    assert_eq!(journal.untold().await.unwrap(), [], "none is over");
    for &id in ids.iter().rev() {
        journal.finish(id, done()).await.unwrap();
    }
    assert_eq!(journal.untold().await.unwrap(), ids[1..]);
    assert_eq!(dropped_traces(), before + 1);
    journal.trace_delivered(ids[1]).await.unwrap();
    drop(journal);

    let journal = Journal::open(file(&directory)).keeping_traces(2);
    assert_eq!(journal.untold().await.unwrap(), ids[2..]);
    let none = Retention {
        rollouts: 0,
        age: Duration::ZERO,
    };
    // The newest ten stay at any age; one that is over and beyond the number does not.
    journal.prune(none).await.unwrap();
    assert_eq!(journal.untold().await.unwrap(), []);
    assert_eq!(dropped_traces(), before + 2);
}

#[tokio::test]
async fn without_a_collector_nothing_waits() {
    let (_directory, journal) = scene();
    let id = journal.begin(new("web")).await.unwrap();
    journal.finish(id, done()).await.unwrap();
    assert_eq!(journal.untold().await.unwrap(), []);
}

/// Times are those of what happened, not of the write.
#[tokio::test]
async fn what_is_written_late_has_its_own_time() {
    let (_directory, journal) = scene();
    let ago = |ms| clock::now().checked_sub(Duration::from_millis(ms)).unwrap();
    let at = |text, at| Stamped {
        record: note(text),
        at,
    };
    let early = vec![at("first", ago(500)), at("second", ago(300))];
    let third = at("third", ago(100));
    let id = journal.begin_with(new("web"), early).await.unwrap();
    journal.record_all(id, vec![third]).await.unwrap();
    journal.finish(id, done()).await.unwrap();
    let told = journal.show(id).await.unwrap().unwrap();
    let times: Vec<i64> = told.entries.iter().map(|entry| entry.at_ms).collect();
    assert_eq!(times[0], told.summary.began_ms);
    assert!((195..=220).contains(&(times[1] - times[0])), "{times:?}");
    assert!((395..=420).contains(&(times[2] - times[0])), "{times:?}");
    assert!(told.summary.took_ms.unwrap() >= 500, "{told:?}");
}
