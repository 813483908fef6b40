//! Incidents: kept beside the history, bounded in number, bytes and age.
//!
//! The table stands beside those of the schema, as the outbox does: a release that does not know
//! it passes it over. What an incident consists of is one compressed JSON value.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};

use super::{
    HistoryFilter, Journal, JournalError,
    error::{Fault, Trouble},
    read::newest,
    worker::Kind,
};
use crate::{
    clock,
    config::IncidentRetention,
    incident::{Incident, IncidentId, Summary},
};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS incident (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    service    TEXT NOT NULL,
    generation TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    score      REAL NOT NULL,
    reason     TEXT NOT NULL,
    rollout    TEXT,
    bytes      INTEGER NOT NULL,
    body       BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS incident_of_service ON incident (service, id);
";

const SUMMARY: &str = "id, service, generation, at_ms, score, reason, rollout, bytes";

/// So many of the newest are kept whatever their age: as of rollouts, for clocks jump.
const KEPT_AT_ANY_AGE: u32 = 10;
/// The most bytes of one incident. Without its stacks none has as many.
const MOST_BYTES: usize = 4_000_000;
/// The most bytes one is unpacked to: what was written is never as much.
const MOST_UNPACKED: u64 = 256_000_000;

impl Journal {
    /// The same journal, keeping so many incidents.
    #[must_use]
    pub fn keeping_incidents(self, retention: IncidentRetention) -> Self {
        let kept = Self {
            incidents: retention,
            ..self
        };
        // Nobody waits for it, and if it fails that is known as any other trouble.
        kept.worker.later(Kind::Write, move |database| {
            drop(database.write_aside(|work| there(work).and_then(|()| prune(work, &retention))));
        });
        kept
    }

    /// Keeps an incident, and gives it its id.
    pub async fn keep_incident(&self, mut incident: Incident) -> Result<IncidentId, JournalError> {
        let retention = self.incidents;
        self.worker.run(move |database| {
            database.write_aside(|work| {
                there(work)?;
                let body = packed_within(&mut incident, MOST_BYTES)?;
                let summary = &incident.summary;
                work.execute(
                    "INSERT INTO incident (service, generation, at_ms, score, reason, rollout, bytes, body)
                     VALUES (:service, :generation, :at_ms, :score, :reason, :rollout, :bytes, :body)",
                    named_params! {
                        ":service": summary.service,
                        ":generation": summary.generation,
                        ":at_ms": summary.at_ms,
                        ":score": summary.score,
                        ":reason": summary.reason,
                        ":rollout": summary.rollout,
                        ":bytes": i64::try_from(body.len()).unwrap_or(i64::MAX),
                        ":body": body,
                    },
                )?;
                let id = IncidentId(work.last_insert_rowid());
                prune(work, &retention)?;
                Ok(id)
            })
        })
        .await
    }

    /// Incidents in short, newest first.
    pub async fn incidents(&self, filter: HistoryFilter) -> Result<Vec<Summary>, JournalError> {
        self.worker
            .read(move |database| {
                database.read(|work| {
                    if !is_there(work)? {
                        return Ok(Vec::new());
                    }
                    newest(work, "incident", SUMMARY, &filter, |row| Ok(summary(row)?))
                })
            })
            .await
    }

    /// One incident with everything.
    pub async fn incident(&self, id: IncidentId) -> Result<Incident, JournalError> {
        let found = self.worker.read(move |database| {
            database.read(|work| {
                if !is_there(work)? {
                    return Ok(None);
                }
                let mut query = work.prepare(&format!(
                    "SELECT {SUMMARY}, body FROM incident WHERE id = ?1"
                ))?;
                let found = query
                    .query_row([id.0], |row| {
                        Ok((summary(row)?, row.get::<_, Vec<u8>>("body")?))
                    })
                    .optional()?;
                found
                    .map(|(summary, body)| unpacked(summary, &body))
                    .transpose()
            })
        });
        found.await?.ok_or(JournalError::UnknownIncident(id))
    }
}

fn there(work: &Transaction<'_>) -> Result<(), Fault> {
    Ok(work.execute_batch(TABLES)?)
}

fn is_there(work: &Connection) -> Result<bool, Fault> {
    Ok(work.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'incident')",
        [],
        |row| row.get(0),
    )?)
}

/// Removes the oldest that are too many, too large all together, or too old.
fn prune(work: &Transaction<'_>, retention: &IncidentRetention) -> Result<(), Fault> {
    let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
    let oldest = clock::unix_millis().saturating_sub(age);
    work.execute(
        "WITH ranked AS (
             SELECT id, at_ms, row_number() OVER newest AS place, sum(bytes) OVER newest AS total
             FROM incident WINDOW newest AS (ORDER BY id DESC))
         DELETE FROM incident WHERE id IN (
             SELECT id FROM ranked
             WHERE place > ?1 OR total > ?2 AND place > 1 OR at_ms < ?3 AND place > ?4)",
        params![
            retention.count,
            i64::try_from(retention.bytes).unwrap_or(i64::MAX),
            oldest,
            KEPT_AT_ANY_AGE
        ],
    )?;
    Ok(())
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let bytes: i64 = row.get("bytes")?;
    Ok(Summary {
        id: IncidentId(row.get("id")?),
        service: row.get("service")?,
        generation: row.get("generation")?,
        at_ms: row.get("at_ms")?,
        score: row.get("score")?,
        reason: row.get("reason")?,
        rollout: row.get("rollout")?,
        bytes: u64::try_from(bytes).unwrap_or_default(),
    })
}

