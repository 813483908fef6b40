//! The keeper's work: parking listeners are opened, replaced and given another shape.
//!
//! The keeper is asked without the lock of the state, and with clients waiting for as long as it lives:
//! a keeper that is stopped delays those who wait in it, and nobody else.

use std::{
    sync::{self, Arc, PoisonError},
    time::{Duration, Instant},
};

use lb_common::GenerationId;
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard, watch};

use super::{Context, OpenError, parks::Parks, registry::Registry, shared::SharedState};
use crate::{
    clock,
    datapath::{ConnectionCounts, DatapathError},
    generation::keeper::{Keeper, KeeperError, PATIENCE, Parked},
    sys::listener::GroupKey,
};

/// Longest wait of a promote for the keeper to let go of those who are parked.
const RELEASED: Duration = Duration::from_millis(100);

/// Where the connections of parking listeners are counted.
const PARKING_SEAT: u32 = 0;

/// A parking listener could not be put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParkError {
    /// The keeper.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The kernel side.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

impl From<ParkError> for OpenError {
    fn from(error: ParkError) -> Self {
        match error {
            ParkError::Keeper(error) => error.into(),
            ParkError::Datapath(error) => error.into(),
        }
    }
}

impl From<ParkError> for super::VerbError {
    fn from(error: ParkError) -> Self {
        match error {
            ParkError::Keeper(error) => error.into(),
            ParkError::Datapath(error) => error.into(),
        }
    }
}

impl From<ParkError> for super::CheckError {
    fn from(error: ParkError) -> Self {
        match error {
            ParkError::Keeper(error) => error.into(),
            ParkError::Datapath(error) => error.into(),
        }
    }
}

/// A service's keeper, and what it is asked to do.
#[derive(Debug)]
pub(super) struct Parking {
    keeper: sync::Mutex<Keeper>,
    /// Held while listeners are opened or closed. Taken before the lock of the state, never after.
    turn: Arc<Mutex<()>>,
    releases: watch::Sender<Releases>,
    /// The counts at the last look.
    compared: sync::Mutex<Option<ConnectionCounts>>,
}

/// How often those who wait in the parking listeners are to be let go.
#[derive(Clone, Copy, Debug, Default)]
struct Releases {
    asked: u64,
    begun: u64,
    done: u64,
    /// When the one that is not done was asked for.
    since: Option<Instant>,
    /// When another one was asked for while that one had begun.
    again: Option<Instant>,
}

impl Releases {
    const fn are_done(self) -> bool {
        self.done == self.asked
    }
}

