//! Who holds a lock, without trying to take it.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::sys::stat::{major, minor};
use procfs::LockType;

/// The process that holds flock(2) on the file at `path`; `None` if nobody does. A holder in
/// another pid namespace is not seen.
///
/// # Errors
///
/// When the file is not there or may not be looked at, or /proc/locks cannot be read.
pub fn holder(path: &Path) -> io::Result<Option<i32>> {
    let file = fs::metadata(path)?;
    let locks = procfs::locks().map_err(io::Error::other)?;
    let held = locks.into_iter().find(|lock| {
        lock.lock_type == LockType::FLock
            && lock.inode == file.ino()
            && u64::from(lock.devmaj) == major(file.dev())
            && u64::from(lock.devmin) == minor(file.dev())
    });
    Ok(held.and_then(|lock| lock.pid))
}

#[cfg(test)]
mod tests {
    use nix::fcntl::{Flock, FlockArg};

    use super::*;

    #[test]
    fn sees_a_lock_and_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()).unwrap(), None);
        let lock = Flock::lock(file.reopen().unwrap(), FlockArg::LockExclusive).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(file.path()).unwrap(), Some(own));
        drop(lock);
        assert_eq!(holder(file.path()).unwrap(), None);
    }
}
