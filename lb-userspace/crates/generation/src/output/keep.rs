//! The agent's side: the logger runs.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    process::Stdio,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{process::Command, sync::Mutex};

use super::all_pipes;
use crate::{
    clock::Deadline,
    config::OutputPlaces,
    ready::ready,
    sys::{cgroup::Cgroup, process},
};

/// The process that takes servers' outputs to their files, as the agent has it.
#[derive(Debug)]
pub struct Logger {
    places: OutputPlaces,
    /// Nobody else is in it.
    cgroup: Cgroup,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// One that runs is a former agent's.
    Found,
    /// It is this program.
    Own,
    /// None is wanted any more.
    Over,
}

/// What was found of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It runs, or none is to.
    Well,
    /// The first look of this agent started it.
    Begun,
    /// It had ended, or was stopped; another one runs.
    Replaced,
}

/// Longest wait for the end of one that was killed.
const END: Duration = Duration::from_secs(1);
/// Longest wait for last words when everything ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

impl Logger {
    /// That of these places, in this cgroup.
    pub fn new(places: OutputPlaces, cgroup: Cgroup) -> Self {
        Self {
            places,
            cgroup,
            state: Mutex::new(State::Found),
        }
    }

    /// Where the outputs are.
    pub fn places(&self) -> &OutputPlaces {
        &self.places
    }

    /// Starts it if it does not run. One that somebody stopped is replaced, and a former agent's
    /// that is another program: what they have not written is in the pipes.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn look_after(&self) -> io::Result<Looked> {
        let mut state = self.state.lock().await;
        if *state == State::Over {
            return Ok(Looked::Well);
        }
        let has_dir = self.places.pipes.is_dir();
        if !has_dir {
            let mut dir = DirBuilder::new();
            dir.recursive(true).mode(0o700).create(&self.places.pipes)?;
        }
        let pids = self.cgroup.own_pids();
        let is_well = match *pids {
            [pid] => {
                has_dir
                    && !process::is_stopped(pid)
                    && (*state == State::Own || is_this_program(pid))
            }
            _ => false,
        };
        let was = std::mem::replace(&mut *state, State::Own);
        if is_well {
            return Ok(Looked::Well);
        }
        self.end_process().await?;
        self.start().await?;
        Ok(if was == State::Found {
            Looked::Begun
        } else {
            Looked::Replaced
        })
    }

    async fn start(&self) -> io::Result<()> {
        Cgroup::create(self.cgroup.path().to_owned())?;
        // Whoever drops a child of tokio's has it waited for.
        let child = Command::new("/proc/self/exe")
            .arg("__log")
            .arg("--pipes")
            .arg(&self.places.pipes)
            .arg("--files")
            .arg(&self.places.files)
            .arg("--cgroup")
            .arg(self.cgroup.path())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        ready(child).await
    }

    async fn end_process(&self) -> io::Result<()> {
        self.cgroup.signal(Signal::SIGKILL);
        let deadline = Deadline::after(END);
        let mut look = tokio::time::interval(LOOK);
        while self.cgroup.is_populated() {
            if deadline.left().is_none() {
                return Err(io::Error::other("the former one does not end"));
            }
            look.tick().await;
        }
        Ok(())
    }

    /// Ends it, once it has taken up everything; not later than in a moment.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn end(&self) -> io::Result<()> {
        let mut state = self.state.lock().await;
        *state = State::Over;
        let deadline = Deadline::after(LAST_WORDS);
        let mut look = tokio::time::interval(LOOK);
        while !all_pipes(&self.places).is_empty() && deadline.left().is_some() {
            look.tick().await;
        }
        self.end_process().await?;
        // What could not be written goes with them.
        let _gone = fs::remove_dir_all(&self.places.pipes);
        for record in [self.places.part(), self.places.dropped()] {
            let _gone = fs::remove_file(record);
        }
        Ok(())
    }
}

/// Whether the process runs the same program as this one.
fn is_this_program(pid: u32) -> bool {
    let image = |pid: &str| fs::metadata(format!("/proc/{pid}/exe"));
    match (image("self"), image(&pid.to_string())) {
        (Ok(own), Ok(its)) => (own.dev(), own.ino()) == (its.dev(), its.ino()),
        _ => false,
    }
}
