//! The workers of a load: tasks of one single-threaded runtime.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use super::{
    outcome::Outcome,
    plan::{Plan, Reuse},
};
use crate::{
    failure::Failure,
    http::{self, Response},
};

/// How long a server that said `Connection: close` may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What the workers and the test share.
#[derive(Debug)]
pub(super) struct Shared {
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    stopped: bool,
    outcome: Outcome,
}

impl Shared {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: Mutex::default(),
        }
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.state().outcome.clone()
    }

    /// Asks whether one more request may begin.
    fn begin(&self, started: Instant) -> bool {
        let mut state = self.state();
        let over = state.stopped
            || state.begun >= self.plan.max_requests
            || started.elapsed() >= self.plan.max_duration;
        state.begun += u64::from(!over);
        !over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs all workers to their end.
pub(super) fn run(shared: &Arc<Shared>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let started = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..shared.plan.workers {
            workers.spawn(worker(Arc::clone(shared), started));
        }
        while let Some(ended) = workers.join_next().await {
            ended?;
        }
        Ok(())
    })
}

async fn worker(shared: Arc<Shared>, started: Instant) {
    let mut client = Client::new(&shared.plan);
    let mut pace = shared.plan.each.map(pace);
    while shared.begin(started) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let (at, begun) = (started.elapsed(), Instant::now());
        let result = timeout(shared.plan.deadline, client.ask())
            .await
            .unwrap_or(Err(Failure::Deadline));
        let took = begun.elapsed();
        client.settle(&result).await;
        let mut state = shared.state();
        state.outcome.connections += std::mem::take(&mut client.connected);
        state.outcome.record(at, took, result);
    }
}

fn pace(each: Duration) -> Interval {
    let mut pace = interval(each);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// One client: at most one connection at a time.
struct Client<'a> {
    plan: &'a Plan,
    request: Vec<u8>,
    stream: Option<TcpStream>,
    /// Connections made since this was last asked.
    connected: u64,
    buffer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(plan: &'a Plan) -> Self {
        let request = http::request(plan.target, &plan.path, plan.reuse == Reuse::KeepAlive);
        Self {
            plan,
            request,
            stream: None,
            connected: 0,
            buffer: Vec::with_capacity(1024),
        }
    }

    /// One request, on the connection at hand or a new one.
    async fn ask(&mut self) -> Result<Response, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                self.buffer.clear();
                let stream = TcpStream::connect(self.plan.target).await;
                let stream = stream.map_err(|error| Failure::from_io(error, 0))?;
                self.connected += 1;
                none.insert(stream)
            }
        };
        stream
            .write_all(&self.request)
            .await
            .map_err(|error| Failure::from_io(error, 0))?;
        http::read_response(stream, &mut self.buffer).await
    }

    /// Keeps the connection or ends it. The server closes first where it said so: its side, not the client's, then
    /// remembers the pair of ports.
    async fn settle(&mut self, result: &Result<Response, Failure>) {
        let ends = match result {
            Ok(response) => response.closes || self.plan.reuse == Reuse::Never,
            Err(_) => true,
        };
        if let Some(stream) = self.stream.take_if(|_| ends)
            && result.is_ok()
        {
            wait_for_end(stream).await;
        }
    }
}

async fn wait_for_end(mut stream: TcpStream) {
    let mut rest = [0; 64];
    // However the connection ends now, the answer was whole.
    let end = async { while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
    drop(timeout(CLOSE_LIMIT, end).await);
}
