//! The agent's directories, and whether an agent has them already.

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    finding::{Check, Finding},
    rights::Rights,
};
use crate::{
    config::{Places, SERVICE_NAME_LENGTH},
    sys::{
        locks,
        reach::{self, Access, Reach},
    },
};

/// The agent's directories.
#[derive(Clone, Debug)]
pub(super) struct Directories {
    runtime: Directory,
    state: Directory,
    lock: PathBuf,
    agent: Agent,
}

/// A directory and the way to it.
#[derive(Clone, Debug)]
struct Directory {
    path: PathBuf,
    reach: Reach,
}

/// Who has the runtime directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Agent {
    /// An agent runs; its pid.
    Runs(i32),
    /// Nobody, but the socket of a killed one is there.
    Left,
    /// Nobody.
    Nobody,
    /// This user may not look.
    Hidden,
}

impl Directories {
    /// Looks.
    pub(super) fn gather(places: &Places) -> Self {
        Self {
            runtime: Directory::gather(&places.runtime),
            state: Directory::gather(&places.state),
            lock: places.lock(),
            agent: Agent::gather(places),
        }
    }
}

impl Directory {
    fn gather(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            reach: reach::reach(path),
        }
    }
}

impl Agent {
    fn gather(places: &Places) -> Self {
        match locks::holder(&places.lock()) {
            // The kernel names who took the lock first; the file, whose it is after an upgrade.
            Ok(Some(pid)) => Self::Runs(signed(&places.lock()).unwrap_or(pid)),
            Ok(None) if places.socket().exists() => Self::Left,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Hidden,
            Ok(None) | Err(_) => Self::Nobody,
        }
    }
}

/// The pid in the lock file.
fn signed(lock: &Path) -> Option<i32> {
    std::fs::read_to_string(lock).ok()?.trim().parse().ok()
}

/// The verdicts.
pub(super) fn check(directories: &Directories, places: &Places, rights: &Rights) -> Vec<Finding> {
    vec![
        directory(
            "runtime directory",
            "HOTLB_RUNTIME_DIR",
            &directories.runtime,
            rights,
        ),
        sockets(places),
        directory(
            "state directory",
            "HOTLB_STATE_DIR",
            &directories.state,
            rights,
        ),
        agent(&directories.agent, &directories.lock),
    ]
}

fn directory(name: &str, variable: &str, directory: &Directory, rights: &Rights) -> Finding {
    let check = Check::needed(name, directory.path.display().to_string());
    let cost = "the agent does not start";
    let nearest = directory.reach.nearest.display();
    match &directory.reach.access {
        Access::Writable if directory.reach.exists => check.ok("there"),
        Access::Writable => check.ok(format!("would be created by the agent in {nearest}")),
        Access::ReadOnly => check.missing(
            format!("{nearest} is read-only"),
            cost,
            &format!("remount it read-write, or set {variable}"),
        ),
        Access::NotADirectory => check.missing(
            format!("{nearest} is not a directory"),
            cost,
            &format!("move it away, or set {variable}"),
        ),
        Access::Denied(reason) => check.refused(
            rights,
            &format!("{nearest}: {reason}"),
            cost,
            &format!("let root write to it, or set {variable}"),
        ),
    }
}

fn sockets(places: &Places) -> Finding {
    let check = Check::needed("socket paths", places.runtime.display().to_string());
    if let Err(error) = places.fit_sockets(&[]) {
        let cost = "the agent does not start";
        return check.missing(
            error.to_string(),
            cost,
            "set HOTLB_RUNTIME_DIR to a shorter path",
        );
    }
    let longest = places.notified_name();
    if longest >= SERVICE_NAME_LENGTH {
        return check.ok("short enough");
    }
    let length = places.runtime.as_os_str().as_bytes().len();
    let cost = match longest {
        0 => "the agent does not start with a service that has notify = true".to_owned(),
        some => format!(
            "the agent does not start with a service that has notify = true and a name longer than \
             {some} bytes"
        ),
    };
    let advice = "set HOTLB_RUNTIME_DIR to a shorter path";
    check.degraded(format!("{length} bytes are many"), &cost, advice)
}

fn agent(agent: &Agent, lock: &Path) -> Finding {
    let check = Check::optional("agent", lock.display().to_string());
    match agent {
        Agent::Runs(pid) => check.ok(format!("runs (pid {pid})")),
        Agent::Left => {
            check.ok("none runs; a killed one left its socket, the next takes its place")
        }
        Agent::Nobody => check.ok("none runs"),
        Agent::Hidden => check.unchecked("needs root, or group hotlb"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::finding::{Verdict, exit},
        *,
    };

    fn at(access: Access, exists: bool) -> Directory {
        Directory {
            path: PathBuf::from("/run/hotlb"),
            reach: Reach {
                nearest: PathBuf::from("/run"),
                exists,
                access,
            },
        }
    }

    fn judge(access: Access, rights: &Rights) -> Verdict {
        directory("x", "X", &at(access, false), rights).verdict
    }

    #[test]
    fn directories() {
        let (root, nobody) = (Rights::all(), Rights::of_nobody());
        let denied = Access::Denied("no".to_owned());
        assert_eq!(judge(Access::Writable, &root), Verdict::Ok);
        assert_eq!(judge(Access::ReadOnly, &nobody), Verdict::Missing);
        assert_eq!(judge(Access::NotADirectory, &nobody), Verdict::Missing);
        assert_eq!(judge(denied.clone(), &nobody), Verdict::Unchecked);
        assert_eq!(judge(denied, &root), Verdict::Missing);
        let made = directory("x", "X", &at(Access::Writable, false), &root);
        assert_eq!(made.found, "would be created by the agent in /run");
    }

    #[test]
    fn long_runtime_directories() {
        let finding = |length: usize| {
            let mut places = Places::from_env();
            places.runtime = PathBuf::from("x".repeat(length));
            sockets(&places)
        };
        assert_eq!(finding(48).verdict, Verdict::Ok);
        assert_eq!(finding(49).verdict, Verdict::Degraded);
        assert!(format!("{:?}", finding(49)).contains("longer than 39 bytes"));
        assert_eq!(finding(87).verdict, Verdict::Degraded);
        assert_eq!(finding(200).verdict, Verdict::Missing);
    }

    #[test]
    fn an_agent_that_cannot_be_seen_is_no_failure() {
        assert_eq!(exit(&[agent(&Agent::Hidden, Path::new("/run/hotlb"))]), 0);
        assert!(
            agent(&Agent::Runs(7), Path::new("/run/hotlb"))
                .found
                .contains('7')
        );
    }
}
