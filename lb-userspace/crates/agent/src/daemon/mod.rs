//! The agent as a process: services, API and metrics together, until a signal, `down`, or a
//! successor.

mod successor;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixListener as StdUnixListener},
    sync::Arc,
    time::Duration,
};

use nix::unistd::User;
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

pub use self::successor::{NotTakenOver, take_over};
use crate::{
    agent::{Agent, Host, StartError, UpgradeError, drill, footing},
    config::{AgentConfig, Places, ServiceConfig, TracesConfig},
    door::{Door, Hinge},
    server::{self, Control, Order, Upgrades},
    store::{Journal, journal::Drill},
    sys::supervisor,
    takeover::{self, Former, Origin, drill::NoStep},
    telemetry::traces::{Traces, TracesError},
};

/// Why the agent ended other than by a signal or `down`.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The control socket cannot be used.
    #[error("cannot open the control socket: {0}")]
    Socket(io::Error),
    /// Signals cannot be waited for.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// No traces can be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A step in `HOTLB_FAULTS` is not understood.
    #[error(transparent)]
    NoStep(#[from] NoStep),
    /// An operator does not exist.
    #[error("[agent] operators: user \"{0}\" does not exist on this host")]
    Operator(String),
}

impl DaemonError {
    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit(),
            Self::NoStep(_) | Self::Operator(_) | Self::Traces(_) => 78,
            Self::Socket(_) | Self::Signals(_) => 7,
        }
    }
}

/// How long after one that came to nothing a former agent's programs are tried to be replaced again.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// How long the last answers may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, SIGINT or SIGHUP: generations and parking listeners go on.
    Signal,
    /// `hotlb down`: nothing is left.
    Down,
    /// `hotlb agent upgrade`: a successor goes on.
    Replaced,
}

