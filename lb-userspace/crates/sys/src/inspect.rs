//! What /proc says about one process that hotlb did not start.

use std::{collections::BTreeMap, io, path::PathBuf};

use procfs::{ProcError, process::Process};

use super::{cgroup::Cgroup, mounts};

/// `PF_KTHREAD` (`linux/sched.h`).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A process as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot: with the pid, a name nobody else gets.
    pub started: u64,
    /// Whether it is a part of the kernel.
    pub is_kernel_thread: bool,
    /// Program and arguments, as it shows them: a process may write what it likes there.
    pub command: Vec<String>,
    /// Its current directory.
    pub cwd: PathBuf,
    /// The inode of its network namespace.
    pub netns: u64,
    /// Its cgroup (v2), as a path from the root of that tree.
    pub cgroup: PathBuf,
}

/// Looks at process `pid`; `None` if there is none, or only what is left of one.
///
/// # Errors
///
/// When /proc does not say.
pub fn inspect(pid: u32) -> io::Result<Option<Inspected>> {
    match look(pid) {
        Ok(found) => Ok(found),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn look(pid: u32) -> Result<Option<Inspected>, ProcError> {
    let Ok(raw) = i32::try_from(pid) else {
        return Ok(None);
    };
    let process = Process::new(raw)?;
    let stat = process.stat()?;
    if stat.state == 'Z' || stat.state == 'X' {
        return Ok(None);
    }
    let is_kernel_thread = stat.flags & KERNEL_THREAD != 0;
    Ok(Some(Inspected {
        pid,
        started: stat.starttime,
        is_kernel_thread,
        command: process.cmdline()?,
        cwd: if is_kernel_thread {
            PathBuf::from("/")
        } else {
            process.cwd()?
        },
        netns: netns(&process)?,
        cgroup: cgroup(&process)?,
    }))
}

/// The environment that process `pid` was started with, as far as it is UTF-8.
///
/// # Errors
///
/// When /proc does not say.
pub fn environment(pid: u32) -> io::Result<BTreeMap<String, String>> {
    let process = i32::try_from(pid).map_err(io::Error::other)?;
    let whole = Process::new(process).and_then(|process| process.environ());
    let whole = whole.map_err(io::Error::other)?.into_iter();
    let text = whole
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(text.collect())
}

fn cgroup(process: &Process) -> Result<PathBuf, ProcError> {
    let all = process.cgroups()?;
    let unified = all.into_iter().find(|group| group.hierarchy == 0);
    Ok(unified.map_or_else(|| PathBuf::from("/"), |group| group.pathname.into()))
}

fn netns(process: &Process) -> Result<u64, ProcError> {
    let all = process.namespaces()?;
    let net = all.0.get(std::ffi::OsStr::new("net"));
    Ok(net
        .map(|namespace| namespace.identifier)
        .unwrap_or_default())
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    u32::try_from(process.stat().ok()?.ppid).ok()
}

/// Whether `pid` is `ancestor`, or came from it. One whose parent ended belongs to nobody.
pub fn descends(pid: u32, ancestor: u32) -> bool {
    let mut at = Some(pid);
    while let Some(pid) = at.filter(|&pid| pid > 1) {
        if pid == ancestor {
            return true;
        }
        at = parent(pid);
    }
    false
}

impl Inspected {
    /// Its cgroup's directory; `None` for the root of the tree, and for one that cannot be named
    /// from here (another cgroup namespace).
    ///
    /// # Errors
    ///
    /// When no cgroup2 is mounted.
    pub fn cgroup_dir(&self) -> io::Result<Option<Cgroup>> {
        let below = self.cgroup.strip_prefix("/").unwrap_or(&self.cgroup);
        let outside = below.components().any(|part| part.as_os_str() == "..");
        if below.as_os_str().is_empty() || outside {
            return Ok(None);
        }
        let root = mounts::cgroup2().map_err(io::Error::other)?;
        Ok(Some(Cgroup::foreign(root.join(below))))
    }

    /// The system's systemd service it belongs to, by the name of its cgroup.
    pub fn unit(&self) -> Option<String> {
        let names: Vec<&str> = self
            .cgroup
            .iter()
            .filter_map(|part| part.to_str())
            .collect();
        if names.iter().any(|name| name.starts_with("user@")) {
            return None; // a user's own systemd has it
        }
        names
            .into_iter()
            .rev()
            .take_while(|name| kind(name) != "slice")
            .find(|name| kind(name) == "service")
            .map(str::to_owned)
    }
}

/// What systemd calls the type of a unit.
fn kind(unit: &str) -> &str {
    unit.rsplit_once('.').map_or("", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_itself_and_its_child() {
        let own = inspect(std::process::id()).unwrap().unwrap();
        assert_eq!(own.netns, crate::netns::Netns::own().inode().unwrap());
        assert!(!own.is_kernel_thread && own.started > 0);
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(descends(child.id(), own.pid));
        assert!(!descends(own.pid, child.id()));
        assert_eq!(parent(child.id()), Some(own.pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(inspect(child.id()).unwrap(), None);
    }

    #[test]
    fn the_unit_is_the_innermost_service_of_the_slice() {
        let unit = |cgroup: &str| {
            Inspected {
                pid: 1,
                started: 1,
                is_kernel_thread: false,
                command: Vec::new(),
                cwd: PathBuf::from("/"),
                netns: 1,
                cgroup: cgroup.into(),
            }
            .unit()
        };
        assert_eq!(
            unit("/system.slice/nginx.service").as_deref(),
            Some("nginx.service")
        );
        assert_eq!(
            unit("/system.slice/system-web.slice/web@gen1.service/hotlb-1-gen1").as_deref(),
            Some("web@gen1.service")
        );
        assert_eq!(unit("/user.slice/user-1000.slice/session-3.scope"), None);
        assert_eq!(unit("/"), None);
    }
}
