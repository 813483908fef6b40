//! The side of the successor.

use std::{collections::BTreeSet, io, os::fd::OwnedFd};

use nix::unistd::setsid;
use thiserror::Error;

use super::{Daemon, DaemonError, Parts, Scrapes, bind, operators, record};
use crate::{
    agent::{Agent, Host, LOCKS, StartError, preflight},
    config::{Config, ConfigError, Places},
    datapath::Former,
    store::journal::{Drill, Journal, JournalError},
    sys::{packets, supervisor},
    takeover::{
        self, Channel, FromFormer, FromSuccessor, Hello, Offer, Origin, PATIENCE, Refusal, Silence,
        Step,
    },
    telemetry::log,
};

/// Why nothing was taken over.
#[derive(Debug, Error)]
pub enum NotTakenOver {
    /// There is no agent at the other end.
    #[error("--take-over is for the agent's own use ({0}); see `hotlb agent upgrade`")]
    NotAsked(#[source] io::Error),
    /// The agent in charge did not do what it does.
    #[error("the running agent aborted the upgrade: {0}")]
    Withdrawn(String),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The journal would have to be migrated, and cannot be.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The rest of what there is.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl NotTakenOver {
    /// The exit code: see `docs/user/cli.md`.
    pub fn exit(&self) -> u8 {
        match self {
            Self::NotAsked(_) => 2,
            Self::Withdrawn(_) => 1,
            Self::Config(_) | Self::Journal(_) => 78,
            Self::Daemon(error) => error.exit(),
        }
    }

    fn refusal(&self) -> Refusal {
        Refusal {
            reason: self.to_string(),
            exit: self.exit(),
        }
    }
}

impl From<StartError> for NotTakenOver {
    fn from(error: StartError) -> Self {
        Self::Daemon(error.into())
    }
}

/// What was found to be good before anything is taken over.
struct Prepared {
    places: Places,
    config: Config,
    operators: BTreeSet<u32>,
    /// The metrics listener, if it is not the one of the agent in charge.
    scrapes: Option<OwnedFd>,
    drill: Option<Drill>,
}

/// Takes over from the agent whose socket is stdin.
///
/// # Errors
///
/// Nothing was changed, or the agent in charge takes everything up again.
pub async fn take_over(origin: Origin) -> Result<Daemon, NotTakenOver> {
    let socket = packets::take_stdin().map_err(NotTakenOver::NotAsked)?;
    // Away from the terminal and the group of the agent in charge, which ends before this one
    // does. It fails only for a group leader, which has no need of it.
    let _leader = setsid();
    let channel = Channel::new(socket).map_err(NotTakenOver::NotAsked)?;
    let (offer, _) = channel.hear(PATIENCE).await.map_err(|s| withdrawn(&s))?;
    let FromFormer::Offer(offer) = offer else {
        return Err(NotTakenOver::Withdrawn("it made no offer".to_owned()));
    };
    let prepared = match prepare(&offer).await {
        Ok(prepared) => {
            log::start(&origin.logs(&prepared.config.agent.log));
            prepared
        }
        Err(error) => {
            let _gone = channel.say(&FromSuccessor::Refuse(error.refusal()), &[]);
            return Err(error);
        }
    };
    Step::SuccessorChecked.done();
    tell(&channel, &FromSuccessor::Hello(Hello::own()))?;
    Step::SuccessorGreeted.done();
    let given = given(&channel).await?;
    Step::SuccessorReceived.done();
    let daemon = match open(prepared, given, &channel, origin).await {
        Ok(daemon) => daemon,
        Err(error) => {
            let _gone = channel.say(&FromSuccessor::Failed(error.refusal()), &[]);
            return Err(error);
        }
    };
    Step::SuccessorOpened.done();
    // Before the other one ends: the service manager must not think that the service has.
    supervisor::ready();
    take_leave(&channel, &offer).await;
    daemon.settle_in().await;
    Step::SuccessorRenewed.done();
    Ok(daemon)
}

/// Looks at everything without touching it.
async fn prepare(offer: &Offer) -> Result<Prepared, NotTakenOver> {
    let places = offer.places.clone();
    let config = Config::read(&places.config)?;
    places.fit_sockets(&config.services)?;
    let operators = operators(&config.agent.operators)?;
    let drill = Drill::from_env().map_err(StartError::Drill)?;
    takeover::drill::is_wanted().map_err(DaemonError::from)?;
    for service in &config.services {
        let looked_at = preflight(service, &places).await;
        looked_at.map_err(|source| StartError::Service {
            service: service.name.clone(),
            source,
        })?;
    }
    let scrapes = match config.agent.metrics {
        Some(address) if offer.metrics != Some(address) => Some(bind(address).await?),
        _ => None,
    };
    Ok(Prepared {
        places,
        config,
        operators,
        scrapes,
        drill,
    })
}

/// What the agent in charge gave.
struct Given {
    locks: [OwnedFd; LOCKS],
    api: OwnedFd,
    scrapes: Option<OwnedFd>,
}

async fn given(channel: &Channel) -> Result<Given, NotTakenOver> {
    let (yours, descriptors) = channel.hear_at_last().await.map_err(|s| withdrawn(&s))?;
    let FromFormer::Yours { metrics } = yours else {
        return Err(NotTakenOver::Withdrawn("it gave nothing".to_owned()));
    };
    let missing = || NotTakenOver::Withdrawn("it gave too little".to_owned());
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(missing);
    Ok(Given {
        locks: [next()?, next()?, next()?],
        api: next()?,
        scrapes: if metrics { Some(next()?) } else { None },
    })
}

async fn open(
    prepared: Prepared,
    given: Given,
    channel: &Channel,
    origin: Origin,
) -> Result<Daemon, NotTakenOver> {
    let Prepared {
        places,
        config,
        operators,
        scrapes,
        drill,
    } = prepared;
    let host = Host::inherit(places, given.locks)?;
    // The agent in charge has closed the file, and opens it again if this one fails: it must be as it was then.
    let journal = Journal::beside_former(host.places().journal(), config.agent.history, drill);
    let recorded = record(journal.await?, &config.agent);
    let (journal, traces) = recorded.map_err(DaemonError::from)?;
    let opening = |service: &str| {
        // If the agent in charge is dead, this one is in charge all the same.
        let _gone = channel.say(&FromSuccessor::Opening(service.to_owned()), &[]);
    };
    // The agent in charge may have to take up again.
    let former = Former::Kept;
    let agent = Agent::start_telling(host, journal, config.services, former, opening).await?;
    let agent = agent.expiring(config.agent.metrics_expire);
    let scrapes = config.agent.metrics.and_then(|address| {
        let socket = scrapes.or(given.scrapes)?;
        Some(Scrapes { address, socket })
    });
    let parts = Parts {
        agent,
        operators,
        api: given.api,
        scrapes,
        traces,
        origin: Some(origin),
        answers: false,
    };
    Ok(Daemon::serve(parts)?)
}

/// Says that the services are served, and hears that the other one ends. Dead or silent, it has
/// nothing any more.
async fn take_leave(channel: &Channel, offer: &Offer) {
    let _gone = channel.say(&FromSuccessor::Ready, &[]);
    Step::SuccessorReady.done();
    let end = match channel.hear(PATIENCE).await {
        Ok((FromFormer::Farewell, _)) => "it said farewell".to_owned(),
        Ok(_) => "it said something else".to_owned(),
        Err(silence) => silence.to_string(),
    };
    Step::SuccessorAlone.done();
    tracing::info!(
        former = offer.version,
        pid = offer.pid,
        end,
        "took over from the agent that was in charge"
    );
}

fn tell(channel: &Channel, message: &FromSuccessor) -> Result<(), NotTakenOver> {
    let said = channel.say(message, &[]);
    said.map_err(|error| NotTakenOver::Withdrawn(error.to_string()))
}

fn withdrawn(silence: &Silence) -> NotTakenOver {
    NotTakenOver::Withdrawn(silence.to_string())
}
