//! A bound on who may hold the metrics address: anybody on the host may connect to it, and what they
//! hold open must not take the descriptors that verbs need.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};

use crate::clock::Deadline;

/// Connections at a time; whoever comes later waits in the listener's queue.
const AT_ONCE: usize = 64;
/// Longest time until a client has sent its request.
const REQUEST: Duration = Duration::from_secs(10);
/// Longest time between two scrapes of one connection: five times what Prometheus waits by default.
const IDLE: Duration = Duration::from_mins(5);

/// A listener that gives out a bounded number of connections.
#[derive(Debug)]
pub(super) struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    /// `listener`, bounded.
    pub(super) fn new(listener: L) -> Self {
        Self {
            listener,
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Patient<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
            return std::future::pending().await; // never closed
        };
        let (stream, address) = self.listener.accept().await;
        (Patient::new(stream, room), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its client keeps it waiting too long.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    until: Pin<Box<Sleep>>,
    _room: OwnedSemaphorePermit,
}

impl<S> Patient<S> {
    fn new(stream: S, room: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            until: Box::pin(tokio::time::sleep_until(Deadline::after(REQUEST).instant())),
            _room: room,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => match this.until.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // It has asked, and is being answered: what comes next is another scrape.
        this.until.as_mut().reset(Deadline::after(IDLE).instant());
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
