//! The listeners of a generation in the choice: their slots, and what it goes by.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use hotlb_sys::clock;
use lb_common::{GenerationId, Workers, steering};

use super::{
    error::DatapathError,
    group::{Group, Registered},
    service::ServicePath,
};

impl ServicePath {
    /// How the choice falls between the listeners of a generation, from the next connection on.
    pub fn choose_by(&self, workers: Workers) {
        self.steering.store(steering::WORKERS, workers.to_bits());
    }

    /// Gives each of the generation's listeners in a group a slot, and forgets those that are
    /// gone.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a listener, or has no slots left.
    pub fn register(
        &self,
        group: &Group,
        generation: GenerationId,
        listeners: &BTreeMap<u64, OwnedFd>,
    ) -> Result<Registered, DatapathError> {
        // A socket is in one map at a time.
        if let Some(reloads) = &self.reloads {
            reloads.forget_at(generation, group.address());
        }
        let registered = match group.register(generation, listeners) {
            // Of a server that its supervisor started again: noted for the generation it was then.
            Err(DatapathError::Slot { source, .. })
                if source.raw_os_error() == Some(libc::EBUSY) =>
            {
                if let Some(reloads) = &self.reloads {
                    reloads.forget_all_at(group.address());
                }
                group.register(generation, listeners)?
            }
            done => done?,
        };
        let least = self.chosen_by() == Workers::Least;
        self.loads.count(least, &registered, listeners)?;
        Ok(registered)
    }

    /// Gives each of the generation's UDP sockets in a group a slot, and has `steer_udp` choose in it.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a socket, or has no slots left.
    pub fn register_datagrams(
        &self,
        group: &Group,
        generation: GenerationId,
        sockets: &BTreeMap<u64, OwnedFd>,
    ) -> Result<Registered, DatapathError> {
        let registered = group.register(generation, sockets)?;
        if let Some(socket) = sockets.values().next() {
            group.attach(socket)?;
        }
        Ok(registered)
    }

    /// Has every connection of a transparent listener counted, whatever its port.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn count_transparent(&self, listener: &OwnedFd) -> Result<(), DatapathError> {
        match &self.reloads {
            Some(reloads) => reloads.count_transparent(listener),
            None => Ok(()),
        }
    }

    /// The agent runs: clients may wait for what only it can do.
    pub fn beat(&self) {
        let now = u64::try_from(clock::monotonic().as_nanos()).unwrap_or(u64::MAX);
        self.steering.store(steering::BEAT, now);
    }

    /// How the choice falls between the listeners of a generation.
    pub fn chosen_by(&self) -> Workers {
        Workers::from_bits(self.steering.load(steering::WORKERS))
    }

    /// Takes these of the generation's listeners out of the choice, until they are registered
    /// again.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub fn rest(
        &self,
        generation: GenerationId,
        cookies: &BTreeSet<u64>,
    ) -> Result<(), DatapathError> {
        let mut groups = self.groups.iter();
        groups.try_for_each(|group| group.rest(generation, cookies))
    }

    /// Remembers whose listener this is (`None`: parking), for connections that move from it. Where the
    /// kernel's table is full they stay in the count they are in.
    pub fn note_listener(&self, cookie: u64, generation: Option<GenerationId>) {
        if let Err(error) = self.owners.note(cookie, generation) {
            tracing::warn!(
                %error,
                "failed to note the owner of a listener: what moves from it counts for its first generation"
            );
        }
    }

    /// Forgets the listeners that have not been `alive` for a while.
    pub fn forget_listeners(&self, alive: impl Fn(u64) -> bool) {
        self.owners.forget(alive, clock::now());
    }

    /// Open connections that came through the listener at `slot`; 0 where they are not counted.
    pub fn load(&self, slot: u32) -> u64 {
        self.loads.at(slot)
    }
}
