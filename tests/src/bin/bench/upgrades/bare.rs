//! `SO_REUSEPORT` alone: the next server listens beside the former one, which then ends.

use std::mem;

use anyhow::Result;
use hotlb_tests::{host::Host, process::Process, servers::Nginx};
use nix::sys::signal::Signal;

use super::{ADDRESS, LIMIT, Site, nginx};

struct Bare {
    current: Process,
    host: Host,
    signal: Signal,
}

pub(super) fn in_order() -> Result<Box<dyn Site>> {
    start("0", Signal::SIGQUIT)
}

pub(super) fn in_order_migrating() -> Result<Box<dyn Site>> {
    start("1", Signal::SIGQUIT)
}

pub(super) fn killed() -> Result<Box<dyn Site>> {
    start("0", Signal::SIGKILL)
}

pub(super) fn killed_migrating() -> Result<Box<dyn Site>> {
    start("1", Signal::SIGKILL)
}

fn start(migrate: &str, signal: Signal) -> Result<Box<dyn Site>> {
    let host = Host::without_agent()?;
    host.netns().sysctl("net/ipv4/tcp_migrate_req", migrate)?;
    Ok(Box::new(Bare {
        current: version(&host, 0, 1, signal)?,
        host,
        signal,
    }))
}

impl Site for Bare {
    fn upgrade(&mut self, number: usize) -> Result<()> {
        let next = version(&self.host, number, 2, self.signal)?;
        let mut former = mem::replace(&mut self.current, next);
        former.signal(self.signal)?;
        former.wait(LIMIT).map(drop)
    }

    fn host(&self) -> &Host {
        &self.host
    }
}

/// Starts one more nginx on the port and waits until `listeners` sockets listen there. One worker. A master to end
/// in order by, for a single process takes SIGQUIT for "at once"; no master where it is killed, so that the kill takes
/// all of it.
fn version(host: &Host, number: usize, listeners: usize, signal: Signal) -> Result<Process> {
    let version = Nginx::new(&format!("gen{number}")).listen(&format!("{ADDRESS} reuseport"));
    let version = match signal {
        Signal::SIGKILL => version.single_process(),
        _ => version,
    };
    let process = nginx::spawn(host, &version)?;
    nginx::await_listeners(host, listeners)?;
    Ok(process)
}
