//! Directed probes: a candidate is asked through the real port, before any client reaches it.
//!
//! The probe's own address and port get a ticket, so that `steer` leads it to the candidate
//! while everybody else goes to the active generation. A check by a program ([`exec`]) has no
//! connection of its own; it comes after a probe that has one.

pub mod exec;

mod accepted;
mod far_end;
mod grpc;
mod http;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub use far_end::Candidate;

use self::far_end::{FarEnd, Seen};
use super::hook::HookOutcome;
use crate::{
    config::Health,
    datapath::DatapathError,
    sys::{netns::Netns, sock_diag::DumpError},
};

/// Why a probe was not answered as it should be.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No connection, or it broke.
    #[error("{address}: {source}")]
    Connection {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server did not take the connection from its queue, or did not answer.
    #[error("{asked}: no answer within {} ms", waited.as_millis())]
    Silent {
        /// What was asked, and where.
        asked: String,
        /// How long it had.
        waited: Duration,
    },
    /// The kernel connected, but the server did not take the connection from its queue.
    #[error("it listens on {0} but accepts no connection")]
    NotAccepted(SocketAddr),
    /// No listener of its own got the connection.
    #[error(
        "none of its listeners got a connection to {0}: it closed or is reopening them, or another \
         socket takes precedence"
    )]
    Unlisted(SocketAddr),
    /// The list of connections.
    #[error(transparent)]
    Connections(#[from] DumpError),
    /// The answer was no HTTP.
    #[error("GET {address}{path}: {source}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// What hyper said.
        source: hyper::Error,
    },
    /// The answer was not good.
    #[error("GET {address}{path}: status {status}")]
    Status {
        /// Where.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
    },
    /// The health service says something else than SERVING, or there is none.
    #[error("{asked}: {answer}")]
    Grpc {
        /// What was asked, and where.
        asked: String,
        /// What came of it.
        answer: String,
    },
    /// The program does not approve.
    #[error("{program} {outcome}{}", said(output))]
    Exec {
        /// Its name.
        program: String,
        /// How it ended.
        outcome: HookOutcome,
        /// The last line it printed.
        output: String,
    },
    /// The ticket could not be made.
    #[error(transparent)]
    Ticket(#[from] DatapathError),
}

impl ProbeError {
    /// Whether its listeners may be others by now than those that have slots.
    pub const fn is_of_listeners(&self) -> bool {
        matches!(self, Self::Unlisted(_))
    }

    /// Whether asking again is in vain.
    pub const fn is_final(&self) -> bool {
        let Self::Exec { outcome, .. } = self else {
            return false;
        };
        matches!(outcome, HookOutcome::NotStarted(_))
    }
}

/// What to tell of repeated asking: the latest error, unless that is only silence because the
/// deadline left less time than usual; then the one `before` it says more.
pub fn telling(before: Option<String>, error: &ProbeError, cut_short: bool) -> String {
    let silence = match error {
        ProbeError::Silent { .. } => true,
        ProbeError::Exec { outcome, .. } => matches!(outcome, HookOutcome::TimedOut(_)),
        ProbeError::Connection { .. }
        | ProbeError::Http { .. }
        | ProbeError::Status { .. }
        | ProbeError::Grpc { .. }
        | ProbeError::NotAccepted(_)
        | ProbeError::Unlisted(_)
        | ProbeError::Connections(_)
        | ProbeError::Ticket(_) => false,
    };
    before
        .filter(|_| silence && cut_short)
        .unwrap_or_else(|| error.to_string())
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(", saying \"{output}\"")
    }
}

/// Asks the candidate at `address` once. `Ok` means that this candidate answered as it should; for
/// [`Health::Tcp`] and [`Health::Exec`], that it took the connection from its queue.
///
/// # Errors
///
/// See [`ProbeError`]; [`ProbeError::Silent`] after `patience`.
pub async fn probe(
    candidate: Candidate<'_>,
    address: SocketAddr,
    health: &Health,
    patience: Duration,
) -> Result<(), ProbeError> {
    let fail = |source| ProbeError::Connection { address, source };
    let end = FarEnd::before(candidate, address)?;
    let (socket, source) = socket(candidate.netns, address).map_err(fail)?;
    let _ticket = candidate.path.ticket(source, candidate.generation)?;
    let target = reachable(address);
    let ask = async {
        // Open until the verdict, for a connection that has gone tells nothing.
        let stream = socket.connect(target).await.map_err(fail)?;
        let is_sure = match health {
            Health::Tcp | Health::Exec(_) => {
                let taken = accepted::wait(&stream, source, target, &end).await;
                if matches!(taken, Err(ProbeError::Unlisted(_))) {
                    let_go(&stream);
                }
                taken.map(|()| true)?
            }
            Health::Http(path) => {
                let is_sure = sure(&stream, end.look(source, target)?, address)?;
                http::get(stream, address, path).await?;
                is_sure
            }
            Health::Grpc(service) => {
                let is_sure = sure(&stream, end.look(source, target)?, address)?;
                grpc::check(stream, address, service).await?;
                is_sure
            }
        };
        if !is_sure {
            end.confirm(source, target)?;
        }
        end.kept_its_listeners()
    };
    timeout(patience, ask)
        .await
        .map_err(|_elapsed| match health {
            Health::Tcp | Health::Exec(_) => ProbeError::NotAccepted(address),
            Health::Http(path) => silent(format!("GET {address}{path}"), patience),
            Health::Grpc(service) => silent(grpc::asked(address, service), patience),
        })?
}

/// Whether the connection is the candidate's; an error if it is somebody else's.
fn sure(stream: &TcpStream, seen: Seen, address: SocketAddr) -> Result<bool, ProbeError> {
    match seen {
        Seen::Queued | Seen::Accepted => Ok(true),
        // A listener that waits for data: once it has answered it must be seen who did.
        Seen::Handshake | Seen::Nothing => Ok(false),
        Seen::Astray => {
            let_go(stream);
            Err(ProbeError::Unlisted(address))
        }
    }
}

/// Has a connection that waits for nobody vanish at once: nobody shall be handed it who is active.
fn let_go(stream: &TcpStream) {
    // Without it the connection ends in order, which is seen as well, but later.
    let _in_order = stream.set_zero_linger();
}

fn silent(asked: String, waited: Duration) -> ProbeError {
    ProbeError::Silent { asked, waited }
}

/// A socket with its source port already chosen: the ticket names it.
fn socket(netns: &Netns, address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let target = reachable(address);
    let socket = netns.inside(|| match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    })??;
    socket.bind(SocketAddr::new(target.ip(), 0))?;
    let source = socket.local_addr()?;
    Ok((socket, source))
}

/// A listen address as a client on this host reaches it; it is also where such a client comes
/// from.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_cut_short_does_not_hide_the_one_before() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let silent = ProbeError::Silent {
            asked: "it".to_owned(),
            waited: Duration::from_millis(42),
        };
        let status = ProbeError::Status {
            address,
            path: "/".to_owned(),
            status: 503,
        };
        let before = || Some("before".to_owned());
        assert_eq!(telling(before(), &silent, true), "before");
        assert_eq!(telling(before(), &silent, false), silent.to_string());
        assert_eq!(telling(None, &silent, true), silent.to_string());
        assert_eq!(telling(before(), &status, true), status.to_string());
    }
}
