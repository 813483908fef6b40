//! Programs for `cargo xtask bench`: loaded without pins, gone with the value.

use std::os::fd::{AsFd, AsRawFd as _};

use aya::{Ebpf, programs::SkReuseport};
use lb_common::names;

use super::{error::DatapathError, object};

/// A program that does nothing, to be attached to a reuseport group and timed.
#[derive(Debug)]
pub struct Noop {
    _object: Ebpf,
}

impl Noop {
    /// Loads it and attaches it to the group `socket` is in.
    pub fn attach(socket: impl AsFd) -> Result<Self, DatapathError> {
        let mut object = object::load_unpinned()?;
        let noop: &mut SkReuseport = object
            .program_mut(names::NOOP)
            .ok_or(DatapathError::Missing(names::NOOP))?
            .try_into()
            .map_err(DatapathError::program(names::NOOP))?;
        noop.load().map_err(DatapathError::program(names::NOOP))?;
        noop.attach(socket.as_fd())
            .map_err(DatapathError::program(names::NOOP))?;
        tracing::debug!(socket = socket.as_fd().as_raw_fd(), "no-op attached");
        Ok(Self { _object: object })
    }
}
