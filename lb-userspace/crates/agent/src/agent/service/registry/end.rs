//! How a generation is brought to its end.

use tokio::sync::watch;

use super::super::drain::Drain;
use crate::{
    clock,
    store::{Remembered, journal::CutConnection},
};

/// What is done to end a generation, and what came of it.
#[derive(Debug, Default)]
pub(in crate::agent::service) struct End {
    /// How far its drain is, while it drains or ends.
    drain: Option<Drain>,
    /// Whether a task of this agent is ending it.
    begun: bool,
    /// When it was sent its signal, in seconds since the host was started: a second one would have
    /// many servers quit at once.
    signalled: Option<u64>,
    /// Who was told then: processes, and when they started.
    signalled_whom: Vec<(u32, u64)>,
    /// When others were told, those having ended, in seconds since the host was started.
    signalled_again: Option<u64>,
    /// What its signal cut, if it cut anything.
    signal_cut: Option<String>,
    /// The connections that were cut.
    cut_list: Vec<CutConnection>,
    /// How many were cut because its deadline was over.
    cut: Option<u64>,
    /// What of it serves on although it was to end.
    left: Option<String>,
    /// How it ended, once it has. Receivers wait for that; the watch task sends.
    ended: watch::Sender<Option<String>>,
}

impl End {
    /// What an earlier agent wrote down.
    pub(super) fn restored(remembered: &Remembered, drain: Option<Drain>) -> Self {
        Self {
            drain,
            signalled: remembered.signalled,
            signalled_whom: remembered.signalled_whom.clone(),
            signalled_again: remembered.signalled_again,
            signal_cut: remembered.signal_cut.clone(),
            cut_list: remembered.cut_list.clone(),
            ..Self::default()
        }
    }

    /// How far its drain is, while it drains or ends.
    pub(super) const fn drain(&self) -> Option<&Drain> {
        self.drain.as_ref()
    }

    /// The same, to go on with it.
    pub(super) const fn drain_mut(&mut self) -> Option<&mut Drain> {
        self.drain.as_mut()
    }

    /// It drains from now on.
    pub(super) fn begin_drain(&mut self, drain: Drain) {
        self.drain = Some(drain);
    }

    /// Stops draining it.
    pub(super) fn undrain(&mut self) {
        if let Some(mut drain) = self.drain.take() {
            drain.abort();
        }
    }

    /// A task comes to end it; whether it is the one that does.
    pub(super) const fn begin(&mut self, is_live: bool) -> bool {
        if self.begun {
            return false;
        }
        self.begun = is_live;
        true
    }

    /// When it was sent its signal, in seconds since the host was started.
    pub(in crate::agent::service) const fn signalled(&self) -> Option<u64> {
        self.signalled
    }

    /// Who was told then.
    pub(in crate::agent::service) fn signalled_whom(&self) -> &[(u32, u64)] {
        &self.signalled_whom
    }

    /// Its signal is sent to these processes.
    pub(in crate::agent::service) fn note_signalled(&mut self, whom: Vec<(u32, u64)>) {
        self.signalled = Some(clock::since_boot().as_secs());
        self.signalled_whom = whom;
    }

    /// When others were told, those having ended, in seconds since the host was started.
    pub(in crate::agent::service) const fn signalled_again(&self) -> Option<u64> {
        self.signalled_again
    }

    /// Others are told, those having ended.
    pub(in crate::agent::service) fn note_signalled_again(&mut self) {
        self.signalled_again = Some(clock::since_boot().as_secs());
    }

    /// What its signal cut, if it cut anything.
    pub(in crate::agent::service) fn signal_cut(&self) -> Option<&str> {
        self.signal_cut.as_deref()
    }

    /// Its signal cut connections.
    pub(in crate::agent::service) fn note_signal_cut(&mut self, advice: String) {
        self.signal_cut = Some(advice);
    }

    /// The connections that were cut.
    pub(in crate::agent::service) fn cut_list(&self) -> &[CutConnection] {
        &self.cut_list
    }

    /// These were cut.
    pub(in crate::agent::service) fn note_cut(&mut self, cut: Vec<CutConnection>) {
        self.cut_list.extend(cut);
    }

    /// How many were cut because its deadline was over.
    pub(in crate::agent::service) const fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// What of it serves on although it was to end.
    pub(in crate::agent::service) fn left(&self) -> Option<&str> {
        self.left.as_deref()
    }

    /// It has come to its end: so many were cut, and this serves on.
    pub(in crate::agent::service) fn settle(&mut self, cut: Option<u64>, left: Option<String>) {
        // Some by an earlier agent, perhaps.
        let listed = self.cut_list.len() as u64;
        self.cut = match listed {
            0 => cut,
            listed => Some(cut.unwrap_or_default().max(listed)),
        };
        self.left = left;
    }

    /// How it ended, once it has.
    pub(in crate::agent::service) fn how(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Whether it has ended.
    pub(in crate::agent::service) fn has_come(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Receives how it ended, once it has.
    pub(in crate::agent::service) fn awaited(&self) -> watch::Receiver<Option<String>> {
        self.ended.subscribe()
    }

    /// It has ended so: wakes those who wait for that.
    pub(in crate::agent::service) fn note(&self, how: String) {
        self.ended.send_replace(Some(how));
    }
}
