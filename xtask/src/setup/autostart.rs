//! Debian starts a server when its package is installed. The tests start their own, and a machine
//! must not begin to serve a default page because somebody ran `cargo xtask setup`.

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Debian's packages ask this script before they start a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSE: &str = "#!/bin/sh\nexit 101\n";
/// The server among the packages, and where Debian's service has it write its process id.
const SERVER: &str = "nginx";
const PID_FILE: &str = "/run/nginx.pid";
/// There when systemd will start that service at the next boot.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/nginx.service";
/// There when systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";
/// How long a server may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// While it lives, packages start nothing.
#[derive(Debug)]
pub(super) struct Autostart {
    /// Whether the script is ours, and not the machine's own.
    ours: bool,
    /// The server that ran as a service before.
    before: Option<i32>,
    /// Whether it was to start at boot before.
    enabled_before: bool,
}

impl Autostart {
    /// Has Debian's packages start nothing from now on.
    pub(super) fn prevent() -> Result<Self> {
        let before = service(Path::new(PID_FILE), SERVER);
        let ours = !Path::new(POLICY).exists();
        if ours {
            write_executable(Path::new(POLICY), REFUSE).context(POLICY)?;
        }
        Ok(Self {
            ours,
            before,
            enabled_before: Path::new(ENABLED).exists(),
        })
    }

    /// Ends the ban, and the service if it began in spite of it: a machine may have a script of
    /// its own that says yes.
    pub(super) fn end(self) -> Result<()> {
        let now = service(Path::new(PID_FILE), SERVER);
        if let Some(pid) = now.filter(|_| now != self.before) {
            println!("setup: the installation started {SERVER} (pid {pid}); stopping it");
            stop(pid).with_context(|| format!("{SERVER}, pid {pid}"))?;
        }
        let enabled = !self.enabled_before && Path::new(ENABLED).exists();
        if enabled && Path::new(SYSTEMD).exists() {
            println!(
                "setup: {SERVER} will start at the next boot; `systemctl disable {SERVER}` prevents it"
            );
        }
        Ok(())
    }
}

impl Drop for Autostart {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("setup: {POLICY}: {error}; remove it, or no service starts any more");
        }
    }
}

fn write_executable(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path)?;
    io::Write::write_all(&mut file, content.as_bytes())
}

/// The process that `pid_file` names, if it is there and its program is called `name`.
fn service(pid_file: &Path, name: &str) -> Option<i32> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let called = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (called.trim() == name).then_some(pid)
}

/// Ends the process `pid` and waits until it is gone. One that is gone already is fine.
fn stop(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no pid")?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        opened => opened?,
    };
    match pidfd_send_signal(&process, Signal::TERM) {
        Err(Errno::SRCH) => return Ok(()),
        sent => sent?,
    }
    let patience = Timespec::try_from(PATIENCE)?;
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience))?;
    if ended == 0 {
        bail!("still there {} seconds after SIGTERM", PATIENCE.as_secs());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_service_is_found_by_its_pid_file_and_stopped() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("sleep.pid");
        fs::write(&pid_file, format!("{pid}\n")).unwrap();
        assert_eq!(service(&pid_file, "sleep"), Some(pid));
        assert_eq!(service(&pid_file, "nginx"), None);
        stop(pid).unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(service(&pid_file, "sleep"), None);
        stop(pid).unwrap();
    }
}
