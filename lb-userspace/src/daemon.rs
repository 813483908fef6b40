//! The agent as a process: services, API and metrics together, until a signal or `down`.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use nix::unistd::User;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    agent::{Agent, Host, StartError},
    api::server::{self, Control},
    config::{AgentConfig, Places, ServiceConfig},
    store::{Journal, journal::Drill},
    telemetry::metrics,
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
    /// An operator does not exist.
    #[error("[agent] operators: user \"{0}\" does not exist on this host")]
    Operator(String),
}

impl DaemonError {
    /// The exit code: see `docs/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit(),
            Self::Operator(_) => 78,
            Self::Socket(_) | Self::Signals(_) => 7,
        }
    }
}

/// How long the answer to `down` may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, SIGINT or SIGHUP: generations and parking listeners go on.
    Signal,
    /// `hotlb down`: nothing is left.
    Down,
}

/// A running agent.
#[derive(Debug)]
pub struct Daemon {
    agent: Arc<Agent>,
    control: Arc<Control>,
    api: JoinHandle<io::Result<()>>,
}

impl Daemon {
    /// Starts the agent. Clients can connect to its services, and the API answers, when it
    /// returns.
    pub async fn start(
        places: Places,
        config: AgentConfig,
        services: Vec<ServiceConfig>,
    ) -> Result<Self, DaemonError> {
        let operators = operators(&config.operators)?;
        let drill = Drill::from_env().map_err(StartError::Drill)?;
        let host = Host::prepare(places)?;
        let scrapes = match config.metrics {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| StartError::Metrics { address, source })?,
            ),
            None => None,
        };
        if let Some(drill) = drill {
            tracing::warn!(%drill, "HOTLB_DRILL is set: this agent breaks on purpose");
        }
        let journal = Journal::with(host.places().journal(), config.history, drill);
        let agent = Arc::new(Agent::start(host, journal, services).await?);
        let socket = server::listen(&agent.places().socket()).map_err(DaemonError::Socket)?;
        let control = Control::new(Arc::clone(&agent), operators);
        let api = tokio::spawn(server::serve(Arc::clone(&control), socket));
        if let Some(scrapes) = scrapes {
            tokio::spawn(metrics::serve(Arc::clone(&agent), scrapes));
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            socket = %agent.places().socket().display(),
            metrics = config.metrics.map(|address| address.to_string()),
            "agent is ready"
        );
        Ok(Self {
            agent,
            control,
            api,
        })
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> Result<End, DaemonError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
        let end = tokio::select! {
            _ = terminate.recv() => End::Signal,
            _ = interrupt.recv() => End::Signal,
            _ = hangup.recv() => End::Signal,
            () = self.control.ended() => End::Down,
        };
        if end == End::Down {
            // Whoever asked for it is told before the process ends.
            let _told = timeout(LAST_WORDS, &mut self.api).await;
        }
        tracing::info!(?end, "agent ends");
        Ok(end)
    }

    /// The agent.
    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The next agent replaces it; without one, a client learns sooner that nobody is there.
        let _gone = std::fs::remove_file(self.agent.places().socket());
    }
}

fn operators(names: &[String]) -> Result<BTreeSet<u32>, DaemonError> {
    names
        .iter()
        .map(|name| match User::from_name(name) {
            Ok(Some(user)) => Ok(user.uid.as_raw()),
            _ => Err(DaemonError::Operator(name.clone())),
        })
        .collect()
}
