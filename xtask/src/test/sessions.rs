//! The kernel's sharing of the CPUs between sessions (autogroup), which is off while tests run.
//!
//! Each server of a test is a session of its own, and the test with its clients is one. Linux 6.18 was seen to give such a
//! server no CPU for up to five seconds beside clients that take all they can get: the virtual time of their session
//! advanced by 0.3 s in 8 s of running, as the kernel's own figures showed. Without the sharing the same clients were
//! served without a stall.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const SETTING: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Writes what was there once its input ends, which is when this process ends, however it does.
const RESTORE: &str = "read -r _; printf %s \"$1\" > \"$2\"";

/// Switched off until it is dropped.
#[derive(Debug)]
pub(super) struct Sessions {
    setting: PathBuf,
    /// Restores what was changed.
    restorer: Option<Child>,
}

impl Sessions {
    /// Switches it off if it is on and this process may.
    pub(super) fn equal() -> Self {
        Self::at(SETTING.into())
    }

    fn at(setting: PathBuf) -> Self {
        let was = fs::read_to_string(&setting).ok();
        let may = |_: &String| fs::OpenOptions::new().write(true).open(&setting).is_ok();
        let was = was.filter(|was| was.trim() != "0").filter(may);
        let restorer = was.and_then(|was| restorer(&was, &setting).ok());
        if restorer.is_some() && fs::write(&setting, "0").is_ok() {
            println!("test: {} is 0 until the tests end", setting.display());
        }
        Self { setting, restorer }
    }
}

/// In a group of its own: Ctrl-C is for whom it outlives.
fn restorer(was: &str, setting: &Path) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", RESTORE, "sh", was]).arg(setting);
    command.stdin(Stdio::piped()).process_group(0).spawn()
}

impl Drop for Sessions {
    fn drop(&mut self) {
        let Some(restorer) = &mut self.restorer else {
            return;
        };
        // `wait` closes its input.
        if !restorer.wait().is_ok_and(|status| status.success()) {
            println!("test: {} stays 0", self.setting.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_before_afterwards() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (before, meanwhile) in [("1\n", "0"), ("0\n", "0\n")] {
            fs::write(file.path(), before).unwrap();
            let sessions = Sessions::at(file.path().to_owned());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), meanwhile);
            drop(sessions);
            assert_eq!(fs::read_to_string(file.path()).unwrap(), before);
        }
        let nowhere = Sessions::at(file.path().join("none"));
        assert!(nowhere.restorer.is_none());
    }
}
