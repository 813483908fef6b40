//! What a server writes to stdout and stderr: into a pipe, from which the logger takes it to a file.
//!
//! A pipe, for it can be opened anew (`/dev/stderr`) without being emptied, by whoever has it. It
//! has room for minutes, for nobody may be there to read: neither agent nor logger is in a server's
//! way. Why it is so: `docs/develop/decisions/0022-output-through-a-pipe.md`.

mod again;
mod dropped;
mod keep;
mod logger;
mod part;
mod source;
mod writer;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{clock::Deadline, config::OutputPlaces, sys::fifo};

pub use again::name_again;
pub use dropped::{Dropped, dropped};
pub use keep::{Logger, Looked};
pub use logger::log;

/// Room of a pipe, where there are few of them: a minute and more at 1 MB/s, whatever the lines.
pub const ROOM: usize = 128 * 1024 * 1024;
/// Pipes that have all of it; with more, each new one has less.
const FEW: usize = 32;
/// The least that is asked for.
const LEAST: usize = 2 * 1024 * 1024;

/// All pipes: service, generation, path.
fn all_pipes(places: &OutputPlaces) -> Vec<(String, String, PathBuf)> {
    let entries = fs::read_dir(&places.pipes).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (service, generation) = name.split_once('.').filter(|names| !names.0.is_empty())?;
        Some((service.to_owned(), generation.to_owned(), entry.path()))
    });
    named.collect()
}

/// Room of the next pipe, where there are so many.
fn wanted(pipes: usize) -> usize {
    let parts = (pipes / FEW).saturating_add(1).next_power_of_two();
    (ROOM / parts).max(LEAST)
}

/// How much room the pipe at `path` was granted, if that is less than is ever asked for.
pub fn narrow(path: &Path) -> Option<u64> {
    let room = fifo::room(fifo::reader(path).ok()?);
    (room < LEAST as u64).then_some(room)
}

/// The output of a generation that is being started.
#[derive(Debug)]
pub struct Outlet {
    hold: Option<File>,
    reader: File,
}

impl Outlet {
    /// Makes the pipe; a server of this user opens it.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn make(places: &OutputPlaces, pipe: &Path, uid: u32, gid: u32) -> io::Result<Self> {
        let made = fifo::make(pipe, uid, gid, wanted(all_pipes(places).len()))?;
        Ok(Self {
            hold: Some(made.hold),
            reader: made.reader,
        })
    }

    /// The server has it.
    pub fn is_taken(&mut self) {
        self.hold = None;
    }

    /// Waits until the file says all that was written so far; not for long.
    pub async fn settled(&self) {
        settle(&self.reader, Deadline::after(SOON)).await;
    }
}

/// The pipe of a server, held open: one that nobody has open loses what is in it, and a logger that is stopped or dead
/// is replaced a moment later.
#[derive(Debug)]
pub struct LastWords(Option<File>);

impl LastWords {
    /// Of the pipe at this path. A server without one writes its file itself.
    pub fn of(pipe: &Path) -> Self {
        Self(fifo::reader(pipe).ok())
    }

    /// Waits until the file says all that the server wrote, which has ended; not for long.
    pub async fn settled(self) {
        if let Some(reader) = &self.0 {
            settle(reader, Deadline::after(SOON)).await;
        }
    }
}

async fn settle(reader: &File, deadline: Deadline) {
    let mut look = tokio::time::interval(LOOK);
    while fifo::waiting(reader) > 0 && deadline.left().is_some() {
        look.tick().await;
    }
}

/// Longest wait for the last words of a server that ended: a logger that was killed is there again
/// by then.
const SOON: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pipes_have_much_room_and_many_have_less() {
        assert_eq!(wanted(0), ROOM);
        assert_eq!(wanted(31), ROOM);
        assert_eq!(wanted(32), ROOM / 2);
        assert_eq!(wanted(64), ROOM / 4);
        assert_eq!(wanted(1000), ROOM / 32);
        assert_eq!(wanted(usize::MAX), LEAST);
    }
}
