//! What a service stands on, and somebody took away: its keeper, and its ledger.

use std::sync::Arc;

use super::super::{Context, parking::Parking, shared::SharedState};
use crate::{
    agent::footing::{self, Support},
    datapath::PARKING,
    generation::keeper::Keeper,
};

/// Puts back what a service lost.
#[derive(Debug)]
pub(super) struct Repairs {
    context: Arc<Context>,
    state: SharedState,
    parking: Arc<Parking>,
}

context_of!(Repairs);

impl Repairs {
    /// Those of a service.
    pub(super) fn new(context: &Arc<Context>, state: &SharedState, parking: &Arc<Parking>) -> Self {
        Self {
            context: Arc::clone(context),
            state: state.clone(),
            parking: Arc::clone(parking),
        }
    }

    /// Starts the keeper again if somebody killed it. What waited in its listeners has moved to whom
    /// `steer` chose, or is lost.
    pub(super) async fn keep_again(&self) {
        {
            let registry = self.state.lock().await;
            let keeper = self.parking.keeper();
            let is_well = keeper.is_alive() && keeper.has_socket();
            if registry.is_ending()
                || registry.awaits_adopt()
                || is_well && registry.keeper_error().is_none()
            {
                return;
            }
            if keeper.is_alive() && !keeper.has_socket() {
                let what = format!("the socket of {}'s keeper", self.name());
                footing::restored(Support::Keeper, what);
            } else {
                tracing::error!(service = self.name(), "the keeper ended; starting it again");
            }
        }
        let parking = self.cgroup.child(PARKING);
        let started =
            Keeper::find_or_start(self.places.keeper(self.name()), &parking, &self.netns).await;
        let error = match started {
            Ok((keeper, _)) => {
                self.parking.replace_keeper(keeper);
                self.parking
                    .open(self, &self.state)
                    .await
                    .err()
                    .map(|error| error.to_string())
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = &error {
            tracing::error!(service = self.name(), error, "failed to start a keeper");
        }
        self.state
            .change(|registry| registry.note_keeper(error))
            .await;
    }

    /// Writes the ledger again if somebody removed it, or the last write failed.
    pub(super) async fn write_again(&self) {
        let is_missing = self.state.ledger().is_missing().await;
        if !is_missing && !self.state.ledger().has_failed() {
            return;
        }
        {
            let registry = self.state.lock().await;
            if registry.is_ending() {
                return;
            }
            self.state.settle(&registry);
        }
        if self.state.ledger().written().await.is_none() && is_missing {
            let path = self.places.ledger(self.name());
            footing::restored(Support::Ledger, format!("the ledger {}", path.display()));
        }
    }
}
