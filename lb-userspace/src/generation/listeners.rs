//! A generation's listening sockets.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::fd::OwnedFd,
};

use crate::sys::{
    cgroup::Cgroup,
    listener,
    pidfd::Pidfd,
    process::{self, Holder},
    sock_diag::{self, DumpError, Protocol, Waiting},
};

/// What a generation's processes listen on: worker processes included, both families.
///
/// A socket belongs to the cgroup that made it (the kernel says which, 5.7+). Where it does not
/// say, a socket that one of the generation's processes has open counts as its own.
pub fn find(cgroup: &Cgroup, protocol: Protocol) -> Result<Vec<Waiting>, DumpError> {
    let ids: HashSet<u64> = cgroup.ids().into_iter().collect();
    let mut all = sock_diag::waiting(protocol)?;
    if all.iter().any(|socket| socket.cgroup.is_none()) {
        let held = process::socket_holders(cgroup.pids());
        all.retain(|socket| held.contains_key(&socket.inode));
    } else {
        all.retain(|socket| socket.cgroup.is_some_and(|id| ids.contains(&id)));
    }
    Ok(all)
}

/// Duplicates of these sockets, by cookie; a socket that closed meanwhile is left out.
///
/// Give them up soon: a duplicate keeps a dead server's queue alive.
pub fn take(cgroup: &Cgroup, sockets: &[Waiting]) -> BTreeMap<u64, OwnedFd> {
    let holders = process::socket_holders(cgroup.pids());
    sockets
        .iter()
        .filter_map(|socket| {
            let fd = duplicate(*holders.get(&socket.inode)?, socket.cookie)
                .inspect_err(|error| {
                    tracing::debug!(%error, address = %socket.address, "listener not taken");
                })
                .ok()?;
            Some((socket.cookie, fd))
        })
        .collect()
}

/// The cookie is compared last: between looking and taking, the number may have been reused.
fn duplicate(holder: Holder, cookie: u64) -> io::Result<OwnedFd> {
    let fd = Pidfd::open(holder.pid)?.take(holder.fd)?;
    if listener::cookie(&fd)? == cookie {
        Ok(fd)
    } else {
        Err(io::Error::other("the descriptor is another socket by now"))
    }
}
