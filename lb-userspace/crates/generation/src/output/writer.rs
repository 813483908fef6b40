//! The logger's other thread, which alone waits for the disk.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};

use super::part::{Part, Record};
use crate::sys::{fifo, reader};

/// Bytes of a file before it is turned over: agents of earlier releases turn over what has 16 MiB.
const TURN: u64 = 16 * 1024 * 1024 - 4096;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// To write what is in the scratch pipe.
    Pour {
        /// The pipe it comes from, by inode.
        pipe: u64,
        /// The file it goes to.
        log: Arc<PathBuf>,
        /// How much it is.
        length: usize,
    },
    /// To write a line of the logger's own.
    Say {
        /// As above.
        pipe: u64,
        /// As above.
        log: Arc<PathBuf>,
        /// The line.
        line: String,
    },
    /// To close the file: nothing comes from the pipe any more.
    Close(u64),
}

/// What came of a job: bytes written, or an error's number.
pub(super) type Outcome = i64;

#[derive(Debug)]
pub(super) struct Writer {
    /// The scratch pipe.
    pub scratch: PipeReader,
    pub record: Record,
    pub null: File,
    /// Where outcomes are said.
    pub done: PipeWriter,
}

impl Writer {
    /// Does jobs until there are no more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut files = HashMap::new();
        for job in jobs {
            let outcome = match job {
                Job::Close(pipe) => {
                    files.remove(&pipe);
                    continue;
                }
                Job::Say { pipe, log, line } => say(&mut files, pipe, &log, &line),
                Job::Pour { pipe, log, length } => {
                    let poured = self.pour(&mut files, pipe, &log, length);
                    let rest = length as u64 - poured.as_ref().map_or(0, |&poured| poured);
                    fifo::discard(&self.scratch, &self.null, rest);
                    poured
                }
            };
            let outcome = match outcome {
                Ok(written) => Outcome::try_from(written).unwrap_or(Outcome::MAX),
                Err(error) => -Outcome::from(error.raw_os_error().unwrap_or(libc::EIO)),
            };
            if self.done.write_all(&outcome.to_ne_bytes()).is_err() {
                return;
            }
        }
    }

    /// Writes as much as the file takes; less than `length` where it is to be turned over then.
    fn pour(
        &self,
        files: &mut HashMap<u64, File>,
        pipe: u64,
        log: &Path,
        length: usize,
    ) -> io::Result<u64> {
        let (file, start) = file(files, pipe, log)?;
        let goal = (length as u64).min(TURN.saturating_sub(start));
        self.record.set(Part {
            pipe,
            file: file.metadata()?.ino(),
            start,
            length: goal,
        })?;
        let mut written = 0;
        while written < goal {
            let left = usize::try_from(goal - written).map_err(io::Error::other)?;
            match fifo::pour(&self.scratch, file, start + written, left) {
                Ok(0) => break,
                Ok(moved) => written += moved as u64,
                // Tried again, and said then.
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

fn say(files: &mut HashMap<u64, File>, pipe: u64, log: &Path, line: &str) -> io::Result<u64> {
    let (file, start) = file(files, pipe, log)?;
    file.write_all_at(line.as_bytes(), start)?;
    Ok(line.len() as u64)
}

/// The file and how long it is: turned over when it is large, made again if somebody removed it.
fn file<'files>(
    files: &'files mut HashMap<u64, File>,
    pipe: u64,
    log: &Path,
) -> io::Result<(&'files File, u64)> {
    let usable = files.remove(&pipe).filter(|file| {
        let there = file.metadata();
        there.is_ok_and(|there| there.nlink() > 0 && there.len() < TURN)
    });
    let file = match usable {
        Some(file) => file,
        None => open(log)?,
    };
    let length = file.metadata()?.len();
    Ok((files.entry(pipe).or_insert(file), length))
}

fn open(log: &Path) -> io::Result<File> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir)?;
    }
    if log.metadata().is_ok_and(|log| log.len() >= TURN) {
        reader::set_aside(log)?;
    }
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(log)
}
