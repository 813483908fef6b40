//! Parking listeners: open, rotate, reshape.

use lb_common::GenerationId;

use super::{OpenError, Service, books::Books};
use crate::{
    datapath::DatapathError,
    generation::keeper::{KeeperError, Parked},
    sys::listener::Twin,
};

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

impl Service {
    /// One parking listener a group: those the keeper still holds, else new ones, of the shape
    /// they had.
    pub(super) async fn open_parks(&self) -> Result<(), OpenError> {
        let mut books = self.books.lock().await;
        let held = self.keeper().list()?;
        let former = books.parks.clone();
        let mut parks = Vec::new();
        for (index, group) in self.path.groups().iter().enumerate() {
            // More than one is what an agent leaves that dies in the middle of a rotation; the
            // youngest is kept.
            let mut here = held
                .iter()
                .filter(|p| p.twin.address == group.address())
                .rev();
            let parked = if let Some(&parked) = here.next() {
                parked
            } else {
                let twin = former.get(index).map(|parked| parked.twin);
                let twin = twin.unwrap_or_else(|| self.config.twin(group.address()));
                self.keeper().open(twin)?
            };
            let parked = match self.put_in_place(index, &parked) {
                Ok(()) => parked,
                // It is in the slots of maps that are lost. Who waits in it moves to the new one.
                Err(ParkError::Datapath(DatapathError::Slot { source, .. }))
                    if source.kind() == std::io::ErrorKind::ResourceBusy =>
                {
                    let fresh = self.keeper().open(parked.twin)?;
                    self.put_in_place(index, &fresh)?;
                    self.keeper().close(parked.cookie)?;
                    fresh
                }
                Err(error) => return Err(error.into()),
            };
            for old in here {
                self.keeper().close(old.cookie)?;
            }
            parks.push(parked);
        }
        books.parks = parks;
        Ok(())
    }

    /// One parking listener a group, of these shapes, where there are none yet.
    pub(super) fn open_parks_as(&self, books: &mut Books, twins: &[Twin]) -> Result<(), ParkError> {
        for (index, &twin) in twins.iter().enumerate() {
            let parked = self.keeper().open(twin)?;
            books.parks.push(parked);
            self.put_in_place(index, &parked)?;
        }
        Ok(())
    }

    /// Closes all parking listeners.
    pub(super) fn close_parks(&self, books: &mut Books) {
        for parked in books.parks.drain(..) {
            if let Err(error) = self.keeper().close(parked.cookie) {
                tracing::error!(%error, "a parking listener stays open");
            }
        }
    }

    /// Makes `parked` the parking listener of its group.
    fn put_in_place(&self, index: usize, parked: &Parked) -> Result<(), ParkError> {
        let Some(group) = self.path.groups().get(index) else {
            return Ok(());
        };
        let socket = self.keeper().take(parked)?;
        group.attach(&socket)?;
        self.path.note_listener(parked.cookie, None)?;
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

    /// Releases whoever waits in the parking listeners: opens fresh ones and closes those, upon
    /// which the kernel moves what they hold, request bytes included, to whom `steer` chooses.
    pub(super) fn release_parked(&self, books: &mut Books) {
        for index in 0..books.parks.len() {
            if let Err(error) = self.rotate(books, index) {
                tracing::error!(service = self.name(), %error, "parked connections stay parked");
            }
        }
    }

    fn rotate(&self, books: &mut Books, index: usize) -> Result<(), ParkError> {
        let Some(&old) = books.parks.get(index) else {
            return Ok(());
        };
        let fresh = self.keeper().open(old.twin)?;
        if let Err(error) = self.put_in_place(index, &fresh) {
            self.keeper().close(fresh.cookie)?;
            return Err(error);
        }
        self.keeper().close(old.cookie)?;
        if let Some(park) = books.parks.get_mut(index) {
            *park = fresh;
        }
        Ok(())
    }

    /// Makes the parking listener of a group dual-stack, or IPv6 only, as a candidate is: only
    /// while nobody serves or waits in the group, for it becomes another one.
    pub(super) fn reshape(&self, books: &mut Books, twin: Twin) -> Result<bool, ParkError> {
        let Some(index) = books
            .parks
            .iter()
            .position(|p| p.twin.address == twin.address)
        else {
            return Ok(false);
        };
        let Some(&old) = books.parks.get(index) else {
            return Ok(false);
        };
        if self.path.word().active.is_some() || self.path.live(None) > 0 {
            return Ok(false);
        }
        // Both shapes listen for a moment: the candidate shows that they can.
        let fresh = self.keeper().open(twin)?;
        self.put_in_place(index, &fresh)?;
        if let Some(park) = books.parks.get_mut(index) {
            *park = fresh;
        }
        self.keeper().close(old.cookie)?;
        tracing::info!(address = %twin.address, v6only = fresh.twin.v6only, "parking reshaped");
        Ok(true)
    }

    /// The groups as they are now.
    pub(super) fn twins(books: &Books) -> Vec<Twin> {
        books.parks.iter().map(|parked| parked.twin).collect()
    }

    /// Whether anybody waits although `active` could serve them.
    pub(super) fn someone_waits(&self, active: Option<GenerationId>) -> bool {
        active.is_some() && self.path.live(None) > 0
    }
}
