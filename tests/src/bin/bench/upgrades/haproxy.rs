//! haproxy by its own means: the next process takes over (`-sf`), with the former one's listeners (`-x`) or its own.

use anyhow::Result;
use hotlb_tests::{host::Host, process::Process, servers::Haproxy};

use super::{ADDRESS, LIMIT, Site, nginx};

struct Server {
    current: Process,
    host: Host,
    passes: bool,
}

pub(super) fn passing() -> Result<Box<dyn Site>> {
    start(true)
}

pub(super) fn plain() -> Result<Box<dyn Site>> {
    start(false)
}

fn start(passes: bool) -> Result<Box<dyn Site>> {
    let host = Host::without_agent()?;
    let current = spawn(&host, 0, &[])?;
    nginx::await_listeners(&host, 1)?;
    Ok(Box::new(Server {
        current,
        host,
        passes,
    }))
}

fn spawn(host: &Host, number: usize, more: &[String]) -> Result<Process> {
    let haproxy = Haproxy::new(&format!("gen{number}"));
    let mut line = haproxy.answering(host.directory(), ADDRESS)?;
    line.extend_from_slice(more);
    host.start_beside(&line)
}

impl Site for Server {
    fn upgrade(&mut self, number: usize) -> Result<()> {
        let mut more = vec!["-sf".to_owned(), self.current.pid().to_string()];
        if self.passes {
            let former = Haproxy::new(&format!("gen{}", number - 1));
            let socket = former.socket(self.host.directory());
            more.extend(["-x".to_owned(), socket.display().to_string()]);
        }
        let next = spawn(&self.host, number, &more)?;
        let mut former = std::mem::replace(&mut self.current, next);
        former.wait(LIMIT).map(drop)
    }

    fn host(&self) -> &Host {
        &self.host
    }
}
