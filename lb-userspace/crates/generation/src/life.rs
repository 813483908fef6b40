//! When a generation is over.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use nix::sys::signal::Signal;
use tokio::{process::Child, time::timeout};

use crate::sys::{cgroup::Cgroup, pidfd::Pidfd, watch::Watched};

/// How long it takes at first until a cgroup is looked at without an event, and in the end.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// The process a generation began with.
#[derive(Debug)]
pub enum Main {
    /// Started by this agent, which learns how it ended.
    Child(Box<Child>),
    /// Started by an earlier agent; how it ends is not ours to know.
    Found(u32),
}

/// Waits until no process of the generation is left, and says how its first one ended. A server
/// that goes into the background ends its first process early and lives on.
pub async fn ended(main: Main, cgroup: &Cgroup) -> String {
    let how = match main {
        Main::Child(mut child) => child.wait().await.map(describe),
        Main::Found(pid) => match Pidfd::open(pid) {
            Ok(pidfd) => pidfd.ended().await.map(|()| "ended".to_owned()),
            Err(_gone) => Ok("ended".to_owned()),
        },
    };
    let how = how.unwrap_or_else(|error| format!("cannot be watched: {error}"));
    if cgroup.is_foreign() {
        leftovers_ended(cgroup).await;
    } else if let Err(error) = emptied(cgroup).await {
        tracing::warn!(%error, cgroup = %cgroup.path().display(), "failed to watch a cgroup");
    }
    how
}

/// Waits for those that are in somebody else's cgroup now. Who comes later is not of this
/// generation: its supervisor may start the next server in the same place.
async fn leftovers_ended(cgroup: &Cgroup) {
    for pid in cgroup.pids() {
        if let Ok(pidfd) = Pidfd::open(pid)
            && let Err(error) = pidfd.ended().await
        {
            tracing::warn!(%error, pid, "failed to watch a process");
        }
    }
}

/// Waits until no process is left in the cgroup.
///
/// The kernel tells of a change at once, or 10 ms after the one before (`CGROUP_FILE_NOTIFY_MIN_INTV`), and never if the
/// cgroup is removed by then. So this looks by itself, too, less and less often.
pub async fn emptied(cgroup: &Cgroup) -> io::Result<()> {
    let events = match cgroup.events_file() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => Watched::changed(result?.into())?,
    };
    let mut look = FIRST_LOOK;
    while cgroup.is_populated() {
        if let Ok(told) = timeout(look, events.next()).await {
            told?;
        }
        look = (2 * look).min(LAST_LOOK);
    }
    Ok(())
}

/// How a process ended, in the operator's words.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_unknown) => format!("was killed by signal {number}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
