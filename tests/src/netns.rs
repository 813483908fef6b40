//! A network namespace of the test's own: made with `ip netns`, removed on drop with everything that runs in it.
//!
//! Processes enter it with `nsenter --net=`, never with `ip netns exec`, which hides bpffs and cgroup2 behind a fresh
//! `/sys`.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{command, report, stale, turn::Turn, wait};

/// What the name of every namespace (and cgroup, and pin directory) of the tests begins with; the pid of the test
/// process and a number follow.
pub const PREFIX: &str = "hotlb-test-";

/// How long `ip` may take.
const IP_LIMIT: Duration = Duration::from_secs(10);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network namespace with loopback up.
#[derive(Debug)]
pub struct Netns {
    name: String,
    turn: Turn,
}

impl Netns {
    /// Waits for the test's turn and makes a namespace.
    pub fn new() -> Result<Self> {
        let turn = Turn::take()?;
        stale::sweep();
        Self::with_turn(turn)
    }

    /// Makes a second namespace for the same test.
    pub fn sibling(&self) -> Result<Self> {
        Self::with_turn(self.turn.clone())
    }

    fn with_turn(turn: Turn) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let netns = Self {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
            turn,
        };
        ip(&["netns", "add", &netns.name])?;
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The name, unique on this machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs `program` in the namespace. The process keeps its pid: `nsenter` becomes the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `work` on a thread inside the namespace and waits for it. Sockets made there stay in the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&path).map(|()| work()));
            thread
                .join()
                .map_err(|panic| anyhow!("a thread in the namespace panicked: {panic:?}"))?
        })
    }

    /// Starts `work` on a thread inside the namespace.
    pub fn spawn<T, F>(&self, name: &str, work: F) -> Result<JoinHandle<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let path = self.path();
        let thread = std::thread::Builder::new().name(name.to_owned());
        Ok(thread.spawn(move || enter(&path).and_then(|()| work()))?)
    }

    /// Sets a sysctl of the namespace, such as `net/ipv4/tcp_migrate_req`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| std::fs::write(&path, value))?
            .with_context(|| format!("sysctl {key}={value}"))
    }

    /// The processes that live in the namespace.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        pids(&self.name)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            report::remark(format!("cannot remove namespace {}: {error:#}", self.name));
        }
    }
}

/// Ends all processes of the namespace `name` and removes it.
pub(crate) fn remove(name: &str) -> Result<()> {
    wait::until_true(
        "processes of the namespace end",
        Duration::from_secs(5),
        || {
            let pids = pids(name).unwrap_or_default();
            for pid in &pids {
                if let Err(errno) = kill(*pid, Signal::SIGKILL)
                    && errno != Errno::ESRCH
                {
                    report::remark(format!("cannot kill {pid}: {errno}"));
                }
            }
            pids.is_empty()
        },
    )?;
    ip(&["netns", "del", name])
}

fn pids(name: &str) -> Result<Vec<Pid>> {
    let mut listing = Command::new("ip");
    listing.args(["netns", "pids", name]);
    let listing = command::run(&mut listing, IP_LIMIT)?.expect_success()?;
    let own = Pid::this();
    Ok(listing
        .stdout
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| *pid != own)
        .collect())
}

fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter {}", path.display()))
}

/// Runs `ip` with these arguments.
pub fn ip(arguments: &[&str]) -> Result<()> {
    let mut ip = Command::new("ip");
    ip.args(arguments);
    command::run(&mut ip, IP_LIMIT)?.expect_success().map(drop)
}
