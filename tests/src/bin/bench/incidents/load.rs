//! A load that does not wait for answers: requests come when they come, as from many clients.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use hotlb_tests::{http, netns::Netns};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout},
};

/// Connections that may be open at most: clients give up some time.
const MOST: usize = 400;
/// Requests of a connection, and the pause between two.
const REQUESTS: u8 = 4;
const PAUSE: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_secs(5);

/// A load of one kind of connections.
#[derive(Debug)]
pub(super) struct Arrivals {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

/// How many requests a second, after so long.
pub(super) type Rate = fn(Duration) -> f64;

impl Arrivals {
    /// New connections, one for a few requests. The kernel measures the newest 32,768 only, and kept ones are to stay
    /// among them.
    pub(super) fn of_new(
        netns: &Netns,
        target: SocketAddr,
        rate: Rate,
        began: Instant,
    ) -> Result<Self> {
        Self::start(netns, move |stop, answered| {
            arrive(target, rate, began, stop, answered)
        })
    }

    /// Requests on `kept` connections, which are opened at once.
    pub(super) fn of_kept(
        netns: &Netns,
        (target, kept): (SocketAddr, usize),
        rate: Rate,
        began: Instant,
    ) -> Result<Self> {
        Self::start(netns, move |stop, answered| async move {
            let mut clients = JoinSet::new();
            for number in 0..kept {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                clients.spawn(keep(target, (rate, kept, number), began, stop, answered));
            }
            while clients.join_next().await.is_some() {}
        })
    }

    fn start<F: Future<Output = ()>>(
        netns: &Netns,
        work: impl FnOnce(Arc<AtomicBool>, Arc<AtomicU64>) -> F + Send + 'static,
    ) -> Result<Self> {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = netns.spawn("arrivals", move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build()?;
            runtime.block_on(work(told, counted));
            Ok(())
        })?;
        Ok(Self {
            stop,
            answered,
            thread: Some(thread),
        })
    }

    /// Requests answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(super) fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            ended.map_err(|panic| anyhow!("the load panicked: {panic:?}"))??;
        }
        Ok(self.answered())
    }
}

/// Times that follow each other as by chance, the same in each run.
struct Chance(u64);

impl Chance {
    /// The time to the next of `rate` a second.
    fn pause(&mut self, rate: f64) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        #[expect(clippy::cast_precision_loss, reason = "a number by chance")]
        let part = ((self.0 >> 11) as f64 / (1_u64 << 53) as f64).max(1e-9);
        Duration::from_secs_f64((-part.ln() / rate.max(0.1)).min(2.0))
    }
}

async fn arrive(
    target: SocketAddr,
    rate: Rate,
    began: Instant,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) {
    let mut chance = Chance(7);
    let room = Arc::new(Semaphore::new(MOST));
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        next += chance.pause(rate(began.elapsed()) / f64::from(REQUESTS));
        sleep_until(next.into()).await;
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let answered = Arc::clone(&answered);
        tokio::spawn(async move {
            // Who is not answered goes away.
            drop(timeout(PATIENCE, visit(target, &answered)).await);
            drop(place);
        });
    }
}

async fn visit(target: SocketAddr, answered: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    let mut buffer = Vec::new();
    for left in (0..REQUESTS).rev() {
        let request = http::request(target, "/", left > 0);
        stream.write_all(&request).await?;
        let answer = http::read_response(&mut stream, &mut buffer).await;
        answer.map_err(|failure| anyhow!("{failure}"))?;
        answered.fetch_add(1, Ordering::Relaxed);
        if left > 0 {
            sleep_until((Instant::now() + PAUSE).into()).await;
        }
    }
    Ok(())
}

async fn keep(
    target: SocketAddr,
    (rate, kept, number): (Rate, usize, usize),
    began: Instant,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) {
    let mut chance = Chance(number as u64 + 100);
    let Ok(mut stream) = TcpStream::connect(target).await else {
        return;
    };
    let mut buffer = Vec::new();
    #[expect(clippy::cast_precision_loss, reason = "a few connections")]
    let share = 1.0 / kept as f64;
    while !stop.load(Ordering::Relaxed) {
        let pause = chance.pause(rate(began.elapsed()) * share);
        sleep_until((Instant::now() + pause).into()).await;
        let request = http::request(target, "/", true);
        if stream.write_all(&request).await.is_err() {
            return;
        }
        match timeout(PATIENCE, http::read_response(&mut stream, &mut buffer)).await {
            Ok(Ok(_)) => answered.fetch_add(1, Ordering::Relaxed),
            _ => return,
        };
    }
}
