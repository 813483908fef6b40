//! The side of the agent in charge.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd},
};

use super::{
    Origin, PATIENCE, Step,
    channel::Silence,
    message::{FromFormer, FromSuccessor, Hello, Layouts, Offer, PROTOCOL, Refusal, Span, Unfit},
    program::Successor,
};
use crate::{
    agent::{Agent, Quiesced, Reporter, UpgradeError},
    api::wire::Done,
    clock,
    config::Places,
    door::Door,
    server::Order,
    sys::supervisor,
    telemetry::traces::Traces,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The agent in charge, as far as it is handed over.
#[derive(Debug)]
pub(crate) struct Former<'a> {
    /// The agent.
    pub(crate) agent: &'a Agent,
    /// How it was started.
    pub(crate) origin: &'a Origin,
    /// Where its API is served.
    pub(crate) api: &'a Door,
    /// Where its metrics are.
    pub(crate) metrics: Option<(SocketAddr, &'a Door)>,
    /// What sends traces from the journal.
    pub(crate) traces: Option<&'a Traces>,
}

impl Former<'_> {
    /// Hands everything over to a successor. On success this process has nothing left to do; on
    /// failure it is in charge as before.
    pub(crate) async fn hand_over(self, order: &Order) -> Result<Done, UpgradeError> {
        self.agent.refuse_busy().await?;
        let program = order.request.binary.clone();
        let program = program.unwrap_or_else(|| self.origin.program.clone());
        order
            .reporter
            .step(format!("starting {}", program.display()));
        let mut successor = Successor::start(program, self.origin)?;
        let result = self.with(&mut successor, order).await;
        match &result {
            Ok(done) => {
                order.upgrading.replaced();
                tracing::info!(result = done.message, "handed over to the successor");
            }
            Err(error) => {
                let end = successor.end().await;
                tracing::error!(%error, end, "failed to upgrade the agent");
                if let Some(traces) = self.traces {
                    traces.go_on();
                }
                self.open_doors();
            }
        }
        result
    }

    async fn with(&self, successor: &mut Successor, order: &Order) -> Result<Done, UpgradeError> {
        let hello = self.greet(successor, order).await?;
        fits(successor, &hello)?;
        Step::FormerCompared.done();
        order.upgrading.close()?;
        let began = clock::now();
        self.close_doors();
        if let Some(traces) = self.traces {
            let held = traces.hold().await;
            held.map_err(|error| UpgradeError::NotHeld(error.to_string()))?;
        }
        let quiesced = self.agent.quiesce().await?;
        Step::FormerHeld.done();
        if let Err(error) = self.give(successor) {
            quiesced.release();
            let what = match error.kind() {
                io::ErrorKind::BrokenPipe => Silence::Ended.to_string(),
                _ => error.to_string(),
            };
            return Err(not_an_agent(successor, what));
        }
        Step::FormerGave.done();
        if let Err(error) = taken(successor, &order.reporter).await {
            // It must be gone before anybody else acts.
            successor.end().await;
            self.take_up(quiesced).await;
            order.upgrading.taken_up();
            return Err(error);
        }
        successor.let_go();
        quiesced.give_up();
        Step::FormerLeft.done();
        Ok(Done {
            message: format!(
                "agent {} (pid {}) took over from {VERSION} (pid {}) in {} ms",
                hello.version,
                hello.pid,
                std::process::id(),
                began.elapsed().as_millis()
            ),
            ..Done::default()
        })
    }

    /// Says what there is, and hears who wants it.
    async fn greet(&self, successor: &mut Successor, order: &Order) -> Result<Hello, UpgradeError> {
        let own = self.agent.places();
        let config = order.request.config.as_ref().unwrap_or(&own.config);
        let offer = Offer {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            pid: std::process::id(),
            places: Places {
                config: config.clone(),
                ..own.clone()
            },
            metrics: self.metrics.as_ref().map(|(address, _)| *address),
        };
        // One that has ended already says so by saying nothing.
        let _ended = successor.channel.say(&FromFormer::Offer(offer), &[]);
        Step::FormerStarted.done();
        order.reporter.step("waiting for it to check what there is");
        match successor.channel.hear(PATIENCE).await {
            Ok((FromSuccessor::Hello(hello), _)) => Ok(hello),
            Ok((FromSuccessor::Refuse(refusal), _)) => Err(UpgradeError::Refused {
                path: successor.path(),
                reason: refusal.reason,
                exit: refusal.exit,
            }),
            Ok((other, _)) => Err(not_an_agent(successor, out_of_turn(&other))),
            Err(Silence::Ended) => {
                let what = match successor.ended().await {
                    Some(status) => format!("it ended at once, without a message ({status})"),
                    None => "it closed its stdin".to_owned(),
                };
                Err(not_an_agent(successor, what))
            }
            Err(silence) => Err(not_an_agent(successor, silence.to_string())),
        }
    }

    /// Gives the locks and listening sockets away.
    fn give(&self, successor: &Successor) -> io::Result<()> {
        let locks = self.agent.locks();
        let doors = [Some(self.api), self.metrics.as_ref().map(|(_, door)| *door)];
        let sockets: Vec<_> = doors.into_iter().flatten().map(Door::socket).collect();
        let given: Vec<BorrowedFd<'_>> = locks
            .iter()
            .map(|lock| lock.as_fd())
            .chain(sockets.iter().map(|socket| socket.as_fd()))
            .collect();
        let yours = FromFormer::Yours {
            metrics: self.metrics.is_some(),
        };
        successor.channel.say(&yours, &given)
    }

    /// Goes on after a successor that died.
    async fn take_up(&self, quiesced: Quiesced<'_>) {
        quiesced.take_up().await;
        // It may have said that it is the service now.
        supervisor::ready();
    }

    fn close_doors(&self) {
        self.api.close();
        if let Some((_, door)) = &self.metrics {
            door.close();
        }
    }

    fn open_doors(&self) {
        self.api.open();
        if let Some((_, door)) = &self.metrics {
            door.open();
        }
    }
}

