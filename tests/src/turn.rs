//! One test at a time on the whole machine: the figures of two loads at once would mean nothing.

use std::{fs::File, sync::Arc};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::report;

/// The right to use the machine, held until the last clone is dropped. Other threads and processes wait meanwhile.
#[derive(Debug, Clone)]
pub struct Turn {
    _lock: Arc<Flock<File>>,
}

impl Turn {
    /// Waits until no other test holds its turn.
    pub fn take() -> Result<Self> {
        let path = std::env::temp_dir().join("hotlb-tests.lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let (file, errno) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                return Ok(Self {
                    _lock: Arc::new(lock),
                });
            }
            Err(refused) => refused,
        };
        if errno != Errno::EWOULDBLOCK {
            return Err(errno).with_context(|| format!("lock {}", path.display()));
        }
        report::remark("another test has its turn; waiting");
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(Self {
            _lock: Arc::new(lock),
        })
    }
}
