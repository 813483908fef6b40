//! The ledger of one service: its generations, as a JSON file that is replaced whole.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use hotlb_generation::roots::Roots;
use hotlb_values::{ConnectionCounts, Latencies};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use thiserror::Error;

use super::{Provenance, RolloutStats, journal::CutConnection};
use crate::{
    rollout::{GenerationState, habit::Habits},
    sys::os_text,
};

/// The version of the ledger's format. It grows when an earlier release would misread it.
pub const LEDGER_VERSION: u32 = 1;

/// The ledger cannot be read or written.
#[derive(Debug, Error)]
#[error("ledger {path}: {source}")]
pub struct LedgerError {
    path: PathBuf,
    source: io::Error,
}

impl LedgerError {
    pub(super) fn of(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

/// What is remembered of a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// The boot it was written in; pids and cgroups of another one are gone.
    pub boot: String,
    /// The greatest generation id given so far.
    pub last_id: u32,
    /// Who was active before the last promote.
    pub previous: Option<u32>,
    /// How often a generation was promoted.
    pub promotes: u64,
    /// How often a promote was undone.
    pub rollbacks: u64,
    /// How often the kernel's fail-over was made official.
    pub failovers: u64,
    /// Whether the server was found not to run twice (`mode = "auto"`).
    #[serde(default)]
    pub runs_alone: bool,
    /// Connections of generations that are not remembered any more.
    #[serde(default)]
    pub retired: ConnectionCounts,
    /// How long clients waited whose generations are not in the kernel's tables any more.
    #[serde(default)]
    pub past: Latencies,
    /// What its rollouts came to.
    #[serde(rename = "tally", default)]
    pub rollout_stats: RolloutStats,
    /// What its programs were seen to do on their signals.
    #[serde(default)]
    pub habits: Habits,
    /// The generations, oldest first.
    pub generations: Vec<Remembered>,
}

/// What is remembered of a generation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its state when this was written.
    pub state: GenerationState,
    /// Program and arguments, as they were given.
    pub command: Vec<String>,
    /// Where it was started.
    #[serde(with = "os_text")]
    pub cwd: PathBuf,
    /// What stood at these paths then, if that is known.
    #[serde(default)]
    pub roots: Option<Roots>,
    /// What was added to its environment.
    pub env: BTreeMap<String, String>,
    /// Its first process and when that started, in ticks since boot.
    pub main: Option<(u32, u64)>,
    /// Why it is in this state, if there is something to say.
    pub reason: Option<String>,
    /// When it came into this state, in seconds since the host was started.
    pub since: u64,
    /// Its counts that are not in the kernel any more.
    pub counted: ConnectionCounts,
    /// Whether it has ever been ready.
    #[serde(default)]
    pub was_ready: bool,
    /// How long it is kept once it is drained, if other than configured.
    #[serde(default)]
    pub keep: Option<Duration>,
    /// Whether another generation has its seat in the kernel's tables.
    #[serde(default)]
    pub unseated: bool,
    /// Why a rollout got rid of it, if one did.
    #[serde(default)]
    pub failed: Option<String>,
    /// What it has outside hotlb.
    #[serde(rename = "outside", default)]
    pub provenance: Provenance,
    /// When its drain began, in time since the host was started, while it drains or ends.
    #[serde(default)]
    pub drain_since: Option<Duration>,
    /// When it was sent the signal to end, in seconds since the host was started.
    #[serde(rename = "told", default)]
    pub signalled: Option<u64>,
    /// Who was told then: processes, and when they started, in ticks since boot.
    #[serde(rename = "told_whom", default)]
    pub signalled_whom: Vec<(u32, u64)>,
    /// When others were told, those having ended, in seconds since the host was started.
    #[serde(rename = "told_again", default)]
    pub signalled_again: Option<u64>,
    /// What its signal cut, if it cut anything.
    #[serde(default)]
    pub signal_cut: Option<String>,
    /// Connections whose end the kernel did not count.
    #[serde(default)]
    pub unseen_ends: u64,
    /// Its connections that were cut so far, while it ends.
    #[serde(default)]
    pub cut_list: Vec<CutConnection>,
}

impl Ledger {
    /// The ledger at `path`; an empty one if there is none. One that is damaged (by a power loss;
    /// the generations it knew are gone then) is set aside: better no history than no agent.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            result => result.map_err(|source| LedgerError::of(path, source))?,
        };
        serde_json::from_slice(&text).or_else(|error| {
            let aside = path.with_extension("damaged");
            tracing::error!(%error, aside = %aside.display(), "failed to read the ledger: it is damaged and set aside");
            fs::rename(path, &aside).map_err(|source| LedgerError::of(path, source))?;
            Ok(Self::default())
        })
    }

    /// Replaces the ledger at `path`, so that a reader sees the old or the new one.
    pub fn write(&self, path: &Path) -> Result<(), LedgerError> {
        self.replace(path)
            .map_err(|source| LedgerError::of(path, source))
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(dir)?;
        // Its name would be another one in each error.
        let file = NamedTempFile::new_in(dir).map_err(|error| io::Error::from(error.kind()));
        let mut file = file?;
        // At once: serde_json writes each bracket by itself, which took thousands of calls, and milliseconds of CPU
        // time, beside clients who were led to another generation.
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes the ledger at `path`.
    pub fn remove(path: &Path) -> Result<(), LedgerError> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LedgerError::of(path, error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        let calls = || {
            let io = fs::read_to_string("/proc/thread-self/io").unwrap();
            let line = io.lines().find_map(|line| line.strip_prefix("syscw: "));
            line.unwrap().parse::<u64>().unwrap()
        };
        let before = calls();
        Ledger::default().write(&path).unwrap();
        assert_eq!(calls() - before, 1);
    }

    #[test]
    fn a_missing_ledger_is_empty_and_a_damaged_one_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.json");
        assert_eq!(Ledger::read(&path).unwrap().last_id, 0);
        let ledger = Ledger {
            last_id: 7,
            ..Ledger::default()
        };
        ledger.write(&path).unwrap();
        assert_eq!(Ledger::read(&path).unwrap().last_id, 7);
        fs::write(&path, "{").unwrap();
        assert_eq!(Ledger::read(&path).unwrap().last_id, 0);
        assert!(dir.path().join("web.damaged").exists());
        Ledger::remove(&path).unwrap();
        Ledger::remove(&path).unwrap();
    }
}
