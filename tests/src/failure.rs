//! The ways a request can fail, as its client sees them.

use std::io::{self, ErrorKind};

/// Why a request got no whole, good answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No socket took the connection.
    #[error("refused")]
    Refused,
    /// The connection ended with a reset.
    #[error("reset after {received} bytes of the answer")]
    Reset {
        /// Bytes of the answer that had come by then.
        received: usize,
    },
    /// The connection ended in order, but before the answer was whole.
    #[error("closed after {received} bytes of the answer")]
    Closed {
        /// Bytes of the answer that had come by then.
        received: usize,
    },
    /// A whole answer, but not 200.
    #[error("status {0}")]
    Status(u16),
    /// An answer that is not HTTP, or whose end cannot be told.
    #[error("not a proper answer: {0}")]
    Malformed(String),
    /// No whole answer in the time a request is given.
    #[error("no whole answer before the deadline")]
    Deadline,
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl Failure {
    /// Tells what an error of the socket means after `received` bytes of the answer.
    pub fn from_io(error: io::Error, received: usize) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                Self::Reset { received }
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Deadline,
            _ => Self::Other(error),
        }
    }
}
