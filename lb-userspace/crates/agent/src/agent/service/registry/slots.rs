//! The slots of a generation's sockets, and how its listeners get on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::super::workers::Untaken;
use crate::{
    clock::{self, Deadline},
    generation::progress::Progress,
};

/// Bind reports that are kept.
const BINDS: usize = 8;

/// What a generation listens with.
#[derive(Debug)]
pub(in crate::agent::service) struct Slots {
    /// The slots of its listeners, by cookie.
    steered: BTreeMap<u64, u32>,
    /// Those of its UDP sockets.
    datagrams: BTreeMap<u64, u32>,
    /// When its listeners got theirs.
    given: Instant,
    /// Listeners for which there was no slot.
    left_out: usize,
    /// Those that nobody could take.
    untaken: Untaken,
    /// Which of its listeners hang.
    progress: Progress,
    /// Until when its binds are followed: a listener may come at any moment.
    followed: Option<Deadline>,
    /// What `join` reported of its binds.
    binds: Vec<String>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            steered: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            given: clock::now(),
            left_out: 0,
            untaken: Untaken::default(),
            progress: Progress::default(),
            followed: None,
            binds: Vec::new(),
        }
    }
}

impl Slots {
    /// The slots of its listeners, by cookie.
    pub(in crate::agent::service) const fn steered(&self) -> &BTreeMap<u64, u32> {
        &self.steered
    }

    /// Those of its UDP sockets.
    pub(in crate::agent::service) const fn datagrams(&self) -> &BTreeMap<u64, u32> {
        &self.datagrams
    }

    /// All sockets that have one.
    pub(in crate::agent::service) fn cookies(&self) -> BTreeSet<u64> {
        let all = self.steered.keys().chain(self.datagrams.keys());
        all.copied().collect()
    }

    /// When its listeners got theirs.
    pub(in crate::agent::service) const fn given_at(&self) -> Instant {
        self.given
    }

    /// Listeners for which there was no slot.
    pub(in crate::agent::service) const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Its listeners got these now, and so many none.
    pub(in crate::agent::service) fn give(&mut self, steered: BTreeMap<u64, u32>, left_out: usize) {
        self.given = clock::now();
        self.steered = steered;
        self.left_out = left_out;
    }

    /// Its listeners got these in its adoption, all of them.
    pub(in crate::agent::service) fn adopt(&mut self, steered: BTreeMap<u64, u32>) {
        self.steered = steered;
    }

    /// Its UDP sockets have these.
    pub(in crate::agent::service) fn give_datagrams(&mut self, datagrams: BTreeMap<u64, u32>) {
        self.datagrams = datagrams;
    }

    /// Its listeners are to be registered again.
    pub(in crate::agent::service) fn renew(&mut self) {
        self.steered.clear();
    }

    /// None of its sockets has one any more.
    pub(in crate::agent::service) fn clear(&mut self) {
        self.steered.clear();
        self.datagrams.clear();
    }

    /// Listeners that nobody could take.
    pub(in crate::agent::service) const fn untaken(&self) -> &Untaken {
        &self.untaken
    }

    /// The same, to note what a look found.
    pub(in crate::agent::service) const fn untaken_mut(&mut self) -> &mut Untaken {
        &mut self.untaken
    }

    /// Which of its listeners hang.
    pub(in crate::agent::service) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, to note what a look found.
    pub(in crate::agent::service) const fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Its binds are followed until then; whether they were not before.
    pub(in crate::agent::service) const fn follow(&mut self, until: Deadline) -> bool {
        self.followed.replace(until).is_none()
    }

    /// Whether the time is over for which its binds are followed. Then, or when that is `halted`, it ends.
    pub(in crate::agent::service) fn is_followed_no_more(&mut self, halted: bool) -> bool {
        let is_over = self.followed.is_none_or(|until| until.left().is_none());
        if halted || is_over {
            self.followed = None;
        }
        is_over
    }

    /// `join` reported a bind.
    pub(in crate::agent::service) fn note_bind(&mut self, text: String) {
        self.binds.push(text);
        let excess = self.binds.len().saturating_sub(BINDS);
        self.binds.drain(..excess);
    }

    /// What it reported last.
    pub(in crate::agent::service) fn last_bind(&self) -> Option<&str> {
        self.binds.last().map(String::as_str)
    }
}