/// The signals that end an agent. They end the process no longer.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from here on.
    ///
    /// # Errors
    ///
    /// [`DaemonError::Signals`].
    pub fn catch() -> Result<Self, DaemonError> {
        let caught = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hangup: caught(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Daemon {
    agent: Arc<Agent>,
    control: Arc<Control>,
    api: Door,
    metrics: Option<(SocketAddr, Door)>,
    traces: Option<Traces>,
    /// How it was started; `None`: it cannot be upgraded.
    origin: Option<Origin>,
    /// What the API is asked for; it sends, this waits.
    orders: mpsc::Receiver<Order>,
    /// Looks for what the agent relies on.
    footing: JoinHandle<()>,
    /// A successor has the control socket.
    is_replaced: bool,
}

/// What an agent is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) agent: Agent,
    pub(crate) operators: BTreeSet<u32>,
    /// The control socket.
    pub(crate) api: OwnedFd,
    pub(crate) scrapes: Option<Scrapes>,
    pub(crate) traces: Option<Traces>,
    pub(crate) origin: Option<Origin>,
    /// Whether the API answers at once; else once [`Daemon::settle_in`] has ended.
    pub(crate) answers: bool,
}

/// Where metrics are served.
#[derive(Debug)]
pub(crate) struct Scrapes {
    pub(crate) address: SocketAddr,
    pub(crate) socket: OwnedFd,
}

impl Daemon {
    /// Starts the agent. Clients can connect to its services, and the API answers, when it
    /// returns. Without an `origin` it cannot be upgraded.
    pub async fn start(
        places: Places,
        config: AgentConfig,
        services: Vec<ServiceConfig>,
        origin: Option<Origin>,
    ) -> Result<Self, DaemonError> {
        let operators = operators(&config.operators)?;
        let drill = Drill::from_env().map_err(StartError::Drill)?;
        let breaks = drill::is_wanted().map_err(StartError::NoPoint)?;
        let dies = takeover::drill::is_wanted()?;
        places.fit_sockets(&services).map_err(StartError::Config)?;
        let host = Host::prepare(places)?;
        let scrapes = match config.metrics {
            Some(address) => Some(Scrapes {
                address,
                socket: bind(address).await?,
            }),
            None => None,
        };
        if let Some(drill) = drill {
            tracing::warn!(fault = %drill, "HOTLB_FAULTS is set: the journal of this agent breaks on purpose");
        }
        if breaks {
            tracing::warn!("HOTLB_FAULTS is set: tasks of this agent break on purpose");
        }
        if dies {
            tracing::warn!(
                "HOTLB_FAULTS is set: an upgrade of this agent kills an agent on purpose"
            );
        }
        let journal = Journal::with(host.places().journal(), config.history, drill);
        let (journal, traces) = record(journal, &config)?;
        let agent = Agent::start(host, journal, services).await?;
        let agent = agent.expiring(config.metrics_expire);
        let socket = server::listen(&agent.places().socket()).map_err(DaemonError::Socket)?;
        let daemon = Self::serve(Parts {
            agent,
            operators,
            api: socket.into(),
            scrapes,
            traces,
            origin,
            answers: true,
        })?;
        supervisor::ready();
        Ok(daemon)
    }

    /// Serves API and metrics of an agent that runs.
    pub(crate) fn serve(parts: Parts) -> Result<Self, DaemonError> {
        let agent = Arc::new(parts.agent);
        let (upgrades, orders) = Upgrades::received();
        let upgrades = match &parts.origin {
            Some(_) => upgrades,
            None => Upgrades::refused(),
        };
        let control = Control::new(Arc::clone(&agent), parts.operators, upgrades);
        let api = api_door(&control, parts.api, parts.answers).map_err(DaemonError::Socket)?;
        let metrics = match parts.scrapes {
            Some(Scrapes { address, socket }) => {
                let door = metrics_door(&agent, socket);
                let door = door.map_err(|source| StartError::Metrics { address, source })?;
                Some((address, door))
            }
            None => None,
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            socket = %agent.places().socket().display(),
            metrics = metrics.as_ref().map(|(address, _)| address.to_string()),
            "agent is ready"
        );
        let footing = tokio::spawn(footing::keep(Arc::clone(&agent), reopen(api.hinge())));
        Ok(Self {
            footing,
            agent,
            control,
            api,
            metrics,
            traces: parts.traces,
            origin: parts.origin,
            orders,
            is_replaced: false,
        })
    }

    /// Waits for the end.
    pub async fn ended(&mut self, signals: &mut Signals) -> Result<End, DaemonError> {
        let control = Arc::clone(&self.control);
        let end = tokio::select! {
            () = signals.received() => End::Signal,
            () = control.ended() => End::Down,
            () = self.replaced() => End::Replaced,
        };
        // What ends now removes what it would put back.
        self.footing.abort();
        if end == End::Replaced {
            self.is_replaced = true;
        } else {
            supervisor::stopping();
        }
        if end != End::Signal {
            // Whoever asked for it is told before the process ends.
            self.api.close();
            self.api.finish(LAST_WORDS).await;
            if let Some((_, metrics)) = &mut self.metrics {
                metrics.close();
                metrics.finish(LAST_WORDS).await;
            }
        }
        if end != End::Replaced
            && let Some(traces) = &mut self.traces
        {
            traces.finish().await;
        }
        if end == End::Signal {
            self.agent.record().await;
        }
        tracing::info!(?end, "agent is ending");
        Ok(end)
    }

    /// Returns once a successor is in charge.
    async fn replaced(&mut self) {
        loop {
            let asked = if self.agent.awaits_renewal().await {
                let Ok(asked) = timeout(RENEW_AGAIN, self.orders.recv()).await else {
                    self.renew().await;
                    continue;
                };
                asked
            } else {
                self.orders.recv().await
            };
            let (Some(order), Some(origin)) = (asked, &self.origin) else {
                return std::future::pending().await;
            };
            let former = Former {
                agent: &self.agent,
                origin,
                api: &self.api,
                metrics: self.metrics.as_ref().map(|(at, door)| (*at, door)),
                traces: self.traces.as_ref(),
            };
            let outcome = former.hand_over(&order).await;
            let is_replaced = outcome.is_ok();
            order.answer(outcome);
            if is_replaced {
                return;
            }
        }
    }

    /// The agent that was in charge has left: from here on nobody needs the services as it left them.
    /// Whoever asks for something meanwhile is answered then.
    pub(crate) async fn settle_in(&self) {
        if let Err(error) = self.agent.take_charge_of_journal().await {
            tracing::error!(%error, "failed to migrate the journal; trying again with each write");
        }
        if self.agent.awaits_renewal().await {
            self.renew().await;
        }
        self.api.open();
    }

    /// Brings what a former agent left to the present programs, unless something is under way.
    async fn renew(&self) {
        let renewed = async {
            let upgrading = self.control.begin_upgrade()?;
            upgrading.close()?;
            if let Some(traces) = &self.traces {
                let held = traces.hold().await;
                held.map_err(|error| UpgradeError::NotHeld(error.to_string()))?;
            }
            let quiesced = self.agent.quiesce().await?;
            quiesced.renew().await;
            upgrading.renewed();
            Ok::<(), UpgradeError>(())
        };
        if let Err(error) = renewed.await {
            tracing::info!(%error, "keeping the programs of the former agent for now");
        }
        if let Some(traces) = &self.traces {
            traces.go_on();
        }
    }

    /// The agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.footing.abort();
        if self.is_replaced {
            return;
        }
        // The next agent replaces it; without one, a client learns sooner that nobody is there.
        let _gone = std::fs::remove_file(self.agent.places().socket());
    }
}

