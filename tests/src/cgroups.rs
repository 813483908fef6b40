//! The unified cgroup tree as the tests see it: find, kill, remove.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use procfs::process::Process;

use crate::wait;

/// How long a killed cgroup may take to get empty.
const EMPTY_LIMIT: Duration = Duration::from_secs(5);

/// Where cgroup2 is mounted.
pub fn mount() -> Result<PathBuf> {
    let mounts = Process::myself()?.mountinfo()?;
    let unified = mounts.into_iter().find(|mount| mount.fs_type == "cgroup2");
    Ok(unified.context("no cgroup2 mount")?.mount_point)
}

/// The directory of the cgroup that `pid` is in.
pub fn of(pid: Pid) -> Result<PathBuf> {
    let groups = Process::new(pid.as_raw())?.cgroups()?;
    let unified = groups
        .into_iter()
        .find(|group| group.hierarchy == 0)
        .context("not in the unified tree")?;
    Ok(mount()?.join(unified.pathname.trim_start_matches('/')))
}

/// CPU time that all processes of a cgroup have used.
pub fn cpu_time(directory: &Path) -> Result<Duration> {
    let stat = fs::read_to_string(directory.join("cpu.stat"))?;
    let used = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let micros = used.context("no usage_usec")?.trim().parse()?;
    Ok(Duration::from_micros(micros))
}

/// The processes in it, as text.
pub fn pids(directory: &Path) -> Result<Vec<String>> {
    let own = fs::read_to_string(directory.join("cgroup.procs"))?;
    Ok(own.lines().map(str::to_owned).collect())
}

/// Kills every process of the cgroup and of those below it, and waits until they are gone.
pub fn kill(directory: &Path) -> Result<()> {
    fs::write(directory.join("cgroup.kill"), "1")
        .with_context(|| format!("kill {}", directory.display()))?;
    wait::until_true(
        &format!("{} gets empty", directory.display()),
        EMPTY_LIMIT,
        || is_empty(directory),
    )
}

/// Has the processes of the cgroup and of those below it go on that a test has stopped: they take their signals then.
pub fn resume(directory: &Path) -> Result<()> {
    for pid in pids(directory)? {
        // It may have ended.
        let _gone = signal::kill(Pid::from_raw(pid.parse()?), Signal::SIGCONT);
    }
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type()?.is_dir() {
            resume(&entry.path())?;
        }
    }
    Ok(())
}

/// Kills and removes the cgroup and those below it; one that is not there is fine.
pub fn end(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    kill(directory)?;
    remove(directory)
}

/// True when no process is in the cgroup or below it.
pub fn is_empty(directory: &Path) -> bool {
    fs::read_to_string(directory.join("cgroup.events")).map_or(true, |events| {
        events.lines().any(|line| line == "populated 0")
    })
}

fn remove(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory).with_context(|| format!("remove {}", directory.display()))
}
