//! A server or agent the test started itself: killed on drop, its output kept in a file.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

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

/// Sends SIGKILL and waits for the end of its last thread: until then it may accept one more connection, which dies with
/// it.
pub fn kill_outright(pid: Pid) -> Result<()> {
    Other::open(pid)?.kill(Duration::from_secs(5))
}

/// The pid as nix writes it.
pub fn pid_from(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
}

/// A process that somebody else started.
#[derive(Debug)]
pub struct Other(OwnedFd);

impl Other {
    /// Fails if there is none of this pid.
    pub fn open(pid: Pid) -> Result<Self> {
        let pid = rustix::process::Pid::from_raw(pid.as_raw()).context("no pid")?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Kills it and waits for its end: that of its last thread, for until then it holds its files and
    /// their locks, while it may be in no list any more.
    pub fn kill(&self, limit: Duration) -> Result<()> {
        // It has ended already, then.
        let _over_already = pidfd_send_signal(&self.0, rustix::process::Signal::KILL);
        let milliseconds = u16::try_from(limit.as_millis())?;
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        ensure!(poll(&mut fds, milliseconds)? == 1, "it does not end");
        Ok(())
    }
}
