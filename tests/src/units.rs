//! Other people's supervisors: a cgroup for each service, as systemd gives them, and a shell that starts a server again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{cgroups, host::Host, process::Process, report};

/// What the names of the units' cgroups end with, so that they are no cgroups of an agent.
pub(crate) const ENDING: &str = ".units";

/// Cgroups made by hand, one for each unit; ended on drop with everything in them.
#[derive(Debug)]
pub struct Units {
    directory: PathBuf,
}

impl Units {
    /// None yet.
    pub fn new(host: &Host) -> Result<Self> {
        let name = format!("{}{ENDING}", host.netns().name());
        let directory = cgroups::mount()?.join(name);
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// The cgroup of a unit, made if there is none.
    pub fn cgroup(&self, unit: &str) -> Result<PathBuf> {
        let directory = self.directory.join(unit);
        fs::create_dir_all(&directory).with_context(|| format!("make the cgroup of {unit}"))?;
        Ok(directory)
    }

    /// Starts the main process of a unit: with the agent's places in its environment, in the unit's cgroup.
    pub fn start(&self, host: &Host, unit: &str, line: &[String]) -> Result<Process> {
        let mut command = in_cgroup(host, &self.cgroup(unit)?, line);
        Process::start(&mut command, &host.directory().join("unit.log"))
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        if let Err(error) = cgroups::end(&self.directory) {
            report::remark(format!("cannot end the units of a test: {error:#}"));
        }
    }
}

/// A command in the host's namespace that enters `cgroup` and then becomes `line`.
pub fn in_cgroup(host: &Host, cgroup: &Path, line: &[String]) -> Command {
    let mut command = host.command("sh");
    command
        .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
        .arg(cgroup)
        .args(line);
    command
}

/// A command line of `hotlb exec`.
pub fn exec_line(host: &Host, generation: &str, server: &[String]) -> Vec<String> {
    let hotlb = host.binary().display().to_string();
    let words = [&hotlb, "exec", "--generation", generation, "--"];
    let words = words.map(str::to_owned).into_iter();
    words.chain(server.iter().cloned()).collect()
}

/// A shell that runs `line` again as often as a signal ends it, in no cgroup of its own.
pub fn supervise(host: &Host, line: &[String]) -> Result<Process> {
    let mut command = host.command("sh");
    command
        .args(["-c", "until \"$@\"; [ $? -le 128 ]; do :; done", "sh"])
        .args(line);
    Process::start(&mut command, &host.directory().join("unit.log"))
}