/// Waits until the successor serves, and takes leave of it.
async fn taken(successor: &Successor, reporter: &Reporter) -> Result<(), UpgradeError> {
    let failed = |silence: &Silence| UpgradeError::Failed {
        path: successor.path(),
        reason: silence.to_string(),
        exit: 1,
    };
    loop {
        let heard = successor.channel.hear(PATIENCE).await;
        match heard.map_err(|silence| failed(&silence))?.0 {
            FromSuccessor::Opening(service) => {
                reporter.step(format!("it is opening service {service}"));
            }
            FromSuccessor::Ready => break,
            FromSuccessor::Failed(Refusal { reason, exit })
            | FromSuccessor::Refuse(Refusal { reason, exit }) => {
                return Err(UpgradeError::Failed {
                    path: successor.path(),
                    reason,
                    exit,
                });
            }
            other @ FromSuccessor::Hello(_) => {
                return Err(failed(&Silence::Garbage(out_of_turn(&other))));
            }
        }
    }
    Step::FormerHeard.done();
    // It fails if the successor is dead: then nobody would be in charge.
    successor
        .channel
        .say(&FromFormer::Farewell, &[])
        .map_err(|error| failed(&error.into()))
}

/// Compares what there is with what the successor can take over.
fn fits(successor: &Successor, hello: &Hello) -> Result<(), UpgradeError> {
    let messages = (hello.protocol != PROTOCOL).then_some(Unfit {
        what: "the hand-over itself",
        found: PROTOCOL,
        takes: Span(hello.protocol, hello.protocol),
    });
    match messages.or_else(|| Layouts::own().unfit_for(hello.takes)) {
        Some(unfit) => {
            let version = crate::sys::reader::printable(&hello.version);
            Err(UpgradeError::Layout {
                path: successor.path(),
                version,
                own: VERSION,
                what: unfit.what,
                found: unfit.found,
                takes: unfit.takes.to_string(),
            })
        }
        None => Ok(()),
    }
}

fn not_an_agent(successor: &Successor, what: String) -> UpgradeError {
    UpgradeError::NotAnAgent {
        path: successor.path(),
        what,
    }
}

fn out_of_turn(message: &FromSuccessor) -> String {
    let message = serde_json::to_string(message).unwrap_or_default();
    format!("it sent {message} out of turn")
}
