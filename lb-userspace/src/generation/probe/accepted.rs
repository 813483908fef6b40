//! Whether a server took a connection from its queue. The handshake says nothing about that: the
//! kernel makes it.

use std::{net::SocketAddr, time::Duration};

use super::ProbeError;
use crate::sys::{
    established::{self, State},
    netns::Netns,
};

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_millis(2);

/// Returns once the server at `target` has taken the connection from `source`.
pub(super) async fn wait(
    netns: &Netns,
    source: SocketAddr,
    target: SocketAddr,
) -> Result<(), ProbeError> {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        if is_accepted(netns, source, target)? {
            return Ok(());
        }
    }
}

/// A connection that nobody has accepted has no inode yet; one that is not in the list, or is
/// being closed by the server, was.
fn is_accepted(netns: &Netns, source: SocketAddr, target: SocketAddr) -> Result<bool, ProbeError> {
    let own = established::between(netns, target, source)?;
    Ok(own.is_none_or(|own| own.inode != 0 || own.state != State::Established))
}
