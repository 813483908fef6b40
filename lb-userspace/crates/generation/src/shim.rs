//! The child between the agent and a server: sets up what the server needs, then becomes it.
//!
//! The agent starts its own program again with this as its job, rather than running code between
//! fork and exec of a threaded process. What the shim cannot do it says on the status pipe (its
//! stdout); a pipe that closes empty means that the server runs.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    unistd::{
        Uid, dup2_stderr, dup2_stdin, dup2_stdout, initgroups, setgid, setgroups, setsid, setuid,
    },
};
use rustix::io::fcntl_dupfd_cloexec;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sys::{
    cgroup::Cgroup,
    environment::Environment,
    fifo,
    listener::{self, GroupKey},
    os_text, users,
};

/// Everything about a server's start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The cgroup it will live in.
    pub cgroup: PathBuf,
    /// The program, by its whole path.
    #[serde(with = "os_text")]
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The directory it starts in.
    #[serde(with = "os_text")]
    pub cwd: PathBuf,
    /// Its whole environment.
    pub env: Environment,
    /// Where its output ends up.
    pub output: PathBuf,
    /// The pipe it writes to; `None`: it writes the file itself.
    #[serde(default)]
    pub pipe: Option<PathBuf>,
    /// Its user, and the name for the supplementary groups.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The user's name.
    pub user: Option<String>,
    /// Listeners to open and pass on as `LISTEN_FDS`, each with its name.
    pub inherit: Vec<(String, GroupKey)>,
}

/// The step of a start that failed.
#[derive(Debug, Error)]
#[error("{step}: {source}")]
pub struct ShimError {
    pub(super) step: String,
    pub(super) source: io::Error,
}

/// Names the step that `result` is of.
pub(super) fn step<T, E: Into<io::Error>>(
    step: &str,
    result: Result<T, E>,
) -> Result<T, ShimError> {
    result.map_err(|source| ShimError {
        step: step.to_owned(),
        source: source.into(),
    })
}

/// Reads the spec from stdin and becomes the server. Returns only when that failed, after saying
/// so on the status pipe.
pub fn run() -> ShimError {
    let pipe = step(
        "keep the status pipe",
        fcntl_dupfd_cloexec(io::stdout(), STATUS_FD),
    );
    let (status, error) = match pipe {
        Ok(status) => (Some(File::from(status)), become_server()),
        Err(error) => (None, error),
    };
    if let Some(mut status) = status {
        // Without the pipe there is nobody to tell.
        let _agent_gone = write!(status, "{error}");
    }
    error
}

/// Above every descriptor the server is meant to have.
const STATUS_FD: i32 = 200;
/// The first descriptor of `LISTEN_FDS` (`sd_listen_fds`(3)).
const LISTEN_FDS_START: i32 = 3;

fn become_server() -> ShimError {
    match prepare() {
        Ok(mut command) => ShimError {
            step: format!("start {}", command.get_program().to_string_lossy()),
            source: command.exec(),
        },
        Err(error) => error,
    }
}

fn prepare() -> Result<Command, ShimError> {
    let mut text = Vec::new();
    step("read the spec", io::stdin().read_to_end(&mut text))?;
    let spec: LaunchSpec = step("read the spec", serde_json::from_slice(&text))?;
    step("enter the cgroup", Cgroup::at(spec.cgroup.clone()).enter())?;
    redirect(&spec)?;
    // Only a group leader cannot, and a child just spawned is none.
    step("start a session", setsid())?;
    let listeners = open_listeners(&spec.inherit)?;
    let enter = format!("enter {}", spec.cwd.display());
    step(&enter, std::env::set_current_dir(&spec.cwd))?;
    drop_privileges(spec.uid, spec.gid, spec.user.as_deref())?;
    let mut env = spec.env.clone();
    pass_listeners(&spec.inherit, &listeners, &mut env)?;
    let mut command = Command::new(&spec.program);
    command.args(&spec.arguments).env_clear().envs(&env);
    Ok(command)
}

/// stdin from nowhere, stdout and stderr to the pipe with a name: whoever reads it may end and
/// another one go on.
fn redirect(spec: &LaunchSpec) -> Result<(), ShimError> {
    let (path, open) = if let Some(pipe) = &spec.pipe {
        (pipe, fifo::output(pipe))
    } else {
        let open = File::options().append(true).create(true).open(&spec.output);
        (&spec.output, open)
    };
    let output = step(&format!("open {}", path.display()), open)?;
    if spec.pipe.is_some() {
        // Not close-on-exec, and out of the way: a server may have its stdout and stderr opened
        // anew, for writing only, and must not get SIGPIPE when nobody else is there to read.
        step(
            "keep the pipe",
            fcntl(&output, FcntlArg::F_DUPFD(STATUS_FD)),
        )?;
    }
    let null = step("open /dev/null", File::open("/dev/null"))?;
    step("redirect stdin", dup2_stdin(&null))?;
    step("redirect stdout", dup2_stdout(&output))?;
    step("redirect stderr", dup2_stderr(&output))
}

/// Opens the listeners a server is to inherit, above the numbers they will get.
pub(super) fn open_listeners(inherit: &[(String, GroupKey)]) -> Result<Vec<OwnedFd>, ShimError> {
    inherit
        .iter()
        .map(|(_, group_key)| {
            let listen = format!("listen on {}", group_key.address);
            let fd = step(&listen, listener::open(group_key))?;
            // Out of the way of the numbers they will get.
            step(&listen, fcntl_dupfd_cloexec(fd, STATUS_FD))
        })
        .collect()
}

/// Becomes the service's user and group.
pub(super) fn drop_privileges(uid: u32, gid: u32, user: Option<&str>) -> Result<(), ShimError> {
    if uid == 0 && gid == 0 {
        return Ok(());
    }
    let gid = users::gid(gid);
    match user.map(CString::new) {
        Some(Ok(user)) => step("set the groups", initgroups(&user, gid))?,
        _ => step("set the groups", setgroups(&[gid]))?,
    }
    step("set the group", setgid(gid))?;
    step("set the user", setuid(Uid::from_raw(uid)))
}

/// Gives the listeners the numbers from 3 on, in order, and says so in the environment.
pub(super) fn pass_listeners(
    inherit: &[(String, GroupKey)],
    listeners: &[OwnedFd],
    env: &mut Environment,
) -> Result<(), ShimError> {
    if listeners.is_empty() {
        return Ok(());
    }
    for (wanted, listener) in (LISTEN_FDS_START..).zip(listeners) {
        // Not close-on-exec: the server inherits it. It stays open on purpose.
        let duplicate = fcntl(listener.as_fd(), FcntlArg::F_DUPFD(wanted));
        if step("pass the listeners on", duplicate)? != wanted {
            let taken = io::Error::other(format!("descriptor {wanted} is taken"));
            return step("pass the listeners on", Err(taken));
        }
    }
    let names: Vec<&str> = inherit.iter().map(|(name, _)| name.as_str()).collect();
    env.set("LISTEN_FDS", listeners.len().to_string());
    env.set("LISTEN_PID", std::process::id().to_string());
    env.set("LISTEN_FDNAMES", names.join(":"));
    Ok(())
}
