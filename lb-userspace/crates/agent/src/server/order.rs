//! An upgrade that was asked for, on its way from the API to the process.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Gate, Upgrading};
use crate::{
    agent::{Reporter, UpgradeError},
    api::wire::{AgentUpgradeRequest, Done},
};

/// Where upgrades are asked for.
#[derive(Clone, Debug)]
pub struct Upgrades(Option<mpsc::Sender<Order>>);

/// An upgrade that was asked for.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) request: AgentUpgradeRequest,
    pub(crate) reporter: Reporter,
    pub(crate) upgrading: Upgrading,
    answer: oneshot::Sender<Result<Done, UpgradeError>>,
}

impl Upgrades {
    /// For an agent that cannot be upgraded.
    pub fn refused() -> Self {
        Self(None)
    }

    /// Upgrades are done by who receives them here; one at a time is there.
    pub(crate) fn received() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(Some(sender)), receiver)
    }

    /// Asks for an upgrade and waits for its outcome.
    pub(crate) async fn ask(
        &self,
        gate: &Arc<Gate>,
        request: AgentUpgradeRequest,
        reporter: Reporter,
    ) -> Result<Done, UpgradeError> {
        let Some(orders) = &self.0 else {
            return Err(UpgradeError::Tied);
        };
        if std::process::id() == 1 {
            return Err(UpgradeError::Init);
        }
        let upgrading = gate.begin_upgrade()?;
        let (answer, answered) = oneshot::channel();
        let order = Order {
            request,
            reporter,
            upgrading,
            answer,
        };
        // Both fail only when the agent ends.
        let ends = |()| UpgradeError::NotHeld("the agent is about to end".to_owned());
        orders.send(order).await.map_err(|_ended| ends(()))?;
        answered.await.map_err(|_ended| ends(()))?
    }
}

impl Order {
    /// Tells who asked.
    pub(crate) fn answer(self, outcome: Result<Done, UpgradeError>) {
        // The command line may have gone.
        let _gone = self.answer.send(outcome);
    }
}
