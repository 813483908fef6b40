//! A listening socket that can stop taking connections without refusing or ending any: they wait
//! in its queue for whoever takes them next, in this process or in another one.

use std::{
    future::Future,
    io,
    os::fd::{AsFd as _, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::serve::Listener;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// Returns when idle connections are to be ended.
pub(crate) type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A listening socket and who serves it.
#[derive(Debug)]
pub(crate) struct Door {
    /// The listening socket; the doorway waits for another one.
    socket: watch::Sender<Arc<OwnedFd>>,
    /// Whether connections are taken; the doorway waits for it.
    is_open: watch::Sender<bool>,
    /// Whether idle connections are to be ended; who serves waits for it.
    is_over: watch::Sender<bool>,
    serving: JoinHandle<io::Result<()>>,
}

/// Gives a door another listening socket.
#[derive(Clone, Debug)]
pub(crate) struct Hinge(watch::Sender<Arc<OwnedFd>>);

impl Hinge {
    /// From here on connections are taken from `socket`, and no more from the one before.
    pub(crate) fn hang(&self, socket: OwnedFd) {
        self.0.send_replace(Arc::new(socket));
    }
}

/// Makes a listener of a listening socket.
pub(crate) type Listen<L> = fn(OwnedFd) -> io::Result<L>;

/// A listener whose connections come while the door is open.
#[derive(Debug)]
pub(crate) struct Doorway<L> {
    listener: L,
    listen: Listen<L>,
    socket: watch::Receiver<Arc<OwnedFd>>,
    is_open: watch::Receiver<bool>,
}

impl Door {
    /// A door, open or not: `serve` has the connections of `socket`, until the second argument returns
    /// and the last one is answered.
    ///
    /// # Errors
    ///
    /// When nobody can listen on it.
    pub(crate) fn new<L, F>(
        socket: OwnedFd,
        listen: Listen<L>,
        is_open: bool,
        serve: impl FnOnce(Doorway<L>, Closing) -> F,
    ) -> io::Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = listen(socket.try_clone()?)?;
        let socket = watch::Sender::new(Arc::new(socket));
        let is_open = watch::Sender::new(is_open);
        let is_over = watch::Sender::new(false);
        let doorway = Doorway {
            listener,
            listen,
            socket: socket.subscribe(),
            is_open: is_open.subscribe(),
        };
        let mut over = is_over.subscribe();
        let closing = async move {
            // Also when the door itself is gone.
            drop(over.wait_for(|over| *over).await);
        };
        Ok(Self {
            socket,
            is_open,
            is_over,
            serving: tokio::spawn(serve(doorway, Box::pin(closing))),
        })
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket.borrow())
    }

    /// What gives it another socket.
    pub(crate) fn hinge(&self) -> Hinge {
        Hinge(self.socket.clone())
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
            tracing::warn!("a client did not read its answer in time");
        }
    }
}

impl<L> Doorway<L> {
    fn turn(&mut self) {
        let socket = Arc::clone(&self.socket.borrow_and_update());
        let listener = socket.as_fd().try_clone_to_owned().and_then(self.listen);
        match listener {
            Ok(listener) => self.listener = listener,
            Err(error) => tracing::error!(%error, "failed to listen on the new socket"),
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
            let is_hung = tokio::select! {
                biased;
                // Closed, or gone: the loop finds out.
                _closed = self.is_open.wait_for(|open| !*open) => false,
                Ok(()) = self.socket.changed() => true,
                accepted = self.listener.accept() => return accepted,
            };
            if is_hung {
                self.turn();
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
