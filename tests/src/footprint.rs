//! What an agent holds: memory, descriptors, kernel objects, cgroups.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, DirEntry},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::unistd::Pid;
use procfs::process::Process;

use crate::{host::Host, wait};

const LOOKS: Duration = Duration::from_millis(500);

/// What the agent of a host holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, KiB.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Different eBPF maps behind them.
    pub maps: usize,
    /// Different eBPF programs and links behind them.
    pub programs: usize,
    /// Files pinned in the host's bpffs.
    pub pins: usize,
    /// Cgroups below the agent's.
    pub cgroups: usize,
}

impl Footprint {
    /// Looks now.
    pub fn of(host: &mut Host) -> Result<Self> {
        let agent = host.agent()?.pid();
        Self::of_agent(host, agent)
    }

    /// The least of each in half a second of looks: what an agent opens for a moment, once a
    /// second or for a server it starts, is not what it holds.
    pub fn at_rest(host: &mut Host) -> Result<Self> {
        let agent = host.agent()?.pid();
        Self::of_agent_at_rest(host, agent)
    }

    /// The same of the agent `pid`: one that took over from the one that was started.
    pub fn of_agent_at_rest(host: &Host, pid: Pid) -> Result<Self> {
        let until = Instant::now() + LOOKS;
        let mut least = Self::of_agent(host, pid)?;
        wait::until("the looks are over", 2 * LOOKS, || {
            let next = Self::of_agent(host, pid).ok()?;
            least = least.least(&next);
            (Instant::now() >= until).then_some(least)
        })
    }

    fn least(&self, other: &Self) -> Self {
        Self {
            resident: self.resident.min(other.resident),
            descriptors: self.descriptors.min(other.descriptors),
            maps: self.maps.min(other.maps),
            programs: self.programs.min(other.programs),
            pins: self.pins.min(other.pins),
            cgroups: self.cgroups.min(other.cgroups),
        }
    }

    fn of_agent(host: &Host, pid: Pid) -> Result<Self> {
        let process = Process::new(pid.as_raw())?;
        let fdinfo = list(
            &Path::new("/proc")
                .join(process.pid.to_string())
                .join("fdinfo"),
        )?;
        // A descriptor may close while it is looked at.
        let texts: Vec<_> = fdinfo
            .iter()
            .filter_map(|fd| fs::read_to_string(fd.path()).ok())
            .collect();
        Ok(Self {
            resident: process.status()?.vmrss.context("no VmRSS")?,
            descriptors: fdinfo.len(),
            maps: ids(&texts, &["map_id"]),
            programs: ids(&texts, &["prog_id", "link_id"]),
            pins: files_below(host.bpffs())?,
            cgroups: directories_below(&host.cgroup()?)?,
        })
    }

    /// Fails if this holds more objects of any kind than `former`, or `memory` KiB more.
    pub fn expect_no_more_than(&self, former: &Self, memory: u64) -> Result<()> {
        let within = self.resident <= former.resident + memory
            && self.descriptors <= former.descriptors
            && self.maps <= former.maps
            && self.programs <= former.programs
            && self.pins <= former.pins
            && self.cgroups <= former.cgroups;
        anyhow::ensure!(within, "the agent grew from {former} to {self}");
        Ok(())
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} KiB resident, {} descriptors, {} maps, {} programs and links, {} pins, {} cgroups",
            self.resident, self.descriptors, self.maps, self.programs, self.pins, self.cgroups
        )
    }
}

/// How many different values the `keys` have in all.
fn ids(texts: &[String], keys: &[&str]) -> usize {
    let lines = texts.iter().flat_map(|text| text.lines());
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs
        .filter(|(key, _)| keys.contains(key))
        .collect::<BTreeSet<_>>()
        .len()
}

fn list(directory: &Path) -> Result<Vec<DirEntry>> {
    let entries = fs::read_dir(directory).with_context(|| format!("{}", directory.display()))?;
    Ok(entries.collect::<std::io::Result<_>>()?)
}

fn files_below(directory: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in list(directory)? {
        files += if entry.file_type()?.is_dir() {
            files_below(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

fn directories_below(directory: &Path) -> Result<usize> {
    let mut directories = 0;
    for entry in list(directory)? {
        if entry.file_type()?.is_dir() {
            directories += 1 + directories_below(&entry.path())?;
        }
    }
    Ok(directories)
}
