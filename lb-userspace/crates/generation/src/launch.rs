//! Starting a server in a cgroup of its own.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    time::timeout,
};

use super::{loadable::LoadableError, shim::LaunchSpec};
use crate::sys::{disk, netns::Netns, reader};

/// Why a server was not started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no such program.
    #[error("command not found: {0}; give its path, or check the agent's PATH")]
    NotFound(String),
    /// The directory it is to start in.
    #[error("its directory {0} no longer exists; restore it, or deploy again from one that exists")]
    NoDirectory(PathBuf),
    /// The program may not be executed.
    #[error("{0} is not an executable file; chmod +x it, or name the interpreter")]
    NotExecutable(PathBuf),
    /// The program cannot be loaded.
    #[error(transparent)]
    NotLoadable(#[from] LoadableError),
    /// The shim failed at a step.
    #[error("the server was not started: {0}")]
    Refused(String),
    /// The system refused something that the server needs before it is started.
    #[error("cannot {doing} {}: {source}", path.display())]
    Host {
        /// "make cgroup".
        doing: &'static str,
        /// What it is about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused the child itself.
    #[error("cannot start a process: {0}")]
    Spawn(io::Error),
}

impl LaunchError {
    /// What became of `doing` something to `path`.
    pub fn at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Host {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the host, and not the program, is in the way.
    pub fn is_of_the_host(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Spawn(_))
    }
}

/// Longest time between the start of the shim and the exec of the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// The whole path of the program a command names: as a shell would find it from `cwd`.
pub fn resolve(program: &OsStr, cwd: &Path, path: Option<&OsStr>) -> Result<PathBuf, LaunchError> {
    let not_found = || LaunchError::NotFound(program.to_string_lossy().into_owned());
    if program.is_empty() {
        return Err(LaunchError::NotFound("(empty)".to_owned()));
    }
    if program.as_encoded_bytes().contains(&b'/') {
        let whole = cwd.join(program);
        return match whole.metadata() {
            Err(_missing) if !cwd.is_dir() => Err(LaunchError::NoDirectory(cwd.to_owned())),
            Err(_missing) => Err(not_found()),
            Ok(_) if is_executable(&whole) => Ok(whole),
            Ok(_) => Err(LaunchError::NotExecutable(whole)),
        };
    }
    let mut hidden = None;
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
    for dir in std::env::split_paths(path.unwrap_or_default()).chain(usual.map(PathBuf::from)) {
        let whole = cwd.join(dir).join(program);
        if is_executable(&whole) {
            return Ok(whole);
        }
        if whole.is_file() {
            hidden.get_or_insert(whole);
        }
    }
    Err(hidden.map_or_else(not_found, LaunchError::NotExecutable))
}

/// [`resolve`] for a command of the agent's own environment.
pub fn find(command: &[String], cwd: &Path) -> Result<PathBuf, LaunchError> {
    let program = command.first().map_or("", String::as_str);
    resolve(program.as_ref(), cwd, std::env::var_os("PATH").as_deref())
}

/// Whether it is a file with an exec bit.
pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Makes room for what the server will write: a directory, and no file of an earlier one of this name.
///
/// # Errors
///
/// [`LaunchError::Host`] when the disk says so, or does not respond.
pub async fn begin_output(output: &Path) -> Result<(), LaunchError> {
    let made = output.to_owned();
    let is_over = Arc::new(AtomicBool::new(false));
    let given_up = Arc::clone(&is_over);
    let making = disk::in_time(move || {
        fs::create_dir_all(made.parent().unwrap_or(&made))?;
        // By now it may be the output of another one.
        if given_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        reader::set_aside(&made)
    });
    let made = making.await.unwrap_or_else(|undone| {
        is_over.store(true, Ordering::Relaxed);
        Err(undone.into())
    });
    made.map_err(LaunchError::at("make room for the output", output))
}

/// Starts the server in the network namespace. On return it has been executed; whether it serves is another question.
///
/// # Errors
///
/// [`LaunchError::Refused`] with the step that failed, from inside the child.
pub async fn launch(spec: &LaunchSpec, netns: &Netns) -> Result<Child, LaunchError> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("__exec")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = netns.spawn(&mut command).map_err(LaunchError::Spawn)?;
    match timeout(PATIENCE, converse(&mut child, spec)).await {
        Ok(Ok(said)) if said.is_empty() => Ok(child),
        Ok(Ok(said)) => Err(LaunchError::Refused(said)),
        Ok(Err(error)) => Err(LaunchError::Spawn(error)),
        Err(_elapsed) => {
            child.start_kill().map_err(LaunchError::Spawn)?;
            let patience = PATIENCE.as_secs();
            Err(LaunchError::Refused(format!("no exec within {patience} s")))
        }
    }
}

/// Hands over the spec and hears what the shim says; nothing when it became the server.
async fn converse(child: &mut Child, spec: &LaunchSpec) -> io::Result<String> {
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    stdin.write_all(&serde_json::to_vec(spec)?).await?;
    drop(stdin);
    let mut said = String::new();
    stdout.read_to_string(&mut said).await?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_as_a_shell_would() {
        let root = Path::new("/");
        let resolve = |program: &str, cwd, path: Option<&str>| {
            resolve(program.as_ref(), cwd, path.map(OsStr::new))
        };
        assert!(
            resolve("sh", root, Some("/usr/bin:/bin"))
                .unwrap()
                .ends_with("sh")
        );
        assert!(resolve("bin/sh", root, None).unwrap().ends_with("bin/sh"));
        let missing = resolve("no-such-program", root, Some("/usr/bin"));
        assert!(matches!(missing, Err(LaunchError::NotFound(_))));
        let text = resolve("/etc/passwd", root, None);
        assert!(matches!(text, Err(LaunchError::NotExecutable(_))));
        assert!(matches!(
            resolve("/usr", root, None),
            Err(LaunchError::NotExecutable(_))
        ));
        assert!(matches!(
            resolve("", root, None),
            Err(LaunchError::NotFound(_))
        ));
    }
}
