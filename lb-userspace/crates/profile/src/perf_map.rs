//! The names that a runtime wrote down for code it made: `/tmp/perf-PID.map`, as the process sees
//! it. Whoever may write to its `/tmp` can put anything there, and who reads is root.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
};

use hotlb_sys::clock::Deadline;
use procfs::process::Process;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use thiserror::Error;

/// What is read of one, in bytes: a runtime that notes each function for days writes less.
const LARGEST: u64 = 256 << 20;
/// The longest line that is a function, in bytes.
const LINE: usize = 4096;

/// Why there are no names in it.
#[derive(Debug, Error)]
pub(super) enum PerfMapError {
    /// It is not there, or its process is not.
    #[error("its runtime must write {path} (node: --perf-basic-prof, python: -X perf)")]
    Absent {
        /// Where it should be.
        path: String,
    },
    /// It is a FIFO, a directory, a device or a link.
    #[error("{path} is not a regular file and was left alone")]
    NotAFile {
        /// Where it is.
        path: String,
    },
    /// Somebody else wrote it.
    #[error(
        "{path} belongs to uid {owner}, but the process to uid {uid}: files of another user are \
         not trusted"
    )]
    Owner {
        /// Where it is.
        path: String,
        /// Whose it is.
        owner: u32,
        /// Whose the process is.
        uid: u32,
    },
    /// It has more than is read of one.
    #[error("{path} has {} MiB, more than the limit of {}", size >> 20, LARGEST >> 20)]
    TooLarge {
        /// Where it is.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Where it is.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// The names of the functions at `addresses` of process `pid`.
pub(super) fn names(
    pid: u32,
    addresses: &[u64],
    deadline: Deadline,
) -> Result<BTreeMap<u64, String>, PerfMapError> {
    let (path, file) = open(pid)?;
    let mut sought = Sought::new(addresses);
    match sought.read(file.take(LARGEST), deadline) {
        Ok(()) => Ok(sought.names),
        Err(source) => Err(PerfMapError::Unreadable { path, source }),
    }
}

fn open(pid: u32) -> Result<(String, File), PerfMapError> {
    let host_path = format!("/tmp/perf-{pid}.map");
    let gone = || PerfMapError::Absent {
        path: host_path.clone(),
    };
    let process = i32::try_from(pid).ok().and_then(|p| Process::new(p).ok());
    let status = process.and_then(|process| process.status().ok());
    let status = status.ok_or_else(gone)?;
    // A container's process knows itself by another number.
    let inner = status.nstgid.as_ref().and_then(|all| all.last().copied());
    let path = inner.map_or_else(|| host_path.clone(), |pid| format!("/tmp/perf-{pid}.map"));
    let root = File::open(format!("/proc/{pid}/root")).map_err(|_gone| gone())?;
    // Without O_NONBLOCK, opening a FIFO waits for somebody who writes.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let below = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&root, path.as_str(), flags, Mode::empty(), below) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Err(PerfMapError::Absent { path }),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Err(PerfMapError::NotAFile { path });
        }
        Err(error) => {
            let source = error.into();
            return Err(PerfMapError::Unreadable { path, source });
        }
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(source) => return Err(PerfMapError::Unreadable { path, source }),
    };
    let (owner, size) = (meta.uid(), meta.len());
    if !meta.is_file() {
        Err(PerfMapError::NotAFile { path })
    } else if owner != 0 && owner != status.euid && owner != status.ruid {
        let uid = status.euid;
        Err(PerfMapError::Owner { path, owner, uid })
    } else if size > LARGEST {
        Err(PerfMapError::TooLarge { path, size })
    } else {
        Ok((path, file))
    }
}

/// Addresses, and what was found of them.
struct Sought {
    addresses: BTreeSet<u64>,
    names: BTreeMap<u64, String>,
}

impl Sought {
    fn new(addresses: &[u64]) -> Self {
        Self {
            addresses: addresses.iter().copied().collect(),
            names: BTreeMap::new(),
        }
    }

    /// Reads line by line; one too long to be a function is passed over, however long it is.
    fn read(&mut self, mut file: impl Read, deadline: Deadline) -> io::Result<()> {
        let mut chunk = vec![0; 1 << 16];
        let mut line = Vec::new();
        loop {
            let read = file.read(&mut chunk)?;
            if deadline.left().is_none() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
                self.line(&line);
                return Ok(());
            };
            for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
                let room = (LINE + 1).saturating_sub(line.len());
                line.extend(piece.iter().take(room));
                if piece.ends_with(b"\n") {
                    self.line(&line);
                    line.clear();
                }
            }
        }
    }

    /// Takes `START SIZE NAME`, numbers in hexadecimal, and nothing else. The last that has an
    /// address names it: the memory of a function that is gone is used again.
    fn line(&mut self, line: &[u8]) {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let mut number = || {
            let digits = std::str::from_utf8(parts.next()?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        let (Some(start), Some(size)) = (number(), number()) else {
            return;
        };
        let name = parts.next().unwrap_or_default().trim_ascii_end();
        if name.is_empty() || line.len() > LINE {
            return;
        }
        for &address in self.addresses.range(start..start.saturating_add(size)) {
            let name = String::from_utf8_lossy(name).into_owned();
            self.names.insert(address, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(text: &[u8]) -> Vec<(u64, String)> {
        let mut sought = Sought::new(&[0x10, 0x20, 0x2f, 0x40]);
        let soon = Deadline::after(Duration::from_secs(10));
        sought.read(text, soon).unwrap();
        sought.names.into_iter().collect()
    }

    fn named(all: &[(u64, &str)]) -> Vec<(u64, String)> {
        all.iter().map(|&(at, name)| (at, name.into())).collect()
    }

    #[test]
    fn lines_name_addresses() {
        assert_eq!(
            found(b"10 1 one\n20 10 two words\n"),
            named(&[(0x10, "one"), (0x20, "two words"), (0x2f, "two words")])
        );
        assert_eq!(found(b"10 1 no newline"), named(&[(0x10, "no newline")]));
        assert_eq!(
            found(b"0 ffffffffffffffff all\n20 1 later\n"),
            named(&[(0x10, "all"), (0x20, "later"), (0x2f, "all"), (0x40, "all")])
        );
    }

    #[test]
    fn a_bad_line_spoils_no_other() {
        for bad in [
            "", "zz", "10", "10 1", "10 1 ", "-10 1 x", " 10 1 x", "40 0 x",
        ] {
            let text = format!("{bad}\n20 1 good\n{bad}");
            assert_eq!(found(text.as_bytes()), named(&[(0x20, "good")]), "{bad:?}");
        }
        assert_eq!(
            found(b"10 1 \xff\xfe\n"),
            named(&[(0x10, "\u{fffd}\u{fffd}")])
        );
        let long = format!("10 1 {}\n20 1 good\n", "x".repeat(1 << 20));
        assert_eq!(found(long.as_bytes()), named(&[(0x20, "good")]));
        assert_eq!(found(&vec![0; 1 << 20]), []);
        assert_eq!(
            found(b"ffffffffffffffff ffffffffffffffff x\n40 1 good"),
            named(&[(0x40, "good")])
        );
    }
}
