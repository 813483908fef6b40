//! systemd services, found by their cgroups; systemd itself is asked only for what they do not
//! say.

use std::{path::Path, process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use thiserror::Error;
use tokio::{process::Command, time::timeout};

use super::adoptee::describe;
use crate::sys::{
    cgroup::Cgroup,
    inspect,
    mounts::{self, MountError},
};

/// Longest wait for systemctl to say something, or to start a service.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a service cannot be found or started.
#[derive(Debug, Error)]
pub enum UnitError {
    /// No cgroup has its name.
    #[error("unit {0} is not running; see `systemctl status {0}`")]
    NotRunning(String),
    /// Several cgroups have its name, or it has several first processes.
    #[error("{unit} has no single main process: {found}; name the server's process with --pid")]
    Ambiguous {
        /// The service.
        unit: String,
        /// What there is.
        found: String,
    },
    /// systemctl did not do it.
    #[error("systemctl {verb} {unit}: {said}")]
    Systemctl {
        /// What it was to do.
        verb: &'static str,
        /// The service.
        unit: String,
        /// Its last words.
        said: String,
    },
    /// There is no cgroup2.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// The whole name of a service: ".service" may be left out, as for systemctl.
pub fn whole_name(unit: &str) -> String {
    if unit.ends_with(".service") {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    }
}

/// The main process of a running service. A container's service of the same name is another one: those in the network
/// namespace `netns` are meant, unless there is none there.
///
/// # Errors
///
/// When there is none, or more than one and systemd does not say which.
pub async fn main_pid(unit: &str, netns: u64) -> Result<u32, UnitError> {
    let root = Cgroup::foreign(mounts::cgroup2()?);
    let is_its = |cgroup: &Cgroup| {
        let path = cgroup.path();
        let of_a_user = path
            .iter()
            .any(|part| part.to_string_lossy().starts_with("user@"));
        path.file_name().is_some_and(|name| name == unit) && !of_a_user
    };
    let mut tops: Vec<u32> = root
        .subtree()
        .iter()
        .filter(|cgroup| is_its(cgroup))
        .flat_map(first_processes)
        .collect();
    let is_here = |&pid: &u32| {
        let inspected = inspect::inspect(pid).ok().flatten();
        inspected.is_some_and(|process| process.netns == netns)
    };
    if tops.iter().any(is_here) {
        tops.retain(is_here);
    }
    match tops.as_slice() {
        [] => Err(UnitError::NotRunning(unit.to_owned())),
        &[main] => Ok(main),
        several => match asked(unit).await {
            Some(main) if several.contains(&main) => Ok(main),
            _ => Err(UnitError::Ambiguous {
                unit: unit.to_owned(),
                found: several
                    .iter()
                    .map(|&pid| describe(pid))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        },
    }
}

/// The processes of a cgroup whose parents are not in it.
pub fn first_processes(cgroup: &Cgroup) -> Vec<u32> {
    let pids = cgroup.pids();
    let is_first = |pid: &u32| !inspect::parent(*pid).is_some_and(|parent| pids.contains(&parent));
    pids.iter().copied().filter(is_first).collect()
}

async fn asked(unit: &str) -> Option<u32> {
    let said = systemctl("show", &["--property=MainPID", "--value"], unit)
        .await
        .ok()?;
    said.trim().parse().ok()
}

/// The signal that stops a service, where that is another than the usual one: that of its
/// `ExecStop=`, as far as this only sends one, or its `KillSignal=`. Nothing of a service of the same name in another
/// cgroup than `below`, where the server is: that is a container's, or the host's.
pub async fn stop_signal(unit: &str, below: Option<&Path>) -> Option<Signal> {
    if !systemd_runs() {
        return None;
    }
    let properties = [
        "--property=KillSignal",
        "--property=ExecStop",
        "--property=ControlGroup",
    ];
    match systemctl("show", &properties, unit).await {
        Ok(said) => told_by(&said, below),
        Err(error) => {
            tracing::debug!(%error, "failed to find out which signal stops a unit");
            None
        }
    }
}

/// From what `systemctl show` says.
fn told_by(shown: &str, below: Option<&Path>) -> Option<Signal> {
    let property = |name: &str| {
        let mut lines = shown.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    if below
        .is_some_and(|cgroup| !property("ControlGroup").is_some_and(|of| cgroup.starts_with(of)))
    {
        return None;
    }
    let killed = || {
        let number = property("KillSignal")?.trim().parse::<i32>().ok()?;
        Signal::try_from(number).ok()
    };
    let sent = property("ExecStop").and_then(sent_by);
    sent.or_else(killed)
        .filter(|&signal| signal != Signal::SIGTERM)
}

/// The signal that a command of `ExecStop=` sends, if it is kill(1) or start-stop-daemon(8).
fn sent_by(command: &str) -> Option<Signal> {
    let line = command.split("argv[]=").nth(1)?.split(" ; ").next()?;
    let mut words = line.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    if program != "kill" && program != "start-stop-daemon" {
        return None;
    }
    let words: Vec<&str> = words.collect();
    let after = |option: &str| {
        let at = words.iter().position(|&word| word == option)?;
        words.get(at + 1).copied()
    };
    let attached = || words.iter().find_map(|word| word.strip_prefix("--signal="));
    // Its first entry: "QUIT/5" is a signal, and how long is waited for what follows.
    let retried = || after("--retry")?.split('/').next();
    let short = || words.first().and_then(|word| word.strip_prefix('-'));
    let name = after("-s")
        .or_else(|| after("--signal"))
        .or_else(attached)
        .or_else(retried)
        .or_else(short)?;
    named(name)
}

/// By name, with or without SIG, or by number.
fn named(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).ok();
    }
    let bare = text.strip_prefix("SIG").unwrap_or(text);
    format!("SIG{bare}").parse().ok()
}

/// Whether systemd runs this host (`sd_booted`(3)).
pub fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Starts a service.
///
/// # Errors
///
/// [`UnitError::Systemctl`] with what systemctl said.
pub async fn start(unit: &str) -> Result<(), UnitError> {
    systemctl("start", &[], unit).await.map(drop)
}

async fn systemctl(verb: &'static str, options: &[&str], unit: &str) -> Result<String, UnitError> {
    let failed = |said: String| UnitError::Systemctl {
        verb,
        unit: unit.to_owned(),
        said,
    };
    if !systemd_runs() {
        return Err(failed("systemd is not running".to_owned()));
    }
    let running = Command::new("systemctl")
        .arg(verb)
        .args(options)
        .args(["--", unit])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(PATIENCE, running).await {
        Ok(Ok(done)) if done.status.success() => {
            Ok(String::from_utf8_lossy(&done.stdout).into_owned())
        }
        Ok(Ok(done)) => Err(failed(
            String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        )),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_elapsed) => Err(failed(format!("no end within {} s", PATIENCE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_how_it_is_stopped() {
        let stop = |line: &str| {
            format!("KillSignal=15\nExecStop={{ path=/x ; argv[]={line} ; ignore_errors=no ; }}\n")
        };
        let nginx =
            "/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile /run/nginx.pid";
        assert_eq!(told_by(&stop(nginx), None), Some(Signal::SIGQUIT));
        assert_eq!(
            told_by(&stop("/bin/kill -s USR1 $MAINPID"), None),
            Some(Signal::SIGUSR1)
        );
        assert_eq!(
            told_by(&stop("/bin/kill -SIGWINCH ${MAINPID}"), None),
            Some(Signal::SIGWINCH)
        );
        assert_eq!(
            told_by(&stop("/bin/kill -3 1"), None),
            Some(Signal::SIGQUIT)
        );
        assert_eq!(told_by(&stop("/bin/kill $MAINPID"), None), None);
        assert_eq!(
            told_by(&stop("/usr/sbin/apachectl graceful-stop"), None),
            None
        );
        assert_eq!(told_by("KillSignal=2\n", None), Some(Signal::SIGINT));
        assert_eq!(told_by("KillSignal=15\nExecStop=\n", None), None);
        assert_eq!(told_by("", None), None);
        let of_the_host = "KillSignal=2\nControlGroup=/system.slice/nginx.service\n";
        let told = |cgroup: &str| told_by(of_the_host, Some(Path::new(cgroup)));
        let signal = Some(Signal::SIGINT);
        assert_eq!(told("/system.slice/nginx.service/workers"), signal);
        assert_eq!(
            told("/machine.slice/a.scope/system.slice/nginx.service"),
            None
        );
    }

    #[tokio::test]
    async fn a_service_that_does_not_run_is_named() {
        assert_eq!(whole_name("nginx"), "nginx.service");
        assert_eq!(whole_name("web@gen1.service"), "web@gen1.service");
        let error = main_pid("no-such-unit.service", 0).await.unwrap_err();
        assert!(
            error.to_string().contains("no-such-unit.service"),
            "{error}"
        );
    }
}
