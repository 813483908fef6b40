//! Control groups, version 2 (also the "unified" tree of a hybrid system).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::{Signal, kill};

use super::cgroup_limits::{self, LimitMet};

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    /// Made by somebody else, who removes it too.
    foreign: bool,
}

impl Cgroup {
    /// The cgroup at `path`, made if it does not exist.
    ///
    /// # Errors
    ///
    /// What mkdir(2) says; EROFS or EPERM where the tree is not delegated. Where a limit of the
    /// tree is met, which one.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self::at(path)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(match cgroup_limits::met(&path) {
                    Some(LimitMet { file, limit }) => io::Error::new(
                        error.kind(),
                        format!("{} is {limit}; raise it", file.display()),
                    ),
                    None => error,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The cgroup at `path`, which may not exist.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            foreign: false,
        }
    }

    /// The cgroup at `path`, which is somebody else's: it is never removed.
    pub fn foreign(path: PathBuf) -> Self {
        Self {
            path,
            foreign: true,
        }
    }

    /// Whether it is somebody else's.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    /// The cgroup `name` beside this one.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        Self::at(self.path.with_file_name(name))
    }

    /// Whether the directory exists.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The kernel's id: what `sock_diag` and `bpf_get_current_cgroup_id` report. It is the inode
    /// number of the directory.
    pub fn id(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    /// The ids of this cgroup and all below it.
    pub fn ids(&self) -> Vec<u64> {
        self.subtree()
            .into_iter()
            .filter_map(|cgroup| cgroup.id().ok())
            .collect()
    }

    /// The processes in this cgroup itself, not those below it.
    pub fn own_pids(&self) -> Vec<u32> {
        fs::read_to_string(self.path.join("cgroup.procs"))
            .map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect())
            .unwrap_or_default()
    }

    /// The processes in this cgroup and all below it.
    pub fn pids(&self) -> Vec<u32> {
        self.subtree()
            .into_iter()
            .flat_map(|cgroup| cgroup.own_pids())
            .collect()
    }

    /// CPU time that all its processes have used; cgroup2 counts it without a controller.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        let used = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))?;
        used.trim().parse().ok().map(Duration::from_micros)
    }

    /// Whether any live process is in this cgroup or below it.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// The file whose change (POLLPRI) tells that the last process left or the first one came.
    pub fn events_file(&self) -> io::Result<fs::File> {
        fs::File::open(self.path.join("cgroup.events"))
    }

    /// Moves the calling process into this cgroup.
    pub fn enter(&self) -> io::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.procs"))?
            .write_all(b"0")
    }

    /// Kills every process in it (SIGKILL): `cgroup.kill` from kernel 5.14, else one by one.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.exists() => {
                self.signal(Signal::SIGKILL);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Stops every process in it where it is (`cgroup.freeze`, kernel 5.2+). The kernel says in
    /// `cgroup.events` when all have.
    ///
    /// # Errors
    ///
    /// ENOENT where the kernel or the tree has no freezer.
    pub fn freeze(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.freeze"), "1")
    }

    /// Has frozen processes run on; nothing for those that run.
    pub fn thaw(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.freeze"), "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Whether it is told to be frozen.
    pub fn is_frozen(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.freeze")).is_ok_and(|value| value.trim() == "1")
    }

    /// Has the kernel give up what it can of the memory charged here (`memory.reclaim`, kernel
    /// 5.19+, where the memory controller is on this tree).
    pub fn reclaim(&self) -> io::Result<()> {
        let charged = fs::read_to_string(self.path.join("memory.current"))?;
        match fs::write(self.path.join("memory.reclaim"), charged.trim()) {
            // It gave up some, if not all.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    /// Signals every process in it; those that ended meanwhile are passed over.
    pub fn signal(&self, signal: Signal) {
        for pid in self.pids() {
            if let Ok(pid) = i32::try_from(pid) {
                let _gone = kill(nix::unistd::Pid::from_raw(pid), signal);
            }
        }
    }

    /// Removes the directory and all below it; they must hold no process. One that is somebody
    /// else's stays.
    pub fn remove(&self) -> io::Result<()> {
        if self.foreign {
            return Ok(());
        }
        for cgroup in self.subtree().into_iter().rev() {
            match fs::remove_dir(&cgroup.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// This cgroup and all below it, parents first.
    pub fn subtree(&self) -> Vec<Self> {
        let mut found = vec![self.clone()];
        let mut next = 0;
        while let Some(cgroup) = found.get(next).cloned() {
            next += 1;
            let Ok(entries) = fs::read_dir(&cgroup.path) else {
                continue;
            };
            found.extend(
                entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| Self::at(entry.path())),
            );
        }
        found
    }
}
