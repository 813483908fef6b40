//! `hotlb exec`: this process becomes a server, under whoever supervises it.
//!
//! Unlike the shim it keeps what its supervisor gave it: pid, session, standard streams, current
//! directory, environment.

use std::{
    collections::BTreeMap, ffi::OsStr, io, os::unix::process::CommandExt as _, path::Path, process,
};

pub use hotlb_core::exec::ExecSpec;

use super::shim::{ShimError, drop_privileges, open_listeners, pass_listeners, step};
use crate::sys::{cgroup::Cgroup, environment::Environment, netns, users};

/// Becomes `program`. Returns only when that failed.
pub fn become_server(
    spec: &ExecSpec,
    program: &Path,
    arguments: &[String],
    own: &BTreeMap<String, String>,
) -> ShimError {
    match prepare(spec, program, arguments, own) {
        Ok(mut command) => ShimError {
            step: format!("start {}", command.get_program().to_string_lossy()),
            source: command.exec(),
        },
        Err(error) => error,
    }
}

fn prepare(
    spec: &ExecSpec,
    program: &Path,
    arguments: &[String],
    own: &BTreeMap<String, String>,
) -> Result<process::Command, ShimError> {
    // First: sockets belong for ever to the cgroup in which they are made.
    let entered = Cgroup::at(spec.cgroup.clone()).enter();
    let gone = matches!(&entered, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let enter = if gone {
        "enter the cgroup, which is gone because the generation was stopped meanwhile; start it again"
    } else {
        "enter the cgroup"
    };
    step(enter, entered)?;
    if let Some(path) = &spec.netns {
        let enter = format!("enter the network namespace {}", path.display());
        step(&enter, netns::enter(path))?;
    }
    let listeners = open_listeners(&spec.inherit)?;
    if (users::effective_uid(), users::effective_gid()) != (spec.uid, spec.gid) {
        drop_privileges(spec.uid, spec.gid, spec.user.as_deref())?;
    }
    let mut added: Environment = spec.env.iter().chain(own).collect();
    pass_listeners(&spec.inherit, &listeners, &mut added)?;
    let mut command = process::Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_for_hotlb(name)) {
        command.env_remove(name);
    }
    command.envs(&added);
    Ok(command)
}

/// Whether a variable of the supervisor's is meant for this program, not for the server.
fn is_for_hotlb(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"HOTLB_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisor_s_environment_is_kept() {
        assert!(is_for_hotlb(OsStr::new("HOTLB_RUNTIME_DIR")));
        for kept in ["NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "PATH"] {
            assert!(!is_for_hotlb(OsStr::new(kept)), "{kept}");
        }
    }
}
