//! Promise: what a generation uses is read from its cgroup: version 2, or a cgroup of version 1 that is its own, or its
//! processes; never from a cgroup that others are in too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use hotlb::{
    generation::usage::{Reader, Source, Unavailable, Usage},
    sys::{cgroup::Cgroup, mounts},
};
use hotlb_tests::{report, wait};
use procfs::{WithCurrentSystemInfo as _, process::Process};

/// A process in a cgroup of its own; both end with it.
struct Member {
    child: Child,
    cgroup: Cgroup,
    /// A directory of version 1 that is removed too.
    legacy: Option<PathBuf>,
}

impl Member {
    fn new(name: &str) -> Result<Self> {
        let name = format!("hotlb-test-usage-{name}-{}", std::process::id());
        let cgroup = Cgroup::create(mounts::cgroup2()?.join(name))?;
        let child = Command::new("sleep").arg("60").spawn()?;
        let member = Self {
            child,
            cgroup,
            legacy: None,
        };
        member.enter(member.cgroup.path())?;
        // Right after its `exec` a process has no page yet, or none that the kernel has counted.
        wait::until_true("pages of sleep", Duration::from_secs(10), || {
            let stat = Process::new(member.child.id().cast_signed()).and_then(|it| it.stat());
            stat.is_ok_and(|stat| stat.rss_bytes().get() > 50_000)
        })?;
        Ok(member)
    }

    fn enter(&self, directory: &Path) -> Result<()> {
        let pid = self.child.id().to_string();
        fs::write(directory.join("cgroup.procs"), pid)
            .with_context(|| directory.display().to_string())
    }

    fn usage(&self) -> Usage {
        Reader::now().read(&self.cgroup)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // What fails here has been removed already.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(self.cgroup.remove());
        if let Some(directory) = &self.legacy {
            drop(fs::remove_dir(directory));
        }
    }
}

#[test]
fn processes_below_the_cgroup_count_too() -> Result<()> {
    let member = Member::new("below")?;
    ensure!(member.usage().processes == 1, "{:?}", member.usage());
    let below = Cgroup::create(member.cgroup.path().join("worker"))?;
    member.enter(below.path())?;
    let usage = member.usage();
    ensure!(usage.processes == 1 && !usage.frozen, "{usage:?}");
    let cpu = usage.cpu.ok().context("no CPU time")?;
    ensure!(cpu.source == Source::Cgroup2, "{cpu:?}");
    let memory = usage.memory.ok().context("no memory")?;
    ensure!(memory.value > 50_000, "{memory:?}");
    Ok(())
}

#[test]
fn a_cgroup_that_is_gone_has_nothing_to_say() -> Result<()> {
    let gone = Cgroup::at(mounts::cgroup2()?.join("hotlb-test-usage-gone"));
    let usage = Reader::now().read(&gone);
    ensure!(usage.processes == 0, "{usage:?}");
    ensure!(usage.cpu.err() == Some(Unavailable::Ended), "{usage:?}");
    ensure!(usage.memory.err() == Some(Unavailable::Ended), "{usage:?}");
    Ok(())
}

/// The memory controller is on one of the two versions of cgroups: where it is, memory is its cgroup's. A host with
/// systemd has it on version 2; this project's own machines are hybrid, and `cargo xtask vm` has the others.
#[test]
fn memory_is_that_of_its_own_cgroup() -> Result<()> {
    let enabled = fs::read_to_string(mounts::cgroup2()?.join("cgroup.subtree_control"))?;
    let legacy = Path::new("/sys/fs/cgroup/memory");
    if enabled.split_whitespace().any(|name| name == "memory") {
        report::figure("usage: memory controller", "version 2");
        of_version_2()
    } else if legacy.join("memory.usage_in_bytes").exists() {
        report::figure("usage: memory controller", "version 1");
        of_version_1(legacy)
    } else {
        report::skip("usage: controllers", "there is no memory controller")
    }
}

fn of_version_2() -> Result<()> {
    let member = Member::new("controllers")?;
    let usage = member.usage();
    let memory = usage.memory.ok().context("no memory")?;
    ensure!(memory.source == Source::Cgroup2, "{memory:?}");
    // A peak is kept since 5.19, and so is reclaim.
    let peak = usage.memory_peak.ok().context("no peak")?;
    ensure!(peak.source == Source::Cgroup2, "{peak:?}");
    ensure!(peak.value >= memory.value, "{peak:?} {memory:?}");
    member.cgroup.freeze()?;
    member.cgroup.reclaim().context("reclaim")?;
    member.cgroup.thaw()?;
    Ok(())
}

/// On a hybrid host a unit has a cgroup of version 1 for its memory; what hotlb starts is in the agent's.
fn of_version_1(root: &Path) -> Result<()> {
    let mut member = Member::new("hybrid")?;
    let usage = member.usage();
    let memory = usage.memory.ok().context("no memory")?;
    ensure!(memory.source == Source::Processes, "{memory:?}");
    ensure!(
        usage.memory_peak.err() == Some(Unavailable::NoController),
        "{usage:?}"
    );
    let own = root.join(member.cgroup.path().file_name().context("a name")?);
    fs::create_dir(&own)?;
    member.legacy = Some(own.clone());
    member.enter(&own)?;
    let usage = member.usage();
    let memory = usage.memory.ok().context("no memory")?;
    ensure!(memory.source == Source::Cgroup1, "{memory:?}");
    let peak = usage.memory_peak.ok().context("no peak")?;
    ensure!(peak.source == Source::Cgroup1, "{peak:?}");
    let stranger = Member::new("stranger")?;
    stranger.enter(&own)?;
    let memory = member.usage().memory.ok().context("no memory")?;
    ensure!(memory.source == Source::Processes, "{memory:?}");
    Ok(())
}
