//! A generation's listeners and their slots.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::GenerationId;

use super::{CheckError, Service, books::Books};
use crate::{
    generation::{fit, listeners},
    sys::{
        listener,
        listing::Listing,
        sock_diag::{Protocol, Waiting},
    },
};

impl Service {
    /// Gives each of the generation's listeners a slot, but for those that hang. Cheap when
    /// nothing changed.
    pub(super) fn register(&self, books: &mut Books, id: GenerationId) -> Result<(), CheckError> {
        let listing = Listing::now(&self.netns, Protocol::Tcp)?;
        let members = members(books, id, &listing)?;
        self.give_slots(books, id, &members)
    }

    /// [`Service::register`] for who has the listeners, by group.
    pub(super) fn give_slots(
        &self,
        books: &mut Books,
        id: GenerationId,
        members: &[Vec<Waiting>],
    ) -> Result<(), CheckError> {
        let Some(generation) = books.get_mut(id) else {
            return Ok(());
        };
        self.give_datagram_slots(generation)?;
        let hangs = |waiting: &&Waiting| generation.progress.hangs(waiting.cookie);
        let cookie = |waiting: &Waiting| waiting.cookie;
        let all = || members.iter().flatten();
        let wanted: BTreeSet<u64> = all().filter(|w| !hangs(w)).map(cookie).collect();
        if wanted.iter().eq(generation.steered.keys()) {
            return Ok(());
        }
        let resting: BTreeSet<u64> = all().filter(hangs).map(cookie).collect();
        self.path.rest(id, &resting)?;
        let mut steered = BTreeMap::new();
        let mut left_out = 0;
        for (group, members) in self.path.groups().iter().zip(members) {
            let mut sockets = listeners::take(&generation.cgroup, members);
            sockets.retain(|cookie, _| wanted.contains(cookie));
            for (&cookie, socket) in &sockets {
                if let Err(error) = listener::deepen(socket) {
                    tracing::warn!(%error, "a listener keeps its short queue");
                }
                self.path.note_listener(cookie, Some(id))?;
            }
            let registered = self.path.register(group, id, &sockets)?;
            steered.extend(registered.steered);
            left_out += registered.left_out.len();
        }
        generation.steered = steered;
        generation.unsteered = left_out;
        Ok(())
    }
}

/// The generation's listeners in each group, or why they do not fit.
pub(super) fn members(
    books: &Books,
    id: GenerationId,
    listing: &Listing,
) -> Result<Vec<Vec<Waiting>>, CheckError> {
    let Some(generation) = books.get(id) else {
        return Ok(Vec::new());
    };
    let found = listing.below(&generation.cgroup);
    let found: Vec<Waiting> = found.into_iter().cloned().collect();
    if let Some(error) = &books.keeper_error {
        return Err(CheckError::NoKeeper(error.clone()));
    }
    Ok(fit::fit(&Service::twins(books), &found)?)
}
