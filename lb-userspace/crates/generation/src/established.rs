//! A generation's connections.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
    os::fd::OwnedFd,
};

use crate::sys::{
    cgroup::Cgroup,
    established::{self, Connection},
    listener,
    netns::Netns,
    pidfd::Pidfd,
    process::{self, Holder},
    sock_diag::DumpError,
    tcp_info::TcpInfo,
};

/// Ports, and where they are.
#[derive(Clone, Debug)]
pub struct Ports {
    /// The network namespace.
    pub netns: Netns,
    /// The ports.
    pub ports: Vec<u16>,
    /// Whether listeners there take clients of other addresses and ports too.
    pub transparent: bool,
}

/// The connections that came in through the generation's listeners at `ports`.
///
/// A connection belongs to the cgroup of its listener (kernel 5.7+). Where the kernel does not say
/// which, and for connections that moved here from a closing listener, the processes that have it
/// open decide; `moved`: look for such ones.
pub fn find(cgroup: &Cgroup, ports: &Ports, moved: bool) -> Result<Vec<Connection>, DumpError> {
    let mut all = Vec::new();
    for &port in &ports.ports {
        all.extend(established::at_port(&ports.netns, port)?);
    }
    all.extend(elsewhere(ports)?.into_iter().map(|(one, _)| one));
    retain_own(&mut all, cgroup, moved, |connection| connection);
    Ok(all)
}

/// The cookies of all connections at `ports`, whosever they are.
///
/// # Errors
///
/// As [`find`].
pub fn cookies(ports: &Ports) -> Result<HashSet<u64>, DumpError> {
    let mut cookies = HashSet::new();
    for &port in &ports.ports {
        let found = established::at_port(&ports.netns, port)?;
        cookies.extend(found.into_iter().map(|connection| connection.cookie));
    }
    let found = elsewhere(ports)?;
    cookies.extend(found.into_iter().map(|(connection, _)| connection.cookie));
    Ok(cookies)
}

/// What [`find`] finds, each with what the kernel knows of it.
///
/// # Errors
///
/// As [`find`].
pub fn find_detailed(
    cgroup: &Cgroup,
    ports: &Ports,
    moved: bool,
) -> Result<Vec<(Connection, Option<TcpInfo>)>, DumpError> {
    let mut all = Vec::new();
    for &port in &ports.ports {
        all.extend(established::detailed_at_port(&ports.netns, port)?);
    }
    all.extend(elsewhere(ports)?);
    retain_own(&mut all, cgroup, moved, |(connection, _)| connection);
    Ok(all)
}

/// Connections of transparent listeners whose own port is another one.
fn elsewhere(ports: &Ports) -> Result<Vec<(Connection, Option<TcpInfo>)>, DumpError> {
    if !ports.transparent {
        return Ok(Vec::new());
    }
    let mut found = established::transparent(&ports.netns)?;
    found.retain(|(connection, _)| !ports.ports.contains(&connection.local.port()));
    Ok(found)
}

fn retain_own<T>(all: &mut Vec<T>, cgroup: &Cgroup, moved: bool, of: fn(&T) -> &Connection) {
    let ids: HashSet<u64> = cgroup.ids().into_iter().collect();
    let own = |connection: &Connection| connection.cgroup.is_some_and(|id| ids.contains(&id));
    if moved || all.iter().any(|one| of(one).cgroup.is_none()) {
        let held = process::socket_holders(cgroup.pids());
        all.retain(|one| own(of(one)) || held.contains_key(&of(one).inode));
    } else {
        all.retain(|one| own(of(one)));
    }
}

/// Where the generation's processes have their sockets open, by inode.
#[derive(Debug)]
pub struct Holders {
    holders: HashMap<u64, Vec<Holder>>,
    processes: HashMap<u32, Pidfd>,
}

impl Holders {
    /// Looks at all of the generation's processes.
    pub fn of(cgroup: &Cgroup) -> Self {
        Self {
            holders: process::socket_holders(cgroup.pids()),
            processes: HashMap::new(),
        }
    }

    /// A duplicate of the connection's socket. Give it up soon: it keeps the connection open when
    /// the server closes it.
    ///
    /// # Errors
    ///
    /// `NotFound` when no process of the generation has it open (any more).
    pub fn take(&mut self, connection: &Connection) -> io::Result<OwnedFd> {
        let mut why = io::Error::from(io::ErrorKind::NotFound);
        let holders = self.holders.get(&connection.inode);
        for &holder in holders.into_iter().flatten() {
            match take_from(&mut self.processes, holder, connection.cookie) {
                Ok(fd) => return Ok(fd),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

fn take_from(
    processes: &mut HashMap<u32, Pidfd>,
    holder: Holder,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let process = match processes.entry(holder.pid) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(Pidfd::open(holder.pid)?),
    };
    let fd = process.take(holder.fd)?;
    // Last: between looking and taking, the number may have been reused.
    if listener::cookie(&fd)? == cookie {
        Ok(fd)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
