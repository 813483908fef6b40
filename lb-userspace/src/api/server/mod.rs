//! The agent's side of the API.
//!
//! Who may: the socket is 0660 root:hotlb, so that only root and members of the group reach it;
//! they may read. To operate one must be root, the agent's own user, or a configured operator,
//! by the credentials the kernel gives for the connection. A deploy starts commands as the
//! service's user, so an operator is as good as that user.

mod answer;
mod history;
mod peer;
mod routes;
mod socket;

use std::{collections::BTreeSet, io, sync::Arc};

use tokio::{net::UnixListener, sync::watch};

pub use self::socket::listen;
use crate::agent::Agent;

/// What requests are answered from.
#[derive(Debug)]
pub struct Control {
    agent: Arc<Agent>,
    operators: BTreeSet<u32>,
    /// True when `down` has ended everything: the agent ends too.
    ended: watch::Sender<bool>,
}

impl Control {
    /// The API of `agent`, which the users `operators` may operate.
    pub fn new(agent: Arc<Agent>, operators: BTreeSet<u32>) -> Arc<Self> {
        Arc::new(Self {
            agent,
            operators,
            ended: watch::Sender::new(false),
        })
    }

    /// Waits until `down` has ended everything.
    pub async fn ended(&self) {
        // It fails only when the sender is gone, and that one is here.
        let mut ended = self.ended.subscribe();
        let _ended = ended.wait_for(|ended| *ended).await;
    }
}

/// Answers requests on `socket` until `down` has ended everything and said so.
pub async fn serve(control: Arc<Control>, socket: UnixListener) -> io::Result<()> {
    let router = routes::router(Arc::clone(&control));
    let service = router.into_make_service_with_connect_info::<peer::Peer>();
    axum::serve(socket, service)
        .with_graceful_shutdown(async move { control.ended().await })
        .await
}
