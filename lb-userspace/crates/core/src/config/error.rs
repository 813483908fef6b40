//! What can be wrong with a configuration.

use std::{io, net::SocketAddr, path::PathBuf};

use hotlb_sys::users::IdentityError;
use thiserror::Error;

/// A configuration that cannot be used; nothing was changed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}; name another file with --config or HOTLB_CONFIG")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or has a key or value that hotlb does not know.
    #[error("{path}:{line}:{column}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// There is no service.
    #[error("{0}: no service is configured; add [service.NAME] with listen = [\"0.0.0.0:8080\"]")]
    NoService(PathBuf),
    /// A name that cannot be used for directories and labels.
    #[error(
        "\"{0}\" is not a valid name: use 1 to 40 of a-z, A-Z, 0-9, - and _, beginning with a \
         letter or digit"
    )]
    Name(String),
    /// A service without an address.
    #[error("service {0}: listen is empty; name at least one address")]
    NoAddress(String),
    /// Port 0, or an address that cannot be listened on.
    #[error("service {service}: cannot listen on {address}: {reason}")]
    Address {
        /// The service.
        service: String,
        /// The address.
        address: SocketAddr,
        /// Why not.
        reason: &'static str,
    },
    /// Two services on one address.
    #[error(
        "services {first} and {second} both listen on {address}; an address can belong to one \
         service only"
    )]
    Shared {
        /// The address, with its scheme if that is UDP's.
        address: String,
        /// One service.
        first: String,
        /// The other one.
        second: String,
    },
    /// One service twice on one address.
    #[error("service {service} lists {address} twice; name it once")]
    Twice {
        /// The address, with its scheme if that is UDP's.
        address: String,
        /// The service.
        service: String,
    },
    /// A user or group that does not exist.
    #[error("service {service}: {source}")]
    Identity {
        /// The service.
        service: String,
        /// What is unknown.
        source: IdentityError,
    },
    /// A socket whose path has no room in a socket's address.
    #[error(
        "{} has {length} bytes, but the path of a unix socket may have {limit} at most: set \
         HOTLB_RUNTIME_DIR to a shorter path, or give the service a shorter name",
        path.display()
    )]
    SocketPath {
        /// The socket; of generations, that of the last one there can be.
        path: PathBuf,
        /// Of the path.
        length: usize,
        /// What there is room for.
        limit: usize,
    },
    /// A value out of its range.
    #[error("service {service}: {key}: {reason}")]
    Value {
        /// The service.
        service: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}
