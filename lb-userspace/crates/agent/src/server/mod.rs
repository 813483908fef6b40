//! The agent's side of the API, and of the metrics.
//!
//! Who may: the socket is 0660 root:hotlb, so that only root and members of the group reach it;
//! they may read. To operate one must be root, the agent's own user, or a configured operator,
//! by the credentials the kernel gives for the connection. A deploy starts commands as the
//! service's user, so an operator is as good as that user.

mod answer;
mod bounded;
mod caller;
mod flows;
mod gate;
mod history;
mod incidents;
mod order;
mod own;
mod peer;
mod profile;
mod routes;
mod scrapes;
mod socket;

use std::{collections::BTreeSet, io, sync::Arc};

use tokio::{net::UnixListener, sync::watch};

pub use self::{
    gate::{Gate, Upgrading},
    order::Upgrades,
    socket::listen,
};
pub(crate) use self::{order::Order, scrapes::serve as serve_metrics};
use crate::{
    agent::{Agent, UpgradeError},
    door::{Closing, Doorway},
};

/// What requests are answered from.
#[derive(Debug)]
pub struct Control {
    agent: Arc<Agent>,
    operators: BTreeSet<u32>,
    gate: Arc<Gate>,
    upgrades: Upgrades,
    /// True when `down` has ended everything: the agent ends too.
    ended: watch::Sender<bool>,
}

impl Control {
    /// The API of `agent`, which the users `operators` may operate; what is asked of `upgrades`
    /// somebody else does.
    pub fn new(agent: Arc<Agent>, operators: BTreeSet<u32>, upgrades: Upgrades) -> Arc<Self> {
        Arc::new(Self {
            agent,
            operators,
            gate: Arc::default(),
            upgrades,
            ended: watch::Sender::new(false),
        })
    }

    /// Begins an upgrade, or what needs the services as much for itself.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Upgrading`] if there is one, [`UpgradeError::Busy`] if a verb has work to do.
    pub(crate) fn begin_upgrade(&self) -> Result<Upgrading, UpgradeError> {
        self.gate.begin_upgrade()
    }

    /// Waits until `down` has ended everything.
    pub async fn ended(&self) {
        // It fails only when the sender is gone, and that one is here.
        let mut ended = self.ended.subscribe();
        let _ended = ended.wait_for(|ended| *ended).await;
    }
}

/// Answers requests that come through `doorway` until `closing` returns or `down` has ended everything, and the
/// last answer is given.
pub(crate) async fn serve(
    control: Arc<Control>,
    doorway: Doorway<UnixListener>,
    closing: Closing,
) -> io::Result<()> {
    let router = routes::router(Arc::clone(&control));
    let service = router.into_make_service_with_connect_info::<peer::Peer>();
    axum::serve(doorway, service)
        .with_graceful_shutdown(async move {
            tokio::select! {
                () = control.ended() => {}
                () = closing => {}
            }
        })
        .await
}
