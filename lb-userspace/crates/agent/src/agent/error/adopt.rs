//! Why a running server is not adopted. Nothing was changed; its clients are served by it as
//! before.

use std::net::SocketAddr;

use thiserror::Error;

use super::Unbound;
use crate::generation::{adoptee::Unfit, fit::Misfit, unit::UnitError};

/// Why a running server is not adopted, or not started again.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// Neither or both of pid and unit.
    #[error("name the server with either --pid or --unit")]
    WhichProcess,
    /// It cannot be a generation.
    #[error("{}{}", .0, if matches!(.0, Unfit::NoProcess(_)) { "" } else { "; nothing was changed" })]
    Unfit(#[from] Unfit),
    /// There is no such service of systemd's.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Its supervisor could not start it again.
    #[error(
        "the ports of service {0} are reserved (reserve = true): a supervisor that starts this server again would have \
         its bind refused; leave out reserve to adopt a server"
    )]
    Reserved(String),
    /// It is hotlb's already.
    #[error("{who} is already managed by hotlb as {what}; see `hotlb status`")]
    Ours {
        /// The process.
        who: String,
        /// What it is.
        what: String,
    },
    /// Its listeners are not those that are declared.
    #[error("{who} does not match this service: {misfit}; nothing was changed")]
    Misfit {
        /// The process.
        who: String,
        /// What is different.
        misfit: Misfit,
    },
    /// It has no UDP socket where the service has its datagrams.
    #[error(
        "{who} does not match this service: no UDP socket of its own is {unbound}; nothing was \
         changed"
    )]
    NoDatagrams {
        /// The process.
        who: String,
        /// The declared address, and where it has some.
        unbound: Unbound,
    },
    /// It listens on more than is declared.
    #[error(
        "{who} also listens on {found}, which is not declared and takes clients whatever hotlb \
         decides: add it to `listen`, or make the server listen on the declared addresses only"
    )]
    Undeclared {
        /// The process.
        who: String,
        /// Where.
        found: SocketAddr,
    },
    /// Its listener was made by somebody else.
    #[error(
        "{who} did not create its listener on {address} in its own cgroup (systemd created it for \
         a .socket unit, or the server was moved since), and a socket belongs to the cgroup that \
         created it: start the server under `hotlb exec`, without the .socket unit"
    )]
    MadeElsewhere {
        /// The process.
        who: String,
        /// The address.
        address: SocketAddr,
    },
    /// Others listen there too.
    #[error(
        "{address} is shared with {others}, which would get no more clients; end that one first, \
         or adopt it instead"
    )]
    Others {
        /// The address.
        address: SocketAddr,
        /// Who.
        others: String,
    },
    /// It does not share its port.
    #[error(transparent)]
    NotSharing(Box<NotSharing>),
    /// It ended, or changed its listeners, while it was looked at.
    #[error("{0} ended or changed its listeners meanwhile; nothing was changed, try again")]
    Changed(String),
    /// Its command line is not known.
    #[error(
        "{generation} has ended, and the command line that it showed cannot be started ({shown}): \
         deploy its command again (`hotlb adopt` takes it after --)"
    )]
    CommandUnknown {
        /// The generation.
        generation: String,
        /// What it showed.
        shown: String,
    },
}

/// A server that does not share its port, and how that is changed.
#[derive(Debug, Error)]
#[error(
    "{who} does not share {address}: its listener was opened without SO_REUSEPORT, which cannot be \
     changed while it runs. One restart is necessary, and ends the {connections} connections that \
     are open now\n  \
     either make it set SO_REUSEPORT (nginx: listen ... reuseport), restart it, and then adopt \
     it\n  \
     or hand its port to hotlb in one line; clients are refused from its end until hotlb has the \
     port, and wait from then on:\n    \
     {stop} && hotlb upgrade --service {service} --generation {generation} -- {command}"
)]
pub struct NotSharing {
    /// The process.
    pub who: String,
    /// The address.
    pub address: SocketAddr,
    /// Its open connections.
    pub connections: usize,
    /// What ends it.
    pub stop: String,
    /// The service.
    pub service: String,
    /// What it was to be.
    pub generation: String,
    /// What starts it.
    pub command: String,
}

impl AdoptError {
    /// A short name for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::WhichProcess => "which_process",
            Self::Reserved(_) => "reserved",
            Self::Unfit(Unfit::NoProcess(_)) | Self::Unit(UnitError::NotRunning(_)) => {
                "unknown_process"
            }
            Self::NotSharing(_) => "not_sharing",
            Self::CommandUnknown { .. } => "command_unknown",
            Self::Unfit(_)
            | Self::Unit(_)
            | Self::Ours { .. }
            | Self::Misfit { .. }
            | Self::NoDatagrams { .. }
            | Self::Undeclared { .. }
            | Self::MadeElsewhere { .. }
            | Self::Others { .. }
            | Self::Changed(_) => "not_adoptable",
        }
    }

    /// The exit code: see `docs/user/cli.md`.
    pub(super) fn exit(&self) -> u8 {
        match self {
            Self::WhichProcess => 2,
            Self::Unfit(Unfit::NoProcess(_)) | Self::Unit(UnitError::NotRunning(_)) => 5,
            _ => 6,
        }
    }
}
