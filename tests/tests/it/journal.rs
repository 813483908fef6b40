//! Promise: what cannot be written down is refused with the reason, and works again when the cause is gone; what was
//! written down is never lost, whenever the agent is killed.

use std::{
    fs, os::unix::process::ExitStatusExt as _, path::Path, process::Command, time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb::fault::FAULTS;
use hotlb::store::journal::{
    Drill, End, GenerationRef, HistoryFilter, Journal, JournalError, NewRollout, Outcome, Record,
    RolloutDetail, RolloutId, RolloutKind, Who,
};
use hotlb_tests::{
    mounts::{self, Tmpfs},
    report, wait,
};
use tokio::runtime::{Builder, Runtime};

const LIMIT: Duration = Duration::from_secs(10);
/// Writes of a whole rollout: begin, three records, finish.
const WRITES: usize = 5;
/// KiB of a file system that has room for a journal.
const SIZE: u32 = 1024;

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn rollout() -> NewRollout {
    let generation = |id| GenerationRef {
        id,
        name: format!("gen{id}"),
    };
    NewRollout {
        service: "web".to_owned(),
        kind: RolloutKind::Promote,
        from: Some(generation(1)),
        to: generation(2),
        who: Who {
            uid: Some(0),
            pid: Some(1),
            name: "root".to_owned(),
        },
        trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        boot: "boot".to_owned(),
    }
}

/// Write number `n` of a rollout, from 0; the rollout's id.
async fn write(journal: &Journal, id: RolloutId, n: usize) -> Result<RolloutId, JournalError> {
    match n {
        0 => return journal.begin(rollout()).await,
        4 => {
            let end = End {
                outcome: Outcome::Done,
                reason: None,
            };
            journal.finish(id, end).await?;
        }
        n => {
            let text = format!("record {n}");
            journal.record(id, Record::Note { text }).await?;
        }
    }
    Ok(id)
}

/// Ends the journal and waits until its file is closed: the log goes with that.
fn close(journal: Journal, path: &Path) -> Result<()> {
    drop(journal);
    let log = path.with_extension("db-wal");
    wait::until_true("the journal is closed", LIMIT, || !log.exists())
}

/// Tries until it works.
fn in_the_end<T>(mut ask: impl FnMut() -> Result<T, JournalError>) -> Result<T> {
    let mut last = None;
    wait::until("the journal works again", LIMIT, || match ask() {
        Ok(value) => Some(value),
        Err(error) => {
            last = Some(error.to_string());
            None
        }
    })
    .with_context(|| format!("{last:?}"))
}

/// The disk is full at each write in turn: that one fails and is not written, what was written can be read, and when
/// there is space again the rollout goes on.
#[test]
fn a_full_disk_at_each_write() -> Result<()> {
    let directory = tempfile::tempdir()?;
    mounts::in_private(|| {
        for full_at in 0..WRITES {
            let disk = Tmpfs::mount(&directory.path().join(format!("at{full_at}")), SIZE)?;
            let path = disk.path().join("hotlb.db");
            let journal = Journal::open(path.clone());
            let runtime = runtime()?;
            // Opened, whatever comes: the first write is to fail, not the making of the file.
            runtime.block_on(journal.history(HistoryFilter::default()))?;
            let mut id = RolloutId(0);
            for n in 0..WRITES {
                if n == full_at {
                    disk.fill()?;
                    let error = runtime.block_on(write(&journal, id, n)).unwrap_err();
                    ensure!(error.to_string().contains("full"), "write {n}: {error}");
                    ensure!(
                        journal.trouble().is_some(),
                        "write {n}: no trouble is known"
                    );
                    let told = runtime.block_on(journal.show(id))?;
                    let records = told.map_or(0, |told| told.entries.len());
                    ensure!(
                        records == n.saturating_sub(1),
                        "write {n}: {records} records"
                    );
                    disk.free()?;
                }
                id = in_the_end(|| runtime.block_on(write(&journal, id, n)))?;
            }
            ensure!(journal.trouble().is_none());
            let told = told(&runtime, &journal, id)?;
            ensure!(
                told.entries.len() == 3 && told.summary.outcome.is_some(),
                "{told:#?}"
            );
        }
        Ok(())
    })
}

fn told(runtime: &Runtime, journal: &Journal, id: RolloutId) -> Result<RolloutDetail> {
    runtime
        .block_on(journal.show(id))?
        .with_context(|| format!("{id} is lost"))
}

/// A disk with the journal of an agent that ended in a rollout: in order, or killed.
fn interrupted(at: &Path, killed: bool) -> Result<Tmpfs> {
    let disk = Tmpfs::mount(at, SIZE)?;
    let origin = tempfile::tempdir()?;
    let path = origin.path().join("hotlb.db");
    let journal = Journal::open(path.clone());
    let runtime = runtime()?;
    let mut id = RolloutId(0);
    for n in 0..3 {
        id = runtime.block_on(write(&journal, id, n))?;
    }
    if !killed {
        close(journal, &path)?;
    }
    for file in fs::read_dir(origin.path())? {
        let file = file?;
        fs::copy(file.path(), at.join(file.file_name()))?;
    }
    Ok(disk)
}

/// What an agent does that starts where it cannot write: it learns of the half-done rollout and refuses new ones, until
/// `repair`.
fn starts_in_trouble(disk: &Tmpfs, reason: &str, repair: impl Fn() -> Result<()>) -> Result<()> {
    let journal = Journal::open(disk.path().join("hotlb.db"));
    let runtime = runtime()?;
    let begun = runtime.block_on(journal.begin(rollout()));
    let refused = begun.err().context("a rollout began")?.to_string();
    ensure!(refused.contains(reason), "{refused}");
    let unfinished = runtime.block_on(journal.unfinished("web"))?;
    let half = unfinished
        .first()
        .context("the half-done rollout is not found")?;
    ensure!(half.entries.len() == 2, "{half:#?}");
    repair()?;
    in_the_end(|| runtime.block_on(write(&journal, half.summary.id, 3)))?;
    ensure!(journal.trouble().is_none());
    let told = told(&runtime, &journal, half.summary.id)?;
    ensure!(told.entries.len() == 3, "{told:#?}");
    Ok(())
}

#[test]
fn an_agent_that_starts_on_a_full_disk() -> Result<()> {
    let directory = tempfile::tempdir()?;
    mounts::in_private(|| {
        for killed in [false, true] {
            let at = directory.path().join(format!("killed-{killed}"));
            let disk = interrupted(&at, killed)?;
            disk.fill()?;
            starts_in_trouble(&disk, "full", || disk.free())
                .with_context(|| format!("killed: {killed}"))?;
        }
        Ok(())
    })
}

#[test]
fn an_agent_that_starts_on_a_read_only_disk() -> Result<()> {
    let directory = tempfile::tempdir()?;
    mounts::in_private(|| {
        for killed in [false, true] {
            let at = directory.path().join(format!("killed-{killed}"));
            let disk = interrupted(&at, killed)?;
            disk.read_only(true)?;
            starts_in_trouble(&disk, "read-only", || disk.read_only(false))
                .with_context(|| format!("killed: {killed}"))?;
        }
        Ok(())
    })
}

/// A process that is killed after its N-th write has N writes in its journal, for every N.
#[test]
fn killed_after_each_write() -> Result<()> {
    for n in 1..=WRITES {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("hotlb.db");
        let status = Command::new(std::env::current_exe()?)
            .args(["--ignored", "--exact", "journal::a_process_that_is_killed"])
            .env(FAULTS, format!("kill@{n}"))
            .env("HOTLB_TEST_JOURNAL", &path)
            .output()?
            .status;
        ensure!(status.signal() == Some(9), "kill@{n}: {status}");
        let journal = Journal::open(path.clone());
        let told = told(&runtime()?, &journal, RolloutId(1))?;
        let ended = usize::from(told.summary.outcome.is_some());
        let writes = 1 + told.entries.len() + ended;
        ensure!(writes == n, "kill@{n}: {writes} writes\n{told:#?}");
    }
    report::figure("journal: writes at which the process was killed", WRITES);
    Ok(())
}

/// Not a test: what `killed_after_each_write` runs.
#[test]
#[ignore = "run by killed_after_each_write"]
fn a_process_that_is_killed() -> Result<()> {
    let path = std::env::var_os("HOTLB_TEST_JOURNAL").context("no HOTLB_TEST_JOURNAL")?;
    let journal = Journal::with(
        path.into(),
        hotlb::config::Retention::default(),
        Drill::from_env()?,
    );
    let runtime = runtime()?;
    let mut id = RolloutId(0);
    for n in 0..WRITES {
        id = runtime.block_on(write(&journal, id, n))?;
    }
    Ok(())
}
