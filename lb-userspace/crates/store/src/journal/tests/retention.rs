//! What is forgotten, and what is not.

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn keep(rollouts: u32) -> Retention {
    Retention {
        rollouts,
        ..Retention::default()
    }
}

async fn ids(journal: &Journal) -> Vec<i64> {
    let found = journal.history(all()).await.unwrap();
    found.iter().map(|summary| summary.id.0).collect()
}

async fn finished(journal: &Journal) -> RolloutId {
    let id = journal.begin(new("web")).await.unwrap();
    journal.record(id, note("")).await.unwrap();
    journal.finish(id, done()).await.unwrap();
    id
}

#[tokio::test]
async fn the_unfinished_stay_and_ids_are_not_given_again() {
    let (directory, journal) = scene();
    let half = journal.begin(new("web")).await.unwrap();
    for _ in 0..4 {
        finished(&journal).await;
    }
    assert_eq!(journal.prune(keep(2)).await, Ok(2));
    assert_eq!(ids(&journal).await, [5, 4, half.0]);
    assert_eq!(journal.prune(keep(2)).await, Ok(0));
    let connection = other(&file(&directory));
    let orphans: u32 = connection
        .query_row(
            "SELECT count(*) FROM record WHERE rollout NOT IN (SELECT id FROM rollout)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(orphans, 0, "records outlive their rollout");
    connection.execute("DELETE FROM rollout", []).unwrap();
    assert_eq!(finished(&journal).await, RolloutId(6));
}

#[tokio::test]
async fn the_end_of_a_rollout_prunes() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::with(file(&directory), keep(2), None);
    for _ in 0..4 {
        finished(&journal).await;
    }
    assert_eq!(ids(&journal).await, [4, 3]);
}

#[tokio::test]
async fn the_old_go_but_not_the_newest_ones() {
    let (directory, journal) = scene();
    for _ in 0..25 {
        finished(&journal).await;
    }
    // It comes after what the end of the last one has to do.
    assert_eq!(ids(&journal).await.len(), 25);
    let connection = other(&file(&directory));
    let age = |days: i64, ids: &str| {
        let at = clock::unix_millis() - days * DAY_MS;
        let update = format!("UPDATE rollout SET began_ms = ?1, ended_ms = ?1 WHERE id IN ({ids})");
        connection.execute(&update, [at]).unwrap();
    };
    age(89, "3, 4");
    age(91, "1, 2");
    // Made while the clock was wrong: not older than the one before it.
    age(20_000, "5");
    assert_eq!(journal.prune(Retention::default()).await, Ok(2));
    assert_eq!(ids(&journal).await.last(), Some(&3));
    // Now the clock jumps: everything looks old.
    connection
        .execute("UPDATE rollout SET began_ms = 0, ended_ms = 0", [])
        .unwrap();
    assert_eq!(journal.prune(Retention::default()).await, Ok(13));
    assert_eq!(ids(&journal).await, (16..=25).rev().collect::<Vec<_>>());
}
