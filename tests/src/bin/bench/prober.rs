//! A client that asks on one connection after the other and notes who answered when.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use hotlb_tests::{host::Host, http};

/// How long an answer, or a change of who gives it, may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What came of a connection: when, and the generation that answered or what went wrong.
type Answer = (Instant, Result<String, String>);

/// It asks until it is stopped.
#[derive(Debug)]
pub(crate) struct Prober {
    answered: Receiver<Answer>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Prober {
    /// Begins to ask at `target` in the host's namespace.
    pub(crate) fn start(host: &Host, target: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (answers, answered) = mpsc::channel();
        let until = Arc::clone(&stop);
        let thread = host
            .netns()
            .spawn("prober", move || probe(target, &answers, &until))?;
        Ok(Self {
            answered,
            stop,
            thread,
        })
    }

    /// Milliseconds from `began` to the first answer of `generation` after it. Fails if a connection
    /// failed meanwhile.
    pub(crate) fn felt(&self, began: Instant, generation: &str) -> Result<f64> {
        loop {
            match self.next()? {
                (at, Ok(by)) if at > began && by == generation => return Ok(millis(at - began)),
                (_, Ok(_)) => {}
                (_, Err(failure)) => bail!("the prober failed: {failure}"),
            }
        }
    }

    /// The same where the one connection that the killed server had accepted may fail.
    pub(crate) fn felt_after_a_kill(&self, began: Instant, generation: &str) -> Result<f64> {
        loop {
            match self.next()? {
                (at, Ok(by)) if at > began && by == generation => return Ok(millis(at - began)),
                _ => {}
            }
        }
    }

    /// No more.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|panic| anyhow!("the prober panicked: {panic:?}"))?
    }

    fn next(&self) -> Result<Answer> {
        let answer = self.answered.recv_timeout(LIMIT);
        answer.context("the prober is answered")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn probe(target: SocketAddr, answers: &Sender<Answer>, stop: &AtomicBool) -> Result<()> {
    let request = http::request(target, "/", false);
    while !stop.load(Ordering::Relaxed) {
        let answer = ask(target, &request).map_err(|error| format!("{error:#}"));
        answers.send((Instant::now(), answer))?;
    }
    Ok(())
}

fn ask(target: SocketAddr, request: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request)?;
    let response = http::read_response_blocking(&mut stream)
        .map_err(|failure| anyhow!("no answer: {failure}"))?;
    Ok(response.generation)
}
