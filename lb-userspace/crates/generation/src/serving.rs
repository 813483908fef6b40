//! Which processes of a generation serve, behind shells, titles, package managers and container
//! runtimes: those that have its sockets open.

use std::{collections::BTreeSet, time::Instant};

use super::established::Ports;
use crate::{
    clock,
    rollout::recipe::{Kind, Program},
    sys::{cgroup::Cgroup, established, inspect, listing::Listing, process, sock_diag::Protocol},
};

/// A process that serves, or the master of those that do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The process.
    pub pid: u32,
    /// When it started: with the pid, a name nobody else gets.
    pub started: u64,
    /// What it runs.
    pub program: Program,
}

/// Where a generation serves.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its processes.
    pub cgroup: Cgroup,
    /// Its first process and when that started.
    pub main: Option<(u32, u64)>,
    /// The ports of its connections.
    pub tcp: Ports,
    /// The ports of its UDP sockets.
    pub udp: Vec<u16>,
}

impl Server {
    /// Process `pid`, if it is there.
    pub fn of(pid: u32) -> Option<Self> {
        let started = process::start_time(pid)?;
        let image = process::image(pid)?;
        Some(Self {
            pid,
            started,
            program: Program::of(&image.exe, &image.words, &image.cwd),
        })
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        process::start_time(self.pid) == Some(self.started)
    }
}

impl Place {
    /// The processes that are to be told when the generation is to end: the masters of those that
    /// hold its listeners, or its connections where it has no listener any more; else its first
    /// process. None where nobody is known. By a list of sockets made at `moment` or later.
    pub fn servers(&self, moment: Instant) -> Vec<Server> {
        let pids = self.pids();
        let mut holders = process::holding(pids.iter().copied(), &self.listening(moment));
        if holders.is_empty() {
            holders = process::holding(pids.iter().copied(), &self.connected());
        }
        if holders.is_empty() {
            holders.extend(self.main_pid());
        }
        masters(&holders, &pids)
    }

    /// Those that serve on although `told` have ended: who holds listeners, and who holds
    /// connections unless the same program made it for those it was to finish. Of connections
    /// nothing is said where it is not known who was told.
    pub fn left_by(&self, told: &[Server]) -> Vec<Server> {
        let pids = self.pids();
        let listening = self.listening(clock::now());
        let mut left = process::holding(pids.iter().copied(), &listening);
        let connected = match told {
            [] => Vec::new(),
            _ => process::holding(pids.iter().copied(), &self.connected()),
        };
        left.extend(connected.into_iter().filter(|&pid| {
            let server = Server::of(pid);
            let is_akin = |server: &Server| {
                told.iter()
                    .any(|told| told.program.is_akin(&server.program))
            };
            server.is_some_and(|server| !is_akin(&server))
        }));
        masters(&left, &pids)
    }

    /// The processes of its cgroup that have these of its listeners, whoever started them.
    pub fn holding(&self, cookies: &BTreeSet<u64>) -> Vec<Server> {
        let of = |protocol| {
            let found = Listing::since(&self.tcp.netns, protocol, clock::now());
            let found = found.unwrap_or_default();
            let own = found.all().iter().filter(|w| cookies.contains(&w.cookie));
            own.map(|waiting| waiting.inode).collect::<Vec<_>>()
        };
        let mut inodes: BTreeSet<u64> = of(Protocol::Tcp).into_iter().collect();
        inodes.extend(of(Protocol::Udp));
        let pids = self.cgroup.pids();
        let holders = process::holding(pids.iter().copied(), &inodes);
        holders.into_iter().filter_map(Server::of).collect()
    }

    /// In somebody else's cgroup only the first process and those that came from it: all others
    /// may be its supervisor's.
    fn pids(&self) -> Vec<u32> {
        let pids = self.cgroup.pids();
        if !self.cgroup.is_foreign() {
            return pids;
        }
        let Some(main) = self.main_pid() else {
            return Vec::new();
        };
        let own = |pid: &u32| inspect::descends(*pid, main);
        pids.into_iter().filter(own).collect()
    }

