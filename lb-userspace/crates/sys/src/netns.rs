//! Network namespaces: this process's own, others, and how this process came into its own.
//!
//! A socket belongs for ever to the namespace of the thread that made it, and a process begins in
//! that of the thread that started it. So what is to be in another namespace is made there, by a
//! thread that does nothing else and never comes back; the threads of the runtime stay where they
//! are.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns};
use procfs::process::Process;
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use super::plain::option;

/// `uapi/asm-generic/socket.h`
const SO_NETNS_COOKIE: i32 = 71;

/// A network namespace.
#[derive(Clone, Debug, Default)]
pub struct Netns(Option<Arc<Other>>);

/// One that this process is not in. The open file keeps it, whatever becomes of its name.
#[derive(Debug)]
struct Other {
    path: PathBuf,
    file: File,
    inode: u64,
}

impl Netns {
    /// The one this process is in.
    pub const fn own() -> Self {
        Self(None)
    }

    /// The one that `path` stands for: a file in /run/netns, or /proc/PID/ns/net.
    ///
    /// # Errors
    ///
    /// When there is no such file, it is something else, or it may not be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        if inode == own_inode()? {
            return Ok(Self::own());
        }
        let other = Self(Some(Arc::new(Other {
            path: path.to_owned(),
            file,
            inode,
        })));
        other.inside(|| ()).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => io::Error::new(
                error.kind(),
                "it is not a network namespace (a file that is left of one that is gone?)",
            ),
            _ => error,
        })?;
        Ok(other)
    }

    /// The one that process `pid` is in.
    ///
    /// # Errors
    ///
    /// As [`Netns::open`].
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// The namespace's inode, by which the kernel tells it from others.
    ///
    /// # Errors
    ///
    /// When /proc does not say.
    pub fn inode(&self) -> io::Result<u64> {
        self.0
            .as_ref()
            .map_or_else(own_inode, |other| Ok(other.inode))
    }

    /// The kernel's number for it, which no other one ever has; kernel 5.14+.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered, or the kernel does not say.
    pub fn cookie(&self) -> io::Result<u64> {
        let socket = self.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let mut cookie = [0; size_of::<u64>()];
        option(&socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie)?;
        Ok(u64::from_ne_bytes(cookie))
    }

    /// The file it was opened by; `None` for this process's own.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|other| other.path.as_path())
    }

    /// Does `work` in the namespace: what it makes stays there.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Some(other) = &self.0 else {
            return Ok(work());
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".to_owned());
            let thread = thread.spawn_scoped(scope, || {
                setns(&other.file, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
            thread
                .join()
                .map_err(|_panic| io::Error::other("the thread in the namespace panicked"))?
        })
    }

    /// Starts a process in the namespace.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered, or as [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        if self.0.is_none() {
            return command.spawn();
        }
        let runtime = Handle::current();
        self.inside(|| {
            let _entered = runtime.enter();
            command.spawn()
        })?
    }
}

/// Has this thread, and what it becomes by exec, be in the namespace that `path` stands for.
///
/// # Errors
///
/// As [`Netns::open`].
pub fn enter(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.ino() != own_inode()? {
        setns(file, CloneFlags::CLONE_NEWNET)?;
    }
    Ok(())
}

/// The inode of the namespace this thread is in.
fn own_inode() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

/// The namespace's name if this process runs below `ip netns exec NAME`. That command puts a
/// fresh /sys over the host's and so hides what is mounted below it: cgroup2 and bpffs.
pub fn entered_by_ip() -> Option<String> {
    let mounts = Process::myself()
        .and_then(|myself| myself.mountinfo())
        .ok()?;
    // The last one mounted there is the one that is seen.
    let sys = mounts
        .0
        .into_iter()
        .rfind(|mount| mount.mount_point == Path::new("/sys"))?;
    // iproute2 gives the mount the namespace's name as its source.
    let source = sys.mount_source.filter(|_| sys.fs_type == "sysfs")?;
    let known = |directory: &str| Path::new(directory).join(&source).exists();
    let is_netns = !source.contains('/') && (known("/run/netns") || known("/var/run/netns"));
    is_netns.then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_is_not_another() {
        let own = Netns::of_process(std::process::id()).unwrap();
        assert_eq!(own.path(), None);
        assert_eq!(own.inode().unwrap(), Netns::own().inode().unwrap());
        assert_eq!(own.inside(|| 7).unwrap(), 7);
    }

    #[test]
    fn what_is_no_namespace_is_refused() {
        let missing = Netns::open(Path::new("/run/netns/no-such-namespace")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let other = Netns::open(Path::new("/etc/passwd"))
            .unwrap_err()
            .to_string();
        assert!(other.contains("not a network namespace"), "{other}");
    }
}
