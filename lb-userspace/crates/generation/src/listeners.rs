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

/// How often the processes are looked at for sockets that could not be taken: a server that goes
/// into the background forks twice, and each time whoever was seen to hold its listeners ends.
const LOOKS: u32 = 3;

/// Duplicates of these sockets, by cookie; one that closed meanwhile is left out, and so is one that
/// no process of the cgroup has open.
///
/// Give them up soon: a duplicate keeps a dead server's queue alive.
pub fn take(cgroup: &Cgroup, sockets: &[Waiting]) -> BTreeMap<u64, OwnedFd> {
    let mut taken = BTreeMap::new();
    for _look in 0..LOOKS {
        if taken.len() == sockets.len() {
            break;
        }
        let holders = process::socket_holders(cgroup.pids());
        for socket in sockets {
            if taken.contains_key(&socket.cookie) {
                continue;
            }
            let holders = holders.get(&socket.inode).into_iter().flatten();
            let fd = holders.copied().find_map(|holder| {
                duplicate(holder, socket.cookie)
                    .inspect_err(|error| {
                        tracing::debug!(
                            %error,
                            address = %socket.address,
                            "failed to duplicate a listener"
                        );
                    })
                    .ok()
            });
            taken.extend(fd.map(|fd| (socket.cookie, fd)));
        }
    }
    taken
}

/// The cookie is compared last: between looking and taking, the number may have been reused.
fn duplicate(holder: Holder, cookie: u64) -> io::Result<OwnedFd> {
    let fd = Pidfd::open(holder.pid)?.take(holder.fd)?;
    if listener::cookie(&fd)? == cookie {
        Ok(fd)
    } else {
        Err(io::Error::other(
            "the descriptor now belongs to another socket",
        ))
    }
}
