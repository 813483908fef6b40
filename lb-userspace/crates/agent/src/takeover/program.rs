//! Which program takes over, and its process.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::channel::Channel;
use crate::agent::UpgradeError;
use crate::{
    config::{LogConfig, LogFormat},
    generation::launch,
    sys::packets,
};

/// How this agent was started; its successor is started the same way.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The path it was started by, symbolic links unresolved: a package upgrade may lead them, or
    /// the path itself, to another file.
    pub program: PathBuf,
    /// Whether it logs JSON.
    pub log_json: bool,
}

impl Origin {
    /// How this process was started.
    pub fn of_this_process(log_json: bool) -> Self {
        let own = env::current_exe().unwrap_or_else(|_unknown| PathBuf::from("/proc/self/exe"));
        let typed = env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let typed = whole(&typed).filter(|path| is_same_file(path, Path::new("/proc/self/exe")));
        Self {
            program: typed.unwrap_or(own),
            log_json,
        }
    }
}

impl Origin {
    /// How it logs: its command line goes before the configuration.
    pub fn logs(&self, config: &LogConfig) -> LogConfig {
        let mut config = config.clone();
        if self.log_json {
            config.format = LogFormat::Json;
        }
        config
    }
}

/// The whole path of a program as it was typed.
fn whole(typed: &Path) -> Option<PathBuf> {
    let cwd = env::current_dir().ok()?;
    launch::resolve(typed.as_os_str(), &cwd, env::var_os("PATH").as_deref()).ok()
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let place = |path| fs::metadata(path).map(|file: fs::Metadata| (file.dev(), file.ino()));
    place(a)
        .and_then(|a| Ok(a == place(b)?))
        .is_ok_and(|same| same)
}

/// How long a process that was killed, or has ended, may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// The successor's process, and the line to it. It is killed when this is dropped before
/// [`Successor::let_go`].
#[derive(Debug)]
pub(super) struct Successor {
    path: PathBuf,
    child: Child,
    is_ours: bool,
    /// The line to it.
    pub(super) channel: Channel,
}

impl Successor {
    /// Starts `path` with this process's own environment, working directory and log.
    pub(super) fn start(path: PathBuf, origin: &Origin) -> Result<Self, UpgradeError> {
        let started = spawn(&path, origin);
        match started {
            Ok((child, channel)) => Ok(Self {
                path,
                child,
                is_ours: true,
                channel,
            }),
            Err(source) => Err(UpgradeError::NotStarted { path, source }),
        }
    }

    /// The program.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// It lives on without this process.
    pub(super) fn let_go(&mut self) {
        self.is_ours = false;
    }

    /// Kills it, unless it has ended, and waits until it is gone. Says how it ended.
    pub(super) async fn end(&mut self) -> String {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status.to_string();
        }
        // It may end just now.
        let _gone = self.child.start_kill();
        match timeout(GONE, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "it does not end".to_owned(),
        }
    }

    /// How it ended, if it does so now.
    pub(super) async fn ended(&mut self) -> Option<String> {
        let status = timeout(GONE, self.child.wait()).await.ok()?;
        status.ok().map(|status| status.to_string())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.is_ours {
            // It has ended already.
            let _gone = self.child.start_kill();
        }
    }
}

fn spawn(path: &Path, origin: &Origin) -> io::Result<(Child, Channel)> {
    let (here, there) = packets::pair()?;
    let mut command = Command::new(path);
    command.args(["agent", "--take-over"]);
    if origin.log_json {
        command.arg("--log-json");
    }
    let child = command.stdin(Stdio::from(there)).spawn()?;
    Ok((child, Channel::new(here)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_knows_its_program() {
        let origin = Origin::of_this_process(false);
        assert!(is_same_file(&origin.program, Path::new("/proc/self/exe")));
        assert!(origin.program.is_absolute());
    }
}
