//! nginx by its own means: reload, another number of workers, another binary; and stopped and started.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use hotlb::sys::{
    netns::Netns,
    sock_diag::{self, Protocol},
};
use hotlb_tests::{host::Host, process::Process, servers::Nginx, wait, waiting::Waiting};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ADDRESS, LIMIT, Site, TARGET};

/// How it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Reload,
    Workers,
    Binary,
    Again,
}

struct Server {
    /// The master, or who started it in the background.
    master: Process,
    host: Host,
    means: Means,
}

pub(super) fn reload() -> Result<Box<dyn Site>> {
    start(Means::Reload)
}

pub(super) fn workers() -> Result<Box<dyn Site>> {
    start(Means::Workers)
}

pub(super) fn binary() -> Result<Box<dyn Site>> {
    start(Means::Binary)
}

pub(super) fn again() -> Result<Box<dyn Site>> {
    start(Means::Again)
}

fn start(means: Means) -> Result<Box<dyn Site>> {
    let host = Host::without_agent()?;
    let master = spawn(&host, &configured(means, 0))?;
    await_listeners(&host, 1)?;
    Ok(Box::new(Server {
        master,
        host,
        means,
    }))
}

/// All versions have one configuration file; what they answer tells them apart.
fn configured(means: Means, number: usize) -> Nginx {
    let nginx = Nginx::new("server").answering(&format!("gen{number}"));
    match means {
        Means::Workers => nginx
            .listen(&format!("{ADDRESS} reuseport"))
            .workers(if number.is_multiple_of(2) { 4 } else { 2 }),
        Means::Binary => nginx.listen(ADDRESS).daemon(),
        Means::Reload | Means::Again => nginx.listen(ADDRESS),
    }
}

impl Server {
    fn pid_file(&self, name: &str) -> PathBuf {
        self.host.directory().join("nginx-server").join(name)
    }

    fn pid(&self, file: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.pid_file(file)).ok()?;
        Some(Pid::from_raw(text.trim().parse().ok()?))
    }

    /// A new master beside the former one, which is told to finish once the new one serves.
    fn exchange_binary(&self) -> Result<()> {
        let former = self.pid("nginx.pid").context("nginx has no pid file")?;
        kill(former, Signal::SIGUSR2)?;
        let next = || self.pid("nginx.pid").filter(|&pid| pid != former);
        let next = wait::until("the next master runs", LIMIT, next)?;
        wait::until_true("it has a worker", LIMIT, || has_children(next))?;
        kill(former, Signal::SIGQUIT)?;
        wait::until_true("the former one is gone", LIMIT, || {
            !self.pid_file("nginx.pid.oldbin").exists()
        })
    }

    fn start_again(&mut self, next: &Nginx) -> Result<()> {
        self.master.signal(Signal::SIGQUIT)?;
        self.master.wait(LIMIT)?;
        self.master = spawn(&self.host, next)?;
        await_listeners(&self.host, 1)
    }

    /// Until a client sees the version, or as long as clients may be refused.
    fn await_answer(&self, number: usize) -> Result<()> {
        let target = TARGET.parse()?;
        let name = format!("gen{number}");
        wait::until_true("the version answers", LIMIT, || {
            let asked = Waiting::open(self.host.netns(), target, 1);
            let answers = asked.and_then(Waiting::answers).unwrap_or_default();
            answers.iter().any(|answer| answer.generation == name)
        })
    }
}

impl Site for Server {
    fn upgrade(&mut self, number: usize) -> Result<()> {
        let next = configured(self.means, number);
        next.command(self.host.directory())?;
        match self.means {
            Means::Reload | Means::Workers => self.master.signal(Signal::SIGHUP)?,
            Means::Binary => self.exchange_binary()?,
            Means::Again => self.start_again(&next)?,
        }
        self.await_answer(number)
    }

    fn host(&self) -> &Host {
        &self.host
    }
}

fn has_children(pid: Pid) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.is_ok_and(|children| !children.trim().is_empty())
}

/// Starts an nginx beside whatever runs.
pub(super) fn spawn(host: &Host, nginx: &Nginx) -> Result<Process> {
    host.start_beside(&nginx.command(host.directory())?)
}

/// Waits until so many sockets listen on the port.
pub(super) fn await_listeners(host: &Host, listeners: usize) -> Result<()> {
    let port = TARGET.parse::<std::net::SocketAddr>()?.port();
    wait::until_true("the server listens", LIMIT, || {
        let waiting = host
            .netns()
            .run(|| sock_diag::waiting(&Netns::own(), Protocol::Tcp));
        waiting.is_ok_and(|waiting| {
            waiting.is_ok_and(|all| {
                all.iter().filter(|w| w.address.port() == port).count() >= listeners
            })
        })
    })
}
