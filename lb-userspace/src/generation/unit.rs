//! systemd services, found by their cgroups; systemd itself is asked only for what they do not
//! say.

use std::{path::Path, process::Stdio, time::Duration};

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
    #[error("no service {0} runs here; `systemctl status {0}` says more")]
    NotRunning(String),
    /// Several cgroups have its name, or it has several first processes.
    #[error("{unit} has no one main process: {found}; name the server's with --pid")]
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

/// The main process of a running service.
///
/// # Errors
///
/// When there is none, or more than one and systemd does not say which.
pub async fn main_pid(unit: &str) -> Result<u32, UnitError> {
    let root = Cgroup::foreign(mounts::cgroup2()?);
    let is_its = |cgroup: &Cgroup| {
        let path = cgroup.path();
        let of_a_user = path
            .iter()
            .any(|part| part.to_string_lossy().starts_with("user@"));
        path.file_name().is_some_and(|name| name == unit) && !of_a_user
    };
    let tops: Vec<u32> = root
        .subtree()
        .iter()
        .filter(|cgroup| is_its(cgroup))
        .flat_map(first_processes)
        .collect();
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
        return Err(failed("systemd does not run here".to_owned()));
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

    #[tokio::test]
    async fn a_service_that_does_not_run_is_named() {
        assert_eq!(whole_name("nginx"), "nginx.service");
        assert_eq!(whole_name("web@gen1.service"), "web@gen1.service");
        let error = main_pid("no-such-unit.service").await.unwrap_err();
        assert!(
            error.to_string().contains("no-such-unit.service"),
            "{error}"
        );
    }
}
