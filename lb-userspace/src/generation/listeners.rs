//! A generation's listening sockets.

use std::{collections::BTreeMap, io, os::fd::OwnedFd};

use crate::sys::{
    cgroup::Cgroup,
    listener,
    listing::Listing,
    netns::Netns,
    pidfd::Pidfd,
    process::{self, Holder},
    sock_diag::{DumpError, Protocol, Waiting},
};

/// What a generation's processes listen on now: worker processes included, both families.
pub fn find(netns: &Netns, cgroup: &Cgroup, protocol: Protocol) -> Result<Vec<Waiting>, DumpError> {
    let listing = Listing::now(netns, protocol)?;
    Ok(listing.below(cgroup).into_iter().cloned().collect())
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
