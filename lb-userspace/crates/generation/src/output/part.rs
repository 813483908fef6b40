//! What is being written: so that a logger which was killed has nothing in the file twice.
//!
//! The bytes stay in the pipe until the file has them. Whoever comes after one that was killed in
//! between finds here which part that was, and compares.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use crate::sys::{fifo, reader};

/// Bytes moved at once.
pub(super) const PART: usize = 1024 * 1024;

/// A part of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// The pipe's inode.
    pub pipe: u64,
    /// The file's.
    pub file: u64,
    /// Where it begins in the file.
    pub start: u64,
    /// How many bytes it has; 0: nothing is being written.
    pub length: u64,
}

const WORD: usize = 8;
const SIZE: usize = 4 * WORD;

/// The record of it: pages of a file, which outlive the process.
#[derive(Debug)]
pub(super) struct Record(File);

impl Record {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        options.open(path).map(Self)
    }

    pub(super) fn another(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub(super) fn set(&self, part: Part) -> io::Result<()> {
        let words = [part.pipe, part.file, part.start, part.length];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.0.write_all_at(&bytes, 0)
    }

    pub(super) fn get(&self) -> Part {
        let mut bytes = [0; SIZE];
        if self.0.read_exact_at(&mut bytes, 0).is_err() {
            return Part::default();
        }
        let mut words = bytes
            .chunks_exact(WORD)
            .map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
        let mut next = || words.next().unwrap_or_default();
        Part {
            pipe: next(),
            file: next(),
            start: next(),
            length: next(),
        }
    }
}

/// How many of the first bytes in `pipe` are in its file already.
pub(super) fn written(part: Part, pipe: &File, log: &Path) -> io::Result<u64> {
    let files = [log.to_owned(), reader::aside(log)];
    let opened = files.iter().filter_map(|path| File::open(path).ok());
    let mut same = opened.filter(|file| file.metadata().is_ok_and(|file| file.ino() == part.file));
    let Some(file) = same.next() else {
        return Ok(0);
    };
    let beyond = file.metadata()?.len().saturating_sub(part.start);
    let length = usize::try_from(beyond.min(part.length)).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(0);
    }
    let (mut scratch, into) = io::pipe()?;
    fifo::enlarge(&into, PART);
    // Nothing waits: it was taken.
    let shown = fifo::show(pipe, &into, length).unwrap_or_default();
    drop(into);
    let mut waits = Vec::new();
    scratch.read_to_end(&mut waits)?;
    let mut has = vec![0; length];
    file.read_exact_at(&mut has, part.start)?;
    let is_there = shown == length && waits == has;
    Ok(if is_there { length as u64 } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_what_is_in_the_file_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::open(&dir.path().join("part")).unwrap();
        assert_eq!(record.get(), Part::default());
        let log = dir.path().join("a.log");
        std::fs::write(&log, "zero\none\n").unwrap();
        let part = Part {
            pipe: 1,
            file: log.metadata().unwrap().ino(),
            start: 5,
            length: 8,
        };
        record.set(part).unwrap();
        assert_eq!(record.get(), part);
        let path = dir.path().join("web.a");
        let made = fifo::make(&path, 0, 0, 4096).unwrap();
        (&made.hold).write_all(b"one\ntwo\nthree\n").unwrap();
        // Killed in the middle of it.
        assert_eq!(written(part, &made.reader, &log).unwrap(), 4);
        // Killed before it, or after it was taken from the pipe.
        let before = Part { start: 9, ..part };
        assert_eq!(written(before, &made.reader, &log).unwrap(), 0);
        std::fs::write(&log, "zero\nother").unwrap();
        assert_eq!(written(part, &made.reader, &log).unwrap(), 0);
        // The file was removed.
        std::fs::remove_file(&log).unwrap();
        assert_eq!(written(part, &made.reader, &log).unwrap(), 0);
    }
}