impl Parking {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            keeper: sync::Mutex::new(keeper),
            turn: Arc::default(),
            releases: watch::Sender::default(),
            compared: sync::Mutex::default(),
        }
    }

    /// The keeper there is now.
    pub(super) fn keeper(&self) -> Keeper {
        let keeper = self.keeper.lock();
        keeper.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one stands in its place.
    pub(super) fn replace_keeper(&self, keeper: Keeper) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
    }

    /// Lets go of whoever waits in the parking listeners, soon.
    pub(super) fn release(&self) {
        self.releases.send_if_modified(|releases| {
            let is_new = releases.asked == releases.begun;
            if is_new {
                releases.asked += 1;
                let asked = match releases.since {
                    None => &mut releases.since,
                    Some(_) => &mut releases.again,
                };
                *asked = Some(clock::now());
            }
            is_new
        });
    }

    /// Waits until all is done that was asked for; false at the limit.
    pub(super) async fn is_released(&self, limit: Duration) -> bool {
        let mut releases = self.releases.subscribe();
        let done = releases.wait_for(|releases| releases.are_done());
        tokio::time::timeout(limit, done).await.is_ok()
    }

    /// For how long the keeper has been asked in vain.
    fn waits_for(&self) -> Option<Duration> {
        let since = self.releases.borrow().since?;
        Some(since.elapsed()).filter(|&waits| waits > RELEASED)
    }

    /// What `status` says of so many parked clients beside a generation that is active.
    pub(super) fn warning(&self, parked: u64) -> String {
        let Some(waits) = self.waits_for() else {
            return match parked {
                1 => "1 connection is parked".to_owned(),
                _ => format!("{parked} connections are parked"),
            };
        };
        let waits = Duration::from_millis(clock::millis(waits));
        format!(
            "{} for the keeper, which has not answered for {}: hotlb serves them as soon as it does (pid {2}; if it is \
             stopped, `kill -CONT {2}`)",
            match parked {
                1 => "1 parked client waits".to_owned(),
                _ => format!("{parked} parked clients wait"),
            },
            humantime::format_duration(waits),
            self.keeper().pid()
        )
    }

    /// Once a second: where nobody waits in the parking listeners, and nobody came or went since the last look, the
    /// count of parked clients is 0. It can be another one after programs that counted wrong, of a former release.
    pub(super) fn compare(&self, context: &Context, queued: u64) {
        let counts = context.path.connections(None);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = compared.replace(counts) == Some(counts);
        if is_quiet && queued == 0 && context.path.seat_in_use(PARKING_SEAT) {
            let by = context.path.forget_parked();
            tracing::warn!(
                service = context.name(),
                by,
                "corrected the count of parked clients: the parking listeners are empty"
            );
        }
    }

    /// Keeps every listener as it is, until it is dropped.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    async fn turn(&self) -> Result<MutexGuard<'_, ()>, KeeperError> {
        let turn = tokio::time::timeout(PATIENCE, self.turn.lock()).await;
        turn.map_err(|_elapsed| self.keeper().silent())
    }

    /// The next one that is asked for.
    async fn asked(&self) -> Releases {
        let mut releases = self.releases.subscribe();
        let is_new = |releases: &Releases| releases.asked > releases.done;
        // It fails when the sender is gone, which `self` has. The value is not held: it is changed next.
        let _is_new = releases.wait_for(is_new).await.is_ok();
        let mut begun = Releases::default();
        self.releases.send_modify(|releases| {
            releases.begun = releases.asked;
            begun = *releases;
        });
        begun
    }

    fn done(&self, begun: Releases) {
        self.releases.send_modify(|releases| {
            releases.done = begun.asked;
            releases.since = releases.again.take();
        });
    }

    /// One parking listener a group: those the keeper still holds, else new ones, of the shape
    /// they had.
    pub(super) async fn open(
        &self,
        context: &Context,
        state: &SharedState,
    ) -> Result<(), OpenError> {
        let _turn = self.turn().await?;
        let keeper = self.keeper();
        let held = keeper.list().await?;
        let former = state.look(|registry| registry.parks().group_keys()).await;
        let mut parks = Vec::new();
        for (index, group) in context.path.groups().iter().enumerate() {
            // More than one is what an agent leaves that dies in the middle of a rotation; the
            // youngest is kept.
            let mut here = held
                .iter()
                .filter(|p| p.group_key.address == group.address())
                .rev();
            let parked = if let Some(&parked) = here.next() {
                parked
            } else {
                let group_key = former.get(index).copied();
                let group_key =
                    group_key.unwrap_or_else(|| context.config.group_key(group.address()));
                keeper.open(group_key).await?
            };
            let parked = match self.put_in_place(context, index, &parked) {
                Ok(()) => parked,
                // It is in the slots of maps that are lost. Who waits in it moves to the new one.
                Err(ParkError::Datapath(DatapathError::Slot { source, .. }))
                    if source.kind() == std::io::ErrorKind::ResourceBusy =>
                {
                    let fresh = keeper.open(parked.group_key).await?;
                    self.put_in_place(context, index, &fresh)?;
                    keeper.close(parked.cookie).await?;
                    fresh
                }
                Err(error) => return Err(error.into()),
            };
            for old in here {
                keeper.close(old.cookie).await?;
            }
            parks.push(parked);
        }
        state
            .change(|registry| registry.set_parks(Parks::new(parks)))
            .await;
        Ok(())
    }

    /// One parking listener a group, of these shapes, where there are none yet.
    pub(super) async fn open_as(
        &self,
        context: &Context,
        state: &SharedState,
        group_keys: &[GroupKey],
    ) -> Result<(), ParkError> {
        let _turn = self.turn().await?;
        let keeper = self.keeper();
        let mut parks = Vec::new();
        for (index, &group_key) in group_keys.iter().enumerate() {
            let parked = keeper.open(group_key).await?;
            self.put_in_place(context, index, &parked)?;
            parks.push(parked);
        }
        state
            .change(|registry| registry.set_parks(Parks::new(parks)))
            .await;
        Ok(())
    }

    /// Closes all parking listeners.
    pub(super) async fn close(&self, state: &SharedState) -> Result<(), ParkError> {
        let _turn = self.turn().await?;
        state
            .change(|registry| registry.set_parks(Parks::default()))
            .await;
        self.close_others(state, &self.keeper()).await
    }

    /// Makes `parked` the parking listener of its group.
    fn put_in_place(
        &self,
        context: &Context,
        index: usize,
        parked: &Parked,
    ) -> Result<(), ParkError> {
        let Some(group) = context.path.groups().get(index) else {
            return Ok(());
        };
        let socket = self.keeper().take(parked)?;
        group.attach(&socket)?;
        context.path.note_listener(parked.cookie, None);
        match group.park(&socket, parked.cookie) {
            // It has its slot already: an earlier agent put it there.
            Err(DatapathError::Slot { source, .. })
                if source.kind() == std::io::ErrorKind::ResourceBusy
                    && group.is_parked(parked.cookie) =>
            {
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Releases whoever waits in the parking listeners, each time that is asked for: opens fresh ones
    /// and closes those, upon which the kernel moves what they hold, request bytes included, to whom
    /// `steer` chooses.
    pub(super) async fn keep_releasing(&self, context: &Context, state: &SharedState) {
        loop {
            let begun = self.asked().await;
            if let Err(error) = self.release_all(context, state).await {
                tracing::error!(
                    service = context.name(),
                    %error,
                    "failed to release parked connections"
                );
            }
            self.done(begun);
        }
    }

    async fn release_all(&self, context: &Context, state: &SharedState) -> Result<(), ParkError> {
        let _turn = self.turn().await?;
        // Nobody waits for this but those who are parked. It ends with the keeper, at the latest.
        let keeper = self.keeper().without_limit();
        let group_keys = state.look(|registry| registry.parks().group_keys()).await;
        for (index, group_key) in group_keys.into_iter().enumerate() {
            if let Err(error) = self
                .replace(context, state, (index, group_key), &keeper, |_registry| {
                    true
                })
                .await
            {
                tracing::error!(
                    service = context.name(),
                    %error,
                    %group_key.address,
                    "failed to release the clients of a parking listener"
                );
            }
        }
        self.close_others(state, &keeper).await
    }

    /// Opens a listener and puts it into the place of a group's, if that `may` be. Says whether it is in
    /// place; the other one of the two is to be closed.
    async fn replace(
        &self,
        context: &Context,
        state: &SharedState,
        (index, group_key): (usize, GroupKey),
        keeper: &Keeper,
        may: impl FnOnce(&Registry) -> bool + Send,
    ) -> Result<bool, ParkError> {
        let fresh = keeper.open(group_key).await?;
        let mut registry = state.lock().await;
        let may = may(&registry);
        if may {
            self.put_in_place(context, index, &fresh)?;
            registry.replace_park(index, fresh);
        }
        Ok(may)
    }

    /// Closes what the keeper has beside the groups' listeners: those that were replaced, and what
    /// somebody opened who did not come to its end. Only for who has the turn.
    async fn close_others(&self, state: &SharedState, keeper: &Keeper) -> Result<(), ParkError> {
        let held = keeper.list().await?;
        let others: Vec<u64> = state
            .look(|registry| {
                let cookies = held.iter().map(|parked| parked.cookie);
                cookies
                    .filter(|&cookie| !registry.parks().has(cookie))
                    .collect()
            })
            .await;
        for cookie in others {
            keeper.close(cookie).await?;
        }
        Ok(())
    }

    /// Makes the parking listener of a group dual-stack, or IPv6 only, as a candidate is: only
    /// while nobody serves or waits in the group, for it becomes another one, and while it `may` be.
    pub(super) async fn reshape(
        &self,
        context: &Context,
        state: &SharedState,
        group_key: GroupKey,
        may: impl Fn(&Registry) -> bool + Send + Sync,
    ) -> Result<bool, ParkError> {
        let _turn = self.turn().await?;
        let may = |registry: &Registry| {
            may(registry) && context.path.word().active.is_none() && context.path.live(None) == 0
        };
        let index = state
            .look(|registry| {
                let mut parks = registry.parks().all().iter();
                let index = parks.position(|parked| parked.group_key.address == group_key.address);
                index.filter(|_| may(registry))
            })
            .await;
        let Some(index) = index else {
            return Ok(false);
        };
        // Both shapes listen for a moment: the candidate shows that they can.
        let keeper = self.keeper();
        let reshaped = self
            .replace(context, state, (index, group_key), &keeper, may)
            .await;
        self.close_others(state, &keeper).await?;
        let reshaped = reshaped?;
        if reshaped {
            tracing::info!(
                address = %group_key.address,
                v6only = group_key.v6only,
                "recreated a parking listener in the shape of the candidate's"
            );
        }
        Ok(reshaped)
    }

    /// What is to be said if parked clients wait for a keeper that does not answer.
    pub(super) async fn in_vain(&self, context: &Context) -> Option<String> {
        if self.is_released(RELEASED).await {
            return None;
        }
        let parked = context.path.live(None);
        (parked > 0).then(|| self.warning(parked))
    }
}

/// Whether anybody waits although `active` could serve them.
pub(super) fn someone_waits(context: &Context, active: Option<GenerationId>) -> bool {
    active.is_some() && context.path.live(None) > 0
}
