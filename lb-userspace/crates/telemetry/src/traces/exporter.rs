//! Sends the traces of rollouts that are over, off everybody's path.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    answer::{Then, Untaken},
    collector::{Collector, TracesError},
    spans::spans,
};
use crate::{
    config::TracesConfig,
    store::{
        Journal,
        journal::{JournalError, RolloutId},
    },
};

/// Time before the second try to reach a collector; it doubles up to [`SLOWEST`].
const FASTEST: Duration = Duration::from_millis(500);
/// Longest time between two tries. A rollout that ends is a reason to try at once.
const SLOWEST: Duration = Duration::from_secs(10);
/// How long an agent that ends waits for its last traces to be taken. What is not taken then is in
/// the journal, for the next agent.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The task that sends traces. It ends when this is dropped.
#[derive(Debug)]
pub struct Traces {
    journal: Journal,
    task: JoinHandle<()>,
    /// Set when the agent ends; the task waits for it, and sends what is left without waiting.
    ends: watch::Sender<bool>,
}

impl Traces {
    /// Sends what `journal` has and will have. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// See [`TracesError`]; a collector that is not there is none.
    pub fn start(config: &TracesConfig, journal: &Journal) -> Result<Self, TracesError> {
        let collector = Collector::new(config)?;
        // A handle of its own, which can be held by itself.
        let journal = journal.fenced();
        let (ends, ending) = watch::channel(false);
        let exporter = Exporter {
            journal: journal.clone(),
            collector,
            ending,
            last: None,
            silent: false,
        };
        tracing::info!(endpoint = config.endpoint, "sending traces");
        Ok(Self {
            journal,
            task: tokio::spawn(exporter.run()),
            ends,
        })
    }

    /// Leaves the journal alone until [`Traces::go_on`].
    ///
    /// # Errors
    ///
    /// When the disk does not answer.
    pub async fn hold(&self) -> Result<(), JournalError> {
        self.journal.hold().await
    }

    /// Goes on.
    pub fn go_on(&self) {
        self.journal.go_on();
    }

    /// Sends what is left, as far as that can be done at once.
    pub async fn finish(&mut self) {
        self.ends.send_replace(true);
        if timeout(LAST_WORDS, &mut self.task).await.is_err() {
            tracing::warn!("the last traces were not sent; the next agent sends them");
            self.task.abort();
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Exporter {
    journal: Journal,
    collector: Collector,
    ending: watch::Receiver<bool>,
    /// The one that was tried last: one that no collector takes does not hold up the others.
    last: Option<RolloutId>,
    /// Nobody is told twice in a row that there is no collector.
    silent: bool,
}

impl Exporter {
    async fn run(mut self) {
        let mut pauses = pauses();
        loop {
            match self.next().await {
                Ok(None) if *self.ending.borrow() => return,
                Ok(None) => self.wait(None).await,
                Ok(Some(id)) => match self.send(id).await {
                    Ok(()) => pauses = self::pauses(),
                    Err(_why) if *self.ending.borrow() => return,
                    Err(Unsent(Some(after))) => self.wait_out(after).await,
                    Err(Unsent(None)) => self.wait(pauses.next()).await,
                },
                Err(_unreadable) if *self.ending.borrow() => return,
                // `status` says what is wrong with the journal.
                Err(_unreadable) => self.wait(pauses.next()).await,
            }
        }
    }

    /// The next rollout whose trace is to be sent.
    async fn next(&self) -> Result<Option<RolloutId>, JournalError> {
        let waiting = self.journal.untold().await?;
        let later = waiting.iter().find(|&&id| Some(id) > self.last);
        Ok(later.or(waiting.first()).copied())
    }

    async fn send(&mut self, id: RolloutId) -> Result<(), Unsent> {
        self.last = Some(id);
        if let Some(told) = self.journal.show(id).await?
            && let Err(Untaken { why: error, then }) = self.collector.take(spans(&told)).await
        {
            if then == Then::GiveUp {
                tracing::warn!(rollout = %id, trace_id = told.trace, error,
                    "failed to deliver a trace: the collector refuses it; `hotlb history` has the rollout");
                return Ok(self.journal.trace_refused(id).await?);
            }
            if !self.silent {
                tracing::warn!(rollout = %id, trace_id = told.trace, error,
                    "failed to send the trace of a rollout; it is kept and sent again later");
            }
            self.silent = true;
            return Err(match then {
                Then::After(pause) => Unsent(Some(pause)),
                Then::Again | Then::GiveUp => Unsent(None),
            });
        }
        if std::mem::take(&mut self.silent) {
            tracing::info!("the collector accepts traces again");
        }
        Ok(self.journal.trace_delivered(id).await?)
    }

    /// Leaves the collector alone for as long as it asked for, or until the agent ends.
    async fn wait_out(&mut self, pause: Duration) {
        let _whichever = timeout(pause, self.ending.changed()).await;
    }

    /// Waits for a rollout to be over, for the end of the agent, and no longer than `pause`.
    async fn wait(&mut self, pause: Option<Duration>) {
        let journal = self.journal.clone();
        let woken = async {
            tokio::select! {
                () = journal.rollout_over() => {}
                _ = self.ending.changed() => {}
            }
        };
        match pause {
            // Either way it is time to try again.
            Some(pause) => drop(timeout(pause, woken).await),
            None => woken.await,
        }
    }
}

/// The collector or the journal did not answer as it should; how long the collector wants to be
/// left alone.
struct Unsent(Option<Duration>);

impl From<JournalError> for Unsent {
    fn from(error: JournalError) -> Self {
        tracing::warn!(%error, "failed to read a trace from the journal");
        Self(None)
    }
}

fn pauses() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::default()
        .with_min_delay(FASTEST)
        .with_max_delay(SLOWEST)
        .with_jitter()
        .without_max_times()
        .build()
}