    fn main_pid(&self) -> Option<u32> {
        let (pid, started) = self.main?;
        (process::start_time(pid) == Some(started)).then_some(pid)
    }

    /// The inodes of the sockets that wait for clients at its ports, whoever has them.
    fn listening(&self, moment: Instant) -> BTreeSet<u64> {
        let at = |protocol, ports: &[u16]| {
            let found = Listing::since(&self.tcp.netns, protocol, moment);
            let found = found.unwrap_or_default();
            let all = found.all().iter();
            let here = all.filter(|w| ports.contains(&w.address.port()));
            here.map(|waiting| waiting.inode).collect::<Vec<_>>()
        };
        let mut inodes = BTreeSet::new();
        if !self.tcp.ports.is_empty() {
            inodes.extend(at(Protocol::Tcp, &self.tcp.ports));
        }
        if !self.udp.is_empty() {
            inodes.extend(at(Protocol::Udp, &self.udp));
        }
        inodes.remove(&0);
        inodes
    }

    fn connected(&self) -> BTreeSet<u64> {
        let at = |&port: &u16| established::at_port(&self.tcp.netns, port).unwrap_or_default();
        let found = self.tcp.ports.iter().flat_map(at);
        let mut inodes: BTreeSet<u64> = found.map(|connection| connection.inode).collect();
        inodes.remove(&0);
        inodes
    }
}

/// For each of `holders` the topmost of `pids` that runs the same program, or a supervisor above
/// that would start it again; each once, and none that came from another.
fn masters(holders: &[u32], pids: &[u32]) -> Vec<Server> {
    let mut found: Vec<Server> = Vec::new();
    for &holder in holders {
        if let Some(master) = master(holder, pids)
            && found.iter().all(|known| known.pid != master.pid)
        {
            found.push(master);
        }
    }
    let tops: Vec<u32> = found.iter().map(|server| server.pid).collect();
    found.retain(|server| {
        let above = |&top: &u32| top != server.pid && inspect::descends(server.pid, top);
        !tops.iter().any(above)
    });
    found
}

fn master(holder: u32, pids: &[u32]) -> Option<Server> {
    let mut master = Server::of(holder)?;
    let mut same = true;
    let mut at = holder;
    while let Some(parent) = inspect::parent(at).filter(|parent| pids.contains(parent)) {
        let Some(above) = Server::of(parent) else {
            break;
        };
        same = same && above.program.is_master_of(&master.program);
        if same || Kind::of(&above.program.name).is_some_and(Kind::restarts) {
            master = above;
        }
        at = parent;
    }
    Some(master)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell and the process it waits for.
    fn wrapped() -> (Child, u32) {
        let shell = Command::new("sh")
            .args(["-c", "sleep 60; true"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let below = loop {
            let all = process::all_pids();
            let child = all
                .iter()
                .find(|&&pid| inspect::parent(pid) == Some(shell.id()));
            if let Some(&child) = child
                && process::name(child) == "sleep"
            {
                break child;
            }
        };
        (shell, below)
    }

    #[test]
    fn a_shell_is_no_master_of_what_it_started() {
        let (mut shell, below) = wrapped();
        let pids = [shell.id(), below];
        let found = masters(&[below], &pids);
        assert_eq!(found.iter().map(|s| s.pid).collect::<Vec<_>>(), [below]);
        assert!(found.iter().all(Server::runs));
        // Told for itself it is.
        let found = masters(&[below, shell.id()], &pids);
        assert_eq!(
            found.iter().map(|s| s.pid).collect::<Vec<_>>(),
            [shell.id()]
        );
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(below).unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        shell.wait().unwrap();
        assert!(!found.iter().any(Server::runs));
    }
}
