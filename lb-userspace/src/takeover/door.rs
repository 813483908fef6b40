//! A listening socket that can stop taking connections without refusing or ending any: they wait
//! in its queue for whoever takes them next, in this process or in another one.

use std::{
    future::Future,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    pin::Pin,
    time::Duration,
};

use axum::serve::Listener;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// Returns when idle connections are to be ended.
pub(crate) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A listening socket and who serves it.
#[derive(Debug)]
pub(crate) struct Door {
    socket: OwnedFd,
    /// Whether connections are taken; the doorway waits for it.
    is_open: watch::Sender<bool>,
    /// Whether idle connections are to be ended; who serves waits for it.
    is_over: watch::Sender<bool>,
    serving: JoinHandle<io::Result<()>>,
}

/// A listener whose connections come while the door is open.
#[derive(Debug)]
pub struct Doorway<L> {
    listener: L,
    is_open: watch::Receiver<bool>,
}

impl Door {
    /// Opens the door: `serve` has the connections of `listener`, of which `socket` is a copy,
    /// until the second argument returns and the last one is answered.
    pub(crate) fn new<L, F>(
        socket: OwnedFd,
        listener: L,
        serve: impl FnOnce(Doorway<L>, Closing) -> F,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let is_open = watch::Sender::new(true);
        let is_over = watch::Sender::new(false);
        let doorway = Doorway {
            listener,
            is_open: is_open.subscribe(),
        };
        let mut over = is_over.subscribe();
        let closing = async move {
            // Also when the door itself is gone.
            drop(over.wait_for(|over| *over).await);
        };
        Self {
            socket,
            is_open,
            is_over,
            serving: tokio::spawn(serve(doorway, Box::pin(closing))),
        }
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes connections again.
    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// Takes no more connections. Those it has are served as before.
    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// Ends idle connections and waits until the others are answered, or `limit` is over.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        self.is_over.send_replace(true);
        if timeout(limit, &mut self.serving).await.is_err() {
            tracing::warn!("somebody does not read their answer");
        }
    }
}

impl<L: Listener> Listener for Doorway<L> {
    type Io = L::Io;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if self.is_open.wait_for(|open| *open).await.is_err() {
                return std::future::pending().await; // the door is gone
            }
            tokio::select! {
                biased;
                // Closed, or gone: the loop finds out.
                _closed = self.is_open.wait_for(|open| !*open) => {}
                accepted = self.listener.accept() => return accepted,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
