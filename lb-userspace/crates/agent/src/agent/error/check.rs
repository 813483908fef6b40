//! Why a candidate is not ready.

use std::{net::SocketAddr, time::Duration};

use thiserror::Error;

use super::{HostError, Unbound};
use crate::generation::fit::Misfit;

/// One check of a candidate that failed.
#[derive(Debug, Error)]
pub(in crate::agent) enum CheckError {
    /// It ended.
    #[error("it {0}")]
    Ended(String),
    /// READY=1 did not come.
    #[error("no READY=1 within {} (notify = true)", humantime::format_duration(*.0))]
    NotNotified(Duration),
    /// Its listeners are not where they belong.
    #[error("{0}")]
    Misfit(#[from] Misfit),
    /// It has no UDP socket on a declared address.
    #[error("no UDP socket is {0}")]
    NoDatagrams(Unbound),
    /// Some of its sockets were held by nobody who could be asked: their holder was just ending.
    #[error(
        "{} at {address} could not be given a slot: no process of the generation has {} open",
        if *.missing == 1 { "a socket".to_owned() } else { format!("{missing} sockets") },
        if *.missing == 1 { "it" } else { "them" }
    )]
    Untaken {
        /// Where.
        address: SocketAddr,
        /// How many.
        missing: usize,
    },
    /// Its listener is in no process's table of descriptors.
    #[error(
        "its listener on {address} has no descriptor (io_uring keeps it as a direct one), so it \
         cannot be steered: make the server open its listener with socket(2)"
    )]
    NoDescriptor {
        /// Where it listens.
        address: SocketAddr,
    },
    /// It did not answer as it should.
    #[error("probe: {0}")]
    Probe(String),
    /// A bind was refused; its own error came from that.
    #[error("{0}")]
    Bind(String),
    /// The parking listeners are gone, and with them the groups' shape.
    #[error("no keeper holds the parking listeners: {0}")]
    NoKeeper(String),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
}
