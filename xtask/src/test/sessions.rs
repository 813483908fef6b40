//! The kernel's sharing of the CPUs between sessions (autogroup), which is off while tests run.
//!
//! Each server of a test is a session of its own, and the test with its clients is one. Linux 6.18 was seen to give such a
//! server no CPU for up to five seconds beside clients that take all they can get: the virtual time of their session
//! advanced by 0.3 s in 8 s of running, as the kernel's own figures showed. Without the sharing the same clients were
//! served without a stall.

use std::{fs, path::PathBuf};

const SETTING: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Switched off until it is dropped.
#[derive(Debug)]
pub(super) struct Sessions {
    setting: PathBuf,
    /// What was there, if it was changed.
    was: Option<String>,
}

impl Sessions {
    /// Switches it off if it is on and this process may.
    pub(super) fn equal() -> Self {
        Self::at(SETTING.into())
    }

    fn at(setting: PathBuf) -> Self {
        let was = fs::read_to_string(&setting).ok();
        let was = was.filter(|was| was.trim() != "0");
        let was = was.filter(|_| fs::write(&setting, "0").is_ok());
        if was.is_some() {
            println!("test: {} is 0 until the tests end", setting.display());
        }
        Self { setting, was }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(was) = &self.was
            && let Err(error) = fs::write(&self.setting, was)
        {
            println!(
                "test: {} stays 0, it was {was}: {error}",
                self.setting.display()
            );
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
        assert_eq!(nowhere.was, None);
    }
}
