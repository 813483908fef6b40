//! The child between the agent and a hook: enters the cgroup, then becomes the hook.
//!
//! As with servers ([`super::super::shim`]), the agent starts its own program again rather than
//! running code between fork and exec. stdin carries the spec, stdout is the status pipe (closed
//! empty: the hook runs), stderr the pipe for all that the hook prints.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use nix::unistd::{dup2_stdin, dup2_stdout, setsid};
use rustix::io::fcntl_dupfd_cloexec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sys::{cgroup::Cgroup, environment::Environment, os_text};

/// Everything about a hook's start.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HookSpec {
    /// The cgroup it lives in; it exists.
    pub(super) cgroup: PathBuf,
    /// The program, by its whole path.
    #[serde(with = "os_text")]
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// The directory it starts in.
    #[serde(with = "os_text")]
    pub(super) cwd: PathBuf,
    /// Its whole environment.
    pub(super) env: Environment,
}

/// Why a hook was not started.
#[derive(Debug, Error)]
pub enum StarterError {
    /// The status pipe cannot be kept.
    #[error("cannot keep the status pipe: {0}")]
    Status(io::Error),
    /// The spec does not come, or is none.
    #[error("cannot read what to run: {0}")]
    Spec(io::Error),
    /// The cgroup cannot be entered.
    #[error("cannot enter cgroup {path}: {source}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// stdin and stdout cannot be what they should.
    #[error("cannot redirect stdin and stdout: {0}")]
    Redirect(io::Error),
    /// The directory cannot be entered.
    #[error("cannot enter directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program cannot be executed.
    #[error("cannot execute {program}: {source}")]
    Execute {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the spec from stdin and becomes the hook. Returns only when that failed, after saying so
/// on the status pipe.
pub fn run() -> StarterError {
    let mut status = match fcntl_dupfd_cloexec(io::stdout(), 3) {
        Ok(status) => File::from(status),
        Err(error) => return StarterError::Status(error.into()),
    };
    let error = match prepare() {
        Ok(mut command) => StarterError::Execute {
            program: command.get_program().to_string_lossy().into_owned(),
            source: command.exec(),
        },
        Err(error) => error,
    };
    // Without the pipe there is nobody to tell.
    let _agent_gone = write!(status, "{error}");
    error
}

fn prepare() -> Result<Command, StarterError> {
    let mut text = Vec::new();
    io::stdin()
        .read_to_end(&mut text)
        .map_err(StarterError::Spec)?;
    let spec: HookSpec =
        serde_json::from_slice(&text).map_err(|error| StarterError::Spec(error.into()))?;
    Cgroup::at(spec.cgroup.clone())
        .enter()
        .map_err(|source| StarterError::Cgroup {
            path: spec.cgroup.clone(),
            source,
        })?;
    redirect().map_err(StarterError::Redirect)?;
    // Away from the agent's terminal. Only a group leader cannot, and it has no need to.
    let _leader = setsid();
    std::env::set_current_dir(&spec.cwd).map_err(|source| StarterError::Directory {
        path: spec.cwd.clone(),
        source,
    })?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.arguments).env_clear().envs(&spec.env);
    Ok(command)
}

/// stdin from nowhere, stdout to where stderr goes.
fn redirect() -> io::Result<()> {
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(io::stderr())?;
    Ok(())
}
