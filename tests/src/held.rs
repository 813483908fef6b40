//! Connections whose one answer takes a given time: who got it whole, who was cut, and when.

use std::{
    net::SocketAddr,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    failure::Failure,
    http::{self, Response},
    netns::Netns,
};

/// Connections opened at a time: fewer than any backlog.
const AT_ONCE: usize = 50;

/// How one connection went.
#[derive(Debug)]
pub struct Ending {
    /// The client's side.
    pub peer: SocketAddr,
    /// How long the answer was to take.
    pub length: Duration,
    /// When it was asked for.
    pub asked: Instant,
    /// When the client saw the whole answer, or the end.
    pub ended: Instant,
    /// The answer, or why there is none.
    pub result: Result<Response, Failure>,
}

impl Ending {
    /// When the answer was due.
    pub fn due(&self) -> Instant {
        self.asked + self.length
    }
}

/// Connections under way.
#[derive(Debug)]
pub struct Held {
    thread: JoinHandle<Result<Vec<Ending>>>,
}

impl Held {
    /// Opens one connection for each of `lengths`, and asks `/hold?ms=` for an answer that takes so long. Returns when
    /// all are asked.
    pub fn open(netns: &Netns, target: SocketAddr, lengths: Vec<Duration>) -> Result<Self> {
        let count = lengths.len();
        let (tell, mut asked) = mpsc::unbounded_channel();
        let thread = netns.spawn("held", move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(all(target, lengths, tell))
        })?;
        for number in 0..count {
            asked
                .blocking_recv()
                .with_context(|| format!("only {number} of {count} connections were made"))?;
        }
        Ok(Self { thread })
    }

    /// Waits until the last one ended; in the order in which they did.
    pub fn finish(self) -> Result<Vec<Ending>> {
        self.thread
            .join()
            .map_err(|panic| anyhow!("the held connections panicked: {panic:?}"))?
    }
}

async fn all(
    target: SocketAddr,
    lengths: Vec<Duration>,
    tell: mpsc::UnboundedSender<()>,
) -> Result<Vec<Ending>> {
    let mut under_way = JoinSet::new();
    for some in lengths.chunks(AT_ONCE) {
        let mut opening = JoinSet::new();
        for &length in some {
            opening.spawn(async move { (length, ask(target, length).await) });
        }
        while let Some(asked) = opening.join_next().await {
            let (length, stream) = asked?;
            let (stream, asked) = stream?;
            let _gave_up = tell.send(());
            under_way.spawn(see_it_end(stream, length, asked));
        }
    }
    let mut endings = Vec::with_capacity(lengths.len());
    while let Some(ending) = under_way.join_next().await {
        endings.push(ending??);
    }
    Ok(endings)
}

async fn ask(target: SocketAddr, length: Duration) -> Result<(TcpStream, Instant)> {
    let mut stream = TcpStream::connect(target).await?;
    let path = format!("/hold?ms={}", length.as_millis());
    stream
        .write_all(&http::request(target, &path, true))
        .await?;
    Ok((stream, Instant::now()))
}

async fn see_it_end(mut stream: TcpStream, length: Duration, asked: Instant) -> Result<Ending> {
    let peer = stream.local_addr()?;
    let mut buffer = Vec::with_capacity(512);
    let result = http::read_response(&mut stream, &mut buffer).await;
    let ended = Instant::now();
    // One that was answered leaves by itself; however it ends now, the answer was whole.
    drop(stream.shutdown().await);
    let mut rest = [0; 64];
    if result.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    }
    Ok(Ending {
        peer,
        length,
        asked,
        ended,
        result,
    })
}