/// The incident packed; without its stacks if it were larger than `most` with them.
fn packed_within(incident: &mut Incident, most: usize) -> Result<Vec<u8>, Trouble> {
    let body = packed(incident)?;
    if body.len() <= most || incident.profile.is_none() {
        return Ok(body);
    }
    incident.profile = None;
    incident.notes.push(format!(
        "the stacks took {} bytes, compressed, and an incident has at most {most}: they were left out",
        body.len()
    ));
    packed(incident)
}

fn packed(incident: &Incident) -> Result<Vec<u8>, Trouble> {
    let broken = |error: std::io::Error| Trouble::Other(format!("an incident: {error}"));
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    let json = serde_json::to_vec(incident).map_err(|error| broken(error.into()))?;
    packer.write_all(&json).map_err(broken)?;
    packer.finish().map_err(broken)
}

fn unpacked(summary: Summary, body: &[u8]) -> Result<Incident, Fault> {
    let mut json = Vec::new();
    let read = GzDecoder::new(body)
        .take(MOST_UNPACKED)
        .read_to_end(&mut json);
    let incident = read.map_err(serde_json::Error::io);
    let incident = incident.and_then(|_| serde_json::from_slice::<Incident>(&json));
    let incident =
        incident.map_err(|error| Trouble::Damaged(format!("incident {}: {error}", summary.id)))?;
    Ok(Incident {
        summary,
        ..incident
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hotlb_sys::perf::Scope;
    use hotlb_values::profile::{
        Exposure, Frame, FrameKind, Measure, Profile, Sampled, Stack, Unwind,
    };

    use super::*;

    fn incident(number: i64) -> Incident {
        Incident {
            summary: Summary {
                id: IncidentId(0),
                service: "web".to_owned(),
                generation: format!("gen{number}"),
                at_ms: clock::unix_millis(),
                score: 0.75,
                reason: "slow".to_owned(),
                rollout: Some("r7".to_owned()),
                bytes: 0,
            },
            beside: None,
            windows: Vec::new(),
            beside_windows: Vec::new(),
            took_ms: 0,
            connections: Vec::new(),
            profile: None,
            notes: vec!["a note".to_owned()],
        }
    }

    fn profile() -> Profile {
        let samples = Stack {
            thread: "web".to_owned(),
            frames: vec![0],
            count: 3,
        };
        Profile {
            service: "web".to_owned(),
            measure: Measure::Cpu,
            frequency: 99,
            took_ms: 10_000,
            unwind: Unwind::Auto,
            scope: Scope::Cgroup,
            frames: vec![Frame {
                name: "spin".to_owned(),
                module: Some("/bin/web".to_owned()),
                kind: FrameKind::User,
            }],
            generations: vec![Sampled {
                generation: "gen1".to_owned(),
                samples: 3,
                expected: Some(3),
                lost: 0,
                truncated: 0,
                exposure: Exposure::default(),
                stacks: vec![samples],
            }],
            notes: Vec::new(),
            own_cpu_ms: 0,
            names_cpu_ms: 0,
            own_memory_bytes: 0,
        }
    }

    fn journal(directory: &tempfile::TempDir, count: u32, bytes: u64) -> Journal {
        let retention = IncidentRetention {
            count,
            bytes,
            age: Duration::from_hours(1),
        };
        Journal::open(directory.path().join("hotlb.db")).keeping_incidents(retention)
    }

    #[tokio::test]
    async fn the_newest_are_kept_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(&directory, 3, 1_000_000);
        for number in 1..=5 {
            let id = journal.keep_incident(incident(number)).await.unwrap();
            assert_eq!(id, IncidentId(number));
        }
        let listed = journal.incidents(HistoryFilter::default()).await.unwrap();
        let ids: Vec<_> = listed.iter().map(|summary| summary.id.0).collect();
        assert_eq!(ids, [5, 4, 3]);
        let told = journal.incident(IncidentId(4)).await.unwrap();
        assert_eq!(
            (told.summary.generation.as_str(), told.notes.len()),
            ("gen4", 1)
        );
        assert!(told.summary.bytes > 0);
        let gone = journal.incident(IncidentId(1)).await.unwrap_err();
        assert_eq!(gone, JournalError::UnknownIncident(IncidentId(1)));
        let none = HistoryFilter {
            service: Some("api".to_owned()),
            limit: None,
        };
        assert!(journal.incidents(none).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn bytes_are_bounded_but_for_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(&directory, 100, 10);
        for number in 1..=3 {
            journal.keep_incident(incident(number)).await.unwrap();
        }
        let listed = journal.incidents(HistoryFilter::default()).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
    }

    #[test]
    fn stacks_that_are_too_large_are_left_out() {
        let mut large = incident(1);
        large.profile = Some(profile());
        let whole = packed_within(&mut large, 1_000_000).unwrap();
        assert!(large.profile.is_some());
        let body = packed_within(&mut large, whole.len() - 1).unwrap();
        assert!(large.profile.is_none() && large.notes.len() == 2 && !body.is_empty());
    }
}
