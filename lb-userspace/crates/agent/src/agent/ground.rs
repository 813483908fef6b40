//! The directories an agent stands on: made, and locked against a second agent.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::error::StartError;
use crate::{
    config::Places,
    sys::{pidfd::Pidfd, process, users},
};

/// The group whose members may read.
pub const GROUP: &str = "hotlb";

/// The mode of the state directory.
pub(super) const STATE: u32 = 0o750;

/// Longest wait for the end of an agent that was killed: until then it holds its locks and addresses.
const LAST_BREATH: Duration = Duration::from_secs(2);

pub(super) fn make_runtime(places: &Places) -> Result<(), StartError> {
    // Servers of any user reach their notify socket in it; nobody else can list it.
    make_dir(&places.runtime, 0o751)?;
    if let Some(gid) = users::gid_of(GROUP) {
        chown(&places.runtime, None, Some(gid)).map_err(place(&places.runtime))?;
    }
    Ok(())
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), StartError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(place(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(place(path))
}

/// Whether the path still leads to the open file.
pub(super) fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// The lock in the runtime directory, whose file says whose it is. An agent that was killed may end first.
pub(super) fn lock_file(path: &Path) -> Result<File, StartError> {
    let mut file = File::options()
        .create(true)
        .mode(0o600)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(place(path))?;
    let mut holder = String::new();
    // Only for the wait and the message.
    let _unreadable = file.read_to_string(&mut holder);
    let holder = holder.trim().parse::<u32>().ok();
    if let Some(pid) = holder {
        outlive(pid);
    }
    let holder = holder.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    lock(file, path.parent().unwrap_or(path), holder)
}

/// Waits for the end of a process that is ending already, as a former agent may be when somebody kills it and starts
/// the next.
fn outlive(pid: u32) {
    if process::is_ending(pid)
        && let Ok(former) = Pidfd::open(pid)
    {
        // Whoever does not end has its locks still, and the next step says so.
        let _whether = former.ended_within(LAST_BREATH);
    }
}

/// A directory that a second agent must not share: its records or pins would be overwritten.
pub(super) fn lock_dir(path: &Path) -> Result<File, StartError> {
    let dir = File::open(path).map_err(place(path))?;
    lock(dir, path, String::new())
}

fn lock(file: File, path: &Path, holder: String) -> Result<File, StartError> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_held) => Err(StartError::Locked {
            path: path.to_owned(),
            holder,
        }),
    }
}

pub(super) fn place(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Place { path, source }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A process that has the lock at `path`.
    fn holder(path: &Path) -> Child {
        let mut child = Command::new("flock")
            .arg("--no-fork")
            .arg(path)
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        fs::write(path, format!("{}\n", child.id())).unwrap();
        child
    }

    #[test]
    fn one_that_was_killed_may_end_and_one_that_lives_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.lock");
        for _ in 0..20 {
            let mut child = holder(&path);
            let refused = lock_file(&path).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("(pid {})", child.id())),
                "{refused}"
            );
            child.kill().unwrap();
            lock_file(&path).unwrap();
            child.wait().unwrap();
        }
    }
}
