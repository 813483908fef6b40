//! A server or agent the test started itself: killed on drop, its output kept in a file.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

/// A process that runs until the test ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        pid_from(self.child.id())
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Removes the file with what it wrote.
    pub fn remove_log(&self) {
        // It may be gone already.
        drop(std::fs::remove_file(&self.log));
    }

    /// Sends `signal`; the process must still run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.pid()))
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let status = wait::until("the process ends", limit, || child.try_wait().transpose());
        status
            .with_context(|| format!("its log:\n{}", self.log()))?
            .map_err(Into::into)
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child has been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends SIGSTOP and waits until every thread stands still: the signal alone may take a while to get to them.
pub fn freeze(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGSTOP).with_context(|| format!("stop {pid}"))?;
    let frozen = || -> Result<bool> {
        let tasks = procfs::process::Process::new(pid.as_raw())?.tasks()?;
        let states = tasks
            .map(|task| Ok(task?.stat()?.state))
            .collect::<Result<Vec<_>>>()?;
        Ok(states.iter().all(|state| *state == 'T'))
    };
    wait::until_true("every thread stands still", Duration::from_secs(5), || {
        frozen().unwrap_or(false)
    })
}

/// The pid as nix writes it.
pub fn pid_from(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
}
