//! Why the kernel refuses to sample, and what to do about it.

use std::{fs, io};

use super::ProfileError;

/// Bit of `CAP_PERFMON` (kernel 5.8+) and of `CAP_SYS_ADMIN` in a capability mask.
const PERFMON: u32 = 38;
const SYS_ADMIN: u32 = 21;
/// Bit of `CAP_IPC_LOCK`.
const IPC_LOCK: u32 = 14;

/// What this process and host say of themselves.
#[derive(Clone, Debug, Default)]
struct Circumstances {
    paranoid: Option<i32>,
    capabilities: u64,
    lockdown: Option<String>,
    max_rate: Option<u32>,
}

/// The error of `perf_event_open(2)` in words.
pub(super) fn explain(error: &io::Error, frequency: u32) -> ProfileError {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse().ok();
    let status = read("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let circumstances = Circumstances {
        paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        capabilities: mask
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or_default(),
        lockdown: read("/sys/kernel/security/lockdown"),
        max_rate: number("/proc/sys/kernel/perf_event_max_sample_rate")
            .and_then(|rate| u32::try_from(rate).ok()),
    };
    ProfileError::Refused(circumstances.words(error, frequency))
}

impl Circumstances {
    fn words(&self, error: &io::Error, frequency: u32) -> String {
        match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => format!(
                "it has no perf events ({error}); a kernel with CONFIG_PERF_EVENTS is needed, or \
                 the container's seccomp profile hides them: allow perf_event_open"
            ),
            Some(libc::EPERM | libc::EACCES) => self.forbidden(error),
            Some(libc::EINVAL) if self.max_rate.is_some_and(|max| frequency > max) => format!(
                "{frequency} samples a second are more than kernel.perf_event_max_sample_rate \
                 allows ({}), which the kernel lowers by itself when sampling took it too long; \
                 use a lower --frequency",
                self.max_rate.unwrap_or_default()
            ),
            Some(libc::EMFILE) => format!(
                "{error}: one descriptor for each CPU is needed; raise the agent's LimitNOFILE"
            ),
            _ => error.to_string(),
        }
    }

    fn forbidden(&self, error: &io::Error) -> String {
        let may = [PERFMON, SYS_ADMIN]
            .iter()
            .any(|bit| self.capabilities & (1 << bit) != 0);
        let lockdown = self.lockdown.as_deref().unwrap_or_default();
        let paranoid = self.paranoid.unwrap_or_default();
        if lockdown.contains("[confidentiality]") {
            format!(
                "it is locked down ({}), which forbids it ({error}); boot with lockdown=integrity \
                 or without",
                lockdown.trim()
            )
        } else if !may {
            format!(
                "the agent has neither CAP_PERFMON nor CAP_SYS_ADMIN, and \
                 kernel.perf_event_paranoid is {paranoid} ({error}); give the agent one of them \
                 (CapabilityBoundingSet= in its unit)"
            )
        } else if paranoid > 2 && self.capabilities & (1 << SYS_ADMIN) == 0 {
            format!(
                "kernel.perf_event_paranoid is {paranoid} ({error}); give the agent CAP_SYS_ADMIN, \
                 or sysctl kernel.perf_event_paranoid=2"
            )
        } else if self.capabilities & (1 << IPC_LOCK) == 0 {
            format!(
                "{error}: its ring buffers are larger than kernel.perf_event_mlock_kb allows \
                 without CAP_IPC_LOCK; give the agent that (CapabilityBoundingSet= in its unit)"
            )
        } else {
            format!(
                "{error}, although the agent may (CAP_PERFMON or CAP_SYS_ADMIN, \
                 perf_event_paranoid {paranoid}): a seccomp filter or security module forbids \
                 perf_event_open; look into its log"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(circumstances: &Circumstances, code: i32) -> String {
        circumstances.words(&io::Error::from_raw_os_error(code), 999)
    }

    #[test]
    fn each_cause_is_named() {
        let bare = Circumstances {
            paranoid: Some(2),
            ..Circumstances::default()
        };
        assert!(words(&bare, libc::EACCES).contains("CAP_PERFMON"));
        let strict = Circumstances {
            paranoid: Some(3),
            capabilities: 1 << PERFMON,
            ..Circumstances::default()
        };
        assert!(words(&strict, libc::EPERM).contains("perf_event_paranoid is 3"));
        let locked = Circumstances {
            capabilities: u64::MAX,
            lockdown: Some("none integrity [confidentiality]\n".to_owned()),
            ..Circumstances::default()
        };
        assert!(words(&locked, libc::EPERM).contains("locked down"));
        let unlocked = Circumstances {
            capabilities: 1 << PERFMON,
            ..Circumstances::default()
        };
        assert!(words(&unlocked, libc::EPERM).contains("CAP_IPC_LOCK"));
        let filtered = Circumstances {
            capabilities: u64::MAX,
            ..Circumstances::default()
        };
        assert!(words(&filtered, libc::EPERM).contains("seccomp"));
        assert!(words(&filtered, libc::ENOSYS).contains("CONFIG_PERF_EVENTS"));
        let slow = Circumstances {
            max_rate: Some(500),
            ..Circumstances::default()
        };
        assert!(words(&slow, libc::EINVAL).contains("500"));
    }
}
