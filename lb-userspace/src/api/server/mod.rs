//! The agent's side of the API.
//!
//! Who may: the socket is 0660 root:hotlb, so that only root and members of the group reach it;
//! they may read. To operate one must be root, the agent's own user, or a configured operator,
//! by the credentials the kernel gives for the connection. A deploy starts commands as the
//! service's user, so an operator is as good as that user.

mod answer;
mod peer;
mod routes;
mod socket;

use std::{collections::BTreeSet, io, sync::Arc};

use tokio::{net::UnixListener, sync::Notify};

pub use self::socket::listen;
use crate::agent::Agent;

/// What requests are answered from.
#[derive(Debug)]
pub struct Control {
    agent: Arc<Agent>,
    operators: BTreeSet<u32>,
    /// Rung when `down` has ended everything: the agent ends too.
    ended: Notify,
}

impl Control {
    /// The API of `agent`, which the users `operators` may operate.
    pub fn new(agent: Arc<Agent>, operators: BTreeSet<u32>) -> Arc<Self> {
        Arc::new(Self {
            agent,
            operators,
            ended: Notify::new(),
        })
    }

    /// Waits until `down` has ended everything.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// Answers requests on `socket` until the task is ended.
pub async fn serve(control: Arc<Control>, socket: UnixListener) -> io::Result<()> {
    let service = routes::router(control).into_make_service_with_connect_info::<peer::Peer>();
    axum::serve(socket, service).await
}
