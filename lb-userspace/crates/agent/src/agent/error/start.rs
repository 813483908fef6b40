//! Why an agent does not start.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use super::{HostError, OpenError};
use crate::{
    agent::drill::NoPoint, config::ConfigError, datapath::DatapathError,
    store::journal::DrillError, sys::mounts::MountError,
};

/// Why an agent did not start. Nothing was changed that was not there before.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another agent has the runtime directory.
    #[error(
        "another agent{holder} runs on {path}; use it, or set HOTLB_RUNTIME_DIR, HOTLB_STATE_DIR and \
         HOTLB_BPFFS_DIR for a second one"
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// " (pid N)".
        holder: String,
    },
    /// A directory cannot be made.
    #[error("cannot use {path}: {source}")]
    Place {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not root.
    #[error("must be root (or hold {0}); try sudo")]
    NotPermitted(String),
    /// A file system is missing.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A fault of the journal in `HOTLB_FAULTS` is not understood.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// A point in `HOTLB_FAULTS` is not understood.
    #[error(transparent)]
    NoPoint(#[from] NoPoint),
    /// A directory whose name cannot be told to others.
    #[error(
        "cannot use {0}: its name is not UTF-8, and such a path cannot be shown or passed on; name \
         another directory (HOTLB_RUNTIME_DIR, HOTLB_STATE_DIR, HOTLB_BPFFS_DIR, HOTLB_CONFIG)"
    )]
    NotText(PathBuf),
    /// A place is named from the current directory.
    #[error(
        "{}: the agent's directories must be absolute paths; see HOTLB_RUNTIME_DIR, \
         HOTLB_STATE_DIR and HOTLB_BPFFS_DIR",
        .0.display()
    )]
    NotAbsolute(PathBuf),
    /// The cgroup would not be below the mount.
    #[error(
        "HOTLB_CGROUP is {0:?}: name a cgroup below the cgroup2 mount, such as \"hotlb\" or \
         \"apps/hotlb\", without a leading / and without .."
    )]
    NotBelow(String),
    /// The metrics address is taken.
    #[error(
        "cannot serve metrics on {address}: {source}; set metrics = \"off\" or another address"
    )]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A service cannot be opened.
    #[error("service {service}: {source}")]
    Service {
        /// Its name.
        service: String,
        /// Why.
        source: OpenError,
    },
    /// A defect.
    #[error("a bug prevented a service from being opened: {0}; please report it with the log")]
    Opening(#[from] tokio::task::JoinError),
}

impl StartError {
    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::NotPermitted(_) => 4,
            Self::Config(_)
            | Self::Drill(_)
            | Self::NoPoint(_)
            | Self::NotText(_)
            | Self::NotAbsolute(_)
            | Self::NotBelow(_)
            | Self::Service {
                source:
                    OpenError::GroupsChanged
                    | OpenError::GroupsDiffer
                    | OpenError::PortOfService { .. }
                    | OpenError::Netns { .. }
                    | OpenError::PinsGone(_)
                    | OpenError::LivesElsewhere { .. }
                    | OpenError::Host(HostError::Datapath(DatapathError::Layout { .. })),
                ..
            } => 78,
            Self::Locked { .. }
            | Self::Place { .. }
            | Self::Mount(_)
            | Self::Metrics { .. }
            | Self::Service { .. }
            | Self::Opening(_) => 7,
        }
    }
}