/// Has the journal keep incidents, and sends traces from it where they are wanted.
pub(crate) fn record(
    journal: Journal,
    config: &AgentConfig,
) -> Result<(Journal, Option<Traces>), TracesError> {
    let journal = journal.keeping_incidents(config.incidents);
    let wanted = match &config.traces {
        Some(wanted) => Some(wanted.clone()),
        None => TracesConfig::from_env().unwrap_or_else(|error| {
            // Meant for other programs, perhaps.
            tracing::warn!(error, "failed to set up traces; none are sent");
            None
        }),
    };
    let Some(wanted) = wanted else {
        return Ok((journal, None));
    };
    let journal = journal.keeping_traces(wanted.queue);
    let traces = Traces::start(&wanted, &journal)?;
    Ok((journal, Some(traces)))
}

/// Listens for scrapes.
pub(crate) async fn bind(address: SocketAddr) -> Result<OwnedFd, StartError> {
    let bound = TcpListener::bind(address).await;
    let bound = bound.and_then(TcpListener::into_std);
    let bound = bound.map_err(|source| StartError::Metrics { address, source })?;
    Ok(bound.into())
}

fn api_door(control: &Arc<Control>, socket: OwnedFd, is_open: bool) -> io::Result<Door> {
    let listen = |socket| {
        let listener = StdUnixListener::from(socket);
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    Door::new(socket, listen, is_open, |doorway, closing| {
        server::serve(Arc::clone(control), doorway, closing)
    })
}

fn reopen(api: Hinge) -> footing::Reopen {
    Arc::new(move |path| server::listen(path).map(|socket| api.hang(socket.into())))
}

fn metrics_door(agent: &Arc<Agent>, socket: OwnedFd) -> io::Result<Door> {
    let listen = |socket| {
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    Door::new(socket, listen, true, |doorway, closing| {
        server::serve_metrics(Arc::clone(agent), doorway, closing)
    })
}

/// The users of these names.
pub(crate) fn operators(names: &[String]) -> Result<BTreeSet<u32>, DaemonError> {
    names
        .iter()
        .map(|name| match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            _ => Err(DaemonError::Operator(name.clone())),
        })
        .collect()
}
