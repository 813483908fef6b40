//! The agent as a process: services, API and metrics together, until a signal, `down`, or a
//! successor.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixListener as StdUnixListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::unistd::User;
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    agent::{Agent, Host, StartError},
    api::server::{self, Control},
    config::{AgentConfig, Places, ServiceConfig, TracesConfig},
    store::{Journal, journal::Drill},
    sys::supervisor,
    takeover::{Door, Former, Order, Origin, Upgrades},
    telemetry::{
        metrics,
        traces::{Traces, TracesError},
    },
};

/// Why the agent ended other than by a signal or `down`.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The control socket cannot be used.
    #[error("the control socket: {0}")]
    Socket(io::Error),
    /// Signals cannot be waited for.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// No traces can be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// An operator does not exist.
    #[error("[agent] operators: user \"{0}\" does not exist on this host")]
    Operator(String),
}

impl DaemonError {
    /// The exit code: see `docs/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit(),
            Self::Operator(_) | Self::Traces(_) => 78,
            Self::Socket(_) | Self::Signals(_) => 7,
        }
    }
}

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
        let host = Host::prepare(places)?;
        let scrapes = match config.metrics {
            Some(address) => Some(Scrapes {
                address,
                socket: bind(address).await?,
            }),
            None => None,
        };
        if let Some(drill) = drill {
            tracing::warn!(%drill, "HOTLB_DRILL is set: this agent breaks on purpose");
        }
        let (journal, traces) = record(host.places().journal(), &config, drill)?;
        let agent = Agent::start(host, journal, services).await?;
        let agent = agent.expiring(config.metrics_expire);
        let socket = server::listen(&agent.places().socket()).map_err(DaemonError::Socket)?;
        let daemon = Self::serve(Parts {
            agent,
            operators,
            api: socket.into_std().map_err(DaemonError::Socket)?.into(),
            scrapes,
            traces,
            origin,
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
        let api = api_door(&control, parts.api).map_err(DaemonError::Socket)?;
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
        Ok(Self {
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
    pub async fn ended(&mut self) -> Result<End, DaemonError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
        let control = Arc::clone(&self.control);
        let end = tokio::select! {
            _ = terminate.recv() => End::Signal,
            _ = interrupt.recv() => End::Signal,
            _ = hangup.recv() => End::Signal,
            () = control.ended() => End::Down,
            () = self.replaced() => End::Replaced,
        };
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
        tracing::info!(?end, "agent ends");
        Ok(end)
    }

    /// Returns once a successor is in charge.
    async fn replaced(&mut self) {
        loop {
            let (Some(order), Some(origin)) = (self.orders.recv().await, &self.origin) else {
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

    /// The agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_replaced {
            return;
        }
        // The next agent replaces it; without one, a client learns sooner that nobody is there.
        let _gone = std::fs::remove_file(self.agent.places().socket());
    }
}

/// Opens the journal, and sends traces from it where they are wanted.
pub(crate) fn record(
    path: PathBuf,
    config: &AgentConfig,
    drill: Option<Drill>,
) -> Result<(Journal, Option<Traces>), TracesError> {
    let journal = Journal::with(path, config.history, drill).keeping_incidents(config.incidents);
    let wanted = match &config.traces {
        Some(wanted) => Some(wanted.clone()),
        None => TracesConfig::from_env().unwrap_or_else(|error| {
            // Meant for other programs, perhaps.
            tracing::warn!(error, "no traces are sent");
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

fn api_door(control: &Arc<Control>, socket: OwnedFd) -> io::Result<Door> {
    let listener = StdUnixListener::from(socket.try_clone()?);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(Door::new(socket, listener, |doorway, closing| {
        server::serve(Arc::clone(control), doorway, closing)
    }))
}

fn metrics_door(agent: &Arc<Agent>, socket: OwnedFd) -> io::Result<Door> {
    let listener = std::net::TcpListener::from(socket.try_clone()?);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    Ok(Door::new(socket, listener, |doorway, closing| {
        metrics::serve(Arc::clone(agent), doorway, closing)
    }))
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
