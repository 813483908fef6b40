//! Why a service cannot be opened.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use super::HostError;
use crate::store::LedgerError;

/// Generations live, and what the kernel steers them by cannot be found.
#[derive(Debug, Error)]
#[error(
    "its pins in {dir} are gone ({why}), but generations are running: {living}. They continue \
     unchanged, steered by the kernel; nothing was attached or parked. Restore the pins ({advice}) \
     and start the agent again. If they are lost, these servers can no longer be steered: end them \
     (echo 1 > {cgroup}/cgroup.kill), which ends their connections, and start the agent again"
)]
pub struct PinsGone {
    /// Where they should be.
    pub dir: PathBuf,
    /// Why they are not there.
    pub why: String,
    /// Who lives.
    pub living: String,
    /// How they come back.
    pub advice: String,
    /// The service's cgroup.
    pub cgroup: PathBuf,
}

/// Why a service cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Somebody else has the port.
    #[error(
        "{address} is held by {holder}; stop it first, or let hotlb take over that server: set \
         adopt = true for the service, then run `hotlb adopt`"
    )]
    PortHeld {
        /// The declared address.
        address: SocketAddr,
        /// Process and user.
        holder: String,
    },
    /// Another service of hotlb's has the port.
    #[error(
        "{address} is held by the service {former}, whose generations and waiting clients are \
         still there: if it was renamed in the configuration, name it {former} again; to start \
         over, configure {former} and run `hotlb down`"
    )]
    PortOfService {
        /// The declared address.
        address: SocketAddr,
        /// Its name.
        former: String,
    },
    /// The addresses, or their owner, changed under running generations.
    #[error(
        "its addresses or its user changed, or the size of its flow table (`flow_table`, flow = \
         \"quic\"), while generations run; restore `listen`, `user` and these, or end the \
         generations with the old configuration (hotlb down)"
    )]
    GroupsChanged,
    /// The addresses, or their owner, changed under a running agent.
    #[error(
        "its addresses or its user changed, but running generations are handed over unchanged; \
         restore `listen` and `user`, or restart the agent once no generation runs"
    )]
    GroupsDiffer,
    /// Generations live, and what the kernel steers them by cannot be found.
    #[error(transparent)]
    PinsGone(Box<PinsGone>),
    /// Generations live in another cgroup than this agent would look for them.
    #[error(
        "{living}, but this agent looks for it below {cgroup}: start the agent with the \
         HOTLB_CGROUP of the previous one (and its HOTLB_RUNTIME_DIR, from which the default is \
         made); nothing was changed"
    )]
    LivesElsewhere {
        /// Who lives, and where.
        living: String,
        /// The service's cgroup.
        cgroup: PathBuf,
    },
    /// Its network namespace.
    #[error(
        "netns: the network namespace {path} cannot be entered: {source}; create it before the \
         agent starts (ip netns add), or correct netns"
    )]
    Netns {
        /// The configured file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// `drain.polite` is "on" on a kernel that cannot do it.
    #[error(
        "drain.polite is \"on\", but clients cannot be asked to leave on this host: {0}; set it to \
         \"auto\" or \"off\""
    )]
    Impolite(String),
    /// `reserve` is set on a host that cannot do it.
    #[error(
        "service {service}: cannot reserve its ports on this host: {reason}; leave out reserve, or see `hotlb doctor`"
    )]
    Reserve {
        /// The service.
        service: String,
        /// Why not.
        reason: String,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Its cgroup.
    #[error("cannot make cgroup {path}: {source}")]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
