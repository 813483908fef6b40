//! Control groups, version 2 (also the "unified" tree of a hybrid system).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::signal::{Signal, kill};

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The cgroup at `path`, made if it does not exist.
    ///
    /// # Errors
    ///
    /// What mkdir(2) says; EROFS or EPERM where the tree is not delegated.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The cgroup at `path`, which may not exist.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The cgroup below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// The cgroup `name` beside this one.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        Self(self.0.with_file_name(name))
    }

    /// Whether the directory exists.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// The kernel's id: what `sock_diag` and `bpf_get_current_cgroup_id` report. It is the inode
    /// number of the directory.
    pub fn id(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }

    /// The ids of this cgroup and all below it.
    pub fn ids(&self) -> Vec<u64> {
        self.subtree()
            .into_iter()
            .filter_map(|cgroup| cgroup.id().ok())
            .collect()
    }

    /// The processes in this cgroup and all below it.
    pub fn pids(&self) -> Vec<u32> {
        self.subtree()
            .into_iter()
            .filter_map(|cgroup| fs::read_to_string(cgroup.0.join("cgroup.procs")).ok())
            .flat_map(|list| {
                list.lines()
                    .filter_map(|pid| pid.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Whether any live process is in this cgroup or below it.
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// The file whose change (POLLPRI) tells that the last process left or the first one came.
    pub fn events_file(&self) -> io::Result<fs::File> {
        fs::File::open(self.0.join("cgroup.events"))
    }

    /// Moves the calling process into this cgroup.
    pub fn enter(&self) -> io::Result<()> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.0.join("cgroup.procs"))?
            .write_all(b"0")
    }

    /// Kills every process in it (SIGKILL): `cgroup.kill` from kernel 5.14, else one by one.
    pub fn kill(&self) -> io::Result<()> {
        match fs::write(self.0.join("cgroup.kill"), "1") {
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
        fs::write(self.0.join("cgroup.freeze"), "1")
    }

    /// Has frozen processes run on; nothing for those that run.
    pub fn thaw(&self) -> io::Result<()> {
        match fs::write(self.0.join("cgroup.freeze"), "0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Whether it is told to be frozen.
    pub fn is_frozen(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.freeze")).is_ok_and(|value| value.trim() == "1")
    }

    /// Has the kernel give up what it can of the memory charged here (`memory.reclaim`, kernel
    /// 5.19+, where the memory controller is on this tree).
    pub fn reclaim(&self) -> io::Result<()> {
        let charged = fs::read_to_string(self.0.join("memory.current"))?;
        match fs::write(self.0.join("memory.reclaim"), charged.trim()) {
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

    /// Removes the directory and all below it; they must hold no process.
    pub fn remove(&self) -> io::Result<()> {
        for cgroup in self.subtree().into_iter().rev() {
            match fs::remove_dir(&cgroup.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// This cgroup and all below it, parents first.
    fn subtree(&self) -> Vec<Self> {
        let mut found = vec![self.clone()];
        let mut next = 0;
        while let Some(cgroup) = found.get(next).cloned() {
            next += 1;
            let Ok(entries) = fs::read_dir(&cgroup.0) else {
                continue;
            };
            found.extend(
                entries
                    .filter_map(Result::ok)
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| Self(entry.path())),
            );
        }
        found
    }
}
