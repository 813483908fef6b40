//! A listening socket that can stop taking connections without refusing any: they wait in its
//! queue for whoever takes them next, in this process or in another one.

use std::{
    fmt,
    future::Future,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    pin::Pin,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::timeout};

type Serving = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;
type Serve = Box<dyn Fn(OwnedFd, Closing) -> io::Result<Serving> + Send + Sync>;

/// A listening socket and who serves it.
pub(crate) struct Door {
    socket: OwnedFd,
    serve: Serve,
    /// Closes it; nobody is there while it is closed.
    open: Option<watch::Sender<bool>>,
    /// Those who take connections, or answer their last ones.
    serving: Vec<JoinHandle<io::Result<()>>>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("socket", &self.socket)
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl Door {
    /// Opens the door: `serve` gets a copy of `socket`, and ends once the second argument returns
    /// and the last connection is answered.
    pub(crate) fn new(
        socket: OwnedFd,
        serve: impl Fn(OwnedFd, Closing) -> io::Result<Serving> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut door = Self {
            socket,
            serve: Box::new(serve),
            open: None,
            serving: Vec::new(),
        };
        door.open()?;
        Ok(door)
    }

    /// The listening socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes connections (again).
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if self.open.is_some() {
            return Ok(());
        }
        let (close, mut closed) = watch::channel(false);
        let closing = async move {
            // Also when the door itself is gone.
            let _closed = closed.wait_for(|closed| *closed).await;
        };
        let serving = (self.serve)(self.socket.try_clone()?, Box::pin(closing))?;
        self.serving.retain(|serving| !serving.is_finished());
        self.serving.push(tokio::spawn(serving));
        self.open = Some(close);
        Ok(())
    }

    /// Takes no more connections; those it has are answered.
    pub(crate) fn close(&mut self) {
        if let Some(close) = self.open.take() {
            close.send_replace(true);
        }
    }

    /// Waits until every connection is answered, or `limit` is over.
    pub(crate) async fn finish(&mut self, limit: Duration) {
        let serving = futures_util::future::join_all(self.serving.drain(..));
        if timeout(limit, serving).await.is_err() {
            tracing::warn!("somebody does not read their answer");
        }
    }
}
