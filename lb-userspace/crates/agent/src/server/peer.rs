//! Who is at the other end of the socket.

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::UnixListener;

use super::Control;
use crate::{door::Doorway, store::journal::Who, sys::users};

/// The credentials the kernel gives for a connection (`SO_PEERCRED`): those of the process when
/// it connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// `None` if the kernel gave none.
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Connected<IncomingStream<'_, Doorway<UnixListener>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Doorway<UnixListener>>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self {
            uid: credentials.map(|peer| peer.uid()),
            pid: credentials.and_then(|peer| peer.pid()),
        }
    }
}

impl Peer {
    /// Whether it may operate.
    pub(super) fn may_operate(self, control: &Control) -> bool {
        let operators = &control.operators;
        self.is_the_agents_own() || self.uid.is_some_and(|uid| operators.contains(&uid))
    }

    /// Whether it is root, or the agent's own user.
    pub(super) fn is_the_agents_own(self) -> bool {
        self.uid
            .is_some_and(|uid| uid == 0 || uid == users::effective_uid())
    }

    /// Its process, if it is root's: one that becomes a server sets its user by itself.
    pub(super) fn root_process(self) -> Option<u32> {
        self.pid
            .filter(|_| self.is_the_agents_own())
            .and_then(|pid| u32::try_from(pid).ok())
    }

    /// Who asks, for the history.
    pub(super) fn who(self) -> Who {
        Who {
            uid: self.uid,
            pid: self.pid.and_then(|pid| u32::try_from(pid).ok()),
            name: self.uid.map_or_else(|| "?".to_owned(), users::user_name),
        }
    }

    /// Its name for the log.
    pub(super) fn describe(self) -> String {
        let user = self.uid.map_or_else(|| "?".to_owned(), users::user_name);
        match self.pid {
            Some(pid) => format!("{user} (pid {pid})"),
            None => user,
        }
    }
}
