//! What the host refuses, whatever is done.

use thiserror::Error;

use super::{CheckError, OpenError, VerbError};
use crate::{datapath::DatapathError, generation::keeper::KeeperError, sys::sock_diag::DumpError};

/// One of the things that everything depends on does not do its part.
#[derive(Debug, Error)]
pub enum HostError {
    /// The kernel side.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The keeper.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The list of sockets.
    #[error(transparent)]
    Sockets(#[from] DumpError),
}

/// Has each of them be an error of what was being done.
macro_rules! of_the_host {
    ($($of:ty),*) => {$(
        impl From<DatapathError> for $of {
            fn from(error: DatapathError) -> Self {
                Self::Host(error.into())
            }
        }

        impl From<KeeperError> for $of {
            fn from(error: KeeperError) -> Self {
                Self::Host(error.into())
            }
        }

        impl From<DumpError> for $of {
            fn from(error: DumpError) -> Self {
                Self::Host(error.into())
            }
        }
    )*};
}

of_the_host!(CheckError, OpenError, VerbError);
