//! One pipe, as the logger has it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::dropped;
use crate::sys::fifo;

/// What is written at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Something, if slowly.
    Goes,
    /// Nothing: the disk hangs.
    Stuck,
}

/// A pipe and where its bytes go.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) pipe: File,
    /// Where it was found.
    pub(super) path: PathBuf,
    pub(super) log: Arc<PathBuf>,
    service: String,
    generation: String,
    /// Given up since its file was written last, and why.
    lost: Option<(u64, String)>,
    /// When its file is tried again, and why it could not be written.
    pub(super) failing: Option<(Instant, String)>,
    /// Nothing was taken from it yet.
    pub(super) is_new: bool,
    /// Bytes at its head that the writer has as well, and which are not lost if they are given up.
    pub(super) being_written: u64,
}

impl Source {
    pub(super) fn new(
        pipe: File,
        path: PathBuf,
        log: PathBuf,
        (service, generation): (String, String),
    ) -> Self {
        Self {
            pipe,
            path,
            log: Arc::new(log),
            service,
            generation,
            lost: None,
            failing: None,
            is_new: true,
            being_written: 0,
        }
    }

    /// Gives up the oldest where the server would soon have to wait. More than three eighths of the
    /// room are too much while nothing is written, for it may be full at half; while something is,
    /// it may use all of it.
    pub(super) fn relieve(&mut self, need: Need, null: &File, record: &Path) {
        let room = fifo::room(&self.pipe);
        let waiting = fifo::waiting(&self.pipe);
        if waiting <= room / 8 * 3 {
            return;
        }
        let why = match (&self.failing, need) {
            (Some((_, why)), _) => why.clone(),
            (None, Need::Stuck) => "the disk does not accept it".to_owned(),
            (None, Need::Goes) if fifo::is_full(&self.pipe) => {
                "the server wrote faster than the disk could store it".to_owned()
            }
            (None, Need::Goes) => return,
        };
        let given_up = fifo::discard(&self.pipe, null, waiting - room / 8);
        let kept = given_up.min(self.being_written);
        self.being_written -= kept;
        let bytes = given_up - kept;
        let before = self.lost.as_ref().map_or(0, |(bytes, _)| *bytes);
        self.lost = Some((before + bytes, why.clone()));
        // If it cannot be counted, the file says it.
        let of = (self.service.as_str(), self.generation.as_str());
        let _noted = dropped::add(record, of, bytes, &why);
    }

    /// The line that says in the file what was given up here.
    pub(super) fn apology(&self) -> Option<String> {
        let (bytes, why) = self.lost.as_ref()?;
        Some(format!(
            "\n[hotlb: {bytes} bytes of output were dropped here: {why}]\n"
        ))
    }

    pub(super) fn has_apologized(&mut self) {
        self.lost = None;
    }
}
