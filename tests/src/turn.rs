//! Whose turn it is on the whole machine. A test that measures is alone: the figures of two loads at once would mean
//! nothing. Tests that measure nothing share their turn, if `cargo xtask test` runs them side by side.

use std::{env, fs::File, sync::Arc};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::report;

/// Set for tests that share their turn with others.
const SIDE_BY_SIDE: &str = "HOTLB_TEST_SIDE_BY_SIDE";

/// The right to use the machine, held until the last clone is dropped. Other threads and processes wait meanwhile, unless
/// they share it.
#[derive(Debug, Clone)]
pub struct Turn {
    _lock: Arc<Flock<File>>,
}

impl Turn {
    /// Waits until no other test holds a turn that this one cannot share.
    pub fn take() -> Result<Self> {
        let path = env::temp_dir().join("hotlb-tests.lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let (at_once, later) = if env::var_os(SIDE_BY_SIDE).is_some() {
            (FlockArg::LockSharedNonblock, FlockArg::LockShared)
        } else {
            (FlockArg::LockExclusiveNonblock, FlockArg::LockExclusive)
        };
        let (file, errno) = match Flock::lock(file, at_once) {
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
        let lock = Flock::lock(file, later)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", path.display()))?;
        Ok(Self {
            _lock: Arc::new(lock),
        })
    }
}
